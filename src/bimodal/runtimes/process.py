"""Any runtime, in a child process: a crash of the model costs an error, never the process that called it.

The child is started as `python -m bimodal.runtimes.child` on one end of a private socket pair. It ends when the
other end is closed, so it never outlives its parent, and it is started again when it died.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from bimodal.errors import BimodalError, ModelCrashed, ModelError, ModelHung, retold
from bimodal.formats.contract import Source
from bimodal.rows import Rows
from bimodal.runtimes import wire
from bimodal.runtimes.collected import Room, collected, collected_async
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.open_streams import OpenStreams
from bimodal.runtimes.places import Places
from bimodal.runtimes.streams import LoopStream, Stream
from bimodal.signature import Signature

log = logging.getLogger("bimodal.model")

LOAD_TIMEOUT = 600.0  # seconds for a model to load; a model that takes longer than that is taken to hang
TRIED = 1.0  # seconds of made-up calls from which on there are no more of them
BUFFER = 1 << 20
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Report:
    """What the child found when it loaded the model."""

    signature: Signature
    versions: dict[str, str]
    warnings: tuple[str, ...]
    facts: dict[str, Any]
    costs: dict[int, float]  # seconds of one call, by number of rows
    compiles: bool = False  # it may have a compiled form
    streams: int = 0  # answers in pieces side by side


class Child:
    """One child process and the socket to it. module: what it runs, on the socket's number."""

    def __init__(self, module: str = "bimodal.runtimes.child", *, work: str | None = None) -> None:
        mine, theirs = socket.socketpair()
        for end in (mine, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what the model prints must not end up among the predictions
                env=_environment(),
                cwd=work,
            )
        finally:
            theirs.close()
        self.socket = mine
        self._control: socket.socket | None = None
        self.end = weakref.finalize(self, _end, self.process, mine)

    def alive(self) -> bool:
        return self.process.poll() is None

    def begin_streams(self) -> None:
        """Hand the child a socket of its own over which the sockets of streams will come."""
        self._control, theirs = socket.socketpair()
        self.end.detach()
        self.end = weakref.finalize(self, _end, self.process, self.socket, self._control)
        with theirs:
            wire.send(self.socket, {"op": "streams"})
            socket.send_fds(self.socket, [b"c"], [theirs.fileno()])

    def stream(self) -> socket.socket:
        """A new socket whose other end the child answers a stream on. Raises OSError where it is gone."""
        assert self._control is not None, "the model does not stream"
        mine, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [b"s"], [theirs.fileno()])
        except OSError:
            mine.close()
            raise
        finally:
            theirs.close()
        return mine

    async def call(
        self, loop: asyncio.AbstractEventLoop, message: dict[str, Any], rows: Rows
    ) -> tuple[dict[str, Any], Rows | None]:
        """Send and receive without blocking the loop. The socket must be non-blocking; one call at a time."""
        await self._send(loop, wire.encode(message, rows))
        arriving = wire.Arriving(self.socket)
        arrived: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.socket.fileno(), _take_in, arriving, arrived)
        try:
            await arrived
        finally:
            loop.remove_reader(self.socket.fileno())
        return arriving.message()

    async def _send(self, loop: asyncio.AbstractEventLoop, buffers: Sequence[bytes | memoryview]) -> None:
        """In one piece where it is small: the child is woken once."""
        data = b"".join(buffers)
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await loop.sock_sendall(self.socket, memoryview(data)[sent:])

    def fate(self) -> str:
        """How the child ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.poll()
        if code is None:
            return "closed its connection"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def _take_in(arriving: wire.Arriving, arrived: asyncio.Future[None]) -> None:
    """Called when the socket can be read."""
    if arrived.done():
        return
    try:
        if arriving.read():
            arrived.set_result(None)
    except (EOFError, OSError) as error:
        arrived.set_exception(error)


def _end(process: subprocess.Popen[bytes], *channels: socket.socket) -> None:
    for channel in channels:
        channel.close()  # the child reads the end of its input and leaves
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """One thread a child unless the user says otherwise: side by side they would only wait for each other."""
    return {**dict.fromkeys(THREADS, "1"), **os.environ}


class ProcessRuntime(Runtime):
    """A model behind a child process. The child is started by `load` and again after it died."""

    name = "native"
    releases_gil = True

    def __init__(self, kind: str, source: Source) -> None:
        self._load = {"op": "load", "format": kind, "source": msgspec.to_builtins(source)}
        self.limit: Limit | None = None  # on the time of a blocking `run`
        self._patience = source.patience or Limit.FIRST
        self._calling: Child | None = None  # that answers a call of `run_async`
        self._ended = False  # no call will come
        self._untried: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._turn: asyncio.Lock | None = None
        self._revival: asyncio.Task[None] | None = None
        self._child, self.report = self._start()
        self.streams = self.report.streams
        self.places = Places(self.streams)
        self.label = "the model"  # in the log
        self._opened = OpenStreams(self._replace)
        self.answer_bytes: int | None = None  # the longest answer of joined pieces on the event loop

    def _start(self) -> tuple[Child, Report]:
        """A model that dies or hangs on the rows that loading makes up is loaded once more without them."""
        child = Child()
        patience, trying = LOAD_TIMEOUT, False
        try:
            child.socket.settimeout(patience)
            wire.send(child.socket, self._load)
            header, _ = wire.receive(child.socket)
            if "trying" in header:
                patience, trying = self._patience, True
                child.socket.settimeout(patience)
                header, _ = wire.receive(child.socket)
        except TimeoutError as error:
            child.process.kill()
            child.end()
            if trying:
                return self._start_untried(f"gave no answer within {patience:.3g} s")
            raise ModelError(f"the model did not load within {patience:.0f} s") from error
        except (EOFError, OSError) as error:
            fate = child.fate()
            child.end()
            if trying:
                return self._start_untried(fate)
            raise ModelCrashed(f"the process that loaded the model {fate}") from error
        if "error" in header:
            child.end()
            raise retold(header["error"])
        child.socket.settimeout(None)
        if header["streams"]:
            child.begin_streams()
        report = Report(
            Signature.retold(header["signature"]),
            header["versions"],
            (*header["warnings"], *self._untried),
            header["facts"],
            {int(count): seconds for count, seconds in header["costs"]},
            header["compiles"],
            header["streams"],
        )
        return child, report

    def _start_untried(self, fate: str) -> tuple[Child, Report]:
        self._load["source"]["tried"] = False
        told = f"on a row that was made up to try the model, its process {fate}; it is loaded without a trial"
        self._untried = (f"{told}, and shows what it answers when it is called; --sample FILE has rows that it takes",)
        return self._start()

    @property
    def tried(self) -> bool:
        """Whether the model took the rows that loading makes up, or was not given any to die of."""
        return bool(self._load["source"]["tried"])

    @property
    def pid(self) -> int:
        """The process that runs the model now."""
        return self._child.process.pid

    def code(self, folders: Sequence[str]) -> list[tuple[str, str]]:
        """The user's own modules that the model has imported from these folders: (folder, file or package)."""
        with self._lock:
            wire.send(self._child.socket, {"op": "code", "folders": list(folders)})
            header, _ = wire.receive(self._child.socket)
        return [(folder, place) for folder, place in header["code"]]

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        if self.streams:
            return collected(self.stream, rows, outputs, self.report.signature, self.streams)
        with self._lock:
            if not self._child.alive():
                self._child, _ = self._start()
            allowed = self.limit.allowed(rows.count) if self.limit is not None else None
            self._child.socket.settimeout(allowed)
            started = time.monotonic()
            try:
                wire.send(self._child.socket, {"op": "run", "outputs": list(outputs)}, rows)
                answer = _answer(*wire.receive(self._child.socket))
            except TimeoutError as error:
                self._child.process.kill()
                self._child.end()
                raise ModelHung(f"the model gave no answer within {allowed:.3g} s") from error
            except (EOFError, OSError) as error:
                raise self._crashed() from error
            if self.limit is not None:
                self.limit.took(rows.count, time.monotonic() - started)
            return answer

    async def run_async(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        if self.streams:
            room = Room(self.answer_bytes)
            return await collected_async(self.stream_async, rows, outputs, self.report.signature, self.places, room)
        loop = asyncio.get_running_loop()
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            await self._revived()
            self._child.socket.setblocking(False)
            self._calling = self._child
            try:
                return _answer(*await self._child.call(loop, {"op": "run", "outputs": list(outputs)}, rows))
            except (EOFError, OSError) as error:
                crash = self._crashed()
                self._renew()
                raise crash from error
            except asyncio.CancelledError:
                self._child.process.kill()  # its answer would be taken for the next one's
                self._child.end()
                raise
            finally:
                self._calling = None

    def interrupt(self, *, again: bool = True) -> bool:
        if self._calling is None:
            return False
        self._ended = not again
        self._calling.process.kill()
        return True

    def stream(self, rows: Rows, outputs: Sequence[str]) -> Generator[Rows]:
        if not self.streams:
            yield self.run(rows, outputs)
            return
        with self._lock:
            if not self._child.alive():
                self._child, _ = self._start()
            child = self._child
        patience = self.limit.allowed(rows.count) if self.limit is not None else None
        try:
            pieces = Stream(child.stream(), partial(_crash, child), rows, outputs, patience)
        except OSError as error:
            raise _crash(child) from error
        yield from pieces

    async def stream_async(self, rows: Rows, outputs: Sequence[str], ended: Callable[[], None]) -> LoopStream:
        """The same on the event loop; who shares `places` takes one first. ended: told once, when the model has let
        go of the stream.
        """
        if self._revival is not None or not self._child.alive():
            if self._turn is None:
                self._turn = asyncio.Lock()
            async with self._turn:
                await self._revived()
        child = self._child
        try:
            channel = child.stream()
        except OSError as error:
            raise _crash(child) from error
        open_one = self._opened.begin(child, ended)
        return LoopStream(channel, partial(_crash, child), rows, outputs, open_one.over, open_one.stuck)

    async def _revived(self) -> None:
        if self._revival is not None:
            revival, self._revival = self._revival, None
            await revival
        elif not self._child.alive():
            await self._revive()

    def _renew(self) -> None:
        """Start another process at once, for those who come."""
        if not self._ended:
            self._revival = asyncio.get_running_loop().create_task(self._revive())

    def _replace(self, child: Child) -> None:
        """End a process all of whose streams are stuck."""
        log.error("%s: all its answers in pieces are stuck; its process is replaced", self.label)
        child.process.kill()
        child.end()
        if child is self._child:
            self._renew()

    async def _revive(self) -> None:
        self._child, _ = await asyncio.to_thread(self._start)

    def _crashed(self) -> ModelCrashed:
        return _crash(self._child)

    def close(self) -> None:
        self._ended = True
        self._child.end()


def _crash(child: Child) -> ModelCrashed:
    fate = child.fate()
    child.end()
    return ModelCrashed(f"the process that ran the model {fate}")


class Limit:
    """The longest that a call may take: as given, or by what earlier calls took.

    seconds: for a call of any size. None: SLACK times what a call of as many rows takes by `costs` (seconds of a call
    by its rows, as loading measured them) and never less than FIRST, until a call was made; then SLACK times what calls
    took at the slowest so far, and never less than LEAST.
    """

    FIRST, LEAST, SLACK, FEW = 120.0, 10.0, 50.0, 1024

    def __init__(self, seconds: float | None = None, costs: Mapping[int, float] | None = None) -> None:
        self._seconds = seconds
        self._expected = min((spent / count for count, spent in (costs or {}).items()), default=0.0)  # seconds a row
        self._small = 0.0  # seconds of a call of few rows, where a row says nothing
        self._row = 0.0  # seconds a row of the others

    def allowed(self, count: int) -> float:
        if self._seconds is not None:
            return self._seconds
        if not self._small and not self._row:
            return max(self.FIRST, self.SLACK * self._expected * count)
        return max(self.LEAST, self.SLACK * (self._small + self._row * count))

    def took(self, count: int, seconds: float) -> None:
        if count < self.FEW:
            self._small = max(self._small, seconds)
        else:
            self._row = max(self._row, seconds / count)


def _answer(header: dict[str, Any], rows: Rows | None) -> Rows:
    if "error" in header:
        raise retold(header["error"])
    if rows is None:
        raise BimodalError("the model's process gave no rows")
    return rows


def measure(runtime: Runtime, signature: Signature, counts: Sequence[int] = (1, 64)) -> dict[int, float]:
    """Seconds of one call by number of rows, on the example row; the first call of each is the warm-up. A slow model is
    called less often, and with fewer rows.
    """
    outputs = [each.name for each in signature.outputs[:1]]
    costs: dict[int, float] = {}
    for count in counts:
        longest = costs[1] * count if 1 in costs else 0.0  # if every row takes as long as a call of one
        if longest > 2 * TRIED:
            count = max(1, int(count * TRIED / longest))
        if count in costs:
            break
        rows = signature.example_rows(count)
        spans: list[float] = []
        while len(spans) < 4 and (len(spans) < 2 or sum(spans) < TRIED):
            start = time.perf_counter()
            runtime.run(rows, outputs)
            spans.append(time.perf_counter() - start)
        costs[count] = min(spans[1:])
    return costs
