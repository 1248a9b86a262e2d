"""What many closed connections leave free goes back to the system."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bimodal.realtime import heap
from bimodal.realtime.heap import FALL, PAUSE, Heap
from bimodal.realtime.limits import Limits
from tests.realtime.services import until
from tests.realtime.wire import PATIENCE, serving


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """Released at each trim, in place of it."""
    done = threading.Semaphore(0)
    monkeypatch.setattr(heap, "trim", done.release)
    yield done
    assert not done.acquire(timeout=0.05), "it was trimmed once more"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim")
def test_free_pages_between_pieces_in_use_are_given_back() -> None:
    pieces = [b"x" * 100_000 for _ in range(1000)]
    full = resident()
    kept = pieces[::10]
    del pieces
    heap.trim()
    assert resident() < full - 60e6
    assert len(kept) == 100


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_many_that_close_trim_once_and_again_after_a_pause(trims: threading.Semaphore) -> None:
    held = Heap()
    held.look(FALL, 100.0)
    held.look(1, 100.5)  # one too few
    assert not trims.acquire(timeout=0.05)
    held.look(0, 101.0)
    assert trims.acquire(timeout=PATIENCE)
    held.look(FALL, 102.0)
    for now in (103.0, 101.0 + PAUSE, 102.0 + PAUSE):  # what has fallen in the pause is not forgotten
        held.look(0, now)
    assert trims.acquire(timeout=PATIENCE)


def test_a_listener_looks_at_its_connections(monkeypatch: pytest.MonkeyPatch, trims: threading.Semaphore) -> None:
    monkeypatch.setattr(heap, "FALL", 3)
    with serving(Limits(header_timeout=0.1)) as server, ExitStack() as callers:
        for _ in range(3):
            callers.enter_context(server.connect())
        until(lambda: len(server.listener.connections) == 3)
        until(lambda: server.listener._heap._most == 3)
        callers.close()
        assert trims.acquire(timeout=PATIENCE)
