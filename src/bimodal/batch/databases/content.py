"""Content: a digest of a table's values, the same however they lie in memory."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Chain:
    """A digest of chunk after chunk: of all rows so far, and where one chunk ends and the next begins."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._digest = hashlib.sha256("\0".join(names).encode()).digest()

    def add(self, table: pa.Table) -> str:
        """Hexadecimal digits for everything up to the end of this chunk."""
        hashed = hashlib.sha256(self._digest)
        hashed.update(table.num_rows.to_bytes(8, "little"))
        for column in table.columns:
            array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
            _add(hashed, array)
        self._digest = hashed.digest()
        return self._digest.hex()


def _add(hashed: Any, array: pa.Array) -> None:
    """What stands under a null is nobody's: it does not count."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _add(hashed, array.storage)
    if pa.types.is_dictionary(kind):
        return _add(hashed, array.dictionary_decode())
    hashed.update(array.null_count.to_bytes(8, "little"))
    if array.null_count:
        hashed.update(np.packbits(np.asarray(array.is_null())).tobytes())
    if pa.types.is_null(kind):
        return None
    if pa.types.is_struct(kind):
        for each in array.flatten():
            _add(hashed, each)
    elif pa.types.is_map(kind):  # Arrow has no lengths of maps
        pairs = array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
        hashed.update(np.asarray(pc.list_value_length(pairs).fill_null(0)).astype("<i8").tobytes())
        _add(hashed, pairs.flatten())
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        hashed.update(np.asarray(pc.list_value_length(array).fill_null(0)).astype("<i8").tobytes())
        _add(hashed, array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        _add(hashed, array.flatten())
    elif pa.types.is_boolean(kind):
        hashed.update(np.packbits(np.asarray(array.fill_null(False))).tobytes())
    elif _is_variable(kind):
        _add_variable(hashed, array)
    else:
        _add_fixed(hashed, array)
    return None


def _add_fixed(hashed: Any, array: pa.Array) -> None:
    width = array.type.bit_width // 8
    if array.null_count:
        values = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width : (array.offset + len(array)) * width]
        kept = values.reshape(len(array), width)[np.asarray(array.is_valid())]
        hashed.update(kept.tobytes())
    elif len(array):
        hashed.update(memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width])


def _add_variable(hashed: Any, array: pa.Array) -> None:
    kind = array.type
    if kind in (pa.string_view(), pa.binary_view()):
        array = array.cast(pa.large_string() if kind == pa.string_view() else pa.large_binary())
        kind = array.type
    if array.null_count:
        array = array.drop_null()
    large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    _, places, data = array.buffers()
    if not len(array):
        return
    offsets = np.frombuffer(places, np.int64 if large else np.int32)[array.offset : array.offset + len(array) + 1]
    hashed.update((offsets - offsets[0]).astype("<i8").tobytes())
    if data is not None:
        hashed.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])


def _is_variable(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
        or kind in (pa.string_view(), pa.binary_view())
    )
