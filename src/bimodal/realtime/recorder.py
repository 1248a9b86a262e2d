"""The prediction log: what models were given and what they answered, as Parquet files, written off the callers' path.

The event loop does no more than put the arrays of an answered batch on a queue (`Recorder`): its requests are not held,
which would cost the loop more than all that is done here. A thread of its own takes them from there, a piece at a time,
makes columns of them (`kept.py`) and appends them to files (`Logbook`, `logfile.py`). The queue is bounded by rows and
bytes; where it is full, because the disk is slow or full, rows are dropped and counted: no request waits, and none
fails.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import random
from typing import Any
from urllib.parse import quote
from zlib import crc32

import numpy as np
import pyarrow as pa

from bimodal.errors import UsageError
from bimodal.field import nearest
from bimodal.logged import Columns
from bimodal.model import Model
from bimodal.realtime import origin
from bimodal.realtime.kept import Ids, Kept, batch
from bimodal.realtime.logfile import LogFile, left, make_folder, publish
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.retention import Bound, Retention
from bimodal.realtime.work import Batch, Work

log = logging.getLogger("bimodal.realtime")

LOGGED, DROPPED = "bimodal_prediction_log_rows_total", "bimodal_prediction_log_dropped_rows_total"
DELETED = "bimodal_prediction_log_deleted_files_total"
QUEUED_ROWS = 200_000
QUEUED_BYTES = 128 * 2**20  # of the requests whose rows wait
ROW_BYTES, CALL_BYTES = 64, 16_384  # what a row, and the answer of another process, hold beside them
PIECE, PIECE_BYTES = 2048, 8 * 2**20  # rows that are written at once, and of their requests; either is enough
PAUSE = 0.0005  # seconds between two pieces, for the event loop
LINGER = 0.5  # seconds in which rows gather: a piece costs a millisecond, however few they are
FILE_ROWS, FILE_BYTES = 1_000_000, 256 * 2**20  # of one file; bytes of its stream
AGE = 60.0  # seconds after which a file is published
AGAIN = 1.0  # seconds until the next attempt after one that failed
QUIET = 60.0  # seconds between two lines about what is dropped


class Recorder:
    """What a `Served` gives its answered batches to. sample: the share of requests that is kept."""

    def __init__(self, book: Logbook, model: Model, *, sample: float = 1.0, without: Sequence[str] = ()) -> None:
        self.model = model
        self.columns = Columns(model.signature, without)
        self.schema = self.columns.stream_schema(model.name, model.version, model.digest)
        self.folder = Path(quote(model.name, safe=""), quote(model.version, safe=""))
        self._book = book
        self._sample = sample
        self._whole = sample >= 1.0

    def __call__(self, answered: Batch, bodies: Sequence[tuple[Work, bytes]]) -> None:
        """Keep an answered batch. bodies: the works of it that were answered."""
        works, given, answer = answered.works, answered.given, answered.answer
        chosen = works if len(bodies) == len(works) else [work for work, _ in bodies]
        if not self._whole:
            chosen = self._drawn(chosen)
        if len(chosen) != len(works):
            if not chosen:
                return
            kept = set(chosen)
            mask = np.repeat([work in kept for work in works], [work.count for work in works])
            works, given, answer = chosen, given.take(mask), answer.take(mask)
        rows = given.count
        if not rows:
            return
        origins, weight = origin.of(works)
        size = weight + ROW_BYTES * rows + (0 if answered.inline else CALL_BYTES)
        if not self._book.put(Kept(self, time.time(), given, answer, works[0].key, origins, rows, size)):
            self._book.dropped += rows

    def _drawn(self, works: Sequence[Work]) -> Sequence[Work]:
        """Those of the sample: by the hash of the caller's id, so that all who see it decide alike. Where no caller
        gave one, one draw is for the whole batch: each request has the same chance, and those that are left out cost
        nothing more.
        """
        if origin.are_unnamed(works):
            return works if random() < self._sample else ()  # noqa: S311 - no secret
        share = self._sample * 2**32
        drawn = [
            random() * 2**32 if name is None or origin.are_unnamed([work]) else _hash(name)  # noqa: S311 - no secret
            for work, name in zip(works, origin.identities(works), strict=True)
        ]
        return [work for work, number in zip(works, drawn, strict=True) if number < share]


def _hash(name: str | bytes) -> int:
    return crc32(name if isinstance(name, bytes) else name.encode())


class Logbook:
    """The log of one worker: its queue and the thread that writes it."""

    def __init__(self, folder: Path, *, worker: int = 0, age: float = AGE) -> None:
        make_folder(folder)
        self.folder = folder
        self._age = age
        self._name = f"{worker}-{os.getpid()}-{secrets.token_hex(4)}"
        self.logged = self.lost = 0  # rows that the thread wrote, or could not write
        self.dropped = 0  # rows that the event loop found no room for
        self._queue: deque[Kept] = deque()
        self._put_rows = self._put_bytes = 0  # by the event loop
        self._taken_rows = self._taken_bytes = 0  # by the thread
        self._awake = self._closing = False
        self._more, self._full = threading.Event(), threading.Event()  # there are rows; enough for a piece
        self._files: dict[Recorder, LogFile] = {}
        self._sealed: list[LogFile] = []
        self._number = 0
        self._ids = Ids(self._name)
        self._told_at = -QUIET
        self._failing = False  # and that was told
        self._again_at = 0.0
        self._thread = threading.Thread(target=self._run, name="bimodal-prediction-log", daemon=True)
        self._thread.start()

    # -- on the event loop ------------------------------------------------------------------------------------------

    def put(self, kept: Kept) -> bool:
        """False where the queue is full."""
        ahead, weight = self._put_rows - self._taken_rows, self._put_bytes - self._taken_bytes
        rows, size = ahead + kept.rows, weight + kept.size
        if ahead and (rows > QUEUED_ROWS or size > QUEUED_BYTES):
            return False
        self._put_rows += kept.rows
        self._put_bytes += kept.size
        self._queue.append(kept)
        if not self._awake:
            self._awake = True
            self._more.set()
        if (rows >= PIECE or size >= PIECE_BYTES) and ahead < PIECE and weight < PIECE_BYTES:
            self._full.set()
        return True

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._put_rows - self._taken_rows

    def close(self) -> None:
        """Write what there is, and publish all files. Blocks."""
        self._closing = True
        self._more.set()
        self._full.set()
        self._thread.join()

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._recover()
        while not self._closing:
            self._wait()
            self._drain()
            self._rotate()
        self._drain()
        self._rotate(all_of_them=True)
        for each in self._sealed:
            log.warning("a file of the prediction log could not be finished; the next start does it: %s", each.place)

    def _wait(self) -> None:
        """Until there are rows for a piece, or some and time has passed; or a file is old enough."""
        self._linger()
        if self._queue:
            return
        self._awake = False
        if not self._queue:
            ages = [each.began + self._age for each in self._files.values()]
            due = min([*ages, *([self._again_at] if self._sealed else [])], default=None)
            self._more.wait(None if due is None else max(0.0, due - time.monotonic()))
        self._awake = True
        self._more.clear()
        if self._queue:
            self._linger()

    def _linger(self) -> None:
        if not self._closing and not self._is_piece():
            self._full.wait(LINGER)
        self._full.clear()

    def _is_piece(self) -> bool:
        return self.waiting >= PIECE or self._put_bytes - self._taken_bytes >= PIECE_BYTES

    def _drain(self) -> None:
        """All that waits, in pieces; what came meanwhile is left to gather, unless it is a piece."""
        last = self._put_rows
        while self._queue and (self._taken_rows < last or self._is_piece() or self._closing):
            groups: dict[Any, list[Kept]] = {}
            rows = size = 0
            while self._queue and rows < PIECE and size < PIECE_BYTES:
                kept = self._queue.popleft()
                groups.setdefault(kept.kind, []).append(kept)
                rows += kept.rows
                size += kept.size
                self._taken_rows += kept.rows
                self._taken_bytes += kept.size
            for several in groups.values():
                self._write(several)
            if not self._closing:
                time.sleep(PAUSE)

    def _write(self, kept: list[Kept]) -> None:
        """Append what is of one kind; what cannot be written is dropped."""
        recorder, rows = kept[0].recorder, sum([each.rows for each in kept])
        try:
            file = self._file(recorder)
            file.append(batch(recorder.model, recorder.columns, kept, self._ids))
        except OSError as error:
            self._failing |= self._lose(rows, _reason(error))
            if not self._closing:
                time.sleep(AGAIN)
            return
        except Exception as error:  # rows of which no column can be made: told without their values
            self._lose(rows, f"{type(error).__name__} while its columns were made")
            return
        self.logged += rows
        if self._failing:
            self._failing = False
            log.warning("the prediction log is written again; it lacks %d rows", self.lost + self.dropped)
        if file.rows >= FILE_ROWS or file.size >= FILE_BYTES:
            self._seal(recorder)

    def _lose(self, rows: int, reason: str) -> bool:
        """Whether it was told."""
        self.lost += rows
        return self._warn(f"the prediction log cannot be written: {reason}")

    def _warn(self, reason: str) -> bool:
        """One line a minute; whether this is one."""
        now = time.monotonic()
        if now - self._told_at < QUIET:
            return False
        self._told_at = now
        log.warning("%s; it lacks %d rows so far", reason, self.lost + self.dropped)
        return True

    def _file(self, recorder: Recorder) -> LogFile:
        file = self._files.get(recorder)
        if file is None:
            self._number += 1
            began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            place = self.folder / recorder.folder / f"{began}-{self._name}-{self._number}.parquet"
            file = self._files[recorder] = LogFile(place, recorder.schema)
        return file

    def _rotate(self, *, all_of_them: bool = False) -> None:
        """Publish the files that are old enough, and those that could not be published."""
        now = time.monotonic()
        for recorder, file in list(self._files.items()):
            if all_of_them or now - file.began >= self._age:
                self._seal(recorder)
        if self._sealed and (all_of_them or now >= self._again_at):
            self._publish()

    def _seal(self, recorder: Recorder) -> None:
        file = self._files.pop(recorder)
        self._sealed.append(file)
        self._publish()

    def _publish(self) -> None:
        waiting, self._sealed = self._sealed, []
        for each in waiting:
            try:
                each.publish()
            except (OSError, pa.ArrowException) as error:
                self._sealed.append(each)
                self._again_at = time.monotonic() + AGAIN
                self._warn(f"a file of the prediction log cannot be finished: {_reason(error)}")

    def _recover(self) -> None:
        """Publish what processes left unfinished that were killed, or had no room on the disk."""
        for stream, place, number in left(self.folder):
            try:
                rows = publish(stream, place)
            except (OSError, pa.ArrowException) as error:
                log.warning("%s, which an earlier process left, cannot be finished: %s", stream, _reason(error))
            else:
                log.warning("an earlier process left %d rows of the prediction log unfinished: %s", rows, place)
            finally:
                os.close(number)


def _reason(error: Exception) -> str:
    """Without what the message may repeat of the data."""
    return getattr(error, "strerror", None) or type(error).__name__


# -- a worker's log --------------------------------------------------------------------------------------------------


class Log:
    """Makes the recorders of a worker's models. spec: folder, sample, age, keep, limit, without; `models`: those of
    them that a model has of its own, by name; `alone`: whether one model is served.
    """

    def __init__(self, spec: Mapping[str, Any], metrics: Metrics, worker: int) -> None:
        self._spec = spec
        self._worker = worker
        self._books: dict[str, Logbook] = {}
        self._kept: list[Retention] = []
        for name, number in ((LOGGED, self._logged), (DROPPED, self._dropped), (DELETED, self._deleted)):
            place = metrics.layout.counts[name,]
            before = int(metrics.row[place])  # of the process that had the row before
            metrics.watch(place, partial(_sum, before, number))

    def _logged(self) -> int:
        return sum([each.logged for each in self._books.values()])

    def _dropped(self) -> int:
        return sum([each.lost + each.dropped for each in self._books.values()])

    def _deleted(self) -> int:
        return sum([each.deleted for each in self._kept])

    def recorder(self, model: Model) -> Recorder | None:
        """Of a model; None where it is not logged. Raises UsageError."""
        told = {**self._spec, **self._spec["models"].get(model.name, {})}
        if told["folder"] is None or told["sample"] <= 0:
            return None
        without = _known(told["without"], model, strict=self._spec["alone"])
        book = self._book(told["folder"], told["age"])
        return Recorder(book, model, sample=told["sample"], without=without)

    def _book(self, folder: str, age: float) -> Logbook:
        if folder not in self._books:
            try:
                self._books[folder] = Logbook(Path(folder), worker=self._worker, age=age)
            except OSError as error:
                raise UsageError(
                    f"the folder of the prediction log, {folder}, cannot be made: {error.strerror}"
                ) from None
            bound = Bound(self._spec.get("keep"), self._spec.get("limit"))
            if bound:
                self._kept.append(Retention(Path(folder), bound))
        return self._books[folder]

    def close(self) -> None:
        """Write what there is. Blocks."""
        for kept in self._kept:
            kept.close()
        for each in self._books.values():
            each.close()


def _sum(before: int, number: Callable[[], int]) -> int:
    return before + number()


def _known(without: Sequence[str], model: Model, *, strict: bool) -> list[str]:
    """The names of columns to leave out that this model has. strict: it must have them all."""
    names = [each.name for each in (*model.signature.inputs, *model.signature.outputs)]
    vector = model.signature.vector
    if vector is not None and not model.signature.named:
        names += [f"x{place}" for place in range(max(0, vector.shape[0]))]
    for name in without:
        if strict and name not in names:
            near = nearest(name, names)
            hint = f"did you mean {near!r}?" if near else "name a feature or an output of the model"
            raise UsageError(f"prediction_log_without: {model.name} has no column {name!r}; {hint}")
    return [name for name in without if name in names]
