"""PostgreSQL: the contracts, each type both ways, a COMMIT of unknown fate, readers during a replacement."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.batch.databases.contract_sink import SinkContract
from tests.batch.databases.contract_source import SourceContract
from tests.batch.databases.place import Place


class PostgresPlace(Place):
    """A schema of its own on the test server."""

    def __init__(self, folder: str) -> None:
        self.schema = f"t{secrets.token_hex(4)}"
        self.settings = {"host": folder, "user": "postgres", "dbname": "postgres"}
        self.do(f"CREATE SCHEMA {self.schema}")
        self.settings["options"] = f"-csearch_path={self.schema}"
        options = "&".join(
            f"{name}={quote(value, safe='')}" for name, value in self.settings.items() if name != "dbname"
        )
        self.url = f"postgresql:///postgres?{options}"

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(**self.settings, autocommit=True)  # type: ignore[arg-type] # names of text options alone

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(statement.encode(), values or None).fetchall()

    def do(self, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        with self.connect() as connection, connection.cursor() as cursor:
            if rows and rows[0]:
                cursor.executemany(statement.encode(), rows)
            else:
                cursor.execute(statement.encode())


@pytest.fixture
def place(postgres_server: str) -> Iterator[PostgresPlace]:
    made = PostgresPlace(postgres_server)
    yield made
    made.do(f"DROP SCHEMA {made.schema} CASCADE")


class TestSource(SourceContract):
    @pytest.fixture
    def place(self, place: PostgresPlace) -> PostgresPlace:
        return place


class TestSink(SinkContract):
    @pytest.fixture
    def place(self, place: PostgresPlace) -> PostgresPlace:
        return place
