"""Arrow IPC: the file format, or the stream format (`.arrows`); a record batch a chunk."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from bimodal.batch.sinks.contract import Encoded, Encoder
from bimodal.batch.sinks.text import decoded

MAGIC = b"ARROW1"
START = MAGIC + b"\0\0"
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream
PREFIX = 8  # bytes before a message: a mark, and the length of its description
BATCHES = 3  # the field of a Footer that lists the record batches (Arrow's File.fbs)
BLOCK = struct.Struct("<qi4xq")  # where a record batch lies, the length of its description, of its body


class ArrowEncoder(Encoder):
    """Both formats are the same messages one after another; a file has a footer as well, that tells where they lie.

    Dictionary-encoded columns are written as their values: a file has one dictionary for all its batches. A chunk's
    note is the lengths, description and body, of each of its record batches.
    """

    def __init__(self, *, stream: bool = False) -> None:
        self.kind = "arrows" if stream else "arrow"
        self._stream = stream
        self._schema = pa.schema([])

    def begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> bytes:
        fields = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema]
        self._schema = pa.schema(fields, metadata=dict(metadata))
        head: bytes = self._schema.serialize().to_pybytes()
        return head if self._stream else START + head

    def encode(self, table: pa.Table) -> Encoded:
        if not table.num_rows:
            return Encoded()
        plain = pa.table([decoded(each) for each in table.columns], schema=self._schema).combine_chunks()
        messages = [each.serialize().to_pybytes() for each in plain.to_batches()]
        return Encoded(b"".join(messages), None if self._stream else [_lengths(each) for each in messages])

    def tail(self, notes: Iterator[tuple[int, Any]]) -> bytes:
        if self._stream:
            return END
        blocks = []
        for start, note in notes:
            for described, body in note or ():
                blocks.append(BLOCK.pack(start, described, body))
                start += described + body
        footer = with_blocks(self._empty_footer(), blocks)
        return END + footer + len(footer).to_bytes(4, "little") + MAGIC

    def _empty_footer(self) -> bytes:
        """The footer that Arrow writes for a file of this schema without rows."""
        out = pa.BufferOutputStream()
        pa.ipc.new_file(out, self._schema).close()
        file: bytes = out.getvalue().to_pybytes()
        end = len(file) - len(MAGIC) - 4
        return file[end - int.from_bytes(file[end : end + 4], "little") : end]


def _lengths(message: bytes) -> list[int]:
    described = PREFIX + int.from_bytes(message[4:8], "little")
    return [described, len(message) - described]


def with_blocks(footer: bytes, blocks: list[bytes]) -> bytes:
    """A footer (a flatbuffer) with another list of record batches: it is put behind the rest, and the field that
    points to the empty one made to point there.
    """
    made = bytearray(footer)
    (table,) = struct.unpack_from("<I", made, 0)
    (back,) = struct.unpack_from("<i", made, table)
    (offset,) = struct.unpack_from("<H", made, table - back + 4 + 2 * BATCHES)
    assert offset, "Arrow writes the list though it is empty"
    made += b"\0" * ((4 - len(made)) % 8)  # the list's items, which come after its length, begin at a multiple of 8
    struct.pack_into("<I", made, table + offset, len(made) - (table + offset))
    return bytes(made) + len(blocks).to_bytes(4, "little") + b"".join(blocks)
