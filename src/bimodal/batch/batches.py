"""Batches: of a source, or of an iterable of frames or tables, predicted one by one as they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa

from bimodal.batch.bounds import is_large
from bimodal.batch.columns import Columns, Keep
from bimodal.batch.crew import processors
from bimodal.batch.options import asked
from bimodal.batch.pipeline import Bound, Pipeline
from bimodal.batch.rejects import Reject
from bimodal.batch.scoring import Scorer
from bimodal.batch.sources.contract import Chunk, Reading, Source
from bimodal.batch.sources.inputs import Named, open_input
from bimodal.batch.sources.tables import chunk_of, plain
from bimodal.errors import InputError, Problem, UsageError
from bimodal.model import Model, load
from bimodal.table import as_table, from_frame


def predict_batches(
    model: Any,
    source: Named | Iterable[Any],
    *,
    keep: Keep = "auto",
    proba: bool = False,
    outputs: Sequence[str] | None = None,
    threshold: float | None = None,
    features: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    target: str | None = None,
    query: str | None = None,
    on_reject: Callable[[Reject], None] | None = None,
) -> Iterator[Any]:
    """Predict batch after batch, without holding more than a few.

    source: what `predict_file` reads (a file, a folder, a URL, a database's address): each chunk gives an Arrow record
    batch, the columns that are carried, then the results. Or an iterable of pandas frames, Arrow tables or record
    batches: each gives an answer of its kind; a frame keeps its index. One of these alone is one batch. query: as of
    `predict_file`.
    on_reject: is told each refused row (of frames and tables counted from 1 through all of them), and the row is left
    out; without it the first refused row is an InputError.
    """
    if not is_named(source):
        source = _batches(source)
    loaded = model if isinstance(model, Model) else load(model)
    try:
        names = loaded.resolve_outputs(asked(outputs, proba, loaded))
        loaded.check_threshold(threshold)
        if is_named(source):
            with closing(open_input(source, query=query)) as opened:
                columns = Columns.find(
                    loaded.signature, opened, keep=keep, features=features, rename=rename, target=target
                )
                scorer = Scorer(columns, names, threshold, decimal=opened.decimal)
                yield from _of_source(loaded, opened, scorer, on_reject)
            return
        bulk = loaded.in_bulk(wait=False)
        row = 1
        batches: Iterable[Any] = source  # type: ignore[assignment]  # what names a source was answered above
        for number, batch in enumerate(batches):
            held = _Batch(batch)
            columns = Columns.find(loaded.signature, held, keep=keep, features=features, rename=rename, target=target)
            chunk = held.chunk(columns.reading, number, row)
            scored = Scorer(columns, names, threshold).score(chunk, bulk)
            _tell(scored.rejects, on_reject)
            yield held.answer(scored.table, columns.kept, {reject.row - row for reject in scored.rejects})
            row += chunk.count
    finally:
        if loaded is not model:
            loaded.close()


def _batches(source: Any) -> Iterable[Any]:
    """What is no name of a source, as an iterable of batches."""
    if hasattr(source, "iloc") or isinstance(source, pa.Table | pa.RecordBatch):
        return [source]
    if not isinstance(source, Iterable) or isinstance(source, Mapping | bytes):
        raise UsageError(
            "a source is a path, a list of paths, or an iterable of pandas frames or Arrow tables, not "
            f"{type(source).__name__}"
        )
    return source


def is_named(source: Named | Iterable[Any]) -> TypeGuard[Named]:
    """Whether this names a source, and is none itself."""
    if isinstance(source, list | tuple):
        return bool(source) and all(isinstance(each, str | os.PathLike) for each in source)
    return isinstance(source, str | os.PathLike)


def _of_source(
    model: Model, source: Source, scorer: Scorer, on_reject: Callable[[Reject], None] | None
) -> Iterator[pa.RecordBatch]:
    """A record batch a chunk, predicted a few chunks ahead."""
    bulk = model.in_bulk(wait=False)
    threads = processors() if bulk.runtime.proven and is_large(source) else 1
    pieces = source.pieces(scorer.columns.reading)
    work = Pipeline(pieces, lambda piece: scorer.score(piece.load(), bulk), threads=threads, bound=Bound(threads + 1))
    with work as done:
        for scored in done:
            _tell(scored.rejects, on_reject)
            yield from scored.table.combine_chunks().to_batches()


def _tell(rejects: Sequence[Reject], on_reject: Callable[[Reject], None] | None) -> None:
    if rejects and on_reject is None:
        raise InputError.of([Problem(each.code, each.reason, each.row, each.column) for each in rejects])
    for reject in rejects:
        assert on_reject is not None, "seen to above"
        on_reject(reject)


class _Batch(Source):
    """A frame or a table as a source of one chunk."""

    kind = "table"
    name = "the batch"

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self._frame = hasattr(batch, "iloc") and hasattr(batch, "columns")
        if not self._frame and not isinstance(batch, pa.Table | pa.RecordBatch):
            raise UsageError(f"a batch is a pandas frame or an Arrow table, not a {type(batch).__name__}")
        names = list(batch.columns) if self._frame else batch.schema.names
        self.columns = tuple(str(name) for name in names)

    def fingerprint(self) -> str:
        return ""

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([])

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        yield self.chunk(reading, 0, 1)

    def chunk(self, reading: Reading, number: int, first_row: int) -> Chunk:
        """Of a frame only the features become Arrow; the other columns stay what they are."""
        if self._frame:
            places = [self.columns.index(name) for name in reading.features]
            frame = self._batch.iloc[:, places]
            try:
                table = from_frame(frame).rename_columns(list(reading.features))
            except InputError:
                if len(set(frame.columns)) < len(places):
                    raise
                return _one_by_one(frame, tuple(reading.features), number, first_row)
            reading = Reading(reading.features)
        else:
            table = as_table(self._batch)
        return chunk_of(table, reading, number=number, source=self.name, first_row=first_row, bytes_done=0)

    def answer(self, results: pa.Table, kept: tuple[str, ...], refused: set[int]) -> Any:
        """The results in the kind of the batch."""
        if isinstance(self._batch, pa.RecordBatch):
            return pa.record_batch([column.combine_chunks() for column in results.columns], schema=results.schema)
        if not self._frame:
            return results
        good = np.setdiff1d(np.arange(len(self._batch)), list(refused))
        frame = self._batch.iloc[good, [self.columns.index(name) for name in kept]].copy()
        for name in results.column_names:
            frame[name] = results.column(name).to_pandas().to_numpy()
        return frame


def _one_by_one(frame: Any, features: tuple[str, ...], number: int, first_row: int) -> Chunk:
    """A frame with a column that Arrow takes for no one type: its rows are judged alone, as JSON's are."""
    columns = [
        [None if missing else _value(value) for value, missing in zip(column.tolist(), column.isna(), strict=True)]
        for _, column in frame.items()
    ]
    records = [list(row) for row in zip(*columns, strict=True)]
    nothing = pa.table({name: pa.nulls(len(records)) for name in features})
    return Chunk(
        number,
        _Batch.name,
        first_row,
        nothing,
        nothing.select([]),
        raw=lambda place: dict(zip(features, records[place], strict=True)),
        records=records,
    )


def _value(value: Any) -> object:
    """As JSON would carry it; what JSON knows not, the signature refuses."""
    return plain(value.item() if isinstance(value, np.generic) else value)
