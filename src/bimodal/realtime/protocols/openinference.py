"""The Open Inference Protocol over REST, the quick way: plain requests with tensors in JSON.

A model of vectors takes one tensor [rows, features]; a model of named columns takes a tensor [n] or [n, 1] a column.
Numbers of JSON are taken as they stand, whatever the datatype says of their width: rounding them first would give
another answer than `/predict`. What does not fit the quick way goes to `WholeDoor`, whose verdict counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import msgspec

from bimodal.field import INTEGERS
from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import RANK, Key, Work
from bimodal.realtime.exchange import JSON, Request, Respond
from bimodal.realtime.protocols import binary, body, choice, terms
from bimodal.realtime.protocols.description import metadata, told
from bimodal.realtime.protocols.inference import DATATYPES, Parameter, judged, texts
from bimodal.realtime.protocols.piecemeal import LONG
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.protocols.stretches import Stretches, quick
from bimodal.realtime.protocols.whole import WholeDoor
from bimodal.realtime.service import Served
from bimodal.rows import Rows
from bimodal.signature import Signature

__all__ = ["DATATYPES", "InferDoor", "metadata", "told"]

WHOLE = frozenset(("binary_data_output", "content_type"))  # parameters of a request that the whole door looks at
CHOICES = 64  # of outputs whose keys are remembered
Cancel = Callable[[], None]
LEVELS = 5  # how deep a body of the generated type can be nested


Column = tuple[bytes, bytes, int, list[Any]]  # a tensor up to its number of rows, from there to its data; width; data


class Told(msgspec.Struct, eq=False):
    """What the answers of a batch have in common. rows: the whole answer for each row where every request has one row,
    else empty.
    """

    columns: list[Column]
    rows: list[bytes]


class Plain(msgspec.Struct, forbid_unknown_fields=True):
    """An output that is asked for as it is."""

    name: str
    parameters: None = None


class InferDoor:
    """`/v2/models/{name}/infer` of one model."""

    route = "infer"
    content_type = JSON
    long = LONG  # bytes of a body beyond which its tensors are decoded in stretches

    def __init__(self, served: Served) -> None:
        self.served = served
        self._whole = WholeDoor(served)
        self._stretches = Stretches(self, self._quickly, self._taken)
        self._submit = served.batcher.submit
        self._limits = served.limits
        self._deadline = served.limits.deadline
        signature = served.signature
        names = tuple(each.name for each in signature.outputs)
        self._key: Key = (names, served.threshold)
        self._keys: dict[tuple[str, ...], Key] = {}
        self._vector = signature.vector if not signature.named else None
        self._taking = () if self._vector is None else quick(self._vector)
        plain_inputs = self._vector is not None or (signature.named and gather.scalars(signature))
        self._quick = plain_inputs and self._limits.depth >= LEVELS
        self._gather = _gather(signature)
        self._decode = msgspec.json.Decoder(_typed(signature)).decode
        self._encode = msgspec.json.Encoder(enc_hook=plain).encode
        self._datatypes = {each.name: DATATYPES[each.type].encode() for each in signature.outputs}
        self._tensors: dict[tuple[str, tuple[int, ...]], tuple[bytes, bytes, int]] = {}
        self._start = b'{"model_name":%b,"model_version":%b,' % (
            self._encode(served.model.name),
            self._encode(served.model.version),
        )

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        if len(request.body) > self.long:
            return self._stretches(request, respond)
        try:
            work = self._taken(request, respond)
            self._submit(work)
        except Exception as error:
            self.served.refuse(self.route, request, respond, error)
            return None
        return None if work.settled else work.cancel

    def recheck(self, work: Work) -> Rows:
        """The full verdict on a body that the fast path decoded."""
        return judged(self.served, binary.asked(work.request, self._limits.depth))

    def fail(self, work: Work, error: BaseException) -> None:
        self.served.refuse(self.route, work.request, work.respond, error)

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        """The response; tensors are flat, row by row."""
        told: Told | None = answer.notes
        if told is None:
            told = answer.notes = self._told(answer)
        if told.rows and work.extra is None:
            return told.rows[start]
        tensors = []
        for start_of, end_of, width, values in told.columns:
            its = self._encode(values[start * width : stop * width])
            tensors.append(b"%b%d%b%b}" % (start_of, stop - start, end_of, its))
        if work.extra is not None:
            return b'%b"id":%b,"outputs":[%b]}' % (self._start, self._encode(work.extra), b",".join(tensors))
        return b'%b"outputs":[%b]}' % (self._start, b",".join(tensors))

    def _told(self, answer: Answer) -> Told:
        columns = [self._column(answer, name) for name in answer.names]
        if not (answer.single and all(width for _, _, width, _ in columns)):
            return Told(columns, [])
        tensors = [b"%b1%b[\0]}" % (start, end) for start, end, _, _ in columns]
        whole = b'%b"outputs":[%b]}' % (self._start, b",".join(tensors))
        row = whole.replace(b"%", b"%%").replace(b"\0", b"%b")  # JSON holds no null character
        return Told(columns, [row % told for told in zip(*map(self._rows, columns), strict=True)])

    def _rows(self, column: Column) -> list[bytes]:
        """Values of each row as JSON, without brackets."""
        _, _, width, values = column
        if isinstance(values[0], str):
            return [self._encode(values[at : at + width])[1:-1] for at in range(0, len(values), width)]
        pieces = self._encode(values)[1:-1].split(b",")
        if width == 1:
            return pieces
        return [b",".join(pieces[at : at + width]) for at in range(0, len(pieces), width)]

    def _column(self, answer: Answer, name: str) -> Column:
        """What the tensors of one output have in common for all answers of a batch."""
        array = answer.array(name)
        known = self._tensors.get((name, array.shape[1:]))
        if known is None:
            known = self._tensors[name, array.shape[1:]] = self._tensor(name, array.shape[1:])
        start, end, width = known
        if self._datatypes[name] == b"BYTES":
            array = texts(array)
        return start, end, width, (array if array.ndim == 1 else array.reshape(-1)).tolist()

    def _tensor(self, name: str, shape: tuple[int, ...]) -> tuple[bytes, bytes, int]:
        """What stands in an answer before and after the number of rows; values a row."""
        if len(self._tensors) >= CHOICES:  # of outputs that are as long as they like
            self._tensors.clear()
        inner = b"".join([b",%d" % size for size in shape])
        end = b'%b],"datatype":"%b","data":' % (inner, self._datatypes[name])
        return b'{"name":%b,"shape":[' % self._encode(name), end, math.prod(shape)

    def _taken(self, request: Request, respond: Respond) -> Work:
        start = monotonic()
        headers, data = request.headers, request.body
        special = binary.LENGTH in headers or b"content-encoding" in headers or not self._quick
        told = None if special else self._quickly(data)
        values = None if told is None else self._values(told.inputs)
        if told is None or values is None:
            return self._whole.work(request, respond)
        count = len(values) if self._vector is not None else len(values[0])
        if not 0 < count <= self._limits.rows:
            return self._whole.work(request, respond)
        most = self._deadline
        if choice.TIMEOUT in headers:
            most = choice.seconds(headers, most)
        key, deadline, rank = self._key, start + most, RANK
        if told.parameters is None:
            if told.outputs is not None:
                key = self._known(told.outputs)
        else:
            terms.stateless(told.parameters)
            key = terms.chosen(self.served, told.parameters, told.outputs)
            deadline, rank = terms.deadline(told.parameters, start, most), terms.rank(told.parameters)
        if self.served.ragged:
            key = (*key, len(values[0]))
        now = monotonic()
        parse, alone = now - start, request.alone
        return Work(
            self, request, respond, self._gather, values, count, key, deadline, now, parse, told.id, rank, alone
        )

    def _known(self, wanted: Sequence[Any]) -> Key:
        """The key of outputs alone, made once for each choice of them."""
        names = tuple([each.name for each in wanted])
        key = self._keys.get(names)
        if key is None:
            key = terms.chosen(self.served, None, wanted)
            if len(self._keys) < CHOICES:
                self._keys[names] = key
        return key

    def _quickly(self, data: bytes) -> Any:
        """The body by the generated type, or None where it needs the whole door."""
        if not data.isascii():
            return None
        try:
            told = self._decode(data)
        except body.BROKEN:
            return None
        if told.parameters is not None and not WHOLE.isdisjoint(told.parameters):
            return None
        return told

    def _values(self, tensors: Sequence[Any]) -> list[Any] | None:
        """Values for the gather: rows of a model of vectors, columns of named ones. None: the slow path decides."""
        if self._vector is None:
            return _columns(tensors, self.served.signature)
        if len(tensors) != 1 or tensors[0].datatype not in self._taking or len(tensors[0].shape) != 2:
            return None
        (count, width), data = tensors[0].shape, tensors[0].data
        if not data or width <= 0 or count <= 0:
            return None
        if type(data[0]) is list:
            if len(data) != count or (count > 1 and set(map(type, data)) != {list}):
                return None
            return data if set(map(len, data)) == {width} else None
        if len(data) != count * width:
            return None
        return [data] if count == 1 else [data[at : at + width] for at in range(0, len(data), width)]


def _gather(signature: Signature) -> gather.Gather:
    if not signature.named and signature.vector is not None:
        return gather.vectors(signature.vector)
    return gather.columns(signature)


def _typed(signature: Signature) -> type[Any]:
    """The request with data of the model's own type, for the fast path. Parameters of tensors and of outputs have no
    place in it: those who have some go to the whole door.
    """
    data: Any = list[bool | int | float | str | None]
    if not signature.named and signature.vector is not None:
        number: Any = int if signature.vector.type in INTEGERS else float
        number = number | None if signature.vector.nullable and number is float else number
        data = list[number | list[number]]
    tensor: Any = msgspec.defstruct(
        "Tensor",
        [
            ("name", str),
            ("shape", list[int]),
            ("datatype", str),
            ("data", data),
            ("parameters", None, None),
        ],
        forbid_unknown_fields=True,
    )
    made: type[Any] = msgspec.defstruct(
        "Inference",
        [
            ("inputs", list[tensor]),
            ("id", str | None, None),
            ("outputs", list[Plain] | None, None),
            ("parameters", dict[str, Parameter] | None, None),
        ],
        forbid_unknown_fields=True,
    )
    return made


def _columns(tensors: Sequence[Any], signature: Signature) -> list[Any] | None:
    """Flat columns in the order of the inputs, or None."""
    if len(tensors) != len(signature.inputs):
        return None
    found = {tensor.name: tensor for tensor in tensors}
    columns = []
    count = None
    for field in signature.inputs:
        tensor = found.get(field.name)
        if tensor is None:
            return None
        shape = tensor.shape
        if len(shape) > 2 or not shape or (len(shape) == 2 and shape[1] != 1) or shape[0] != len(tensor.data):
            return None
        if count not in (None, shape[0]) or tensor.datatype not in quick(field):
            return None
        count = shape[0]
        columns.append(tensor.data)
    return columns if count else None
