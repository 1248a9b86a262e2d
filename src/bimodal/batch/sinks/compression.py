"""Compression of text, a chunk at a time: gzip members and zstd frames can be put one after another."""

from __future__ import annotations

import pyarrow as pa

LEVELS = {"gzip": 6, "zstd": 3}


def compressed(data: bytes, codec: str | None) -> bytes:
    """The data as one member or frame without a time in it; nothing stays nothing. In any thread."""
    if codec is None or not len(data):
        return data
    made: bytes = pa.Codec(codec, LEVELS[codec]).compress(data, asbytes=True)
    return made
