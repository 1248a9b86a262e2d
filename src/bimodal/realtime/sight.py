"""Sight: the requests that an observer has seen end in a turn of the event loop. `sight.c` has the same in C, with the
lines that tell of them.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from bimodal.realtime.note import Note

if TYPE_CHECKING:
    from bimodal.realtime.observer import Headed, Told

__all__ = ["Ended", "Sight", "tell_of"]

Ended = tuple[Any, bytes | None, float, float, bytes | None, int, int, int, Note | None]
"""head, peer, received, ended, name, status, bytes of the request's content, of the answer's, note."""


class Sight:
    """What ended in this turn."""

    def __init__(self) -> None:
        self._seen: list[Ended] = []

    def saw(
        self,
        head: Headed | None,
        peer: bytes,
        received: float,
        status: int,
        taken: int,
        sent: int,
        name: bytes | None,
        note: Note | None,
    ) -> None:
        """A request has ended. head: None where it could not be read. name: its id."""
        self._seen.append((head, peer, received, monotonic(), name, status, taken, sent, note))
        if len(self._seen) == 1:
            self.await_end()

    def taken(self) -> list[Ended]:
        """What was seen; it is no longer kept here."""
        seen, self._seen = self._seen, []
        return seen

    def lines(self, begin: bytes, age: int) -> tuple[bytes, int] | None:
        """The same as lines of the access log, and their number; None: they are to be made of what is taken."""
        return None

    def await_end(self) -> None:
        """The first request of a turn was seen."""
        raise NotImplementedError

    def read(self, head: Any) -> Told:
        """What is told of a head."""
        raise NotImplementedError

    def noted(self, note: Note) -> bytes:
        """What a line tells of a note."""
        raise NotImplementedError


def tell_of(*classes: Any) -> None:
    """What C is told of the classes that lines are made of."""


if not TYPE_CHECKING:
    with suppress(ImportError):  # there was no compiler at installation
        from bimodal.realtime.wire import Sight, tell_of
