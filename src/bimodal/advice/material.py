"""Material: the rows that the model is measured with, as Rows, as bodies of requests, and as a file for batch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bimodal import scenes
from bimodal.batch.columns import Columns
from bimodal.batch.scoring import Scorer
from bimodal.batch.sources.inputs import open_input
from bimodal.compile import probes
from bimodal.drawn import Drawn
from bimodal.errors import NotCompiled, UsageError
from bimodal.golden import MOST
from bimodal.model import Model
from bimodal.rows import Rows

READ = 65_536  # rows of the sample that are used
ASKED = 256  # different rows among the requests
WRITTEN = 1 << 20  # rows of the file that are made at once


@dataclass(frozen=True)
class Material:
    """rows: good ones. table: the same for batch, with the columns that are carried. csv: it is to be a CSV file.
    origin: where they come from, in words. refused: rows of the sample that the signature refuses.
    """

    rows: Rows
    table: pa.Table
    csv: bool
    origin: str
    refused: int = 0

    @classmethod
    def of(cls, model: Model, sample: Any) -> Material:
        """From the sample; without one from the package's golden rows, or made from the signature. Raises UsageError
        where the signature says too little for that, and InputError where the sample has not one good row.
        """
        if isinstance(sample, str | os.PathLike):
            return cls._of_file(model, os.fspath(sample))
        if sample is not None:
            drawn = Drawn.of(model.signature, sample, READ)
            return cls(drawn.rows, _table(drawn.rows, model), False, "the sample", drawn.refused)
        package = model.location.package
        if package is not None and package.golden is not None:
            rows, origin = package.golden.rows, "the package's golden rows: no sample was given"
        else:
            rows, origin = _made_up(model), "rows made from the model's signature: no sample was given"
        return cls(rows, _table(rows, model), False, origin)

    @classmethod
    def _of_file(cls, model: Model, path: str) -> Material:
        drawn = Drawn.of(model.signature, path, READ)
        source = open_input(path)
        try:
            columns = Columns.find(model.signature, source)
            scorer = Scorer(columns, ())
            for chunk in source.chunks(columns.reading):
                _, good, _ = scorer.judge(chunk)
                if good.any() and chunk.records is None:
                    whole = pa.table(dict(zip(_names(chunk.features, chunk.kept), _columns(chunk), strict=True)))
                    return cls(drawn.rows, whole.filter(pa.array(good)), source.kind == "csv", path, drawn.refused)
        finally:
            source.close()
        return cls(drawn.rows, _table(drawn.rows, model), False, path, drawn.refused)

    def bodies(self, model: Model) -> list[str]:
        """JSON bodies of requests with one row each. Raises UsageError where JSON cannot hold the rows."""
        few = self.rows.slice(0, min(self.rows.count, ASKED))
        try:
            return [body.decode() for body in scenes.bodies(few, model.signature, None, 1)]
        except scenes.Unfit as error:
            raise UsageError(f"live requests cannot be made of these rows: {error}") from error

    def write(self, folder: Path, rows: int) -> Path:
        """A file with the rows over and over, so many in all."""
        part = pa.concat_tables([self.table] * max(1, min(rows, WRITTEN) // self.table.num_rows + 1)).combine_chunks()
        path = folder / f"rows-{rows}.{'csv' if self.csv else 'parquet'}"
        writer: Any = (pa_csv.CSVWriter if self.csv else pq.ParquetWriter)(path, part.schema)
        with writer:
            for start in range(0, rows, part.num_rows):
                writer.write_table(part.slice(0, min(part.num_rows, rows - start)))
        return path


def _names(features: pa.Table, kept: pa.Table) -> list[str]:
    return [*features.column_names, *(name for name in kept.column_names if name not in features.column_names)]


def _columns(chunk: Any) -> list[pa.ChunkedArray]:
    features, kept = chunk.features, chunk.kept
    carried = [kept.column(name) for name in kept.column_names if name not in features.column_names]
    return [*features.columns, *carried]


def _table(rows: Rows, model: Model) -> pa.Table:
    try:
        return scenes.table(rows, model.signature)
    except scenes.Unfit as error:
        raise UsageError(f"no file can be made of these rows: {error}") from error


def _made_up(model: Model) -> Rows:
    if model.signature.open:
        raise UsageError("the model does not say what it takes: give rows like the ones to come with --sample FILE")
    try:
        return probes.make(model.signature, {}, None, most=MOST).typical
    except NotCompiled:
        return model.signature.example_rows()
