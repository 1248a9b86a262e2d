"""Place: a database of a test, and a way around our code to look into it and to change it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Database, TableName


class Place(ABC):
    """url: its address, without a table."""

    url: str
    numeric = "NUMERIC(10, 2)"
    double = "DOUBLE PRECISION"
    stored = "STORED"  # of a column that the database computes
    sign = "🦉"  # in names of columns: MySQL has none beyond the first 65,536 characters
    folder: str | None = None  # of a database that is a file

    def database(self) -> Database:
        """Our adapter."""
        return Address.parse(self.url).open()

    @abstractmethod
    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A query by the database's own driver, on a connection of its own. Placeholders are %s."""

    @abstractmethod
    def do(self, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        """A statement, once for each row of values, committed."""

    @staticmethod
    def marked(statement: str) -> str:
        """With the placeholders of the drivers that have ?."""
        return re.sub("%[s%]", lambda found: "?" if found[0] == "%s" else "%", statement)

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def all(self, table: str, order: str = "id") -> list[tuple[Any, ...]]:
        return self.ask(f"SELECT * FROM {self.quote(table)} ORDER BY {self.quote(order)}")

    def tables(self) -> set[str]:
        """Names of the tables, those of the books too."""
        database = self.database()
        session = database.session()
        try:
            names = {"bimodal_runs", "bimodal_chunks", "bimodal_rejects", "made", "other"}
            return {
                name
                for name in names
                if database.columns(session, database.resolve(session, TableName(name))) is not None
            }
        finally:
            session.close()
