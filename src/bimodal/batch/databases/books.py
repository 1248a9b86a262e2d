"""Books: what a database knows of the runs that write to it, in three tables beside the target.

bimodal_runs: a row for each run, its report with it once it is published. bimodal_chunks: the marks of unfinished runs,
each written in the transaction of its chunk's rows. bimodal_rejects: the refused rows of published runs, as JSON Lines.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from bimodal.batch.databases.contract import Database, Session, TableName
from bimodal.batch.marks import Begun, Beside, Mark
from bimodal.errors import SinkError

RUNS, CHUNKS, REJECTS = "bimodal_runs", "bimodal_chunks", "bimodal_rejects"
RUNNING, COMPLETE, PUBLISHING, PUBLISHED = "running", "complete", "publishing", "published"


@dataclass(frozen=True)
class Run:
    """A run as its row tells it. finished: empty before it is published."""

    run: str
    target: str
    mode: str
    status: str
    started: str
    finished: str
    plan_key: str


class Books:
    """The books in one schema of a database. Statements go to the session that is given, in its running transaction."""

    def __init__(self, database: Database, schema: str | None) -> None:
        self._database, self._schema = database, schema

    # -- the tables -------------------------------------------------------------------------------------------------

    def there(self, session: Session) -> bool:
        return all(self._database.columns(session, self._place(name)) for name in (RUNS, CHUNKS, REJECTS))

    def make(self, session: Session) -> None:
        """Create the tables that are missing. Each statement a transaction of its own; another run may do the same."""
        for name, columns, key in self._definitions():
            if self._database.columns(session, self._place(name)):
                continue
            told = [f"{self._quoted(column)} {kind}" for column, kind in columns.items()]
            told.append(f"PRIMARY KEY ({', '.join(self._quoted(column) for column in key)})")
            try:
                session.execute(f"CREATE TABLE IF NOT EXISTS {self._spelled(name)} ({', '.join(told)})")
            except SinkError:  # another run may have made it at the same time
                if not self._database.columns(session, self._place(name)):
                    raise

    def _definitions(self) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
        word, text = f"{self._database.word} NOT NULL", self._database.text
        number = f"{self._database.integer} NOT NULL"
        runs = {
            "run": word, "target": text, "mode": word, "status": word, "started": word, "finished": word,
            "plan_key": word, "plan": text, "columns": text, "report": text, "source_end": text,
        }  # fmt: skip
        chunks = {
            "run": word, "number": number, "place": text, "read": number, "predicted": number, "rejected": number,
            "rejects": text, "scored": self._database.blob,
        }  # fmt: skip
        rejects = {"run": word, "number": number, "lines": text}
        return [(RUNS, runs, ("run",)), (CHUNKS, chunks, ("run", "number")), (REJECTS, rejects, ("run", "number"))]

    # -- runs -------------------------------------------------------------------------------------------------------

    def begin(self, session: Session, run: str, target: str, mode: str, plan: Mapping[str, Any]) -> None:
        self._insert(
            session,
            RUNS,
            {
                "run": run,
                "target": target,
                "mode": mode,
                "status": RUNNING,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "finished": "",
                "plan_key": str(plan.get("key", "")),
                "plan": msgspec.json.encode(plan).decode(),
            },
        )

    def runs(self, session: Session, target: str) -> list[Run]:
        """Those of a target: in the order in which they were published, then the unfinished ones in that of their start
        (of which only the second is known).
        """
        wanted = ("run", "target", "mode", "status", "started", "finished", "plan_key")
        found = [Run(*row) for row in self._select(session, RUNS, wanted, target=target)]
        own = [each for each in found if each.target == target]
        return sorted(own, key=lambda each: (each.status != PUBLISHED, each.finished, each.started, each.run))

    def status(self, session: Session, run: str) -> str | None:
        """RUNNING, COMPLETE, PUBLISHING, PUBLISHED, or the word of one who is just publishing; None: no such run."""
        rows = self._select(session, RUNS, ("status",), run=run)
        return str(rows[0][0]) if rows else None

    def report(self, session: Session, run: str) -> dict[str, Any]:
        ((text,),) = self._select(session, RUNS, ("report",), run=run)
        report: dict[str, Any] = msgspec.json.decode(text)
        return report

    def begun(self, session: Session, row: Run) -> Begun:
        """What is done of an unfinished run."""
        ((plan, columns),) = self._select(session, RUNS, ("plan", "columns"), run=row.run)
        names = ", ".join(f"SUM({self._quoted(name)})" for name in ("read", "predicted", "rejected"))
        ((count, last, *sums),) = session.query(
            f"SELECT COUNT(*), MAX({self._quoted('number')}), {names} FROM {self._spelled(CHUNKS)} "  # noqa: S608 - names quoted, values bound
            f"WHERE {self._quoted('run')} = {self._database.placeholder}",
            (row.run,),
        )
        if count and int(last) != int(count) - 1:
            raise SinkError(f"the journal in {CHUNKS} was changed by somebody; --fresh throws the unfinished run away")
        read, predicted, rejected = (int(each or 0) for each in sums)
        return Begun(
            plan=msgspec.json.decode(plan),
            run=row.run,
            started=row.started,
            last=self.mark(session, row.run, int(last)) if count else None,
            chunks=int(count),
            read=read,
            predicted=predicted,
            rejected=rejected,
            schema=base64.b64decode(columns) if columns else None,
            complete=row.status != RUNNING,
        )

    def settle(self, session: Session, run: str, schema: bytes) -> None:
        self._update(session, run, {"columns": base64.b64encode(schema).decode()})

    def turn(self, session: Session, run: str, status: str, was: str | None = None) -> None:
        """Another status, if the run has the one that it should have; see `status` for whether it had."""
        self._update(session, run, {"status": status}, was)

    def tell(self, session: Session, run: str, report: Mapping[str, Any]) -> None:
        """The report of a run that is about to be published."""
        end = msgspec.json.encode(report.get("end")).decode()
        self._update(session, run, {"report": msgspec.json.encode(report).decode(), "source_end": end})

    def finish(self, session: Session, run: str) -> None:
        """The run is published: its marks go, its refused rows stay."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        columns = ", ".join(self._quoted(name) for name in ("run", "number"))
        session.execute(
            f"INSERT INTO {self._spelled(REJECTS)} ({columns}, {self._quoted('lines')}) "  # noqa: S608 - names quoted, values bound
            f"SELECT {columns}, {self._quoted('rejects')} FROM {self._spelled(CHUNKS)} "
            f"WHERE {self._quoted('run')} = {self._database.placeholder} AND {self._quoted('rejected')} > 0",
            (run,),
        )
        self._delete(session, CHUNKS, run)
        self._update(session, run, {"status": PUBLISHED, "finished": now})

    def forget(self, session: Session, run: str) -> None:
        self._delete(session, CHUNKS, run)
        self._delete(session, RUNS, run)

    # -- chunks -----------------------------------------------------------------------------------------------------

    def add(self, session: Session, run: str, mark: Mark, beside: Beside) -> None:
        """A mark; it fails where the chunk has one."""
        self._insert(
            session,
            CHUNKS,
            {
                "run": run,
                "number": mark.number,
                "place": msgspec.json.encode(mark.cursor).decode(),
                "read": mark.read,
                "predicted": mark.predicted,
                "rejected": mark.rejected,
                "rejects": beside.rejects.decode(),
                "scored": beside.scored,
            },
        )

    def mark(self, session: Session, run: str, number: int) -> Mark | None:
        wanted = ("place", "read", "predicted", "rejected")
        rows = self._select(session, CHUNKS, wanted, run=run, number=number)
        if not rows:
            return None
        place, *counts = rows[0]
        return Mark(number, msgspec.json.decode(place), *(int(each) for each in counts))

    def numbers(self, session: Session, run: str) -> list[int]:
        """Of the chunks that have something beside them, in order; of a published run those with rejects."""
        table, _ = self._column(session, run, "rejects")
        return sorted(int(row[0]) for row in self._select(session, table, ("number",), run=run))

    def beside(self, session: Session, run: str, what: str, number: int) -> bytes:
        """`rejects` or `scored` of a chunk; of a published run its rejects."""
        table, column = self._column(session, run, what)
        ((value,),) = self._select(session, table, (column,), run=run, number=number)
        return value.encode() if isinstance(value, str) else bytes(value or b"")

    def _column(self, session: Session, run: str, what: str) -> tuple[str, str]:
        return (CHUNKS, what) if self.status(session, run) != PUBLISHED else (REJECTS, "lines")

    # -- statements -------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> TableName:
        return TableName(name, self._schema)

    def _spelled(self, name: str) -> str:
        return self._escaped(self._database.spell(self._place(name)))

    def _quoted(self, name: str) -> str:
        return self._escaped(self._database.quote(name))

    def _escaped(self, sql: str) -> str:
        """Drivers whose placeholder is %s read a % in a name as the beginning of one."""
        return sql.replace("%", "%%") if "%" in self._database.placeholder else sql

    def _insert(self, session: Session, table: str, values: Mapping[str, Any]) -> None:
        names = ", ".join(self._quoted(name) for name in values)
        places = ", ".join([self._database.placeholder] * len(values))
        session.execute(f"INSERT INTO {self._spelled(table)} ({names}) VALUES ({places})", tuple(values.values()))  # noqa: S608 - names quoted, values bound

    def _update(self, session: Session, run: str, values: Mapping[str, Any], was: str | None = None) -> None:
        mark = self._database.placeholder
        told = ", ".join(f"{self._quoted(name)} = {mark}" for name in values)
        where, bound = f"{self._quoted('run')} = {mark}", [*values.values(), run]
        if was is not None:
            where, bound = f"{where} AND {self._quoted('status')} = {mark}", [*bound, was]
        session.execute(f"UPDATE {self._spelled(RUNS)} SET {told} WHERE {where}", bound)  # noqa: S608 - names quoted, values bound

    def _delete(self, session: Session, table: str, run: str) -> None:
        where = f"{self._quoted('run')} = {self._database.placeholder}"
        session.execute(f"DELETE FROM {self._spelled(table)} WHERE {where}", (run,))  # noqa: S608 - names quoted, values bound

    def _select(self, session: Session, table: str, names: Sequence[str], **equal: str | int) -> list[tuple[Any, ...]]:
        mark = self._database.placeholder
        where = " AND ".join(f"{self._quoted(name)} = {mark}" for name in equal)
        chosen = ", ".join(self._quoted(name) for name in names)
        return session.query(f"SELECT {chosen} FROM {self._spelled(table)} WHERE {where}", tuple(equal.values()))  # noqa: S608 - names quoted, values bound
