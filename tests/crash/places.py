"""Places: every kind of output that the proofs go through, each read by another library than wrote it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from tests.crash.harness import VOLATILE, Outcome, Place, digest

TABLE = "scored"
Ask = Callable[[str], list[tuple[Any, ...]]]


class TablePlace(Place):
    """An output that is a table. url: of the database, without the table."""

    def __init__(self, url: str) -> None:
        super().__init__(TABLE)
        self.words = ("-o", f"{url}#{TABLE}")

    @contextlib.contextmanager
    def asking(self, folder: Path) -> Iterator[Ask]:
        """Queries, by a library that is not ours."""
        raise NotImplementedError

    def tables(self, ask: Ask) -> list[str]:
        found = ask("SELECT table_name FROM information_schema.tables WHERE table_schema IN ('main', 'public')")
        return sorted(str(name) for (name,) in found)

    def outcome(self, folder: Path) -> Outcome:
        with self.asking(folder) as ask:
            tables = self.tables(ask)
            rows = self._rows(ask, tables) or ""
            runs = ask("SELECT status, report FROM bimodal_runs") if "bimodal_runs" in tables else []
            chunks = ask("SELECT COUNT(*) FROM bimodal_chunks")[0][0] if "bimodal_chunks" in tables else 0
            rejects = ask("SELECT number, lines FROM bimodal_rejects ORDER BY number") if runs else []
        record = (
            {name: value for name, value in json.loads(runs[-1][1]).items() if name not in VOLATILE} if runs else {}
        )
        record |= {"tables": tables, "chunks left": chunks, "runs": [status for status, _ in runs]}
        names = tuple(
            sorted(each.name for each in folder.iterdir() if each.suffix != ".wal")
        )  # DuckDB takes it in later
        return Outcome(rows, digest(folder / f"{TABLE}.rejects.jsonl") + digested(rejects), record, names)

    def published(self, folder: Path) -> str | None:
        with self.asking(folder) as ask:
            return self._rows(ask, self.tables(ask))

    def _rows(self, ask: Ask, tables: list[str]) -> str | None:
        return digested(ask(f"SELECT * FROM {TABLE}")) if TABLE in tables else None


class SqlitePlace(TablePlace):
    """A table in a file of SQLite."""

    def __init__(self) -> None:
        super().__init__("sqlite:///shop.db")

    @contextlib.contextmanager
    def asking(self, folder: Path) -> Iterator[Ask]:
        """Of a copy: who reads a database that was left in the middle repairs it."""
        with copied(folder) as copy, contextlib.closing(sqlite3.connect(copy / "shop.db")) as connection:
            yield lambda query: connection.execute(query).fetchall()

    def tables(self, ask: Ask) -> list[str]:
        return sorted(str(name) for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table'"))


class DuckPlace(TablePlace):
    """A table in a file of DuckDB."""

    def __init__(self) -> None:
        super().__init__("duckdb:///shop.duckdb")

    @contextlib.contextmanager
    def asking(self, folder: Path) -> Iterator[Ask]:
        with copied(folder) as copy, contextlib.closing(duckdb.connect(str(copy / "shop.duckdb"))) as connection:
            yield lambda query: connection.execute(query).fetchall()


class PostgresPlace(TablePlace):
    """A table in PostgreSQL; the database is emptied before each trial."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._url = url

    def prepare(self, folder: Path) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    @contextlib.contextmanager
    def asking(self, folder: Path) -> Iterator[Ask]:
        with psycopg.connect(self._url) as connection:
            yield lambda query: connection.execute(query.encode()).fetchall()


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        yield Path(shutil.copytree(folder, Path(place) / "copy"))


def digested(rows: list[tuple[Any, ...]]) -> str:
    return hashlib.sha256(repr(rows).encode()).hexdigest()


SINGLE = {
    "csv": Place("out.csv"),
    "jsonl": Place("out.jsonl"),
    "gzip": Place("out.csv.gz"),
    "parquet": Place("out.parquet"),
    "arrow": Place("out.arrow"),
}
FILES = {**SINGLE, "folder": Place("out/")}
TABLES = {"sqlite": SqlitePlace(), "duckdb": DuckPlace()}
ALL = {**FILES, **TABLES}
SURE = {**FILES, "sqlite": TABLES["sqlite"]}  # what DuckDB leaves after a power cut is DuckDB's own affair
