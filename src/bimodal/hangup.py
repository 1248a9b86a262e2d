"""Hangup: SIGHUP, which has a server look again at what it serves, and never ends it.

It is taken from the first moment of the process on: what comes while libraries and models are still loaded is
remembered until the server can look.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

SERVERS = ("serve", "up")  # the commands that serve


class Early:
    """A handler that remembers: `came`."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: object) -> None:
        self.came = True


def remember(arguments: Sequence[str]) -> None:
    """Take SIGHUP from now on, where the command is one that serves."""
    command = next((each for each in arguments if each != "--debug"), "")
    if command in SERVERS and sys.platform != "win32":  # also under nohup: a server looks again at every one
        signal.signal(signal.SIGHUP, Early())


def came(before: Any) -> bool:
    """Whether one came. before: the handler that another has taken the place of."""
    return isinstance(before, Early) and before.came
