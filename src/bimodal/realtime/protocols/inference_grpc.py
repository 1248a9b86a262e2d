"""ModelInfer over gRPC: a message in, a message out; many of one turn of the loop are predicted in one call.

One tensor of numbers for a model of vectors, and a tensor a column for named ones, reach the batcher as the bytes that
came, raw or packed. Everything else goes through `inference.py`, as it does over REST.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Protocol

import msgspec

from bimodal.errors import BimodalError, Overloaded
from bimodal.realtime import failure, gather, packed
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import RANK, Key, Work
from bimodal.realtime.calls import Call
from bimodal.realtime.exchange import Response
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.note import Note
from bimodal.realtime.protocols import inference, statuses, terms
from bimodal.realtime.protocols.heads import Head, Heads
from bimodal.realtime.protocols.inference import Asked
from bimodal.realtime.protocols.pieces_grpc import Pieces
from bimodal.realtime.protocols.tensor_bytes import PACKED, Answers, varint
from bimodal.realtime.protocols.tensor_messages import Request, asked_of, parsed, response_of
from bimodal.realtime.service import Served, Service
from bimodal.rows import Rows

ROUTE = "grpc infer"
KINDS = 64  # combinations of datatypes that are remembered

Cancel = Callable[[], None]


class Reply(Protocol):
    """Where an answer goes: the end of a call, or a place in a stream. received: when it was asked for, monotonic;
    metadata: the caller's. name: the id of the call.
    """

    received: float

    @property
    def metadata(self) -> Mapping[bytes, bytes]: ...

    @property
    def name(self) -> bytes | None: ...

    def __call__(self, response: Response) -> None: ...

    def fail(self, error: BaseException, note: Note | None = None) -> None: ...


class Single:
    """The one answer of a call."""

    __slots__ = ("_call", "received")

    def __init__(self, call: Call) -> None:
        self._call = call
        self.received = call.received

    @property
    def metadata(self) -> Mapping[bytes, bytes]:
        """The caller's."""
        return self._call.metadata

    @property
    def name(self) -> bytes | None:
        """The id of the call."""
        return self._call.name

    def __call__(self, response: Response) -> None:
        self._call.respond(response.body, response.headers, response.note)

    def fail(self, error: BaseException, note: Note | None = None) -> None:
        statuses.fail(self._call, error, note)


class Form(msgspec.Struct, frozen=True, eq=False):
    """How an answer looks. asked: of a request that came the whole way; classified: some output is told by classes."""

    id: str
    raw: bool
    asked: Asked | None = None
    classified: bool = False


RAW, TYPED = Form("", True), Form("", False)


class Inference:
    """The method ModelInfer."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._heads = Heads()
        self.limits = service.limits
        self.leaving = service.leaving

    def __call__(self, call: Call, data: bytes) -> Cancel | None:
        work = self.begin(Single(call), data, call.deadline)
        return None if work is None or work.settled else work.cancel

    def begin(self, reply: Reply, data: bytes, deadline: float, *, patient: bool = False) -> Work | None:
        """Put a request on its way to the model, or refuse it. patient: raise Overloaded instead of telling it."""
        start = monotonic()
        door: InferDoor | None = None
        try:
            work = None
            known = self._heads.find(data)
            if known is not None:
                head, name = known
                door = self._service.find(head.model, head.version or None).door(InferDoor)
                work = door.again(head, name, data, reply, start, deadline)
            if work is None:
                request = parsed(Request, data)
                door = self.door(request)
                work, kept = door.taken(request, data, reply, start, deadline)
                if kept is not None:
                    self._heads.keep(data, request, kept)
            assert door is not None
            door.submit(work)
        except Exception as error:
            if patient and isinstance(error, Overloaded):
                raise
            self.refuse(door, reply, error)
            return None
        return work

    @property
    def draining(self) -> bool:
        """Whether the server will end."""
        return self._service.draining

    def pieces(self, data: bytes) -> Pieces | None:
        """The answer of a model that gives it in pieces; None for all others, and where no model is found."""
        if not any(each.model.streams for each in self._service.served.values()) or self._heads.find(data) is not None:
            return None
        request = parsed(Request, data)
        served = self._service.find(request.model_name, request.model_version or None)
        return Pieces(served, request) if served.model.streams else None

    def door(self, request: Any) -> InferDoor:
        """Of the model that is named. Raises ModelNotFound."""
        return self._service.find(request.model_name, request.model_version or None).door(InferDoor)

    def refuse(self, door: InferDoor | None, reply: Reply, error: BaseException) -> None:
        """Tell why there is no answer, and count it."""
        if door is not None:
            door.refuse(reply, error)
            return
        self._metrics.other(failure.status(error))
        reply.fail(error)


class InferDoor:
    """ModelInfer of one model."""

    route = ROUTE
    content_type = b"application/grpc"

    def __init__(self, served: Served) -> None:
        self.served = served
        self.submit = served.batcher.submit
        signature = served.signature
        self._signature = signature
        self._width = signature.width  # -1: any
        self._limits = served.limits
        self._vector = signature.vector if not signature.named else None
        self._columns = signature.named and gather.scalars(signature)
        names = tuple(each.name for each in signature.outputs)
        self._key: Key = (names, served.threshold)
        self._gathers: dict[Any, gather.Gather] = {}
        self._answers = Answers(served)

    # -- in ---------------------------------------------------------------------------------------------------------

    def again(self, head: Head, name: str, data: bytes, reply: Reply, start: float, deadline: float) -> Work | None:
        """A request that differs from an earlier one in its values and its id alone; None where it must be looked at
        anew (the model may have become another).
        """
        kind = self._gathers.get(head.datatype)
        if kind is None or head.count > self._limits.rows or self._width not in (head.width, -1):
            return None
        key = (*self._key, head.width) if self.served.ragged else self._key
        values = [data[-head.size :], head.width]
        form = (RAW if head.raw else TYPED) if not name else Form(name, head.raw)
        return self._work(data, reply, kind, values, head.count, key, start, deadline, form)

    def taken(self, request: Any, data: bytes, reply: Reply, start: float, deadline: float) -> tuple[Work, Head | None]:
        """The work of a request, and what to keep of it. Raises InputError, UsageError."""
        if not request.parameters and not any(each.parameters for each in request.outputs):
            wanted = [each.name for each in request.outputs]
            key = self.served.choose(wanted, None) if wanted else self._key
            raw = bool(request.raw_input_contents)
            form = (RAW if raw else TYPED) if not request.id else Form(request.id, raw)
            if self._vector is not None:
                head = self._head(request)
                if head is not None:
                    values: list[Any] = [_values(request, head), head.width]
                    kind = self._vectors(head.datatype)
                    if self.served.ragged:
                        key = (*key, head.width)
                    return self._work(data, reply, kind, values, head.count, key, start, deadline, form), head
            elif self._columns and (found := self._named(request)) is not None:
                kind, values, count = found
                return self._work(data, reply, kind, values, count, key, start, deadline, form), None
        asked = asked_of(request)
        terms.stateless(asked.parameters)
        rows = inference.judged(self.served, asked)
        key = self.served.lane(terms.chosen(self.served, asked.parameters, asked.wanted), rows)
        classified = any(each.parameters for each in asked.wanted or ())
        form = Form(asked.id or "", bool(request.raw_input_contents), asked, classified)
        deadline = min(deadline, terms.deadline(asked.parameters, start, self._limits.deadline))
        rank = terms.rank(asked.parameters)
        return self._work(data, reply, gather.ready, [rows], rows.count, key, start, deadline, form, rank), None

    def _work(
        self,
        data: bytes,
        reply: Reply,
        kind: gather.Gather,
        values: list[Any],
        count: int,
        key: Key,
        start: float,
        deadline: float,
        form: Form,
        rank: int = RANK,
    ) -> Work:
        now = monotonic()
        deadline = min(deadline, start + self._limits.deadline)
        return Work(self, data, reply, kind, values, count, key, deadline, now, now - start, form, rank)

    # -- the quick way ----------------------------------------------------------------------------------------------

    def _head(self, request: Any) -> Head | None:
        """What a request with one tensor of numbers says, where the gather can take its bytes."""
        if len(request.inputs) != 1 or len(request.raw_input_contents) > 1 or self._vector is None:
            return None
        tensor, width = request.inputs[0], self._width
        datatype, raw = tensor.datatype, bool(request.raw_input_contents)
        if len(tensor.shape) != 2 or tensor.parameters or not packed.takes(self._vector, datatype):
            return None
        count, given = tensor.shape
        if not 0 < count <= self._limits.rows or given <= 0 or width not in (given, -1):
            return None
        if not raw and datatype not in PACKED:
            return None
        size = count * given * packed.WIRE[datatype].itemsize
        head = Head(request.model_name, request.model_version, datatype, count, given, size, raw)
        return head if _values(request, head) is not None else None

    def _vectors(self, datatype: str) -> gather.Gather:
        kind = self._gathers.get(datatype)
        if kind is None:
            assert self._vector is not None
            kind = self._gathers[datatype] = packed.vectors(self._vector, datatype)
        return kind

    def _named(self, request: Any) -> tuple[gather.Gather, list[Any], int] | None:
        """A tensor a column: how they are gathered, their values in the order of the inputs, the rows."""
        fields, raws = self._signature.inputs, request.raw_input_contents
        if len(request.inputs) != len(fields) or (raws and len(raws) != len(fields)):
            return None
        places = {each.name: place for place, each in enumerate(request.inputs)}
        count, datatypes, columns = 0, [], []
        for each in fields:
            place = places.get(each.name)
            if place is None:
                return None
            tensor = request.inputs[place]
            datatype, shape = tensor.datatype, tensor.shape
            if not 0 < len(shape) < 3 or (len(shape) == 2 and shape[1] != 1) or not packed.takes(each, datatype):
                return None
            if shape[0] != count and (count or not 0 < shape[0] <= self._limits.rows):
                return None
            count = shape[0]
            column = _column(tensor, datatype, count, raws[place] if raws else None)
            if column is None:
                return None
            datatypes.append(datatype)
            columns.append(column)
        return self._gathered(tuple(datatypes)), columns, count

    def _gathered(self, datatypes: tuple[str, ...]) -> gather.Gather:
        kind = self._gathers.get(datatypes)
        if kind is None:
            if len(self._gathers) >= KINDS:
                self._gathers.clear()
            kind = self._gathers[datatypes] = packed.columns(self._signature, datatypes)
        return kind

    # -- out --------------------------------------------------------------------------------------------------------

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        """The ModelInferResponse: raw where the request was."""
        form: Form = work.extra
        columns = self._answers.columns(answer)
        if form.classified or not columns.simple:
            return self._whole(form, answer, start, stop)
        return self._answers.response(columns, start, stop, form.id, raw=form.raw)

    def _whole(self, form: Form, answer: Answer, start: int, stop: int) -> bytes:
        model, asked = self.served.model, form.asked or Asked((), form.id)
        given = inference.outputs_of(self.served, answer, start, stop, asked)
        told: bytes = response_of(model.name, model.version, given, asked, raw=form.raw).SerializeToString()
        return told

    def recheck(self, work: Work) -> Rows:
        """The full verdict on values that the quick way took."""
        return inference.judged(self.served, asked_of(parsed(Request, work.request)))

    def fail(self, work: Work, error: BaseException) -> None:
        self.refuse(work.respond, error)

    def refuse(self, reply: Reply, error: BaseException) -> None:
        """Tell why there is no answer, and count it."""
        code = error.code if isinstance(error, BimodalError) else "internal"
        self.served.ledger.refused(ROUTE, failure.status(error), code, monotonic() - reply.received)
        reply.fail(error, Note(self.served.model.name, self.served.model.version, code))


def _values(request: Any, head: Head) -> bytes | None:
    """The bytes of a request's one tensor; None where they are not as many as its shape says, or not all in one."""
    tensor = request.inputs[0]
    if not head.raw:
        return _unpacked(tensor.contents, head.datatype, head.size)
    if tensor.HasField("contents"):
        return None
    data: bytes = request.raw_input_contents[0]
    return data if len(data) == head.size else None


def _unpacked(contents: Any, datatype: str, size: int) -> bytes | None:
    """The bytes of fp32_contents or fp64_contents: on the wire they stand as they do in memory."""
    data: bytes = contents.SerializeToString()
    begin = b"%b%b" % (varint(PACKED[datatype] << 3 | 2), varint(size))
    return data[len(begin) :] if len(data) == len(begin) + size and data.startswith(begin) else None


def _column(tensor: Any, datatype: str, count: int, raw: bytes | None) -> bytes | list[str] | None:
    """The values of a tensor that has one a row; None where they are not."""
    if tensor.parameters or (raw is not None and tensor.HasField("contents")):
        return None
    if datatype == "BYTES":
        return _told(tensor.contents, count) if raw is None else packed.texts(raw, count)
    size = count * packed.WIRE[datatype].itemsize
    if raw is None:
        return _unpacked(tensor.contents, datatype, size) if datatype in PACKED else None
    return raw if len(raw) == size else None


def _told(contents: Any, count: int) -> list[str] | None:
    """The texts of bytes_contents."""
    if len(contents.bytes_contents) != count or len(contents.ListFields()) != 1:
        return None
    try:
        return [each.decode() for each in contents.bytes_contents]
    except UnicodeDecodeError:
        return None
