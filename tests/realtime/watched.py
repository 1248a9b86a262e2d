"""A whole server in a thread, that is watched from outside, and callers of each wire."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any

import grpc
import httpx
from tritonclient.grpc import service_pb2

from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.wiring import Wired, wire
from tests.realtime.callers import SERVICE, request
from tests.realtime.services import until
from tests.realtime.shelf import onnx
from tests.realtime.wire import LOOPS, PATIENCE, Client

ROW = [5.1, 3.5, 1.4, 0.2]
INFER = f"{SERVICE}/ModelInfer"


@dataclass
class Reply:
    """What a caller got: HTTP's status, or gRPC's where it was a call, and the request id."""

    status: int
    name: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Watched:
    """A server that runs. log: its access log."""

    port: int
    wired: Wired
    listener: Listener
    log: Path

    @property
    def metrics(self) -> Metrics:
        return self.wired.metrics

    def http(self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Over HTTP/1.1."""
        return self._httpx(httpx.Client(timeout=PATIENCE), method, path, body, headers)

    def http2(self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """The same over HTTP/2, without an upgrade."""
        return self._httpx(httpx.Client(http1=False, http2=True, timeout=PATIENCE), method, path, body, headers)

    def _httpx(
        self, client: httpx.Client, method: str, path: str, body: Any, headers: Mapping[str, str] | None
    ) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with client:
            url = f"http://127.0.0.1:{self.port}{path}"
            got = client.request(method, url, content=content, headers=headers)
            return Reply(got.status_code, got.headers.get("x-request-id", ""), got.headers, got.content)

    def raw(self, data: bytes) -> Reply:
        """Bytes that may be no request."""
        with Client(self.port) as client:
            got = client.send(data).answer()
            return Reply(got.status, got.headers.get("x-request-id", ""), got.headers, got.body)

    def call(self, path: str, message: bytes, metadata: Sequence[tuple[str, str]] = ()) -> Reply:
        """A call of gRPC, by grpcio."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            method = channel.unary_unary(path)
            try:
                given, told = method.with_call(message, timeout=PATIENCE, metadata=metadata)
                status, body = 0, given
            except grpc.RpcError as error:
                told, status, body = error, error.code().value[0], b""
            fields = dict([*(told.initial_metadata() or ()), *(told.trailing_metadata() or ())])
            return Reply(status, fields.get("x-request-id", ""), fields, body)

    def infer(self, rows: Sequence[Sequence[float]], metadata: Sequence[tuple[str, str]] = ()) -> Reply:
        """ModelInfer."""
        message = request("inline", {"input": ("FP64", rows)}).SerializeToString()
        return self.call(INFER, message, metadata)

    def lines(self, count: int) -> list[dict[str, Any]]:
        """What the access log says, once it has so many lines."""
        found: list[bytes] = []

        def are_there() -> bool:
            found[:] = self.log.read_bytes().splitlines() if self.log.exists() else []
            return len(found) >= count

        until(are_there)
        return [json.loads(line) for line in found]

    def line(self, name: str) -> dict[str, Any]:
        """The line of one request, once it is there."""
        found: dict[str, dict[str, Any]] = {}

        def is_there() -> bool:
            found.update({line["request_id"]: line for line in self.lines(1)})
            return name in found

        until(is_there)
        return found[name]


@contextmanager
def watched(
    log: Path,
    limits: Limits | None = None,
    *,
    record: Mapping[str, Any] | None = None,
    tls: SSLContext | None = None,
    **observe: Any,
) -> Iterator[Watched]:
    """A server of a model that runs on the loop. record: of the prediction log. observe: more of the access log's."""
    spec = {
        "observe": {"access_log": str(log), "sample": 1.0, "peers": True, "traces": None, **observe},
        "record": record,
    }
    model = onnx()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        loop = LOOPS["uvloop"]()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        def do(work: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)

        async def wired() -> Wired:
            return wire([model], limits or Limits(), spec=spec)

        made: Wired = do(wired())
        listener = Listener(made.app, limits or Limits(), made.methods)
        made.attach(listener)
        do(listener.start(listening, tls=tls))
        try:
            yield Watched(listening.getsockname()[1], made, listener, log)
        finally:
            do(listener.close())
            do(made.close())
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def response(reply: Reply) -> Any:
    """ModelInfer's."""
    return service_pb2.ModelInferResponse.FromString(reply.body)
