"""Drawn: rows of the user's sample, judged by the verdict that every door gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bimodal.batch.columns import Columns
from bimodal.batch.scoring import Scorer
from bimodal.batch.sources.inputs import open_input
from bimodal.errors import InputError, Problem, UsageError
from bimodal.rows import Rows
from bimodal.signature import Signature
from bimodal.table import Binding, as_table, from_frame


@dataclass(frozen=True)
class Drawn:
    """rows: the good ones, in the sample's order. refused: how many the signature refuses, and the first reason."""

    rows: Rows
    refused: int = 0
    reason: Problem | None = None

    @classmethod
    def of(cls, signature: Signature, sample: Any, most: int) -> Drawn:
        """The first good rows of a sample, at most `most`: a file as `predict` reads it, a frame, an Arrow table,
        records or an array. Raises InputError where not one row is good.
        """
        parts: list[Rows] = []
        problems: list[Problem] = []
        count = 0
        for rows, found in _judged(signature, sample):
            parts.append(rows.slice(0, most - count))
            problems += found
            count += parts[-1].count
            if count == most:
                break
        refused = len({problem.row for problem in problems})
        if not count:
            raise InputError.of(problems or [Problem("empty", "the sample holds no rows")])
        return cls(Rows.concat([part for part in parts if part.count]), refused, problems[0] if problems else None)


def _judged(signature: Signature, sample: Any) -> Iterator[tuple[Rows, list[Problem]]]:
    if isinstance(sample, str | os.PathLike):
        source = open_input(sample)
        try:
            columns = Columns.find(signature, source, keep="none")
            scorer = Scorer(columns, ())
            for chunk in source.chunks(columns.reading):
                rows, _, problems = scorer.judge(chunk)
                yield rows, list(problems)
        finally:
            source.close()
    elif hasattr(sample, "iloc") or type(sample).__module__.startswith("pyarrow"):
        table = from_frame(sample) if hasattr(sample, "iloc") else as_table(sample)
        rows, _, problems = Binding.bind(signature, table.column_names).rows(table)
        yield rows, problems
    elif hasattr(sample, "shape") or isinstance(sample, list | tuple):
        rows, _, problems = signature.check(list(sample))
        yield rows, problems
    else:
        raise UsageError(f"a sample is a file, a frame, an Arrow table or records, not a {type(sample).__name__}")
