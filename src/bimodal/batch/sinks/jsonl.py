"""JSON Lines: an object a line, put together column by column."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.sinks.compression import compressed
from bimodal.batch.sinks.contract import Encoded, Encoder
from bimodal.batch.sinks.text import as_json, joined_bytes


class JsonlEncoder(Encoder):
    """JSON Lines in UTF-8. codec: each chunk is a gzip member or a zstd frame of its own."""

    text = True

    def __init__(self, codec: str | None = None) -> None:
        self._codec = codec
        self.kind = f"jsonl.{codec}" if codec else "jsonl"

    def begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> bytes:
        return b""

    def encode(self, table: pa.Table) -> Encoded:
        return Encoded(compressed(lines(table), self._codec)) if table.num_rows else Encoded()

    def tail(self, notes: Iterator[tuple[int, Any]]) -> bytes:
        """JSON Lines have no end mark."""
        return b""


def lines(table: pa.Table) -> bytes:
    """The table's rows, one object a line."""
    parts: list[object] = []
    for place, field in enumerate(table.schema):
        name = json.dumps(field.name, ensure_ascii=False)
        parts.append(f"{',' if place else '{'}{name}:")
        parts.append(as_json(table.column(place), holds_json=bool(field.metadata and b"bimodal" in field.metadata)))
    return joined_bytes(pc.binary_join_element_wise(*parts, "}\n", ""))
