"""Thrift's compact protocol: a tree comes back as it was, and what Arrow writes comes back byte for byte."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.batch.sinks import thrift
from bimodal.batch.sinks.thrift import Sequence, Value

SIMPLE: dict[int, st.SearchStrategy[Any]] = {
    thrift.TRUE: st.none(),
    thrift.FALSE: st.none(),
    thrift.BYTE: st.binary(min_size=1, max_size=1),
    thrift.I16: st.integers(-(2**15), 2**15 - 1),
    thrift.I32: st.integers(-(2**31), 2**31 - 1),
    thrift.I64: st.integers(-(2**63), 2**63 - 1),
    thrift.DOUBLE: st.binary(min_size=8, max_size=8),
    thrift.BINARY: st.binary(max_size=200),
}


def _list(kind: int, items: st.SearchStrategy[Any]) -> st.SearchStrategy[Sequence]:
    items = st.sampled_from([1, 2]) if kind in (thrift.TRUE, thrift.FALSE) else items
    return st.lists(items, max_size=20).map(lambda values: Sequence(kind, values))


def _trees(kinds: dict[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[int, Value]]:
    values = st.one_of([st.builds(Value, st.just(kind), items) for kind, items in kinds.items()])
    return st.dictionaries(st.integers(1, 2**15 - 1), values, max_size=6)


def _deeper(inner: st.SearchStrategy[dict[int, Value]]) -> st.SearchStrategy[dict[int, Value]]:
    lists = st.one_of([_list(kind, items) for kind, items in {**SIMPLE, thrift.STRUCT: inner}.items()])
    return _trees({**SIMPLE, thrift.STRUCT: inner, thrift.LIST: lists, thrift.SET: lists})


@given(st.recursive(_trees(SIMPLE), _deeper, max_leaves=4))
def test_a_tree_comes_back_as_it_was(tree: dict[int, Value]) -> None:
    data = thrift.write(tree)
    reader = thrift.Reader(data + b"more")
    assert reader.struct() == tree
    assert reader.place == len(data)


def test_a_footer_of_arrow_comes_back_byte_for_byte() -> None:
    table = pa.table({"a": range(3000), "b": ["x", None, "y"] * 1000, "c": [[1.5], [], None] * 1000})
    for options in ({}, {"write_page_index": True, "use_dictionary": False}, {"compression": "zstd"}):
        out = io.BytesIO()
        arrow_parquet.write_table(table, out, row_group_size=100, **options)
        file = out.getvalue()
        footer = file[-8 - int.from_bytes(file[-8:-4], "little") : -8]
        tree = thrift.read(footer)
        assert thrift.write(tree) == footer
        assert tree[3].value == 3000
        assert len(tree[4].value.values) == 30


@pytest.mark.parametrize("data", [b"", b"\x15", b"\x18\x05ab", b"\x1b\x01\x55", b"\x19\xf5\x02"])
def test_what_ends_in_the_middle_is_no_tree(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        thrift.read(data)
