"""Columns as text, column by column in Arrow: numbers as Python writes them, values as JSON."""

from __future__ import annotations

import base64
import json

import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.sources.tables import plain

SPECIAL = r'["\\\x00-\x1f]'
ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\b", "\\b"), ("\f", "\\f"))


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary-encoded column as its values."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def counted(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of half precision in single: Arrow computes with no smaller one."""
    return column.cast(pa.float32()) if pa.types.is_float16(column.type) else column


def floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Floating point numbers as text; a whole one has its `.0`, so that it is read as a float again."""
    texts = column.cast(pa.string())
    whole = pc.match_substring_regex(texts, r"^-?[0-9]+$")
    return pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)


def any_whole(column: pa.ChunkedArray) -> bool:
    """Whether `floats` would write one number otherwise than Arrow does."""
    return bool(pc.any(pc.equal(pc.floor(column), column)).as_py())


def as_json(column: pa.ChunkedArray, *, holds_json: bool = False) -> pa.ChunkedArray:
    """Each value as JSON text; null is the text `null`. holds_json: the text is JSON already."""
    column = counted(decoded(column))
    kind = column.type
    if pa.types.is_null(kind):
        texts = pa.chunked_array([pa.nulls(len(column), pa.string())])
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        texts = column.cast(pa.string()) if holds_json else quoted(column.cast(pa.string()))
    elif pa.types.is_floating(kind):
        texts = floats(pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind)))
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        texts = column.cast(pa.string())
    elif pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        texts = quoted(column.cast(pa.string()))
    else:
        texts = pa.chunked_array([pa.array([_one(value) for value in column.to_pylist()], pa.string())])
    return pc.fill_null(texts, "null")


def _one(value: object) -> str:
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def quoted(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as JSON strings."""
    special = pc.match_substring_regex(column, SPECIAL)
    if pc.any(special).as_py():
        for raw, escaped in ESCAPES:
            column = pc.replace_substring(column, raw, escaped)
        if pc.any(pc.match_substring_regex(column, r"[\x00-\x1f]")).as_py():
            column = _controls(column)
    return pc.binary_join_element_wise('"', column, '"', "")


def _controls(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The rare control characters."""
    for code in range(0x20):
        column = pc.replace_substring(column, chr(code), f"\\u{code:04x}")
    return column


def nested_as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists and objects as JSON text, bytes in base64, for formats that have only text."""
    if pa.types.is_nested(column.type):
        values = [None if value is None else _one(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.string())])
    if (
        pa.types.is_binary(column.type)
        or pa.types.is_large_binary(column.type)
        or pa.types.is_fixed_size_binary(column.type)
        or pa.types.is_binary_view(column.type)
    ):
        cells = [None if value is None else base64.b64encode(value).decode() for value in column.to_pylist()]
        return pa.chunked_array([pa.array(cells, pa.string())])
    return column


def joined_bytes(texts: pa.ChunkedArray) -> bytes:
    """The texts one after another."""
    return b"".join(_bytes(chunk) for chunk in texts.chunks)


def _bytes(texts: pa.StringArray) -> bytes:
    """They stand so in the array's buffer."""
    if not len(texts):
        return b""
    whole = pa.concat_arrays([texts]) if texts.offset else texts
    first, last = (int.from_bytes(whole.buffers()[1][at : at + 4].to_pybytes(), "little") for at in (0, 4 * len(whole)))
    return bytes(whole.buffers()[2][first:last])
