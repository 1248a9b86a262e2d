"""Metrics: what a server counts, right with several workers.

Every worker counts in its own row of one shared file of float64 (see `layout.py`); whichever worker is asked adds up
all rows. A worker that is restarted goes on in its row. What a row tells of the present (what is open, what waits) is
left out when its process is gone.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bimodal.realtime.exposition import block, opened, rendered
from bimodal.realtime.layout import BORN, ENDED, PID, Layout, known
from bimodal.realtime.ledger import Ledger
from bimodal.realtime.processes import Usage, children, lives, usage


class Metrics:
    """The shared counters as one worker sees them. `path` None: a file of this process alone. workers: how many are
    there at once; a second set of as many may take their places, one by one.
    """

    def __init__(
        self, models: Sequence[str], path: str | Path | None = None, workers: int = 1, worker: int = 0, room: int = 0
    ) -> None:
        self.layout = Layout(models, room)
        self.workers = max(2 * workers, worker + 1)
        size = self.layout.size * 8
        with _opened(path) as file:
            if os.fstat(file.fileno()).st_size < size * self.workers:
                os.truncate(file.fileno(), size * self.workers)
            self._map = mmap.mmap(file.fileno(), size * self.workers)
        self._all: memoryview[float] = memoryview(self._map).cast("d")
        self._worker = worker
        self.row = self._all[worker * self.layout.size : (worker + 1) * self.layout.size]
        self._gauges: dict[int, list[Callable[[], int]]] = {}
        self._info: Callable[[], Sequence[Mapping[str, str]]] = list
        self._more: Sequence[Callable[[], str]] = ()
        self._begin()

    def _begin(self) -> None:
        """Take the row over from the process that had it before, if there was one."""
        row, process = self.row, self.layout.process
        if row[process[PID]] and not row[process[ENDED]]:
            self.count("bimodal_worker_crashes_total")
        self.count("bimodal_worker_starts_total")
        own = usage(os.getpid())
        row[process[PID]], row[process[BORN]] = os.getpid(), 0 if own is None else own.born
        row[process[ENDED]] = 0.0
        for place in self.layout.now:
            row[place] = 0.0

    def ledger(self, model: str) -> Ledger:
        self.layout.add(model)
        return Ledger(self, model)

    def other(self, status: int) -> None:
        """One answer that is no prediction."""
        self.row[self.layout.others[known(status)]] += 1.0

    def refused(self, status: int, code: str) -> None:
        """One answer that the wire itself gave, since the request cannot be taken, or was not answered in time."""
        self.other(status)
        self.denied(code)

    def denied(self, code: str) -> None:
        """One request or connection that the wire refused, answered or not."""
        places = self.layout.wire
        self.row[places[code if code in places else "other"]] += 1.0

    def count(self, name: str, *labels: str, number: float = 1.0) -> None:
        """Add to one of `layout.COUNTS`."""
        self.row[self.layout.counts[name, *labels]] += number

    def watch(self, place: int, gauge: Callable[[], int]) -> Callable[[], None]:
        """Ask the gauge whenever the numbers are asked for, and add it to the others of its place, until the function
        that is returned is called.
        """
        gauges = self._gauges.setdefault(place, [])
        gauges.append(gauge)
        return lambda: gauges.remove(gauge)

    def watch_connections(self, gauge: Callable[[], int]) -> None:
        """Where to ask how many connections are open."""
        self.watch(self.layout.gauges["bimodal_connections_open",], gauge)

    def watch_workers(self, gauge: Callable[[], int]) -> None:
        """Where to ask whether this worker takes connections: 1, or 0."""
        self.watch(self.layout.gauges["bimodal_workers_ready",], gauge)

    def describe(self, told: Callable[[], Sequence[Mapping[str, str]]]) -> None:
        """Name, version, format and runtime of each model; asked each time, since they come and go."""
        self._info = told

    def add(self, texts: Sequence[Callable[[], str]]) -> None:
        """More of the text, whole metrics each, asked each time."""
        self._more = texts

    def total(self, place: int) -> float:
        """What all workers counted there."""
        return sum([self._all[worker * self.layout.size + place] for worker in range(self.workers)])

    def each(self, place: int, width: int) -> list[list[float]]:
        """What each worker counted in the places from there on."""
        starts = [worker * self.layout.size + place for worker in range(self.workers)]
        return [list(self._all[start : start + width]) for start in starts]

    def refresh(self) -> None:
        """Write this worker's gauges."""
        for place, gauges in list(self._gauges.items()):  # a model that is loaded aside adds its own meanwhile
            self.row[place] = float(sum([gauge() for gauge in gauges]))

    def text(self, *, openly: bool = False) -> bytes:
        """All workers' counters together. openly: in OpenMetrics."""
        self.refresh()
        rows = [self._told(worker) for worker in range(self.workers)]
        sums = [sum(column) for column in zip(*rows, strict=True)]
        text = "".join(
            [*rendered(self.layout, sums, self._info()), *self._processes(rows), *[more() for more in self._more]]
        )
        return (opened(text) if openly else text).encode()

    def _told(self, worker: int) -> list[float]:
        """A worker's row; of one that is gone without what it says of the present."""
        size, process = self.layout.size, self.layout.process
        row = [*self._all[worker * size : worker * size + self.layout.used]]
        if worker != self._worker and not lives(int(row[process[PID]]), int(row[process[BORN]])):
            row[process[PID]] = 0.0
            for place in self.layout.now:
                row[place] = 0.0
        return row

    def _processes(self, rows: Sequence[Sequence[float]]) -> Iterator[str]:
        """What the processes take that are there."""
        place = self.layout.process[PID]
        pids = {str(number): int(row[place]) for number, row in enumerate(rows) if row[place]}
        found = {worker: told for worker, pid in pids.items() if (told := usage(pid)) is not None}
        models = {worker: _usages(children(pids[worker])) for worker in found}
        memory = [((worker, "worker"), told.memory) for worker, told in found.items()]
        memory += [((worker, "model"), sum([each.memory for each in told])) for worker, told in models.items()]
        seconds = [((worker, "worker"), told.cpu) for worker, told in found.items()]
        seconds += [
            ((worker, "model"), found[worker].reaped + sum([each.cpu + each.reaped for each in told]))
            for worker, told in models.items()
        ]
        yield block("bimodal_process_resident_memory_bytes", memory)
        yield block("bimodal_process_cpu_seconds_total", seconds)
        yield block("bimodal_model_processes", [((worker,), len(told)) for worker, told in models.items()])

    def end(self) -> None:
        """The worker ends as it should."""
        self.refresh()  # nothing is in flight any more, also for those who read this row later
        self.row[self.layout.process[ENDED]] = 1.0

    def close(self) -> None:
        self._all.release()
        self.row.release()
        self._map.close()


def _usages(pids: Sequence[int]) -> list[Usage]:
    return [told for pid in pids if (told := usage(pid)) is not None]


def _opened(path: str | Path | None) -> Any:
    if path is None:
        return tempfile.TemporaryFile()
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
