"""Parquet: a row group a chunk."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as arrow_parquet

from bimodal.batch.sinks.contract import OldEncoder, Out


class ParquetEncoder(OldEncoder):
    """A Parquet file; what the plan decides stands in the schema's metadata."""

    kind = "parquet"

    def __init__(self) -> None:
        self._writer: arrow_parquet.ParquetWriter | None = None

    def begin(self, out: Out, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        self._writer = arrow_parquet.ParquetWriter(out, schema.with_metadata(dict(metadata)))

    def write(self, table: pa.Table) -> None:
        assert self._writer is not None, "begin comes first"
        if table.num_rows:
            self._writer.write_table(table.cast(self._writer.schema), row_group_size=table.num_rows)

    def end(self) -> None:
        assert self._writer is not None, "begin comes first"
        self._writer.close()
