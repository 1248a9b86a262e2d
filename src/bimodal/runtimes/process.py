"""Any runtime, in a child process: a crash of the model costs an error, never the process that called it.

The child is started as `python -m bimodal.runtimes.child` on one end of a private socket pair, or forked from one that
was. It ends when the other end is closed, or its parent ends, and another one takes its place when it died.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from bimodal.errors import BimodalError, ModelHung, Unavailable, retold
from bimodal.formats.contract import Source
from bimodal.rows import Rows
from bimodal.runtimes import wire
from bimodal.runtimes.children import Child
from bimodal.runtimes.collected import Room, collected, collected_async
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.isolation import APART, NEVER, Isolation
from bimodal.runtimes.limit import Limit
from bimodal.runtimes.loading import Loading, Report
from bimodal.runtimes.measuring import measure
from bimodal.runtimes.obituary import Obituary
from bimodal.runtimes.open_streams import OpenStreams
from bimodal.runtimes.places import Places
from bimodal.runtimes.revival import revive
from bimodal.runtimes.spare import Succession, outlook
from bimodal.runtimes.streams import LoopStream, Stream

__all__ = ["Child", "Limit", "ProcessRuntime", "Report", "measure"]

log = logging.getLogger("bimodal.model")
WAIT = 2.0  # seconds that a call waits for the process that takes a dead one's place


class ProcessRuntime(Runtime):
    """A model behind a child process. The first is started here, another one after it died."""

    name = "native"
    releases_gil = True

    def __init__(self, kind: str, source: Source, isolation: Isolation = APART) -> None:
        self.limit: Limit | None = None  # on the time of a blocking `run`
        self._isolation = isolation
        self._loading = Loading(kind, source, isolation)
        self._succession = Succession(self._loading, isolation)
        self._calling: Child | None = None  # that answers a call of `run_async`
        self._ended = threading.Event()  # no call will come
        weakref.finalize(self, self._ended.set)
        self._lock = threading.Lock()
        self._turn: asyncio.Lock | None = None
        self._revival: Future[None] | None = None
        self._died = math.inf  # when the process died that has no successor yet
        self._child, report = self._succession.first()
        told = [self._succession.warning] if self._succession.warning else []
        self.report = replace(report, warnings=(*report.warnings, *told))
        self.streams = self.report.streams
        self.places = Places(self.streams)
        self.label = "the model"  # in the log
        self._obituary = Obituary()
        self.died: Callable[[], None] | None = None  # told of each process that another one takes over from
        self._opened = OpenStreams(self._replace)
        self.answer_bytes: int | None = None  # the longest answer of joined pieces on the event loop

    @property
    def tried(self) -> bool:
        """Whether the model took the rows that loading makes up, or was not given any to die of."""
        return self._loading.tried

    @property
    def pid(self) -> int:
        """The process that runs the model now."""
        return self._child.process.pid

    @property
    def spare(self) -> str:
        """What is kept ready to take the place of a process that dies, in words."""
        return self._succession.told

    def told(self) -> dict[str, Any]:
        """Of the process, plain values: bytes that it held when it was loaded, and that it may hold; what is kept ready
        beside it, or would be by a server.
        """
        spare = self.spare if self._isolation.spare != NEVER else outlook(self.report)
        return {"holds": self.report.holds, "model_memory": self._isolation.allowed, "spare": spare}

    @property
    def available(self) -> bool:
        """Whether a call would be answered soon. Asked on the event loop, it has a process that died while nobody
        called replaced.
        """
        if self._child.alive():
            return True
        self._renew()
        return self._succession.ready

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
            child = self._living()
            allowed = self.limit.allowed(rows.count) if self.limit is not None else None
            child.socket.settimeout(allowed)
            started = time.monotonic()
            try:
                wire.send(child.socket, {"op": "run", "outputs": list(outputs)}, rows)
                answer = _answer(*wire.receive(child.socket))
            except TimeoutError as error:
                child.leave()
                raise ModelHung(f"the model gave no answer within {allowed:.3g} s") from error
            except (EOFError, OSError) as error:
                raise child.crash(error) from error
            if self.limit is not None:
                self.limit.took(rows.count, time.monotonic() - started)
            return answer

    def _living(self) -> Child:
        """The process, or the next one where it has died. Blocks."""
        if not self._child.alive():
            self._child = self._succession.next()
        return self._child

    async def run_async(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        if self.streams:
            room = Room(self.answer_bytes)
            return await collected_async(self.stream_async, rows, outputs, self.report.signature, self.places, room)
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            if not self._child.alive():
                await self._revived()
            child = self._calling = self._child
            child.socket.setblocking(False)
            try:
                return _answer(*await child.call(asyncio.get_running_loop(), _run(outputs), rows))
            except (EOFError, OSError) as error:
                crash = await asyncio.to_thread(child.crash, error)  # one that closed its connection may go on
                self._renew()
                raise crash from error
            except asyncio.CancelledError:
                child.leave()  # its answer would be taken for the next one's
                self._renew()
                raise
            finally:
                self._calling = None

    @property
    def spared(self) -> bool:
        return self._succession.ready

    async def run_aside(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        child = await asyncio.to_thread(self._succession.next)
        child.socket.setblocking(False)
        try:
            return _answer(*await child.call(asyncio.get_running_loop(), _run(outputs), rows))
        except (EOFError, OSError) as error:
            raise await asyncio.to_thread(child.crash, error) from error
        finally:
            child.leave()

    def interrupt(self, *, again: bool = True) -> bool:
        if self._calling is None:
            return False
        if not again:
            self._ended.set()
        self._calling.kill("gave no answer in time", hung=True)
        return True

    def stream(self, rows: Rows, outputs: Sequence[str]) -> Generator[Rows]:
        if not self.streams:
            yield self.run(rows, outputs)
            return
        with self._lock:
            child = self._living()
        patience = self.limit.allowed(rows.count) if self.limit is not None else None
        try:
            pieces = Stream(child.stream(), child.crash, rows, outputs, patience)
        except OSError as error:
            raise child.crash(error) from error
        yield from pieces

    async def stream_async(self, rows: Rows, outputs: Sequence[str], ended: Callable[[], None]) -> LoopStream:
        """The same on the event loop; who shares `places` takes one first. ended: told once, when the model has let
        go of the stream.
        """
        if not self._child.alive():
            await self._revived()
        child = self._child
        try:
            channel = child.stream()
        except OSError as error:
            raise child.crash(error) from error
        open_one = self._opened.begin(child, ended)
        return LoopStream(channel, partial(self._crashed, child), rows, outputs, open_one.over, open_one.stuck)

    def _crashed(self, child: Child, cause: Exception | None = None) -> BimodalError:
        crash = child.crash(cause)
        if child is self._child:
            self._renew()
        return crash

    def _replace(self, child: Child) -> None:
        """End a process all of whose streams are stuck."""
        log.error("%s: all its answers in pieces are stuck; its process is replaced", self.label)
        child.leave()
        if child is self._child:
            self._renew()

    # -- on the event loop: another process ---------------------------------------------------------------------------

    def _renew(self) -> None:
        """Have another process take over, at once, for those who come."""
        if self._ended.is_set() or (self._revival is not None and not self._revival.done()):
            return
        self._died = time.monotonic()
        if self.died is not None:
            self.died()
        self._revival = revive(self, self._ended)

    def follow(self) -> float:
        """Have another process follow the one that died. Blocks. Seconds until that is to be tried again; 0 where there
        is one.
        """
        dead = self._child
        try:
            self._child = self._succession.next()
        except (BimodalError, OSError, EOFError) as error:
            pause = self._succession.pause
            if not self._ended.is_set():
                log.error("%s: no process takes over: %s; the next try is in %.3g s", self.label, error, pause)
            return pause
        if self._ended.is_set():
            self._child.end()
        else:
            self._obituary.tell(self.label, dead.fate(), self._succession.how)
        return 0.0

    async def _revived(self) -> None:
        """Wait for the process that takes over: WAIT seconds from the death of the other. Raises Unavailable."""
        self._renew()
        revival = self._revival
        if revival is None:
            raise Unavailable("the model is being closed")
        pause = math.ceil(self._succession.pause)
        left = 0.0 if pause else self._died + WAIT - time.monotonic()
        over = asyncio.wrap_future(revival)
        try:
            await asyncio.wait([over], timeout=max(0.0, left))
        finally:
            over.cancel()
        if not self._child.alive():
            raise Unavailable(
                "the process that runs the model is being replaced; try again later", retry_after=max(1, pause)
            )

    def close(self) -> None:
        self._ended.set()
        self._succession.close()
        self._child.end()


def _run(outputs: Sequence[str]) -> dict[str, Any]:
    return {"op": "run", "outputs": list(outputs)}


def _answer(header: dict[str, Any], rows: Rows | None) -> Rows:
    if "error" in header:
        raise retold(header["error"])
    if rows is None:
        raise BimodalError("the model's process gave no rows")
    return rows
