"""The Open Inference Protocol over REST, its core: metadata and `infer` with tensors in JSON.

A model of vectors takes one tensor [rows, features]; a model of named columns takes a tensor [n] or [n, 1] a column.
Numbers of JSON are taken as they stand, whatever the datatype says of their width: rounding them first would give
another answer than `/predict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import msgspec

from bimodal.errors import InputError, MalformedInput, Problem, UnsupportedMedia
from bimodal.field import FLOATS, INTEGERS, Field, kind, listed
from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Key, Work
from bimodal.realtime.exchange import JSON, Request, Respond
from bimodal.realtime.protocols import body, choice
from bimodal.realtime.protocols.media import require_plain
from bimodal.realtime.protocols.rows import plain, too_many
from bimodal.realtime.service import Served
from bimodal.rows import Rows
from bimodal.signature import Signature, require

DATATYPES = {
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "bool": "BOOL",
    "string": "BYTES",
    "timestamp": "BYTES",
    "any": "BYTES",
    **{name: name.upper() for name in INTEGERS},
}
EXACTLY = {"BOOL": "bool", **{name.upper(): name for name in INTEGERS}}  # whose values are held to them
NUMBERS = frozenset(
    ("FP64", "FP32", "FP16", "BF16", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8", "BOOL")
)
BINARY = b"inference-header-content-length"  # how much of the body is JSON, in the protocol's binary extension
KNOWN = NUMBERS | {"BYTES"}

Cancel = Callable[[], None]
_Column = tuple[bytes, bytes, int, list[Any]]  # a tensor up to its number of rows, from there to its data; width; data


class Tensor(msgspec.Struct):
    """One input, as it is on the wire."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, bool | int | float | str] | None = None


class Wanted(msgspec.Struct):
    """One output that is asked for."""

    name: str
    parameters: dict[str, bool | int | float | str] | None = None


class Inference(msgspec.Struct):
    """A request."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Wanted] | None = None
    parameters: dict[str, bool | int | float | str] | None = None


def metadata(served: Served) -> dict[str, Any]:
    """What the protocol tells of a model."""
    model, signature = served.model, served.signature
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": f"bimodal_{model.format}",
        "inputs": [told(each) for each in signature.inputs],
        "outputs": [told(each) for each in signature.outputs],
    }


def told(field: Field) -> dict[str, Any]:
    """One tensor of the metadata; -1 is the number of rows."""
    return {"name": field.name, "datatype": DATATYPES[field.type], "shape": [-1, *field.shape]}


class InferDoor:
    """`/v2/models/{name}/infer` of one model."""

    route = "infer"
    content_type = JSON

    def __init__(self, served: Served) -> None:
        self.served = served
        self._submit = served.batcher.submit
        self._limits = served.limits
        self._deadline = served.limits.deadline
        signature = served.signature
        names = tuple(each.name for each in signature.outputs)
        self._key: Key = (names, served.threshold)
        self._vector = signature.vector if not signature.named else None
        self._gather = _gather(signature)
        self._decode = msgspec.json.Decoder(_typed(signature)).decode
        self._encode = msgspec.json.Encoder(enc_hook=plain).encode
        self._datatypes = {each.name: DATATYPES[each.type].encode() for each in signature.outputs}
        self._start = b'{"model_name":%b,"model_version":%b,' % (
            self._encode(served.model.name),
            self._encode(served.model.version),
        )

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        try:
            work = self._taken(request, respond)
            self._submit(work)
        except Exception as error:
            self.served.refuse(self.route, request, respond, error)
            return None
        return None if work.settled else work.cancel

    def recheck(self, work: Work) -> Rows:
        """The full verdict on a body that the fast path decoded."""
        rows, _ = self._judged(work.request.body)
        return rows

    def fail(self, work: Work, error: BaseException) -> None:
        self.served.refuse(self.route, work.request, work.respond, error)

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        """The response; tensors are flat, row by row."""
        tensors: list[_Column] | None = answer.notes
        if tensors is None:
            tensors = answer.notes = [self._column(answer, name) for name in answer.outputs]
        told = b",".join(
            [
                b"%b%d%b%b}" % (start_of, stop - start, end_of, self._encode(values[start * width : stop * width]))
                for start_of, end_of, width, values in tensors
            ]
        )
        if work.extra is not None:
            return b'%b"id":%b,"outputs":[%b]}' % (self._start, self._encode(work.extra), told)
        return b'%b"outputs":[%b]}' % (self._start, told)

    def _column(self, answer: Answer, name: str) -> _Column:
        """What the tensors of one output have in common for all answers of a batch."""
        array = answer.array(name)
        datatype = self._datatypes[name]
        inner = b"".join([b",%d" % size for size in array.shape[1:]])
        values = array.reshape(-1).tolist()
        if datatype == b"BYTES":
            values = [each if isinstance(each, str) else str(plain(each)) for each in values]
        start = b'{"name":%b,"shape":[' % self._encode(name)
        return start, b'%b],"datatype":"%b","data":' % (inner, datatype), math.prod(array.shape[1:]), values

    def _taken(self, request: Request, respond: Respond) -> Work:
        start = monotonic()
        if b"content-encoding" in request.headers or BINARY in request.headers:
            _require_json(request)
        deadline = start + (
            self._deadline if choice.TIMEOUT not in request.headers else choice.seconds(request.headers, self._deadline)
        )
        told = self._quickly(request.body)
        if told is not None:
            values = self._values(told)
            if values is not None:
                count = len(values) if self._vector is not None else len(values[0])
                if 0 < count <= self._limits.rows:
                    key = self._key if told.outputs is None and told.parameters is None else self._chosen(told)
                    if self.served.ragged:
                        key = (*key, len(values[0]))
                    now = monotonic()
                    return Work(
                        self,
                        request,
                        respond,
                        self._gather,
                        values,
                        count,
                        key,
                        deadline,
                        now,
                        now - start,
                        told.id,
                    )
        rows, told = self._judged(request.body)
        key = self.served.lane(self._chosen(told), rows)
        now = monotonic()
        return Work(self, request, respond, gather.ready, [rows], rows.count, key, deadline, now, now - start, told.id)

    def _quickly(self, data: bytes) -> Any:
        """The body by the generated type, or None where it needs the slow path."""
        if not data.isascii() or not body.shallow(data, self._limits.depth):
            return None
        try:
            return self._decode(data)
        except body.BROKEN:
            return None

    def _values(self, told: Any) -> list[Any] | None:
        """Values for the gather: rows of a model of vectors, columns of named ones. None: the slow path decides."""
        tensors = told.inputs
        if self._vector is None:
            return _columns(tensors, self.served.signature)
        if len(tensors) != 1 or not quick(tensors[0].datatype, self._vector) or len(tensors[0].shape) != 2:
            return None
        (count, width), data = tensors[0].shape, tensors[0].data
        if not data or width <= 0 or count <= 0:
            return None
        if type(data[0]) is list:
            return data if len(data) == count and set(map(len, data)) == {width} else None
        if len(data) != count * width:
            return None
        return [data] if count == 1 else [data[at : at + width] for at in range(0, len(data), width)]

    def _chosen(self, told: Any) -> Key:
        """All outputs when none are asked; the parameter `threshold` is ours."""
        threshold = (told.parameters or {}).get("threshold")
        if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
            raise InputError(f"the parameter threshold needs a number, not {kind(threshold)}")
        outputs = self._key[0] if told.outputs is None else [each.name for each in told.outputs]
        return self.served.choose(outputs, threshold)

    # -- the slow path ----------------------------------------------------------------------------------------------

    def _judged(self, data: bytes) -> tuple[Rows, Inference]:
        """The Rows of a body and the whole of it. Raises InputError."""
        value = body.decode(data, self._limits.depth)
        try:
            asked = msgspec.convert(value, Inference)
        except msgspec.ValidationError as error:
            raise MalformedInput(f"the body is no inference request: {error}") from None
        if not asked.inputs:
            raise InputError("the request has no input tensors")
        for tensor in asked.inputs:
            _check(tensor, self._limits.rows)
        signature = self.served.signature
        if signature.named or (signature.vector is None and len(signature.inputs) > 1):
            rows, _, problems = self._by_name(asked.inputs)
        else:
            rows, _, problems = signature.check(self._one_tensor(asked.inputs))
        require(problems)
        return rows, asked

    def _one_tensor(self, tensors: Sequence[Tensor]) -> list[Any]:
        """The rows of the only tensor. Its name is not looked at: the model was trained on an array without names."""
        if len(tensors) != 1:
            raise InputError(f"the model takes 1 input tensor, {len(tensors)} were given")
        tensor, field = tensors[0], self.served.signature.inputs[0]
        if len(tensor.shape) == len(field.shape) + 1:
            return _rows(tensor)
        if not field.shape and tensor.shape[1:] == [1]:
            return [row[0] for row in _rows(tensor)]
        raise InputError(
            f"the tensor has the shape {tensor.shape}; the model takes {told(field)['shape']} (-1: any)",
            column=field.name,
        )

    def _by_name(self, tensors: Sequence[Tensor]) -> Any:
        """A tensor a column; or one tensor [rows, columns], by position."""
        signature = self.served.signature
        names = [each.name for each in signature.inputs]
        first = tensors[0]
        if len(tensors) == 1 and first.name not in names and signature.flat and first.shape[1:] == [len(names)]:
            return signature.check(_rows(first))
        columns: dict[str, list[Any]] = {}
        for tensor in tensors:
            field = next((each for each in signature.inputs if each.name == tensor.name), None)
            values = _rows(tensor)
            if field is not None and not field.shape and len(tensor.shape) == 2 and tensor.shape[1] == 1:
                values = [row[0] for row in values]
            if tensor.name in columns:
                raise InputError("two input tensors have this name", column=tensor.name)
            columns[tensor.name] = values
        return signature.check_columns(columns)


def _require_json(request: Request) -> None:
    if BINARY in request.headers:
        raise UnsupportedMedia("binary tensors are not supported yet; send JSON (in tritonclient: binary_data=False)")
    require_plain(request)


def _gather(signature: Signature) -> gather.Gather:
    if not signature.named and signature.vector is not None:
        return gather.vectors(signature.vector)
    return gather.columns(signature)


def _typed(signature: Signature) -> type[Any]:
    """The request with data of the model's own type, for the fast path."""
    data: Any = list[Any]
    if not signature.named and signature.vector is not None:
        number: Any = int if signature.vector.type in INTEGERS else float
        number = number | None if signature.vector.nullable and number is float else number
        data = list[number | list[number]]
    elif gather.scalars(signature):
        data = list[bool | int | float | str | None]
    tensor: Any = msgspec.defstruct(
        "Tensor",
        [
            ("name", str),
            ("shape", list[int]),
            ("datatype", str),
            ("data", data),
            ("parameters", dict[str, bool | int | float | str] | None, None),
        ],
    )
    made: type[Any] = msgspec.defstruct(
        "Inference",
        [
            ("inputs", list[tensor]),
            ("id", str | None, None),
            ("outputs", list[Wanted] | None, None),
            ("parameters", dict[str, bool | int | float | str] | None, None),
        ],
    )
    return made


def _columns(tensors: Sequence[Any], signature: Signature) -> list[Any] | None:
    """Flat columns in the order of the inputs, or None."""
    if not gather.scalars(signature) or not signature.named or len(tensors) != len(signature.inputs):
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
        if count not in (None, shape[0]) or not quick(tensor.datatype, field):
            return None
        count = shape[0]
        columns.append(tensor.data)
    return columns if count else None


def quick(datatype: str, field: Field) -> bool:
    """Whether values of this datatype need no look before they are gathered for the field."""
    if field.type in FLOATS:
        return datatype in ("FP64", "FP32")
    return datatype == "BYTES" if field.type == "string" else datatype == DATATYPES[field.type]


def _check(tensor: Tensor, most: int) -> None:
    """Datatype, shape and amount of data agree."""
    if tensor.datatype not in KNOWN:
        raise InputError(
            f"the datatype of the input is not known; known are {listed(sorted(KNOWN), 20)}", column=tensor.name
        )
    if not tensor.shape or any(size < 0 for size in tensor.shape):
        raise InputError(
            "the shape of the input needs the number of rows first, and no negative sizes", column=tensor.name
        )
    if tensor.shape[0] > most:
        raise too_many(most)
    values = _flat(tensor.data, len(tensor.shape))
    needed = math.prod(tensor.shape)
    if len(values) != needed:
        raise InputError(f"the shape needs {needed} values, {len(values)} were given", column=tensor.name)
    tensor.data = values
    require(_unlike(tensor))


def _flat(data: list[Any], depth: int) -> list[Any]:
    for _ in range(depth - 1):
        if not data or not isinstance(data[0], list):
            break
        if not all(isinstance(each, list) for each in data):
            raise InputError("the data of a tensor is nested unevenly")
        data = [value for each in data for value in each]
    return data


def _unlike(tensor: Tensor) -> list[Problem]:
    """The first value of each row that its own datatype cannot hold (what the model needs is `Signature.check`'s
    business).
    """
    if tensor.datatype not in EXACTLY:
        return []
    field = Field(tensor.name, EXACTLY[tensor.datatype])
    inner = math.prod(tensor.shape[1:])
    problems: dict[int, Problem] = {}
    for place, value in enumerate(tensor.data):
        problem = None if value is None else field.judge(value)[1]
        if problem is not None:
            column = tensor.name if inner == 1 else f"{tensor.name}[{place % inner * tensor.shape[1] // inner + 1}]"
            row = place // inner + 1
            problems.setdefault(row, Problem(problem.code, problem.message, row, column))
    return list(problems.values())


def _rows(tensor: Tensor) -> list[Any]:
    """The flat data as a list of rows, nested as the shape says."""
    values = tensor.data
    for size in reversed(tensor.shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)] if size else []
    return values
