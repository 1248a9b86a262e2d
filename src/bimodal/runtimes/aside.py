"""Aside: what is loaded while others are being answered gives way to those who answer.

On Linux each thread has a priority of its own, and a process without rights can lower but never raise one. So a model
is loaded in a thread that has the lowest, beside the one that will answer, which keeps its own; and what is of no use
once it is done (the process that proves a compiled form) is lowered as a whole. Elsewhere nothing is done.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

LOWEST = 19
_wanted: ContextVar[bool] = ContextVar("aside", default=False)


def wanted() -> bool:
    """Whether what is loaded now is loaded aside."""
    return _wanted.get()


@contextlib.contextmanager
def aside(yes: bool = True) -> Iterator[None]:
    """What is loaded within is loaded aside."""
    token = _wanted.set(yes)
    try:
        yield
    finally:
        _wanted.reset(token)


def lower(number: int = 0) -> None:
    """Give a thread (by default this one) the lowest priority; of a process, the thread that it began with."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, number or threading.get_native_id(), LOWEST)


def lowered(work: Callable[[], T]) -> T:
    """Do it in a thread with the lowest priority. Raises what it raises."""
    done: list[T] = []
    failed: list[BaseException] = []

    def doing() -> None:
        lower()
        try:
            done.append(work())
        except BaseException as error:  # it is raised where it is waited for
            failed.append(error)

    thread = threading.Thread(target=doing, name="bimodal-aside")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
