"""Promise 18: nothing is kept of what is over. The check must find a server that does keep something.

The whole form: python -m tests.fire.leaks --minutes 60 --reloads 200; its control, --minutes 2 --leaking 100.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from bimodal.model import load
from bimodal.realtime.app import App
from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener
from bimodal.realtime.wiring import wire
from bimodal.runtimes import memory
from tests.fire import leaks
from tests.fire.leaks import SLOPE, SOUND, Figures, Mixed, Seen

T = TypeVar("T")

PASSING = {  # what a request, a call or a connection consists of
    "batcher.Work",
    "exchange.Request",
    "exchange.Response",
    "grpc.Call",
    "http.Connection",
    "http2.connection.Connection",
    "http2.link.Link",
    "http2.requests.Exchange",
    "protocols.lines.Lines",
    "transfer.Body",
    "transfer.Exchange",
}
TURNS = 2  # of mixed traffic between two looks: some 200 requests


@dataclass
class Kept:
    """What there is of ours after each round. objects: by kind. files, threads: that are open."""

    objects: list[Counter[str]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def grown(self) -> dict[str, list[int]]:
        """Kinds of which there are more after each round than before it."""
        kinds = set().union(*self.objects)
        counts = {kind: [each[kind] for each in self.objects] for kind in kinds}
        return {kind: found for kind, found in counts.items() if all(b > a for a, b in pairwise(found))}


def ours() -> Counter[str]:
    """Objects whose class is ours, by its name."""
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    ours = (kind for kind in kinds if str(kind.__module__).startswith("bimodal."))
    return Counter(f"{kind.__module__}.{kind.__qualname__}".removeprefix("bimodal.realtime.") for kind in ours)


@contextmanager
def running(folder: Path, wrap: Callable[[App], Callable[..., object]] | None = None) -> Iterator[tuple[int, Listener]]:
    """All of a worker but its process: a model, its app, a listener, in a thread."""
    (folder / "m.py").write_text(SOUND)
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def do(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    with load(f"{folder / 'm.py'}:Twice", features=["x"], name="m") as model, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))

        async def begin() -> tuple[Listener, Callable[[], Coroutine[Any, Any, None]]]:
            wired = wire([model], Limits(body_timeout=5.0))
            listener = Listener(wired.app, Limits(), wired.methods)
            if wrap is not None:
                listener.app = wrap(wired.app)  # type: ignore[assignment]  # it leaks, and is an app otherwise
            await listener.start(listening)
            return listener, wired.close

        listener, close = do(begin())
        try:
            yield listening.getsockname()[1], listener
        finally:
            do(listener.close())
            do(close())
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def looked(port: int, listener: Listener, rounds: int = 3, turns: int = TURNS, *, leaks: bool = False) -> Kept:
    """Mixed traffic in rounds, and what is there when each is over: what callers left behind is done by then, unless
    the server leaks.
    """
    kept = Kept()
    for _ in range(rounds):
        mixed = Mixed(port)
        for _ in range(turns):
            mixed.turn()
        until = time.monotonic() + 60
        while listener.connections and time.monotonic() < until:
            time.sleep(0.02)
        assert not listener.connections
        assert listener.bodies == 0
        while not leaks and not settled(kept) and time.monotonic() < until:
            time.sleep(0.1)
        kept.objects.append(ours())
        kept.files.append(files())
        kept.threads.append(threading.active_count())
    return kept


def settled(kept: Kept) -> bool:
    """Whether nothing is there of a request or a connection, nor more files and threads than after the first round."""
    more = kept.files and (files() > kept.files[0] or threading.active_count() > kept.threads[0])
    return not more and not PASSING & set(ours())


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_kept_of_what_is_over(tmp_path: Path) -> None:
    with running(tmp_path) as (port, listener):
        kept = looked(port, listener)
    assert kept.grown() == {}
    assert PASSING & set(kept.objects[-1]) == set()
    assert kept.files[-1] <= kept.files[0]
    assert kept.threads[-1] <= kept.threads[0]


@contextmanager
def interned() -> Iterator[list[str]]:
    """The strings that are interned meanwhile: Python makes its table of them anew when enough have come and gone."""
    found: list[str] = []
    real = sys.intern

    def intern(word: str) -> str:
        found.append(word)
        return real(word)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "intern", intern)
        yield found


def test_no_request_has_a_string_interned(tmp_path: Path) -> None:
    with running(tmp_path) as (port, _):
        mixed = Mixed(port)
        mixed.turn()  # what is made once
        with interned() as found:
            mixed.turn()
    assert found == []


def test_a_look_at_the_memory_has_no_string_interned() -> None:
    with interned() as found:
        memory.free()
    assert found == []


class Leaking:
    """An app that keeps one object of each request: the control."""

    def __init__(self, app: App) -> None:
        self._app, self._kept = app, [Kept()]
        self.stream = app.stream

    def __call__(self, request: Request, respond: Respond) -> object:
        self._kept.append(request)  # type: ignore[arg-type]  # what it keeps is the fault
        return self._app(request, respond)


def test_the_same_check_finds_a_server_that_keeps_its_requests(tmp_path: Path) -> None:
    with running(tmp_path, Leaking) as (port, listener):
        kept = looked(port, listener, turns=1, leaks=True)
    assert "exchange.Request" in kept.grown()


@pytest.mark.parametrize(("a_second", "is_leak"), [(0, False), (1000, True)])
def test_a_slope_is_told_from_noise(a_second: int, is_leak: bool) -> None:
    looks = [Seen(n * 10.0, 50 * 2**20 + n * 10 * a_second + (n % 3) * 4096, 20, 8) for n in range(360)]
    figures = Figures(looks, 1_000_000, 200)
    assert (figures.slope > SLOPE) == is_leak
    assert (figures.kept > 1) == is_leak
    assert "1000000 requests, 200 reloads" in figures.told()


@pytest.mark.soak
def test_memory_is_flat_over_many_requests_and_reloads() -> None:
    figures = leaks.run(60, reloads=200)
    print(figures.told())
    assert figures.slope <= SLOPE
    assert figures.settled[-1].files <= figures.settled[0].files + 2
    assert figures.settled[-1].threads <= figures.settled[0].threads + 1


@pytest.mark.soak
def test_the_long_check_finds_a_leak_of_a_hundred_bytes() -> None:
    figures = leaks.run(3, reloads=3, leaking=100)
    print(figures.told())
    assert figures.slope > SLOPE
    assert figures.kept > 50
