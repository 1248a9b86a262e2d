"""gRPC calls without a wire: the methods of a wired app, called as `grpc.py` calls them. Messages: tritonclient's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import inf
from time import monotonic
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from bimodal.realtime.calls import Metadata, Status
from bimodal.realtime.note import Note
from bimodal.realtime.refusal import given_id
from tests.realtime.desk import Desk
from tests.realtime.wire import PATIENCE

SERVICE = "/inference.GRPCInferenceService"
CONTENTS = {"FP64": "fp64_contents", "FP32": "fp32_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}
CONTENTS |= {"BOOL": "bool_contents", "INT32": "int_contents", "UINT8": "uint_contents"}


class Refused(Exception):
    """A call ended with another status than OK."""

    def __init__(self, status: Status, message: str, trailers: Mapping[str, str]) -> None:
        super().__init__(f"{status.name}: {message}")
        self.status = status
        self.message = message
        self.trailers = trailers


class FakeCall:
    """A call that keeps what it is told."""

    def __init__(self, path: str, deadline: float = inf, metadata: Mapping[bytes, bytes] | None = None) -> None:
        self.path = path
        self.metadata = metadata or {}
        self.name = given_id(self.metadata)
        self.received = monotonic()
        self.deadline = deadline
        self.leading: Metadata = ()
        self.written: list[bytes] = []
        self.held = False
        self.room = asyncio.Event()
        self.room.set()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def respond(self, message: bytes, metadata: Metadata = (), note: Note | None = None) -> None:
        assert not self.over.done(), "answered twice"
        self.written.append(message)
        self.leading = metadata
        self.over.set_result(None)

    def fail(self, status: Status, message: str, metadata: Metadata = (), note: Note | None = None) -> None:
        assert not self.over.done(), "answered twice"
        told = {name.decode("ascii"): value.decode("ascii") for name, value in metadata}
        self.over.set_exception(Refused(status, message, told))

    def write(self, message: bytes) -> None:
        assert not self.over.done(), "written after the end"
        self.written.append(message)

    def end(self) -> None:
        self.over.set_result(None)

    async def ready(self) -> None:
        await self.room.wait()

    def is_held(self) -> bool:
        """Whether no more is read."""
        return self.held

    def pause(self) -> None:
        self.held = True

    def resume(self) -> None:
        self.held = False


class Caller:
    """Calls the methods of a desk's app."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.methods = desk.wired.methods

    def together(self, name: str, requests: Sequence[Any], *, timeout: float = inf) -> list[Any]:
        """The answers to calls that come in one turn of the loop: bytes, or Refused."""

        async def asked() -> list[Any]:
            calls = [FakeCall(_path(name), monotonic() + timeout) for _ in requests]
            for call, request in zip(calls, requests, strict=True):
                data = request if isinstance(request, bytes) else request.SerializeToString()
                self.methods.unary[_path(name)](call, data)
            await asyncio.wait([call.over for call in calls], timeout=PATIENCE)
            return [call.over.exception() or call.written[0] for call in calls]

        return self.desk.run(asked)

    def ask(self, name: str, request: Any, response: Any = None, **options: Any) -> Any:
        """The answer, as tritonclient reads it. Raises Refused."""
        (answer,) = self.together(name, [request], **options)
        if isinstance(answer, Refused):
            raise answer
        return (response or getattr(service_pb2, f"{name}Response")).FromString(answer)

    def infer(self, request: Any, **options: Any) -> Any:
        return self.ask("ModelInfer", request, **options)

    def stream(self, name: str, requests: Sequence[Any], response: Any = None) -> list[Any]:
        """All answers of a stream."""

        async def asked() -> list[bytes]:
            call = FakeCall(_path(name))
            messages = self.methods.streaming[_path(name)](call)
            for request in requests:
                messages.feed(request if isinstance(request, bytes) else request.SerializeToString())
            messages.finish()
            await asyncio.wait_for(call.over, PATIENCE)
            return call.written

        response = response or service_pb2.ModelStreamInferResponse
        return [response.FromString(each) for each in self.desk.run(asked)]


def _path(name: str) -> str:
    return name if name.startswith("/") else f"{SERVICE}/{name}"


def request(
    model: str, tensors: Mapping[str, tuple[str, Any]], *, raw: bool = True, outputs: Sequence[str] = (), **more: Any
) -> Any:
    """A ModelInferRequest. tensors: datatype and values (nested as the shape is) by name."""
    made = service_pb2.ModelInferRequest(model_name=model, **more)
    for name, (datatype, values) in tensors.items():
        array = np.array(values, object) if datatype == "BYTES" else np.asarray(values)
        tensor = made.inputs.add(name=name, datatype=datatype, shape=array.shape)
        flat = [each.encode() if isinstance(each, str) else each for each in array.reshape(-1).tolist()]
        if not raw:
            getattr(tensor.contents, CONTENTS[datatype]).extend(flat)
        elif datatype == "BYTES":
            made.raw_input_contents.append(b"".join([len(each).to_bytes(4, "little") + each for each in flat]))
        else:
            made.raw_input_contents.append(array.astype(NUMPY[datatype]).tobytes())
    for each in outputs:
        made.outputs.add(name=each)
    return made


NUMPY = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "BOOL": "?"}
NUMPY |= {f"{kind}{bits}": f"<{kind[0].lower()}{bits // 8}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)}


def told(response: Any) -> dict[str, Any]:
    """The outputs by name, in their shapes; texts as str."""
    found: dict[str, Any] = {}
    for place, each in enumerate(response.outputs):
        if response.raw_output_contents:
            values = _read(each.datatype, response.raw_output_contents[place])
        else:
            values = list(getattr(each.contents, CONTENTS[each.datatype]))
        if each.datatype == "BYTES":
            values = [text.decode() for text in values]
        found[each.name] = np.array(values).reshape(list(each.shape)).tolist()
    return found


def _read(datatype: str, data: bytes) -> Any:
    if datatype != "BYTES":
        return np.frombuffer(data, NUMPY[datatype])
    texts, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        texts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return texts
