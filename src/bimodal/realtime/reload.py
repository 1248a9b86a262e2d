"""Reload: one change of the models of all workers: each loads what is new aside, one after the other; then all switch.

One after the other, so that of the machine's cores one at most is taken from those who answer. Where something that is
needed cannot be loaded, nobody switches. A worker that ends meanwhile starts again, with what is served by then; one
that does not come back is not waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bimodal.errors import BimodalError, ModelFailed, Unavailable, retold
from bimodal.realtime.control import Drop, Loaded, Prepare, Prepared, Switch, Switched
from bimodal.realtime.stock import Plan, Stock

if TYPE_CHECKING:
    from bimodal.realtime.attended import Worker

log = logging.getLogger("bimodal.repository")

SLOW = 10.0  # seconds of loading after which it is told what is loaded; again after each six times as long
LONGEST = 1800.0  # seconds in which a worker must have loaded what is new
PATIENCE = 60.0  # seconds that a change waits for a worker that is started again


class Reload:
    """All is called from the thread of the workers, but for `result`.

    number: of the change. stock: what the workers start with, once they are to switch. together: all prepare at once,
    where nobody is answered yet.
    """

    def __init__(self, number: int, plan: Plan, stock: Stock, *, together: bool = False) -> None:
        self.number = number
        self.stock: Mapping[str, Any] | None = None
        self.loaded: dict[tuple[str, str], Loaded] = {}  # as the slowest worker had it
        self._plan, self._known = plan, stock
        self._switching, self._together = False, together
        self._told = 0.0  # when a worker was told last
        self._slow = SLOW
        self._waits = 0.0  # since when for a worker that is started again
        self._error: BimodalError | None = None
        self._over = threading.Event()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def result(self, timeout: float) -> bool:
        """Wait until it is over; False if it is not. Raises what keeps it from being done."""
        if not self._over.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def go_on(self, workers: Sequence[Worker]) -> None:
        """Do what is to be done next."""
        if not self._switching:
            self._prepare(workers)
        if self._switching and not any(each.task == self.number and each.switched != self.number for each in workers):
            self._over.set()

    def _prepare(self, workers: Sequence[Worker]) -> None:
        now = time.monotonic()
        there = [each for each in workers if each.is_ready or not each.is_missing(now)] or workers
        for worker in [each for each in there if each.prepared != self.number]:
            if not worker.is_ready:
                self._wait(workers)
            elif worker.task == self.number:
                self._hurry(workers)
            else:
                self._waits, self._told, self._slow = 0.0, time.monotonic(), SLOW
                worker.task = self.number
                specs = [dict(held.spec) for held in self._plan.come]
                worker.tell(Prepare(self.number, specs, self._known.counted, tells=worker is workers[0]))
            if not self._together or self.over:
                return
        if all(worker.prepared == self.number for worker in there):
            self._switch(workers)

    def _hurry(self, workers: Sequence[Worker]) -> None:
        span = time.monotonic() - self._told
        if span > self._slow:
            self._slow *= 6
            models = ", ".join([" ".join(held.key) for held in self._plan.come])
            since = time.strftime("%H:%M:%S", time.localtime(time.time() - span))
            log.warning(
                "%s: loading since %s, and not done; other loads and reloads wait for it (load_timeout ends it)",
                models,
                since,
            )
        if span > LONGEST:
            self.fail(ModelFailed(f"its models are not loaded after {LONGEST:.0f} s; nothing has changed"), workers)

    def _switch(self, workers: Sequence[Worker]) -> None:
        self._switching = True
        self.stock = self._known.told(self._plan)
        come = [held.key for held in self._plan.come]
        told = Switch(self.number, come, self._plan.gone, _plain(self.stock["aliases"]), self.stock["defaults"])
        for worker in workers:
            if worker.prepared == self.number:
                worker.tell(told)
            else:
                worker.begin_again()  # it may be about to serve what was served before

    def _wait(self, workers: Sequence[Worker]) -> None:
        self._waits = self._waits or time.monotonic()
        if time.monotonic() - self._waits > PATIENCE:
            self.fail(Unavailable("a worker process does not start again; try later"), workers)

    def take(self, worker: Worker, told: Prepared | Switched, workers: Sequence[Worker]) -> None:
        """What a worker says of the change."""
        if told.change != self.number or self.over:
            return
        if isinstance(told, Switched):
            worker.switched = self.number
            return
        worker.prepared = self.number
        for each in told.loaded:
            key = each.name, each.version
            if key not in self.loaded or self.loaded[key].seconds < each.seconds:
                self.loaded[key] = each
        try:
            for failure in told.failed:
                for held in [
                    each
                    for each in self._plan.come
                    if (each.spec["name"], each.found.version) == (failure.name, failure.version)
                ]:
                    self._plan.fail(held, retold(failure.error).message)
        except BimodalError as error:
            self.fail(error, workers)

    def fail(self, error: BimodalError, workers: Sequence[Worker] = ()) -> None:
        """Nobody switches."""
        for worker in workers:
            if worker.task == self.number:
                worker.tell(Drop(self.number))
        self._error = error
        self._over.set()


def _plain(aliases: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {name: dict(each) for name, each in aliases.items() if each}
