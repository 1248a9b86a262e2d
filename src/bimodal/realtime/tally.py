"""Tally: what a stand-in has told its callers, counted where the workers count, and in their access log."""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from bimodal.errors import UsageError
from bimodal.realtime.access import STANDARD, AccessLog
from bimodal.realtime.layout import NO_WORKER, Layout
from bimodal.realtime.note import Note
from bimodal.realtime.observer import Observer

log = logging.getLogger("bimodal.realtime")

LONGEST = 16  # letters of a method
WHY = Note(code="unavailable")


class Tally:
    """Of one stand-in, in its thread. spec: of the workers; without their counters or a log, there is less to do."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._place = Layout(()).wire[NO_WORKER]  # the same whatever the models, in the first row
        self._map = _mapped(spec.get("metrics"), self._place + 1)
        self._observer = _observer(spec.get("observe") or {})

    def told(self, request: bytes, version: str, place: Any, sent: int, name: bytes) -> None:
        """One caller was told 503. request: how it began; place: its address and port; sent: bytes of the body."""
        if self._map is not None:
            with memoryview(self._map) as whole, whole.cast("d") as places:
                places[self._place] += 1.0
        if self._observer is not None:
            told = self._observer.asked(_method(request), "", version, {})
            self._observer.saw(told, self._observer.client(place), monotonic(), 503, 0, sent, name, WHY)

    def flush(self) -> None:
        """Hand the lines of one turn to the log."""
        if self._observer is not None:
            self._observer.flush()

    def close(self) -> None:
        """Write what waits."""
        if self._observer is not None:
            self._observer.close()
        if self._map is not None:
            self._map.close()


class _Observer(Observer):
    """One without an event loop: `Tally.flush` ends its turns."""

    def await_end(self) -> None:
        pass


class _Routes:
    """Only workers know the routes."""

    mounted = 0

    def template(self, method: str, path: str) -> str:
        return ""


def _mapped(path: str | None, places: int) -> mmap.mmap | None:
    """The first places of the shared counters."""
    if path is None:
        return None
    try:
        with open(path, "r+b") as file:
            return mmap.mmap(file.fileno(), places * 8)
    except (OSError, ValueError) as error:  # it was deleted, and may be half made again
        log.warning("callers who are told 503 are not counted: %s", error)
        return None


def _observer(told: Mapping[str, Any]) -> Observer | None:
    path = told.get("access_log")
    if path is None:
        return None
    try:
        if path != STANDARD and Path(path).is_fifo():  # without a reader, it would be waited for
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return _Observer(_Routes(), AccessLog(path), peers=told["peers"])
    except (OSError, UsageError) as error:
        log.warning("callers who are told 503 are not in the access log: %s", error)
        return None


def _method(request: bytes) -> str:
    """Of HTTP/1.1; nothing where it cannot be read: of HTTP/2 it is packed."""
    word = request[:LONGEST].partition(b" ")[0]
    return word.decode("ascii") if word.isalpha() and word.isupper() and word != b"PRI" else ""
