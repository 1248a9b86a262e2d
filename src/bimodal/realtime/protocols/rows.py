"""`/predict` in JSON: {"input": …}, {"rows": [{…}]}, {"columns": {…}}; answers in columns: {"prediction": […]}.

The fast path decodes with a type generated from the signature and judges nothing; whatever does not fit it goes to
the slow path, whose verdict is `Signature.check`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

import msgspec
import numpy as np

from bimodal.errors import InputError, TooLarge
from bimodal.field import FLOATS, kind, nearest
from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.exchange import JSON, Request, Respond
from bimodal.realtime.protocols import body, choice
from bimodal.realtime.protocols.choice import Choice
from bimodal.realtime.protocols.piecemeal import LONG, Part, Piecemeal
from bimodal.realtime.service import Served
from bimodal.rows import Rows
from bimodal.signature import Signature, require

SHAPES = ("input", "rows", "columns")
KEYS = (*SHAPES, "outputs", "threshold", "keep")
TAKES = (
    'the body needs one of {"input": …} (a row or a list of rows), {"rows": [{…}, …]}, {"columns": {"name": […], …}}'
)

LABELS = 1000  # bodies of single labels that are remembered

Cancel = Callable[[], None]


class RowsDoor:
    """JSON bodies of one model, in and out."""

    route = "predict"
    content_type = JSON
    long: float = LONG  # bytes of a body beyond which it is decoded in pieces

    def __init__(self, served: Served) -> None:
        self.served = served
        self._submit = served.batcher.submit
        self._key = served.key
        self._limits = served.limits
        self._deadline = served.limits.deadline
        self._depth = served.limits.depth
        self._most = served.limits.rows
        self._fast = fast(served.signature)
        self._ragged = served.ragged
        self._encode = msgspec.json.Encoder(enc_hook=plain).encode
        self._labelled = "prediction" if _plain_labels(served.signature) else None
        self._bodies: dict[Any, bytes] = {}

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        if len(request.body) > self.long and self._fast is not None:
            return Piecemeal(self, request, respond).cancel
        try:
            work = self.taken(request, respond)
            self._submit(work)
        except Exception as error:
            self.served.refuse(self.route, request, respond, error)
            return None
        return None if work.settled else work.cancel

    def recheck(self, work: Work) -> Rows:
        """The full verdict on a body that the fast path decoded."""
        rows, _, _ = self.judged(work.request.body)
        return rows

    def fail(self, work: Work, error: BaseException) -> None:
        self.served.refuse(self.route, work.request, work.respond, error)

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        lists = answer.lists
        if work.extra is None and len(lists) == 1:
            name, values = lists[0]
            if name == self._labelled and stop - start == 1:
                return self._body(values[start])
            return self._encode({name: values[start:stop]})
        told = {name: values[start:stop] for name, values in lists}
        return self._encode(told if work.extra is None else {**work.extra, **told})

    def _body(self, label: Any) -> bytes:
        """The answer to one row, where only a label is told: there are few, and each is encoded once."""
        body = self._bodies.get(label)
        if body is None:
            body = self._encode({self._labelled: [label]})
            if len(self._bodies) < LABELS:
                self._bodies[label] = body
        return body

    def part(self, piece: bytes) -> Part | None:
        """A piece of a long body; None: the full verdict must look at the whole."""
        assert self._fast is not None, "a body is cut where there is a fast path"
        told, values = self._fast.take(piece, self._depth)
        if not values:
            return None
        return Part(self._fast.gather, values, len(values), told.outputs, told.threshold)

    def bound(self, count: int) -> None:
        """Raise TooLarge for more rows than a request may have."""
        if count > self._most:
            raise too_many(self._most)

    def taken(self, request: Request, respond: Respond) -> Work:
        """A request as a work. Raises InputError, UsageError."""
        start = monotonic()
        deadline = start + (
            self._deadline if choice.TIMEOUT not in request.headers else choice.seconds(request.headers, self._deadline)
        )
        data = request.body
        fast = self._fast
        if fast is not None and not request.query and data.isascii():
            told, values = fast.take(data, self._depth)
            count = len(values)
            if count and count <= self._most:
                key = self._key
                if told.outputs is not None or told.threshold is not None:
                    key = self.served.choose(told.outputs, told.threshold)
                if self._ragged:
                    key = (*key, len(values[0]))
                now = monotonic()
                parse, alone = now - start, request.alone
                return Work(self, request, respond, fast.gather, values, count, key, deadline, now, parse, alone=alone)
        rows, asked, spare = self.judged(data, choice.of_query(request.query))
        key = self.served.choose(asked.outputs, asked.threshold)
        names = asked.kept(list(spare), key[0])
        extra = {name: spare[name] for name in names} or None
        now = monotonic()
        key = self.served.lane(key, rows)
        parse, alone = now - start, request.alone
        return Work(
            self, request, respond, gather.ready, [rows], rows.count, key, deadline, now, parse, extra, alone=alone
        )

    def judged(self, data: bytes, query: Choice = choice.NONE) -> tuple[Rows, Choice, Mapping[str, list[Any]]]:
        """The Rows of a body, what it asks for, and its columns that are no features. Raises InputError."""
        return self.judge(body.decode(data, self._depth), query)

    def judge(self, told: Any, query: Choice = choice.NONE) -> tuple[Rows, Choice, Mapping[str, list[Any]]]:
        """The same of a body that is decoded."""
        shape = which(told, self.served.signature)
        asked = choice.of_body(told).over(query)
        signature = self.served.signature
        if shape == "columns":
            columns = _columns(told["columns"], self._most)
            rows, _, problems = signature.check_columns(columns)
            spare = {name: columns[name] for name in signature.spare(list(columns))} if signature.named else {}
        else:
            records = as_rows(told[shape], signature) if shape == "input" else _listed(told[shape])
            if len(records) > self._most:
                raise too_many(self._most)
            rows, _, problems = signature.check(records)
            spare = spare_columns(records, signature) if asked.keep else {}
        require(problems)
        return rows, asked, spare


def _plain_labels(signature: Signature) -> bool:
    """Whether `prediction` is one of few labels of one type that JSON knows."""
    kinds = {type(label) for label in signature.classes or ()}
    return len(kinds) == 1 and kinds <= {int, str, bool} and not signature.output("prediction").shape


def which(told: object, signature: Signature) -> str:
    """Which of the three shapes a body has, or the error that names them (and the nearest key on a slip)."""
    if not isinstance(told, dict):
        raise InputError(f"{kind(told)} is no body; {TAKES}")
    given = [key for key in SHAPES if key in told]
    strange = [key for key in told if key not in KEYS]
    for key in strange:
        near = nearest(key, KEYS)
        if near is not None and (near not in told) and (not given or near not in SHAPES):
            raise InputError(f'the body has no key "{near}", but one like it; did you mean "{near}"?')
    if len(given) == 1:
        return given[0]
    if given:
        raise InputError(f"the body has {' and '.join(given)}; {TAKES}")
    features = {each.name for each in signature.inputs}
    if signature.named and features & told.keys():
        raise InputError(f'the body is a bare row; put it into {{"rows": [{{…}}]}} or {{"input": {{…}}}}; {TAKES}')
    raise InputError(TAKES)


def as_rows(value: object, signature: Signature) -> Sequence[Any]:
    """`input` as a list of rows, by the rank of the signature's rows."""
    if not isinstance(value, list):
        return [value]
    if not value:
        return value
    nested = sum(isinstance(each, list | dict) for each in value)
    if signature.vector is not None and 0 < nested < len(value) / 2 and signature.width in (-1, len(value)):
        return [value]  # a row of numbers, with something else among them
    if any(isinstance(each, dict) for each in value):
        return value
    rank = len(signature.inputs[0].shape) if len(signature.inputs) == 1 else 1
    if rank > 1:
        return value if _nested(value) > rank else [value]
    if nested:
        return value
    if signature.vector is None and len(signature.inputs) == 1 and signature.inputs[0].type == "string":
        return value
    if signature.width == 1 and len(value) > 1:
        raise InputError(
            f"{len(value)} values fit a model of one feature in two ways: for {len(value)} rows send "
            '{"input": [[1], [2]]}, a row each; for one row send {"input": [1]}, one value'
        )
    return [value]


def _nested(value: object) -> int:
    """How deep lists are nested along their first elements."""
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0] if value else None
    return depth


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f'"rows" needs a list of rows, not {kind(value)}')
    return value


def _columns(value: object, most: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f'"columns" needs an object of lists, not {kind(value)}')
    if any(isinstance(column, list) and len(column) > most for column in value.values()):
        raise too_many(most)
    return value


def too_many(most: int) -> TooLarge:
    """More rows than a request may have."""
    return TooLarge(f"more than {most} rows in one request; send them in several, or as NDJSON, or predict in batch")


def spare_columns(records: Sequence[Any], signature: Signature) -> dict[str, list[Any]]:
    """The columns of records that are no features: null where a record lacks one."""
    names: dict[str, None] = {}
    for record in records:
        if isinstance(record, dict):
            names.update(dict.fromkeys(record))
    return {
        name: [record.get(name) if isinstance(record, dict) else None for record in records]
        for name in signature.spare(list(names))
    }


def plain(value: object) -> object:
    """What an output may hold beside JSON's own kinds."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


# -- the fast path ---------------------------------------------------------------------------------------------------


class Fast(ABC):
    """Decodes the bodies that fit a generated type; `take` gives no rows for all others."""

    def __init__(self, kind: type[Any], gather: gather.Gather) -> None:
        self.gather = gather
        self._decode = msgspec.json.Decoder(kind).decode

    def decoded(self, data: bytes) -> Any:
        """The body, or None."""
        try:
            return self._decode(data)
        except body.BROKEN:
            return None

    @abstractmethod
    def take(self, data: bytes, depth: int) -> tuple[Any, list[Any]]:
        """The body (its outputs and threshold), and its rows: none where the full verdict must look at it."""


class FastVectors(Fast):
    """{"input": [1, 2, …]}, {"input": [[…], …]} and {"rows": [[…], …]} of a model of vectors."""

    def __init__(self, signature: Signature) -> None:
        field = signature.inputs[0]
        number: Any = float if field.type in FLOATS else int
        number = number | None if field.nullable and number is float else number
        super().__init__(
            msgspec.defstruct(
                "Body",
                [
                    ("input", list[number | list[number]], None),
                    ("rows", list[list[number]] | None, None),
                    ("outputs", list[str] | None, None),
                    ("threshold", float | None, None),
                ],
                forbid_unknown_fields=True,
            ),
            gather.vectors(field),
        )
        self._one = field.shape[0] == 1

    def take(self, data: bytes, depth: int) -> tuple[Any, list[Any]]:
        told = self.decoded(data)
        if told is None:
            return told, []
        rows = told.input
        if rows is None:
            rows = told.rows
        elif told.rows is not None:
            return told, []
        elif rows and type(rows[0]) is not list:
            if self._one and len(rows) > 1:
                return told, []
            rows = [rows]
        if not rows or not rows[0]:
            return told, []
        return told, rows


class FastRecords(Fast):
    """{"input": {…}}, {"input": [{…}, …]}, {"rows": [{…}, …]} of named columns; other columns are passed over."""

    def __init__(self, signature: Signature) -> None:
        row = signature.row_type
        super().__init__(
            msgspec.defstruct(
                "Body",
                [
                    ("input", row | list[row] | None, None),  # type: ignore[valid-type]  # a type made at run time
                    ("rows", list[row] | None, None),  # type: ignore[valid-type]
                    ("outputs", list[str] | None, None),
                    ("threshold", float | None, None),
                ],
                forbid_unknown_fields=True,
            ),
            gather.records(signature),
        )

    def take(self, data: bytes, depth: int) -> tuple[Any, list[Any]]:
        if data.count(b"{") + data.count(b"[") > depth and not body.shallow(data, depth):
            return None, []
        told = self.decoded(data)
        if told is None or (told.input is None) == (told.rows is None):
            return told, []
        rows = told.rows if told.input is None else told.input
        if type(rows) is not list:
            rows = [rows]
        return told, rows


def fast(signature: Signature) -> Fast | None:
    """The fast path of a model, where its signature allows one."""
    if not signature.named and signature.vector is not None and signature.vector.type not in ("string", "any", "bool"):
        return FastVectors(signature) if signature.vector.type != "timestamp" else None
    if signature.named and gather.scalars(signature):
        return FastRecords(signature)
    return None
