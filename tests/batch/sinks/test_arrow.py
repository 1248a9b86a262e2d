"""Arrow put together from messages: a stream has the bytes of Arrow's own writer, a file is read by it."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from hypothesis import given, settings

from bimodal.batch.sinks.arrow import ArrowEncoder
from tests.batch.sinks.test_parquet import META, PLAIN, TABLE, many_tables
from tests.batch.sinks.written import written


@settings(max_examples=60, deadline=None)
@given(many_tables())
def test_a_stream_is_the_one_that_arrow_writes(tables: list[pa.Table]) -> None:
    own = io.BytesIO()
    with pa.ipc.new_stream(own, tables[0].schema.with_metadata(META)) as writer:
        for table in tables:
            if table.num_rows:
                writer.write_table(table)
    assert written(ArrowEncoder(stream=True), tables, META) == own.getvalue()


@settings(max_examples=60, deadline=None)
@given(many_tables())
def test_a_file_is_read_by_arrow(tables: list[pa.Table]) -> None:
    data = written(ArrowEncoder(), tables, META)
    opened = pa.ipc.open_file(data)
    assert opened.num_record_batches == sum(table.num_rows > 0 for table in tables)
    found = opened.read_all()
    found.validate(full=True)
    assert found.to_pylist() == pa.concat_tables(tables).to_pylist()
    assert found.schema == tables[0].schema
    assert opened.schema.metadata == {name.encode(): value.encode() for name, value in META.items()}


@pytest.mark.parametrize("stream", [True, False])
def test_every_type_comes_back_exactly(stream: bool) -> None:
    data = written(ArrowEncoder(stream=stream), [TABLE, TABLE.slice(1), TABLE.slice(0, 0)], META)
    found = (pa.ipc.open_stream if stream else pa.ipc.open_file)(data).read_all()
    found.validate(full=True)
    assert found.schema.remove_metadata() == PLAIN.schema
    assert str(found.to_pylist()) == str(pa.concat_tables([PLAIN, PLAIN.slice(1)]).to_pylist())


def test_any_batch_of_a_file_can_be_read_by_itself() -> None:
    """A footer whose places are wrong would give another batch, or none."""
    chunks = [pa.table({"a": [number] * (number + 1), "b": ["x" * number] * (number + 1)}) for number in range(20)]
    opened = pa.ipc.open_file(written(ArrowEncoder(), chunks, {}))
    for number in (19, 0, 7):
        assert pa.Table.from_batches([opened.get_batch(number)]) == chunks[number]


def test_pandas_and_feather_read_a_file(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2], "note": ["a", None], "score": [0.5, 1.5]})
    path = tmp_path / "out.feather"
    path.write_bytes(written(ArrowEncoder(), [table, table], {}))
    pd.testing.assert_frame_equal(pd.read_feather(path), pa.concat_tables([table] * 2).to_pandas())
    assert feather.read_table(path, memory_map=True) == pa.concat_tables([table] * 2)
