"""Arrow IPC: the file format, or the stream format (`.arrows`); a record batch a chunk."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from bimodal.batch.sinks.contract import OldEncoder, Out
from bimodal.batch.sinks.text import decoded


class ArrowEncoder(OldEncoder):
    """Dictionary-encoded columns are written as their values: a file has one dictionary for all its batches."""

    kind = "arrow"

    def __init__(self, *, stream: bool = False) -> None:
        self._stream = stream
        self._schema: pa.Schema | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def begin(self, out: Out, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        fields = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema]
        self._schema = pa.schema(fields, metadata=dict(metadata))
        target = pa.PythonFile(out, mode="w")
        self._writer = (pa.ipc.new_stream if self._stream else pa.ipc.new_file)(target, self._schema)

    def write(self, table: pa.Table) -> None:
        assert self._writer is not None, "begin comes first"
        if table.num_rows:
            plain = pa.table([decoded(each) for each in table.columns], schema=self._schema).combine_chunks()
            self._writer.write_table(plain)

    def end(self) -> None:
        assert self._writer is not None, "begin comes first"
        self._writer.close()
