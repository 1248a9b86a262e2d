"""The streams that are open in a model's processes: where all of a process are stuck, it is of no more use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bimodal.runtimes.process import Child


class OpenStreams:
    """Those of one model. useless: told of a process whose open streams were all closed by their readers, long ago, and
    go on: nobody waits for anything that it does.
    """

    def __init__(self, useless: Callable[[Child], None]) -> None:
        self._useless = useless
        self._open: set[OpenStream] = set()

    def begin(self, child: Child, ended: Callable[[], None]) -> OpenStream:
        """ended: told when the stream is over."""
        stream = OpenStream(self, child, ended)
        self._open.add(stream)
        return stream

    def judge(self, child: Child) -> None:
        here = [each for each in self._open if each.child is child]
        if here and all(each.is_stuck for each in here):
            self._open.difference_update(here)
            self._useless(child)

    def drop(self, stream: OpenStream) -> None:
        self._open.discard(stream)


@dataclass(eq=False)
class OpenStream:
    """One of them."""

    streams: OpenStreams
    child: Child
    ended: Callable[[], None]
    is_stuck: bool = False

    def over(self) -> None:
        """The model has let go of it."""
        self.streams.drop(self)
        self.ended()
        self.streams.judge(self.child)

    def stuck(self) -> None:
        """The model gives no sign."""
        self.is_stuck = True
        self.streams.judge(self.child)
