"""A file as an encoder makes it, chunk after chunk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from bimodal.batch.sinks.contract import Encoder


def written(encoder: Encoder, chunks: Sequence[pa.Table], metadata: Mapping[str, str]) -> bytes:
    """The notes go through JSON, as they do in a journal."""
    data = encoder.begin(chunks[0].schema, metadata)
    notes: list[tuple[int, Any]] = []
    for chunk in chunks:
        encoded = encoder.encode(chunk)
        notes.append((len(data), json.loads(json.dumps(encoded.note))))
        data += bytes(encoded.data)
    return data + encoder.tail(iter(notes))
