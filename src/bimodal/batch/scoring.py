"""Scoring a chunk: judge its rows, predict the good ones, and put the results beside the columns that are carried."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bimodal.batch.calls import Calls
from bimodal.batch.columns import Columns
from bimodal.batch.rejects import Reject
from bimodal.batch.sources.contract import Chunk
from bimodal.batch.spool import Spool
from bimodal.batch.tally import scored_of, wanted
from bimodal.errors import BimodalError, BooksDoNotBalance, Problem
from bimodal.model import Model
from bimodal.predictions.fingerprint import fingerprint
from bimodal.rows import Rows
from bimodal.table import flat

MARK = pa.field("row_fingerprint", pa.int64())


@dataclass(frozen=True)
class Scored:
    """A chunk's output table, its rejects in the order of the rows, and the seconds it took.

    truth: what the measures of quality need of it (empty without a target). note: what is to be told of it.
    """

    chunk: Chunk
    table: pa.Table
    rejects: tuple[Reject, ...]
    seconds: float = 0.0
    truth: bytes = b""
    note: str | None = None


@dataclass(frozen=True)
class Scorer:
    """What all chunks of a run have in common. Thread-safe."""

    columns: Columns
    outputs: tuple[str, ...]
    threshold: float | None = None
    call_rows: int = 0  # rows of one call of the model; 0: a chunk's
    decimal: str = "."  # the decimal mark of the right answers, where they are text
    fingerprint: bool = False  # whether the output has one for each row
    counted: Callable[[int, int], None] | None = None  # told a chunk's number and the rows of each call that ended
    spool: Spool | None = None

    def score(self, chunk: Chunk, model: Model) -> Scored:
        started = time.perf_counter()
        rows, good, problems = self.judge(chunk)
        calls = Calls(
            model, self._asked, self.threshold, self.call_rows, chunk.number, counted=self.counted, spool=self.spool
        )
        answer, guilty, note = calls.predict(rows)
        refused = [_rejected(chunk, problem) for problem in _first_of_each_row(problems)]
        if guilty:
            places = np.flatnonzero(good)
            refused += [_failed(chunk, int(places[at]), error) for at, error in guilty.items()]
            good[places[list(guilty)]] = False
        told = Rows({name: answer[name] for name in self.outputs})
        table = self._beside(chunk, good, self._marked(flat(told, model.signature), rows, guilty))
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
        return Scored(chunk, table, rejects, time.perf_counter() - started, truth, note)

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

    def _marked(self, results: pa.Table, rows: Rows, guilty: Collection[int]) -> pa.Table:
        """The results, with the fingerprint of the row that each came from."""
        if not self.fingerprint:
            return results
        marks = fingerprint(rows, self.columns.binding.signature)
        return results.append_column(MARK, pa.array(np.delete(marks, list(guilty)) if guilty else marks))

    def _truth(self, chunk: Chunk, good: NDArray[np.bool_], answer: Rows, model: Model) -> bytes:
        """What the measures of quality need of these rows."""
        if self.columns.truth is None:
            return b""
        column = chunk.kept.column(self.columns.truth)
        right = column if good.all() else column.filter(pa.array(good))
        missing = self.columns.reading.missing
        return scored_of(right, answer, model.signature, missing=missing, mark=self.decimal)

    @cached_property
    def _asked(self) -> tuple[str, ...]:
        """The outputs that the model is asked for: for a measure of quality some more."""
        truth, signature = self.columns.truth, self.columns.binding.signature
        return self.outputs if truth is None else wanted(signature, self.outputs)


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
