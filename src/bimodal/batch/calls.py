"""Calls: the rows of a chunk through the model, call by call; one that fails is split until the guilty stand alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bimodal.batch.spool import SLOW, Spool
from bimodal.errors import BimodalError, ModelCrashed, ModelFailed
from bimodal.model import Model
from bimodal.rows import Rows

Failure = ModelFailed | ModelCrashed
SPREAD = 8  # rows that are tried alone before a call is split: if the model fails on all, the rows are not to blame
MOST_GUILTY = 1_000  # rows of one chunk


@dataclass(frozen=True)
class Calls:
    """What the calls of one chunk have in common.

    outputs: those that the model is asked for. size: rows of a call; 0: all. counted: told the rows of each call that
    ended. spool: keeps the answers of slow calls.
    """

    model: Model
    outputs: tuple[str, ...]
    threshold: float | None = None
    size: int = 0
    chunk: int = 0
    counted: Callable[[int, int], None] | None = None
    spool: Spool | None = None

    def predict(self, rows: Rows) -> tuple[Rows, dict[int, BimodalError], str | None]:
        """The answers, the rows on which the model fails when they stand alone (their answers are left out), and a
        sentence where it failed on rows together and on none of them alone.
        """
        parts: list[Rows] = []
        guilty: dict[int, BimodalError] = {}
        judged, parted = False, None
        for start, stop in self._cuts(rows.count):
            if self.model.streams:
                self._each(rows, start, stop, parts, guilty)
                continue
            try:
                parts.append(self._one(rows.slice(start, stop)))
            except (ModelFailed, ModelCrashed) as error:
                if not judged:
                    self._blame(rows, error)
                    judged = True
                before = len(guilty)
                self._split(rows, start, stop, error, parts, guilty)
                if len(guilty) == before:
                    parted = parted or (
                        f"the model failed on {stop - start:,} rows in one call, and on none of them in smaller ones, "
                        f"whose answers were taken ({error.message}); see to the model"
                    )
        return (Rows.concat(parts) if parts else self._run(rows.slice(0, 0))), guilty, parted

    def _cuts(self, count: int) -> Iterator[tuple[int, int]]:
        size = self.size or max(count, 1)
        return ((start, min(start + size, count)) for start in range(0, count, size))

    def _run(self, rows: Rows) -> Rows:
        return self.model.run(rows, self.outputs, threshold=self.threshold)

    def _one(self, rows: Rows) -> Rows:
        """A call, or the answer that an interrupted run had to it."""
        answer = None if self.spool is None else self.spool.take(self.chunk, rows, self.outputs)
        if answer is None:
            started = time.monotonic()
            answer = self._run(rows)
            least = 0.0 if self.model.side_by_side else SLOW  # requests: their answers may have cost money
            if self.spool is not None and time.monotonic() - started >= least:
                self.spool.keep(self.chunk, rows, self.outputs, answer)
        if self.counted is not None:
            self.counted(self.chunk, rows.count)
        return answer

    def _each(self, rows: Rows, start: int, stop: int, parts: list[Rows], guilty: dict[int, BimodalError]) -> None:
        """A call of a model that answers each row by itself: none is asked twice, whatever becomes of the others. Those
        whose process died, of one of them, are asked once more, alone.
        """
        part = rows.slice(start, stop)
        kept = None if self.spool is None else self.spool.take(self.chunk, part, self.outputs)
        answers = [kept] if kept is not None else self._side_by_side(part)
        good: list[Rows] = []
        last: Failure | None = None
        for place, answer in enumerate(answers):
            if isinstance(answer, Rows):
                good.append(answer)
                continue
            last = guilty[start + place] = explained(answer, part.slice(place, place + 1))
        if last is not None and (len(guilty) > MOST_GUILTY or (not good and not parts and part.count > SPREAD)):
            raise last  # not the rows are to blame
        if good:
            parts.append(Rows.concat(good))
        if self.spool is not None and kept is None and len(good) == part.count:
            self.spool.keep(self.chunk, part, self.outputs, parts[-1])
        if self.counted is not None:
            self.counted(self.chunk, part.count)

    def _side_by_side(self, part: Rows) -> list[Rows | Failure]:
        def answer(place: int) -> Rows | Failure:
            try:
                return self._run(part.slice(place, place + 1))
            except (ModelFailed, ModelCrashed) as error:
                return error

        with ThreadPoolExecutor(min(self.model.side_by_side, part.count)) as pool:
            answers = list(pool.map(answer, range(part.count)))
        return [answer(place) if isinstance(each, ModelCrashed) else each for place, each in enumerate(answers)]

    def _split(
        self, rows: Rows, start: int, stop: int, error: Failure, parts: list[Rows], guilty: dict[int, BimodalError]
    ) -> None:
        """Halve a call that failed, and what fails of it."""
        failed = [(start, stop, error)]
        waiting: list[tuple[int, int]] = []
        while failed or waiting:
            if failed:
                start, stop, error = failed.pop()
                if stop - start > 1:
                    middle = (start + stop) // 2
                    waiting += [(middle, stop), (start, middle)]
                    continue
                guilty[start] = explained(error, rows.slice(start, stop))
                if len(guilty) > MOST_GUILTY:
                    raise error
                continue
            start, stop = waiting.pop()
            try:
                parts.append(self._one(rows.slice(start, stop)))
            except (ModelFailed, ModelCrashed) as again:
                failed.append((start, stop, again))

    def _blame(self, rows: Rows, error: Failure) -> None:
        """Raise the error where the model fails on rows from all over the chunk."""
        tries = SPREAD if isinstance(error, ModelFailed) else SPREAD // 3
        if rows.count <= SPREAD:
            return
        for place in np.linspace(0, rows.count - 1, tries).astype(int).tolist():
            try:
                self._run(rows.slice(place, place + 1))
            except (ModelFailed, ModelCrashed) as again:
                error = explained(again, rows.slice(place, place + 1))
                continue
            return
        raise error


def explained(error: Failure, row: Rows) -> Failure:
    """The error with what the model itself said, unless that repeats a value of the row."""
    said = error.said if isinstance(error, ModelFailed) else None
    if said is None:
        return error
    values = [rows[0] for rows in (row.array(name) for name in row) if rows.ndim == 1]
    texts = {text for value in values for text in _spellings(value)}
    if len(values) < len(row) or any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said) for text in texts if text):
        return error
    remedy = error.message.partition("; ")[2]
    return ModelFailed(f"the model raised {said}" + (f"; {remedy}" if "--" in remedy else ""))


def _spellings(value: object) -> tuple[str, ...]:
    """How a message may write a value."""
    plain = value.item() if isinstance(value, np.generic) else value
    short = f"{plain:g}" if isinstance(plain, int | float) else ""
    return (str(plain), repr(plain), short)
