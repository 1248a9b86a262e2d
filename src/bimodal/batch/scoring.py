"""Scoring a chunk: judge its rows, predict the good ones, and put the results beside the columns that are carried."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bimodal.batch.columns import Columns
from bimodal.batch.rejects import Reject
from bimodal.batch.sources.contract import Chunk
from bimodal.batch.tally import scored_of, wanted
from bimodal.errors import BimodalError, BooksDoNotBalance, ModelCrashed, ModelFailed, Problem
from bimodal.model import Model
from bimodal.rows import Rows
from bimodal.table import flat

Failure = ModelFailed | ModelCrashed
SPREAD = 8  # rows that are tried alone before a chunk is split: if the model fails on all, the rows are not to blame
MOST_GUILTY = 1_000  # rows of one chunk


@dataclass(frozen=True)
class Scored:
    """A chunk's output table, its rejects in the order of the rows, and the seconds it took.

    truth: what the measures of quality need of it (empty without a target).
    """

    chunk: Chunk
    table: pa.Table
    rejects: tuple[Reject, ...]
    seconds: float = 0.0
    truth: bytes = b""


@dataclass(frozen=True)
class Scorer:
    """What all chunks of a run have in common. Thread-safe."""

    columns: Columns
    outputs: tuple[str, ...]
    threshold: float | None = None
    call_rows: int = 0  # rows of one call of the model; 0: a chunk's
    decimal: str = "."  # the decimal mark of the right answers, where they are text

    def score(self, chunk: Chunk, model: Model) -> Scored:
        started = time.perf_counter()
        rows, good, problems = self.judge(chunk)
        answer, guilty = self._predict(model, rows)
        refused = [_rejected(chunk, problem) for problem in _first_of_each_row(problems)]
        if guilty:
            places = np.flatnonzero(good)
            refused += [_failed(chunk, int(places[at]), error) for at, error in guilty.items()]
            good[places[list(guilty)]] = False
        told = Rows({name: answer[name] for name in self.outputs})
        table = self._beside(chunk, good, flat(told, model.signature))
        parsed = [
            Reject(bad.row, chunk.source, bad.column, bad.code, bad.reason, bad.raw, chunk.form)
            for bad in chunk.rejects
        ]
        rejects = tuple(sorted(parsed + refused, key=lambda reject: reject.row))
        if table.num_rows + len(rejects) != chunk.count:
            raise BooksDoNotBalance(
                f"of {chunk.count} rows of {chunk.source} from row {chunk.first_row} on, {table.num_rows} were "
                f"predicted and {len(rejects)} rejected; please report this"
            )
        truth = self._truth(chunk, good, answer, model)
        return Scored(chunk, table, rejects, time.perf_counter() - started, truth)

    def judge(self, chunk: Chunk) -> tuple[Rows, NDArray[np.bool_], Sequence[Problem]]:
        """The good rows, which they are, and the problems with the others; rows count from 0 within the chunk."""
        binding = self.columns.binding
        signature = binding.signature
        if chunk.records is None:
            return binding.rows(chunk.features, 0, text=chunk.text)
        if not chunk.records:
            return signature.empty(), np.zeros(0, bool), []
        names = [each.name for each in signature.inputs]
        records: list[object] = list(chunk.records)
        if signature.vector is None or len(signature.inputs) > 1:
            records = [dict(zip(names, values, strict=True)) for values in chunk.records]
        elif len(binding.features) == 1 and signature.vector.shape[0] != 1:
            records = [values[0] for values in chunk.records]  # the vector stands in one column
        rows, good, problems = signature.check(records)
        return rows, good, [problem.at((problem.row or 1) - 1) for problem in problems]

    def _beside(self, chunk: Chunk, good: NDArray[np.bool_], results: pa.Table) -> pa.Table:
        """The results behind the carried columns of the same rows."""
        kept, truth = chunk.kept, self.columns.truth
        if truth is not None and truth not in self.columns.kept:
            kept = kept.drop_columns(truth)
        if kept.num_columns and not good.all():
            kept = kept.filter(pa.array(good))
        if kept.num_columns and kept.num_rows != results.num_rows:
            raise BooksDoNotBalance(f"{results.num_rows} predictions for {kept.num_rows} rows; please report this")
        return pa.table([*kept.columns, *results.columns], schema=pa.schema([*kept.schema, *results.schema]))

    def _truth(self, chunk: Chunk, good: NDArray[np.bool_], answer: Rows, model: Model) -> bytes:
        """What the measures of quality need of these rows."""
        if self.columns.truth is None:
            return b""
        column = chunk.kept.column(self.columns.truth)
        right = column if good.all() else column.filter(pa.array(good))
        missing = self.columns.reading.missing
        return scored_of(right, answer, model.signature, missing=missing, mark=self.decimal)

    # -- predicting -------------------------------------------------------------------------------------------------

    @cached_property
    def _asked(self) -> tuple[str, ...]:
        """The outputs that the model is asked for: for a measure of quality some more."""
        truth, signature = self.columns.truth, self.columns.binding.signature
        return self.outputs if truth is None else wanted(signature, self.outputs)

    def _run(self, model: Model, rows: Rows) -> Rows:
        if not self.call_rows or rows.count <= self.call_rows:
            return model.run(rows, self._asked, threshold=self.threshold)
        starts = range(0, rows.count, self.call_rows)
        parts = [rows.slice(start, min(start + self.call_rows, rows.count)) for start in starts]
        return Rows.concat([model.run(part, self._asked, threshold=self.threshold) for part in parts])

    def _predict(self, model: Model, rows: Rows) -> tuple[Rows, dict[int, BimodalError]]:
        """The answers, and the rows on which the model fails when they stand alone (their answers are left out)."""
        try:
            return self._run(model, rows), {}
        except (ModelFailed, ModelCrashed) as error:
            self._blame(model, rows, error)
        parts: list[Rows] = []
        guilty: dict[int, BimodalError] = {}
        waiting = [(0, rows.count)]
        while waiting:
            start, stop = waiting.pop()
            try:
                parts.append(self._run(model, rows.slice(start, stop)))
            except (ModelFailed, ModelCrashed) as error:
                if stop - start > 1:
                    middle = (start + stop) // 2
                    waiting += [(middle, stop), (start, middle)]
                    continue
                guilty[start] = error
                if len(guilty) > MOST_GUILTY:
                    raise
        return (Rows.concat(parts) if parts else self._run(model, rows.slice(0, 0))), guilty

    def _blame(self, model: Model, rows: Rows, error: Failure) -> None:
        """Raise the error where the model fails on rows from all over the chunk."""
        tries = SPREAD if isinstance(error, ModelFailed) else SPREAD // 3
        if rows.count <= SPREAD:
            return
        for place in np.linspace(0, rows.count - 1, tries).astype(int).tolist():
            try:
                self._run(model, rows.slice(place, place + 1))
            except (ModelFailed, ModelCrashed):
                continue
            return
        raise error


def _first_of_each_row(problems: Sequence[Problem]) -> list[Problem]:
    first: dict[int | None, Problem] = {}
    for problem in problems:
        first.setdefault(problem.row, problem)
    return list(first.values())


def _rejected(chunk: Chunk, problem: Problem) -> Reject:
    place = problem.row or 0
    raw = chunk.raw(place)
    return Reject(chunk.row(place), chunk.source, problem.column, problem.code, problem.message, raw, chunk.form)


def _failed(chunk: Chunk, place: int, error: BimodalError) -> Reject:
    return Reject(chunk.row(place), chunk.source, None, error.code, str(error), chunk.raw(place), chunk.form)
