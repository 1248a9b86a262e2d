"""Methods to try gRPC with: no model, no protobuf."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from time import monotonic

from bimodal.realtime.calls import Call, Cancel, Messages, Status, Streaming, Unary
from tests.realtime.wire import PATIENCE, TryOut


class Services:
    """calls: what came. cancelled: how often a method was told to stop, aborted: the same of streams. written: answers
    that a flood has made.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cancelled = threading.Semaphore(0)
        self.aborted = threading.Semaphore(0)
        self.came = threading.Semaphore(0)
        self.written = 0
        self.unary: Mapping[str, Unary] = {
            "/test.Test/Echo": self.echo,
            "/test.Test/Later": self.later,
            "/test.Test/Never": self.never,
            "/test.Test/Fail": self.fail,
            "/test.Test/Raise": self.broken,
            "/test.Test/Big": self.big,
        }
        self.streaming: Mapping[str, Streaming] = {
            "/test.Test/Talk": lambda call: Talk(self, call),
            "/test.Test/Flood": lambda call: Flood(self, call),
        }

    def echo(self, call: Call, message: bytes) -> None:
        self.calls.append(call)
        call.respond(message, tuple((b"back-" + k, v) for k, v in call.metadata.items() if k.startswith(b"x-mine")))

    def later(self, call: Call, message: bytes) -> Cancel:
        self.came.release()
        timer = asyncio.get_running_loop().call_later(float(message), call.respond, b"later")
        return timer.cancel

    def never(self, call: Call, message: bytes) -> Cancel:
        self.calls.append(call)
        self.came.release()
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled.release()

    def fail(self, call: Call, message: bytes) -> None:
        call.fail(Status.INVALID_ARGUMENT, message.decode(), ((b"x-error-code", b"bad"), (b"detail-bin", b"\0\1\2")))

    def broken(self, call: Call, message: bytes) -> None:
        raise RuntimeError("a secret of the method")

    def big(self, call: Call, message: bytes) -> None:
        call.respond(b"x" * int(message))


class Both(TryOut):
    """Routes and methods, for a server of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.methods = Services()


app = Both()


class Talk(Messages):
    """Answers each message with itself in capitals, `fail` with a failure."""

    def __init__(self, services: Services, call: Call) -> None:
        self.services = services
        self.call = call

    def feed(self, message: bytes) -> None:
        if message == b"fail":
            self.call.fail(Status.NOT_FOUND, "not here")
        elif message == b"raise":
            raise RuntimeError("a secret of the stream")
        else:
            self.call.write(message.upper())

    def finish(self) -> None:
        self.call.end()

    def abort(self) -> None:
        self.services.aborted.release()


class Flood(Messages):
    """Answers without end, as fast as its reader takes them."""

    def __init__(self, services: Services, call: Call) -> None:
        self.services = services
        self.call = call
        self.task = asyncio.get_running_loop().create_task(self._flow())

    async def _flow(self) -> None:
        while True:
            self.call.write(b"x" * 50_000)
            self.services.written += 1
            await self.call.ready()
            await asyncio.sleep(0)

    def feed(self, message: bytes) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None:
        self.task.cancel()
        self.services.aborted.release()


def until(held: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until it holds."""
    end = monotonic() + seconds
    while not held():
        assert monotonic() < end, "it did not come to hold"
        threading.Event().wait(0.01)
