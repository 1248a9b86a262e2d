"""What a client asks over HTTP, and how it reads the answers: no socket, so that sync and async share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from bimodal.client import arrays
from bimodal.client.events import ACCEPT, Events
from bimodal.client.failure import strange
from bimodal.client.given import Given, names_of, row_of, spoken
from bimodal.client.question import Answer, Conversation, Question
from bimodal.client.tellable import as_given, encoded, finite
from bimodal.errors import BimodalError, InputError
from bimodal.formats.library import library

T = TypeVar("T")
ARROW = "application/vnd.apache.arrow.stream"
MANY = 256  # values of an array from which on it goes as bytes, not as JSON


class Summary(TypedDict):
    """What the server tells of a model, as far as it is looked at."""

    name: str
    inputs: list[dict[str, Any]]
    default_outputs: list[str]


class Found(TypedDict):
    """The answer to many keys."""

    answers: list[dict[str, Any]]


class Health(TypedDict):
    status: str


class Words:
    """The conversations with one server at a place. What does not change while it runs is asked once. All raise
    ServerUnreachable where the answer is not Bimodal's.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._models: list[Summary] = []

    def _read(self, answer: Answer, kind: type[T]) -> T:
        """The JSON of an answer."""
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError:
            raise strange(answer, self._place) from None

    def predict(self, data: Any, model: str | None, options: Mapping[str, Any]) -> Conversation[Any]:
        """See Client.predict."""
        path = f"{_place(model)}/predict"
        given = Given.of(data)
        if given.kind == "table":
            return given.back((yield from self._table(path, given.value, options)))
        if options.get("keep") is None and arrays.fits(given.value, MANY if finite(given.value) else 1):
            return (yield from self._array(given.value, model, options))
        body = {**body_of(given), **{name: value for name, value in options.items() if value is not None}}
        content = yield from self._encoded(body, given, model)
        try:
            answer = yield Question("POST", path, content)
        except InputError as error:
            raise as_given(error, given) from None
        return shaped(self._read(answer, dict[str, list[Any]]), given)

    def streaming(
        self, row: Any, model: str | None, outputs: Sequence[str] | None, timeout: float
    ) -> Conversation[Question]:
        """What asks for a stream; see Client.stream. timeout: seconds to each piece."""
        yield from ()  # nothing has to be known before
        row, outputs = row_of(row), names_of(outputs)
        body: dict[str, Any] = {"rows": [row]} if isinstance(row, Mapping) else {"input": row}
        if outputs is not None:
            body["outputs"] = outputs
        given = Given("record", row) if isinstance(row, Mapping) else Given("rows", [row])
        return Question("POST", f"{_place(model)}/predict", encoded(body, given), headers=ACCEPT)

    def events(self, place: str) -> Events:
        """What reads a stream."""
        return Events(place)

    def _encoded(self, body: Any, given: Given, model: str | None) -> Conversation[bytes]:
        """The JSON of a body; where there is none, what the model calls its columns is asked, to tell which it is."""
        try:
            return encoded(body, given)
        except InputError as error:
            if given.kind not in ("rows", "array"):
                raise
            try:
                summary = yield from self.summary(model)
            except BimodalError:
                raise error from None
            return encoded(body, given, inputs=[(each["name"], each["shape"]) for each in summary["inputs"]])

    def _table(self, path: str, data: Any, options: Mapping[str, Any]) -> Conversation[Any]:
        table = library("bimodal.table")  # Arrow is loaded only where a table is sent
        frame = hasattr(data, "iloc")
        query = {name: _joined(value) for name, value in options.items() if value is not None}
        content = table.to_stream(table.from_frame(data) if frame else table.as_table(data))
        answer = yield Question("POST", f"{path}?{urlencode(query)}" if query else path, content, ARROW)
        if not answer.headers.get(b"content-type", b"").startswith(ARROW.encode()):
            raise strange(answer, self._place)
        told = table.from_stream(answer.body)
        if not frame:
            return told
        told = told.to_pandas()
        told.index = data.index
        return told

    def _array(self, data: Any, model: str | None, options: Mapping[str, Any]) -> Conversation[Any]:
        """An array of many numbers goes and comes as its bytes."""
        summary = yield from self.summary(model)
        outputs = options["outputs"]
        if outputs is None:
            outputs = list(summary["default_outputs"])
        head, body = arrays.request(data, outputs, options.get("threshold"))
        path = f"/v2{_place(summary['name'])}/infer"
        length = ((arrays.LENGTH, str(len(head))),)
        answer = yield Question("POST", path, head + body, "application/octet-stream", length)
        try:
            found = arrays.answer(answer)
        except msgspec.DecodeError:
            raise strange(answer, self._place) from None
        return found[outputs[0]] if len(found) == 1 else {name: found[name].tolist() for name in outputs}

    def lookup(self, key: Any, row: Any, model: str | None, outputs: Sequence[str] | None) -> Conversation[Any]:
        """See Client.lookup."""
        many = isinstance(key, list | tuple)
        told = {
            "keys" if many else "key": spoken(key),
            "rows" if many else "row": row_of(row),
            "outputs": names_of(outputs),
        }
        given = {name: each for name, each in told.items() if each is not None}
        body = encoded(given, Given("record", given), None)
        name = model or (yield from self.summary(None))["name"]
        answer = yield Question("POST", f"{_place(name)}/lookup", body)
        return self._read(answer, Found)["answers"] if many else self._read(answer, dict[str, Any])

    def summary(self, model: str | None) -> Conversation[Summary]:
        """What the server tells of a model (None: of its first one), asked once."""
        if not any(model in (None, each["name"]) for each in self._models):
            self._models = yield from self._list()
        for each in self._models:
            if model in (None, each["name"]):
                return each
        answer = yield Question("GET", _place(model))  # the server says that there is none, and which are
        return self._read(answer, Summary)

    def models(self) -> Conversation[list[str]]:
        """The names of the models that the server has."""
        return list(dict.fromkeys([each["name"] for each in (yield from self._list())]))

    def _list(self) -> Conversation[list[Summary]]:
        return self._read((yield Question("GET", "/models")), list[Summary])

    def metadata(self, model: str | None) -> Conversation[dict[str, Any]]:
        """See Client.metadata."""
        return self._read((yield Question("GET", f"/v2{_place(model)}")), dict[str, Any])

    def ready(self) -> Conversation[bool]:
        """Whether the server says that it takes requests; Unavailable where it says that it does not."""
        self._read((yield Question("GET", "/health/ready")), Health)
        return True


def _place(model: str | None) -> str:
    return f"/models/{quote(model, safe='')}" if model else ""


def _joined(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def body_of(given: Given) -> dict[str, Any]:
    """The data in one of the shapes of `/predict`."""
    if given.kind == "record":
        return {"rows": [given.value]}
    return {{"columns": "columns", "records": "rows"}.get(given.kind, "input"): given.value}


def shaped(answer: dict[str, Any], given: Given) -> Any:
    """The columns that the server answered, in the kind of the data."""
    if given.kind == "array" and len(answer) == 1:
        import numpy as np  # there, since the caller gave an array

        return np.array(next(iter(answer.values())))
    if given.columnar:
        return answer
    return [dict(zip(answer, values, strict=True)) for values in zip(*answer.values(), strict=True)]
