"""Fit: whether an output goes into a table, column by column, row by row; what it becomes there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from bimodal.batch.databases.contract import Database, Mode, Session, TableName
from bimodal.errors import OutputExists, SinkError
from bimodal.field import listed


def taken(target: TableName) -> str:
    """That the table is there, and what can be done."""
    return (
        f"the table {target} is there already; --mode append adds rows to it, --mode replace puts the result in its "
        "place, --mode upsert --key … updates its rows"
    )


@dataclass(frozen=True)
class Fit:
    """An output and its target. types: of the output's columns, in the database's words. staging: the table that the
    output's rows stand in. Raises SinkError (with row and column) for what does not go.
    """

    database: Database
    target: TableName
    mode: Mode

    def notes(self, session: Session, schema: pa.Schema | None) -> list[str]:
        """What will happen to the table, in sentences; schema: of the output, where it is known."""
        there = self.database.columns(session, self.target)
        notes: list[str] = []
        if there is not None and self.mode.word == "create":
            notes.append(taken(self.target))
        if there is None and self.mode.word == "append":
            notes.append(f"there is no table {self.target} yet: it will be created")
        if (
            there is not None
            and self.mode.word == "replace"
            and (lost := self.database.left_behind(session, self.target))
        ):
            notes.append(f"the table {self.target} has {lost}, which the one that takes its place will not have")
        if self.mode.word == "upsert":
            self.check_key(session, there, schema)
        if schema is not None:
            types = self.types_of(schema)
            if there is not None and self.mode.word == "replace":
                mine = {self.folded(name) for name in types}
                gone = [name for name in there if self.folded(name) not in mine]
                if gone:
                    column = "column" if len(gone) == 1 else "columns"
                    notes.append(f"the table {self.target} loses the {column} {listed(gone)}: the output has none")
            if there is not None and self.mode.word in ("append", "upsert"):
                notes += self.compared(session, types, self.there_of(session, types) or {})
        return notes

    def types_of(self, schema: pa.Schema) -> dict[str, str]:
        types: dict[str, str] = {}
        seen: dict[str, str] = {}
        for each in schema:
            self.database.quote(each.name)
            other = seen.setdefault(self.folded(each.name), each.name)
            if each.name in types:
                raise SinkError(f"the output has two columns called {each.name!r}", column=each.name)
            if other != each.name:
                raise SinkError(
                    f"the output has the columns {other!r} and {each.name!r}, which are one in {self.database.kind}; "
                    "leave one out with --keep, or name it otherwise in a --query (AS)",
                    column=each.name,
                )
            types[each.name] = self.database.type_of(each)
        return types

    def folded(self, name: str) -> str:
        return re.sub("[A-Z]", lambda found: found[0].lower(), name) if self.database.folds else name

    def there_of(self, session: Session, types: Mapping[str, str]) -> dict[str, str] | None:
        """The target's columns, spelled as the output's where they are the same."""
        found = self.database.columns(session, self.target)
        mine = {self.folded(name): name for name in types}
        return None if found is None else {mine.get(self.folded(name), name): kind for name, kind in found.items()}

    def check_key(self, session: Session, there: Mapping[str, str] | None, schema: pa.Schema | None) -> None:
        key = self.mode.key
        if not key:
            raise SinkError(f"--mode upsert needs the columns that tell rows apart: --key {'id' if not key else ''}")
        for name in key:
            if schema is not None and name not in schema.names:
                raise SinkError(
                    f"the output has no column {name!r} to be the key; --keep {name} carries it along, if the input "
                    "has it",
                    column=name,
                )
        if there is None:
            raise SinkError(
                f"there is no table {self.target} to update; --mode create makes it, then: "
                f"{self.database.index(self.target, key)}"
            )
        if not self.database.unique(session, self.target, key):
            raise SinkError(
                f"rows of {self.target} cannot be told apart by {listed(list(key))}: an upsert needs a unique index; "
                f"make it with: {self.database.index(self.target, key)}",
                column=key[0],
            )

    def compared(self, session: Session, types: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
        """What the output and the target do not have in common: sentences, or a SinkError if it cannot work."""
        computed = {self.folded(name) for name in self.database.computed(session, self.target)}
        for name, have in types.items():
            want = there.get(name)
            if self.folded(name) in computed:
                raise SinkError(
                    f"the table {self.target} makes the values of its column {name!r} itself and takes none; leave it "
                    "out with --keep, or drop what generates it there",
                    column=name,
                )
            if want is None:
                raise SinkError(
                    f"the table {self.target} has no column {name!r}: ALTER TABLE {self.database.spell(self.target)} "
                    f"ADD COLUMN {self.database.quote(name)} {have}, or choose other columns with --keep",
                    column=name,
                )
            if not self.database.convertible(session, have, want):
                raise SinkError(
                    f"the column {name!r} is {have} in the output and {want} in the table {self.target}, which does "
                    f"not go together; leave it out with --keep, read it as {want} with a --query (CAST), or give the "
                    f"table's column the type {have}",
                    column=name,
                )
        left = [name for name in there if name not in types]
        for name in self.database.required(session, self.target):
            if name in left:
                raise SinkError(
                    f"the table {self.target} needs a value in its column {name!r}, and the output has no such "
                    "column; --keep may carry it along, or give the column a default",
                    column=name,
                )
        notes = [
            f"the column {name!r} is {have} in the output and {there[name]} in the table {self.target}; it is "
            "converted, and a value that would change is an error"
            for name, have in types.items()
            if self.database.differs(self.database.quote(name), have, there[name]) is not None
        ]
        if left:
            notes.append(f"the table {self.target} keeps its own values in {listed(left)}")
        return notes

    def see(self, session: Session, types: Mapping[str, str], schema: pa.Schema | None, staging: TableName) -> None:
        """What can be seen before anything is changed: the target is as it should be, and so are the rows."""
        there = self.there_of(session, types)
        if there is not None and self.mode.word == "create":
            raise OutputExists(taken(self.target))
        if self.mode.word == "upsert":
            self.check_key(session, there, schema)
            self._see_keys(session, staging)
        if there is None or self.mode.word not in ("append", "upsert"):
            return
        self.compared(session, types, there)
        rows = self.database.spell(staging)
        for name, have in types.items():
            differs = self.database.differs(self.database.quote(name), have, there[name])
            query = f"SELECT CASE WHEN EXISTS (SELECT 1 FROM {rows} WHERE {differs}) THEN 1 ELSE 0 END"  # noqa: S608 - names quoted
            try:
                changed = differs is not None and session.query(query)[0][0]
            except SinkError as error:
                raise self.blamed(session, types, staging, error) from error
            if changed:
                raise SinkError(
                    f"the column {name!r} is {there[name]} in the table {self.target}, which cannot hold all values "
                    f"of the output ({have}) as they are; change the column's type, then run the same command again",
                    column=name,
                )

    def blamed(self, session: Session, types: Mapping[str, str], staging: TableName, error: SinkError) -> SinkError:
        """A value that cannot be converted, with its row and column; another error as it is."""
        for name, expression in self.values(session, types).items() if error.column is None else ():
            row = self.database.failing(session, staging, expression)
            if row is not None:
                reason = error.message.rpartition(": ")[2]
                told = f"row {row:,} of the output, column {name!r}, does not fit the table {self.target}: {reason}"
                return SinkError(
                    f"{told}; see to that value in the input, or change the column's type", row=row, column=name
                )
        return error

    def _see_keys(self, session: Session, staging: TableName) -> None:
        """No key twice in the output, none that is null."""
        rows = self.database.spell(staging)
        names = [self.database.quote(name) for name in self.mode.key]
        key, told = ", ".join(names), listed(list(self.mode.key))
        nulls = " OR ".join(f"{name} IS NULL" for name in names)
        twice = f"SELECT 1 FROM {rows} GROUP BY {key} HAVING COUNT(*) > 1"  # noqa: S608 - names quoted
        missing = f"SELECT 1 FROM {rows} WHERE {nulls}"  # noqa: S608 - names quoted
        for what, inner, remedy in (
            ("a row has no", missing, "leave out the rows where it is null (a --query with IS NOT NULL)"),
            ("more than one row has the same", twice, "see to it that the input has each key once"),
        ):
            if session.query(f"SELECT CASE WHEN EXISTS ({inner}) THEN 1 ELSE 0 END")[0][0]:
                raise SinkError(
                    f"the output cannot update {self.target}: {what} key ({told}); choose other --key columns, or "
                    + remedy,
                    column=self.mode.key[0],
                )

    def values(self, session: Session, types: Mapping[str, str]) -> dict[str, str]:
        """For each column of the output the expression that makes it the target's."""
        there = self.there_of(session, types) or {}
        return {
            name: self.database.converted(self.database.quote(name), have, there[name]) for name, have in types.items()
        }
