"""Own: the connections of the process that runs a model. They are its alone: what the model's code forks has none.

A fork would hold the connection open after its end, and one that comes back from the model's code, as `os.fork()` does
in both, would answer for it: the two would speak at once on one connection.
"""

from __future__ import annotations

import logging
import os
import weakref

from bimodal.runtimes.wire import Line

log = logging.getLogger("bimodal.model")


class Own(Line):
    """The answering end of a private connection."""

    answers = True

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno)
        self._process = os.getpid()
        _all.add(self)

    def stamp(self) -> bytes:
        """The question's token. A fork ends here, also one that native code has made, of which Python knows nothing."""
        if os.getpid() != self._process:
            log.error("a process that the model has forked came back from the model's code; it is ended")
            os._exit(1)
        return self.token


_all: weakref.WeakSet[Own] = weakref.WeakSet()


def _leave_to_mother() -> None:
    for line in list(_all):
        number = line.detach()
        if number >= 0:
            os.close(number)


os.register_at_fork(after_in_child=_leave_to_mother)
