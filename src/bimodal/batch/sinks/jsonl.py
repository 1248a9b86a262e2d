"""JSON Lines: an object a line, put together column by column."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.sinks.contract import OldEncoder, Out
from bimodal.batch.sinks.text import as_json


class JsonlEncoder(OldEncoder):
    """JSON Lines in UTF-8. codec: each chunk is a gzip member or zstd frame."""

    kind = "jsonl"

    def __init__(self, codec: pa.Codec | None = None) -> None:
        self._codec = codec
        self._out: Out | None = None

    def begin(self, out: Out, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        self._out = out

    def write(self, table: pa.Table) -> None:
        assert self._out is not None, "begin comes first"
        if table.num_rows:
            data = lines(table)
            self._out.write(self._codec.compress(data, asbytes=True) if self._codec else data)

    def end(self) -> None:
        """JSON Lines have no end mark."""


def lines(table: pa.Table) -> bytes:
    """The table's rows, one object a line."""
    parts: list[object] = []
    for place, field in enumerate(table.schema):
        name = json.dumps(field.name, ensure_ascii=False)
        parts.append(f"{',' if place else '{'}{name}:")
        parts.append(as_json(table.column(place), holds_json=bool(field.metadata and b"bimodal" in field.metadata)))
    joined = pc.binary_join_element_wise(*parts, "}\n", "")
    return b"".join(_bytes(chunk) for chunk in joined.chunks)


def _bytes(texts: pa.StringArray) -> bytes:
    """The texts one after another: they stand so in the array's buffer."""
    if not len(texts):
        return b""
    whole = pa.concat_arrays([texts]) if texts.offset else texts
    first, last = (int.from_bytes(whole.buffers()[1][at : at + 4].to_pybytes(), "little") for at in (0, 4 * len(whole)))
    return bytes(whole.buffers()[2][first:last])
