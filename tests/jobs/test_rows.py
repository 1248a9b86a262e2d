"""The rows of keys from a table: one query for many, in each kind of database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import duckdb
import psycopg
import pytest

from bimodal.errors import SourceError, UsageError
from bimodal.field import Field
from bimodal.jobs.rows import Rows, open_rows
from bimodal.signature import Signature

NAMED = Signature((Field("x", "float64", nullable=True),), (Field("prediction", "int64"),))
UNNAMED = Signature((Field("input", "float64", (1,)),), (Field("prediction", "int64"),), named=False)
MADE = 'CREATE TABLE "my customers" (id BIGINT, name VARCHAR(9), x DOUBLE PRECISION)'
FILLED = "INSERT INTO \"my customers\" VALUES (1, 'a', 1.5), (2, 'b''c', NULL)"


@pytest.fixture(params=["sqlite", "duckdb", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database with a table of two rows."""
    path = tmp_path / "shop.db"
    if request.param == "sqlite":
        connection = sqlite3.connect(path)
        connection.execute(MADE)
        connection.execute(FILLED)
        connection.commit()
        connection.close()
    elif request.param == "duckdb":
        with duckdb.connect(str(path)) as other:
            other.execute(MADE)
            other.execute(FILLED)
    else:
        url = f"postgresql://postgres@/postgres?host={request.getfixturevalue('postgres_server')}"
        with psycopg.connect(url, autocommit=True) as third:
            third.execute('DROP TABLE IF EXISTS "my customers"')
            third.execute(MADE.encode())
            third.execute(FILLED.encode())
        return f"{url}#my%20customers"
    return f"{request.param}:///{path}#my%20customers"


def closed(rows: Rows, keys: list[int | str]) -> list[object]:
    try:
        return list(rows.fetch(keys))
    finally:
        rows.close()


def test_rows_are_found_by_integers_and_by_text(address: str) -> None:
    assert closed(open_rows(address, "id", NAMED), [2, 3, 1, 2]) == [{"x": None}, None, {"x": 1.5}, {"x": None}]
    assert closed(open_rows(address, "name", NAMED), ["b'c", "a' OR '1'='1", "a"]) == [{"x": None}, None, {"x": 1.5}]


def test_a_key_that_the_column_cannot_have_has_no_row_and_costs_the_others_nothing(address: str) -> None:
    odd: list[int | str] = ["seven", 1, 2**64, "", "2", -(2**70), "a\0b"]
    assert closed(open_rows(address, "id", NAMED), odd) == [None, {"x": 1.5}, None, None, {"x": None}, None, None]


def test_many_keys_are_more_than_one_query(address: str) -> None:
    found = closed(open_rows(address, "id", NAMED), list(range(1200)))
    assert [place for place, row in enumerate(found) if row is not None] == [1, 2]


def test_a_model_without_names_gets_the_other_columns(address: str) -> None:
    assert closed(open_rows(address, "id", UNNAMED), [1]) == [{"name": "a", "x": 1.5}]


def test_a_column_that_is_not_there_is_named(address: str) -> None:
    with pytest.raises(UsageError, match="no column 'idd'; did you mean 'id'"):
        open_rows(address, "idd", NAMED)


def test_a_table_that_is_gone_is_one_sentence_and_its_return_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute(MADE)
        connection.execute(FILLED)
    connection.close()
    rows = open_rows(f"sqlite:///{path}#my%20customers", "id", NAMED)
    path.rename(tmp_path / "away")
    with pytest.raises(SourceError, match="cannot be read"):
        rows.fetch([1])
    (tmp_path / "away").rename(path)
    assert closed(rows, [1]) == [{"x": 1.5}]
