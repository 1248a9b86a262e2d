"""Revival: another process for one that died, tried until there is one, less and less often.

It has a thread of its own: an event loop that ends neither waits for a model that is being loaded, nor finds that its
threads are gone where a call that it cancels has the next process started.
"""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future
from typing import Protocol


class Mortal(Protocol):
    """follow: has another process follow, and gives the seconds until that is to be tried again, or 0."""

    def follow(self) -> float: ...


def revive(mortal: Mortal, ended: threading.Event) -> Future[None]:
    """Done when there is another process, or `ended` is set: none is wanted. It does not keep the mortal from going."""
    over: Future[None] = Future()
    over.set_running_or_notify_cancel()  # who waits for it and leaves does not end it
    threading.Thread(
        target=_revive, args=(weakref.ref(mortal), ended, over), name="bimodal-revival", daemon=True
    ).start()
    return over


def _revive(mortal: weakref.ref[Mortal], ended: threading.Event, over: Future[None]) -> None:
    pause = 0.0
    try:
        while not ended.wait(pause) and (one := mortal()) is not None:
            pause = one.follow()
            del one
            if not pause:
                break
    finally:
        over.set_result(None)
