"""Closing: what a client has is closed once no call of its own is under way."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bimodal.client.patience import CLOSED
from bimodal.errors import UsageError


class UnderWay:
    """The calls of a Client that are under way; a `with` block is one of them."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._count = 0
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Raises UsageError once it is closed."""
        with self._lock:
            if self._closed:
                raise UsageError(CLOSED)
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            last = self._closed and not self._count
        if last:
            self._close()

    def close(self) -> None:
        """No call begins any more; those that have begun end as they would."""
        with self._lock:
            last = not self._closed and not self._count
            self._closed = True
        if last:
            self._close()
