"""Failures of models in the log: one line for each request that a model failed, and never so many as to fill a disk.

The line has the request id that the caller got, the model, what it raised in its own words, and where in its code. The
whole traceback is told by the model's process, once a minute for each place (`runtimes/child.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from bimodal.errors import ModelCrashed, ModelFailed
from bimodal.model import Model

log = logging.getLogger("bimodal.realtime")

SPAN = 60.0  # seconds
MOST = 10  # lines of one kind of failure in it; further ones are counted
KINDS = 200  # that are remembered

Kind = tuple[str, str]


class Faults:
    """What was told of late. A kind of failure: the model, and the place in its code or the type of the error."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._seen: dict[Kind, tuple[float, int]] = {}  # since when, and how many

    def tell(self, error: BaseException, asked: str) -> None:
        """asked: which request it was. Errors that are not a model's are passed over."""
        if not isinstance(error, ModelFailed | ModelCrashed):
            return
        kind = (error.model, error.where or type(error).__name__)
        now = self._clock()
        since, count = self._seen.get(kind, (now, 0))
        more = 0
        if now - since >= SPAN:
            more, since, count = max(0, count - MOST), now, 0
        if kind not in self._seen and len(self._seen) >= KINDS:
            del self._seen[next(iter(self._seen))]
        self._seen[kind] = (since, count + 1)
        if count < MOST:
            log.error("%s", _line(error, asked, more, last=count == MOST - 1))


def of(error: BaseException, model: Model) -> None:
    """Note whose failure it is."""
    if isinstance(error, ModelFailed | ModelCrashed):
        error.model = f"{model.name} {model.version}"


def _line(error: ModelFailed | ModelCrashed, asked: str, more: int, *, last: bool) -> str:
    said = (error.said if isinstance(error, ModelFailed) else None) or error.message
    words = "".join(sign if sign.isprintable() else "?" for sign in said)
    place = f" ({error.where})" if error.where else ""
    line = f"{asked}: {error.model or 'the model'} failed: {words}{place}"
    if more:
        line += f"; {more} more of this kind were not told"
    if last:
        line += f"; the next of this kind are counted, and told no more, for {SPAN:.0f} s"
    return line


tell = Faults().tell  # of this process
