"""`/invocations`: the contract of MLflow's scoring server and of SageMaker's containers.

JSON in MLflow's words (`dataframe_split`, `dataframe_records`, `instances`, `inputs`; with `params`) is answered by
{"predictions": [answer, …]}; the bodies of `/predict` by what `/predict` answers. CSV without a header (SageMaker's
habit) is answered without one. `Accept` chooses another kind of answer.
https://mlflow.org/docs/latest/ml/deployment, https://docs.aws.amazon.com/sagemaker (your own inference code)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from bimodal.errors import BimodalError, InputError, MissingLibrary, UnsupportedMedia
from bimodal.field import kind as told_kind
from bimodal.formats.library import library
from bimodal.realtime.accept import chosen
from bimodal.realtime.doors import Doors
from bimodal.realtime.exchange import JSON, Intake, Request, Respond, Response, Writer
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols.instances import InstancesDoor
from bimodal.realtime.protocols.lines import NDJSON, LinesDoor
from bimodal.realtime.protocols.media import ARROW, CSV, MEDIA, PARQUET, kind, require_plain, said_of_header
from bimodal.realtime.protocols.rows import SHAPES
from bimodal.realtime.service import Served, Service

ANSWERS = (JSON, CSV, ARROW, PARQUET)
ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
ANY = (b"*/*", b"")

Cancel = Callable[[], None]
Handler = Callable[[Request, Respond], Cancel | None]


class InvocationsDoor(InstancesDoor):
    """JSON bodies of `/invocations`."""

    route = "invocations"
    shapes = ("dataframe_split", "dataframe_records", "instances", "inputs", *SHAPES)
    columnar = False
    takes = (
        'the body needs one of {"dataframe_split": {"columns": […], "data": [[…], …]}}, '
        '{"dataframe_records": [{…}, …]}, {"instances": [row, …]}, {"inputs": {"name": [value, …], …}}, '
        '{"input": …}, {"rows": [{…}, …]}, {"columns": {"name": […], …}}'
    )

    def _records(self, shape: str, value: Any) -> list[Any]:
        return super()._records(shape, _split(value) if shape == "dataframe_split" else value)


class Invocations:
    """`/invocations` of one model: the door is found by the kinds of the body and of the answer."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._json = InvocationsDoor(served)
        self._lines = LinesDoor(served)
        self._doors: dict[tuple[bytes, bytes, bool | None], Handler] = {(JSON, JSON, None): self._json}

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        headers = request.headers
        if ATTRIBUTES in headers:
            respond = _passing(headers[ATTRIBUTES], respond)
        try:
            door = self._door(request)
        except BimodalError as error:
            self._served.refuse("invocations", request, respond, error)
            return None
        return door(request, respond)

    def stream(self, request: Request, writer: Writer) -> Intake | None:
        """The taker of the lines, where they are lines."""
        if kind(request) != NDJSON or b"content-encoding" in request.headers:
            return None
        return self._lines.stream(request, writer)

    def _door(self, request: Request) -> Handler:
        headers = request.headers
        found = headers.get(b"content-type", JSON)
        if found != JSON:
            found = kind(request)
        if b"content-encoding" in headers:
            require_plain(request)
        if found == NDJSON:
            return self._lines
        if found not in MEDIA:
            names = ", ".join(each.decode() for each in MEDIA)
            raise UnsupportedMedia(f"this content type is not understood; understood are {names}")
        accept = headers.get(b"accept", b"")
        answers = found if accept in ANY else chosen(accept, found, ANSWERS)
        key = (found, answers, said_of_header(headers) if found == CSV else None)
        door = self._doors.get(key)
        if door is None:
            door = self._doors[key] = self._made(*key)
        return door

    def _made(self, found: bytes, answers: bytes, header: bool | None) -> Handler:
        """A door that takes one kind and answers another; Arrow is loaded when the first table comes."""
        try:
            scored = library("bimodal.realtime.protocols.scored")
        except MissingLibrary as error:
            raise UnsupportedMedia(f"this server takes no tables, JSON alone: {error.message}") from error
        if found == JSON:
            return cast(Handler, scored.RowsToTable(self._served, answers))
        return cast(Handler, scored.ScoredTable(self._served, found, answers, header=header))


def doors(served: Served, service: Service, metrics: Metrics) -> Doors:
    """The routes of one model; the first one has the short path."""
    name, made = served.model.name, Invocations(served)
    paths = [f"/models/{name}/invocations", f"/models/{name}/versions/{served.model.version}/invocations"]
    paths += ["/invocations"] if served is service.first else []
    return Doors({("POST", path): made for path in paths}, dict.fromkeys(paths, made.stream))


def _passing(attributes: bytes, respond: Respond) -> Respond:
    """`respond`, with the caller's own attributes in the answer."""

    def passed(response: Response) -> None:
        response.headers = (*response.headers, (ATTRIBUTES, attributes))
        respond(response)

    return passed


def _split(value: Any) -> list[Any]:
    """The rows of `dataframe_split`: objects where it names its columns, else lists."""
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise InputError('"dataframe_split" needs {"columns": […], "data": [[…], …]}')
    names: Any = value.get("columns")
    rows: list[Any] = value["data"]
    if names is None:
        return rows
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise InputError('"dataframe_split": "columns" needs a list of names')
    names = [str(name) for name in names]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise InputError(f'"dataframe_split": two columns are called {twice!r}', column=twice)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list):
            raise InputError(f"row {number}: {told_kind(row)} where a list of values is needed", row=number)
        if len(row) != len(names):
            raise InputError(f"row {number}: {len(row)} values where {len(names)} columns are named", row=number)
    return [dict(zip(names, row, strict=True)) for row in rows]
