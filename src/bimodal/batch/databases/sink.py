"""TableSink: predictions into a table of a database, every row once, and the run's journal in the same transactions.

Rows go to a staging table of the target's schema, each chunk together with its mark in one transaction. Publication is
one transaction too: the staging table becomes the target, or its rows are inserted or merged there, and the run's row
says so. Where a CREATE or RENAME ends the transaction (MySQL), renaming is the one step, and the next call clears up.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from bimodal.batch.databases.books import (
    CHUNKS,
    COMPLETE,
    PUBLISHED,
    PUBLISHING,
    REJECTS,
    RUNNING,
    RUNS,
    Books,
    Run,
)
from bimodal.batch.databases.contract import CommitUnknown, Database, Mode, Query, Session, TableName, Unfit
from bimodal.batch.databases.fitting import Fit, taken
from bimodal.batch.databases.refused import Refused
from bimodal.batch.marks import Begun, Beside, Mark, Published
from bimodal.batch.sinks.contract import Encoded, Sink
from bimodal.batch.sinks.durable import sync_folder, writable
from bimodal.batch.sources.contract import Source
from bimodal.errors import OutputHeld, SinkError, UsageError

POLLED = 0.2  # seconds between two tries for the lock
TRIES = 6  # of one transaction, where the connection is lost each time
SYSTEM = ("sqlite_", "pg_")  # how the names of a database's own tables begin
PAUSE = 0.2  # seconds before the second connection; each further one waits twice as long
Result = TypeVar("Result")


AGAIN = "an interrupted run had not written its first chunk: a database keeps whole chunks alone, so it begins anew"
WHOLE = ("create", "replace")  # the modes that leave in a table what the run wrote, and nothing else


class _DoneMeanwhileError(Exception):
    """Another connection (an earlier one of this run, of which no answer came) has published already."""


class TableSink(Sink):
    """A table. mode: what happens to it at publication. overwrite: a table that is there is replaced (mode create)."""

    table = True

    def __init__(
        self,
        database: Database,
        target: TableName,
        mode: Mode | None = None,
        *,
        overwrite: bool = False,
        inputs: Sequence[str] = (),
    ) -> None:
        if target.name.lower() in (RUNS, CHUNKS, REJECTS):
            raise UsageError(f"{target} is where runs are recorded; name another table to write to")
        own = (target.schema or "").lower() in ("information_schema", "pg_catalog")
        if own or target.name.lower().startswith(SYSTEM):
            raise UsageError(f"{target} is a name of the database's own tables; name another table to write to")
        self.database: Database = database
        self.kind = database.kind
        self.mode = mode or Mode()
        if overwrite and self.mode.word == "create":
            self.mode = Mode("replace")
        self.name = f"{database.name.partition('#')[0]}#{target}"
        self._asked, self._target = target, target
        self._refused = Refused(database, target, inputs)
        self._opened: Session | None = None
        self._books = Books(database, None)
        self._free: Callable[[], None] | None = None
        self._run: str | None = None
        self._types: dict[str, str] = {}
        self._schema: pa.Schema | None = None
        self._rows = 0  # in the staging table

    @property
    def rejects_path(self) -> Path:  # type: ignore[override] # what it is depends on the files that are there
        return self._refused.path()

    # -- the connection ---------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session:
        if self._opened is None:
            session = self.database.session()
            try:
                self._target = self.database.resolve(session, self._asked)
            except BaseException:
                session.close()
                raise
            self._books = Books(self.database, self._target.schema)
            self._opened = session
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _look(self, work: Callable[[Session], Result]) -> Result:
        """Read (or do what may be done twice); once more where the connection is lost."""
        pause = PAUSE
        for _ in range(TRIES):
            try:
                return work(self._session)
            except CommitUnknown:
                self._close()
                time.sleep(pause)
                pause *= 2
        raise SinkError(f"the connection to {self.name} is lost again and again; the same command goes on from there")

    def _once(self, work: Callable[[Session], None], done: Callable[[Session], bool]) -> None:
        """A transaction that happens once: where its fate is not known, or it clashes with itself, `done` says."""

        def attempt(session: Session) -> None:
            if tries and done(session):
                return
            tries.append(1)
            try:
                with session.transaction():
                    work(session)
            except SinkError:  # a clash with what an earlier connection of ours did
                if not done(session):
                    raise

        tries: list[int] = []
        self._look(attempt)

    # -- before -----------------------------------------------------------------------------------------------------

    def hold(self, wait: float, told: Callable[[str], None]) -> None:
        self._look(self._see_books)
        until, waiting = time.monotonic() + wait, False
        while isinstance(holder := self.database.lock(self._target), str):
            if time.monotonic() >= until:
                raise OutputHeld(
                    f"{self.name} is being written by {holder}; wait until it ends, or end it there, and run the same "
                    "command again"
                )
            if not waiting:
                told(f"{self.name} is being written by {holder}; waiting up to {wait:.0f} s for it")
                waiting = True
            time.sleep(POLLED)
        self._free = holder
        self._look(self._wait_for_earlier)
        if self.database.ddl_commits:
            self._look(self._repair)

    def _see_books(self, session: Session) -> None:
        """The tables of the books may be another user's."""
        places = [TableName(name, self._target.schema) for name in (RUNS, CHUNKS, REJECTS)]
        lacking = self.database.unwritable(session, places)
        if lacking is not None:
            raise SinkError(f"{self.name} cannot be written: {lacking}")

    def _wait_for_earlier(self, session: Session) -> None:
        """A process that was killed has let go of the lock, but the server may be about to do its last COMMIT. What
        became of it is known once the run's row can be written.
        """
        for each in self._runs(session):
            if each.status != PUBLISHED:
                self._books.turn(session, each.run, each.status, each.status)

    def published(self, plan_key: str | None = None) -> Published | None:
        """plan_key: of a run with this plan alone, where several have appended to one table."""
        return self._look(lambda session: self._published(session, plan_key))

    def _published(self, session: Session, plan_key: str | None) -> Published | None:
        done = [each for each in self._runs(session) if each.status == PUBLISHED]
        if plan_key is not None:
            replaced = [place for place, each in enumerate(done) if each.mode in ("create", "replace")]
            done = [each for each in done[replaced[-1] if replaced else 0 :] if each.plan_key == plan_key]
        if not done:
            return None
        newest = done[-1]
        report = self._books.report(session, newest.run)
        if self.database.columns(session, self._target) is None:
            return None
        if report.get("predicted") and self._is_empty(session):
            return None
        changed = plan_key is not None and newest.mode in WHOLE and self._changed(session) is not None
        return Published(report, report.get("end"), changed)

    def _changed(self, session: Session) -> str | None:
        """That the table has other rows than the runs left there since one of them made it, in words. None: as many,
        or there is no telling (a table that was there before, an upsert).
        """
        done = [each for each in self._runs(session) if each.status == PUBLISHED]
        made = [place for place, each in enumerate(done) if each.mode in WHOLE]
        since = done[made[-1] :] if made else []
        if not since or any(each.mode == "upsert" for each in since):
            return None
        counts = [self._books.report(session, each.run).get("predicted") for each in since]
        if None in counts:
            return None
        written = sum(int(each) for each in counts if each is not None)
        ((count,),) = session.query(f"SELECT COUNT(*) FROM {self.database.spell(self._target)}")  # noqa: S608 - names quoted
        if int(count) == written:
            return None
        verb = "has lost rows" if int(count) < written else "has got other rows"
        return f"it {verb} since it was written ({int(count):,} are there, {written:,} were written)"

    def taken(self) -> str:
        changed = self._look(self._changed)
        return taken(self._target) + (f"; {changed}" if changed else "")

    def see_input(self, source: Source) -> tuple[str, ...]:
        if source.database is None or self.mode.word == "upsert" or self._unmade or not self._beside_it(source):
            return ()
        told = f"{self.name} is the input itself; name another output, or update its rows: --mode upsert --key …"
        if isinstance(source.relation, Query):
            named = re.search(rf"(?<!\w){re.escape(self._target.name)}(?!\w)", source.relation.text, re.IGNORECASE)
            if named is None or self.mode.word != "replace":
                return ()
            return (f"the query seems to read {self._target}, and the result takes its place",)
        read = self._look(lambda session: self.database.resolve(session, source.relation))
        if self.database.is_one(read, self._target):
            raise UsageError(told)
        return ()

    def _beside_it(self, source: Source) -> bool:
        """Whether the source is in this very database."""
        if type(source.database) is not type(self.database):
            return False
        if self.database.path is not None:
            return self.database.same(source.database)
        with contextlib.closing(source.database.session()) as other:
            theirs = source.database.server(other)
        return theirs == self._look(self.database.server)

    def _is_empty(self, session: Session) -> bool:
        """Of the rows that a run left there is none: somebody has emptied the table, or made it anew."""
        spelled = self.database.spell(self._target)
        ((found,),) = session.query(f"SELECT CASE WHEN EXISTS (SELECT 1 FROM {spelled}) THEN 1 ELSE 0 END")  # noqa: S608 - names quoted
        return not found

    def begun(self) -> Begun | None:
        return self._look(self._begun)

    def _begun(self, session: Session) -> Begun | None:
        open_ = [each for each in self._runs(session) if each.status in (RUNNING, COMPLETE)]
        if not open_:
            return None
        begun = self._books.begun(session, open_[-1])
        if begun.last is None and not begun.complete:
            self.remarks = (AGAIN,)
            return None  # it has done nothing; `start` throws it away
        if begun.schema is not None and self.database.columns(session, self._staging(begun.run)) is None:
            raise SinkError(
                f"the staging table {self._staging(begun.run)} of the unfinished run is gone; --fresh throws the run "
                "away and starts anew"
            )
        return begun

    def _runs(self, session: Session) -> list[Run]:
        if not self._books.there(session):
            return []
        return self._books.runs(session, self.database.spell(self._target))

    def exists(self) -> bool:
        return not self._unmade and self._look(lambda session: self.database.columns(session, self._target) is not None)

    @property
    def _unmade(self) -> bool:
        """Whether the database is a file that the first connection would make."""
        path = self.database.path
        return self._opened is None and path is not None and not path.exists()

    def _staging(self, run: str) -> TableName:
        known = re.sub(r"[^0-9a-z]", "", run.lower())[:12]
        return TableName(f"bimodal_{known}", self._target.schema)

    @property
    def _fit(self) -> Fit:
        return Fit(self.database, self._target, self.mode)

    # -- whether it will go -----------------------------------------------------------------------------------------

    def check(self, schema: pa.Schema | None = None) -> tuple[str, ...]:
        if self._unmade:
            return self._check_elsewhere(schema)
        return self._look(lambda session: self._check(session, schema))

    def _check_elsewhere(self, schema: pa.Schema | None) -> tuple[str, ...]:
        """In another empty file, so that a dry run makes none."""
        path = self.database.path
        assert path is not None, "it is a file that is not made yet"
        if not path.parent.is_dir():
            raise SinkError(f"{self.name} cannot be written: there is no folder {path.parent}; make it first")
        if not os.access(path.parent, os.W_OK):
            raise SinkError(f"{self.name} cannot be written: the folder {path.parent} is not writable")
        with tempfile.TemporaryDirectory(prefix="bimodal-") as folder:
            database = copy.copy(self.database)
            database.path = Path(folder) / path.name
            other = TableSink(database, self._asked, self.mode)
            try:
                return other._look(lambda session: other._check(session, schema))
            finally:
                other._close()

    def _check(self, session: Session, schema: pa.Schema | None) -> tuple[str, ...]:
        self.database.spell(self._target)
        lacking = self.database.rights(session, self._target, self.mode)
        if lacking is not None:
            reason = lacking.removeprefix(f"{self.database.name}: ")
            raise SinkError(f"{self.name} cannot be written: {reason}")
        self._see_books(session)
        return tuple(self._fit.notes(session, schema))

    # -- the chunks -------------------------------------------------------------------------------------------------

    def start(self, plan: Mapping[str, Any], run: str) -> None:
        self._run, self._rows, self._types, self._schema = run, 0, {}, None
        self._look(self._books_made)
        self._look(self._drop)
        target = self.database.spell(self._target)
        self._once(
            lambda session: self._books.begin(session, run, target, self.mode.word, plan),
            lambda session: self._books.status(session, run) is not None,
        )

    def _books_made(self, session: Session) -> None:
        self._books.make(session)

    def resume(self, begun: Begun) -> None:
        self._run, self._rows = begun.run, begun.predicted
        if begun.schema is not None:
            self._take(pa.ipc.read_schema(pa.py_buffer(begun.schema)))

    def _take(self, schema: pa.Schema) -> None:
        self._schema, self._types = schema, self._fit.types_of(schema)

    def settle(self, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        if self._schema is not None:
            return
        types, run = self._fit.types_of(schema), self._known()
        staging = self.database.spell(self._staging(run))
        columns = ", ".join(f"{self.database.quote(name)} {kind}" for name, kind in types.items())
        settled = schema.serialize().to_pybytes()

        def make(session: Session) -> None:
            if not self.database.ddl_commits:
                self._books.settle(session, run, settled)
            session.execute(f"DROP TABLE IF EXISTS {staging}")
            session.execute(f"CREATE TABLE {staging} ({columns})")
            if self.database.ddl_commits:
                self._books.settle(session, run, settled)

        self._once(make, lambda session: self._books.begun(session, self._row(session)).schema is not None)
        self._schema, self._types = schema, types

    def _known(self) -> str:
        assert self._run is not None, "start or resume comes first"
        return self._run

    def _row(self, session: Session) -> Run:
        return next(each for each in self._runs(session) if each.run == self._run)

    def encode(self, table: pa.Table) -> Encoded:
        """A value that the database cannot hold is told by `append`, which knows the row."""
        if not table.num_rows:
            return Encoded()
        try:
            return Encoded(content=self.database.prepare(table, self._types))
        except Unfit as error:
            return Encoded(content=error)

    def append(self, mark: Mark, encoded: Encoded, beside: Beside) -> None:
        content, run = encoded.content, self._known()
        if isinstance(content, Unfit):
            row = self._rows + content.place + 1
            raise SinkError(
                f"row {row} of the output, column {content.column!r}: {content}", row=row, column=content.column
            )

        def work(session: Session) -> None:
            self._books.add(session, run, mark, beside)
            if content is not None:
                session.ingest(self._staging(run), content)

        self._once(work, lambda session: self._books.mark(session, run, mark.number) is not None)
        self._rows += mark.predicted

    def complete(self) -> None:
        run = self._known()
        self._look(self._counted)
        self._once(
            lambda session: self._books.turn(session, run, COMPLETE, RUNNING),
            lambda session: self._books.status(session, run) != RUNNING,
        )

    def _counted(self, session: Session) -> None:
        """As many rows as the marks say."""
        if self._schema is None:
            return
        staging = self._staging(self._known())
        ((count,),) = session.query(f"SELECT COUNT(*) FROM {self.database.spell(staging)}")  # noqa: S608 - names quoted
        if int(count) != self._rows:
            raise SinkError(
                f"the staging table {staging} holds {int(count):,} rows and not the {self._rows:,} that were written: "
                "somebody changed it; --fresh throws the run away and starts anew"
            )

    def scored(self) -> Iterator[bytes]:
        return self._beside("scored")

    def rejects(self) -> Iterator[bytes]:
        return self._beside("rejects")

    def _beside(self, what: str) -> Iterator[bytes]:
        """Of each chunk, one by one: the connection may be lost at any of them."""
        run = self._known()
        for number in self._look(lambda session: self._books.numbers(session, run)):
            found = self._look(partial(self._books.beside, run=run, what=what, number=number))
            if found:
                yield found

    # -- publication ------------------------------------------------------------------------------------------------

    def publish(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        run = self._known()
        if self._look(lambda session: self._books.status(session, run)) == PUBLISHED:
            return self._look(lambda session: self._books.report(session, run))
        try:
            return self._published_now(report)
        except SinkError:
            if self._look(lambda session: self._books.status(session, run)) != PUBLISHED:
                raise
            return self._look(lambda session: self._books.report(session, run))  # an earlier COMMIT came late

    def _published_now(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        run = self._known()
        last = self._look(lambda session: self._books.begun(session, self._row(session)).last)
        told = {**report, "rejects": self.show_rejects() or None}
        told.setdefault("end", None if last is None else last.cursor)
        self._look(lambda session: self._fit.see(session, self._types, self._schema, self._staging(run)))
        try:
            self._publish_once(run, told)
        except SinkError as error:
            if self.mode.word not in ("append", "upsert") or self._look(self._is_done):
                raise
            staging = self._staging(run)
            raise self._look(partial(self._fit.blamed, types=self._types, staging=staging, error=error)) from error
        return told

    def _is_done(self, session: Session) -> bool:
        return self._books.status(session, self._known()) == PUBLISHED

    def _publish_once(self, run: str, told: Mapping[str, Any]) -> None:
        if self.database.ddl_commits:
            self._look(lambda session: self._publish_in_steps(session, told))
            return
        with contextlib.suppress(_DoneMeanwhileError):
            self._once(lambda session: self._publish(session, told), self._is_done)

    def _moves(self, session: Session) -> bool:
        """Whether the staging table itself becomes the target."""
        if self.mode.word in ("create", "replace"):
            return True
        return self.mode.word == "append" and self.database.columns(session, self._target) is None

    def _publish(self, session: Session, told: Mapping[str, Any]) -> None:
        """All of it, within a transaction."""
        run, mine = self._known(), f"{PUBLISHING} {secrets.token_hex(6)}"
        self._books.turn(session, run, mine, COMPLETE)  # waits for an earlier connection of ours, if one is at it
        if self._books.status(session, run) != mine:
            raise _DoneMeanwhileError
        staging = self._staging(run)
        if self._moves(session):
            for statement in self._moved(session, staging):
                session.execute(statement)
        else:
            for statement in self._merged(session, staging):
                session.execute(statement)
            session.execute(f"DROP TABLE {self.database.spell(staging)}")
        self._books.tell(session, run, told)
        self._books.finish(session, run)

    def _moved(self, session: Session, staging: TableName) -> list[str]:
        if self.mode.word == "replace":
            return self.database.replace(session, self._target, staging)
        return [self.database.rename(staging, self._target.name)]

    def _merged(self, session: Session, staging: TableName) -> list[str]:
        values = self._fit.values(session, self._types)
        if self.mode.word == "upsert":
            return self.database.upsert(self._target, staging, values, self.mode.key)
        return [self.database.insert(self._target, staging, values)]

    # -- publication where renaming ends the transaction ------------------------------------------------------------

    def _publish_in_steps(self, session: Session, told: Mapping[str, Any]) -> None:
        """The run says that it is about to be published; one statement publishes; `_repair` finishes, now or on the
        next call.
        """
        run = self._known()
        staging = self._staging(run)
        if self._books.status(session, run) == COMPLETE:
            moves, mine = self._moves(session), f"{PUBLISHING} {secrets.token_hex(6)}"
            with session.transaction():
                self._books.turn(session, run, mine, COMPLETE)  # waits for an earlier connection of ours, as above
                if self._books.status(session, run) == mine:
                    self._books.tell(session, run, told)
                    if moves:
                        self._books.turn(session, run, PUBLISHING, mine)
                    else:
                        for statement in self._merged(session, staging):
                            session.execute(statement)
                        self._books.finish(session, run)
        self._step(session, run)
        self._repair(session)

    def _step(self, session: Session, run: str) -> None:
        """The one statement, unless it is done."""
        staging = self._staging(run)
        if self._books.status(session, run) != PUBLISHING or self.database.columns(session, staging) is None:
            return
        try:
            session.execute(self._moved(session, staging)[0])
        except SinkError:
            if self.database.columns(session, staging) is None:
                return  # an earlier connection of ours, of which no answer came, has done it meanwhile
            with session.transaction():
                self._books.turn(session, run, COMPLETE, PUBLISHING)
            raise

    def _repair(self, session: Session) -> None:
        """Bring what a killed run left half done to its end (the staging table is gone: it is the target) or back."""
        for each in self._runs(session):
            staging = self._staging(each.run)
            if each.status == PUBLISHING:
                gone = self.database.columns(session, staging) is None
                with session.transaction():
                    if gone:
                        self._books.finish(session, each.run)
                    else:
                        self._books.turn(session, each.run, COMPLETE, PUBLISHING)
            if each.status in (PUBLISHING, PUBLISHED) and self._books.status(session, each.run) == PUBLISHED:
                for table in (staging, TableName(f"{staging.name}_old", staging.schema)):
                    if self.database.columns(session, table) is not None:
                        session.execute(f"DROP TABLE IF EXISTS {self.database.spell(table)}")

    # -- rejects ----------------------------------------------------------------------------------------------------

    def show_rejects(self) -> str:
        """Put the refused rows into their file, without publishing; its name. Without a refused row the file of an
        earlier run is taken away, and there is none to name.
        """
        path = self.rejects_path
        temporary = path.with_name(f".{path.name}.tmp")  # one name: what a kill leaves, the next run takes away
        with writable(str(path), "the run stays where it is"):
            try:
                with open(temporary, "wb") as file:
                    for lines in self._beside("rejects"):
                        file.write(self._refused.marked(lines))
                    file.flush()
                    os.fsync(file.fileno())
                    empty = file.tell() == 0
                if empty:
                    path.unlink(missing_ok=True)
                    return ""
                os.replace(temporary, path)
                sync_folder(path.parent)
            finally:
                temporary.unlink(missing_ok=True)
        return str(path)

    # -- letting go -------------------------------------------------------------------------------------------------

    def drop(self) -> None:
        self._look(self._drop)
        self._schema, self._types, self._rows = None, {}, 0

    def _drop(self, session: Session) -> None:
        for each in self._runs(session):
            if each.status in (RUNNING, COMPLETE):
                session.execute(f"DROP TABLE IF EXISTS {self.database.spell(self._staging(each.run))}")
                with session.transaction():
                    self._books.forget(session, each.run)

    def release(self) -> None:
        try:
            if self._free is not None and self._run is not None:
                with contextlib.suppress(SinkError):  # without a connection it stays, and the next run takes it over
                    self._look(self._drop_unmarked)
        finally:
            self._close()
            if self._free is not None:
                self._free()
                self._free = None

    def _drop_unmarked(self, session: Session) -> None:
        running = self._books.status(session, self._known()) == RUNNING
        if running and self._books.begun(session, self._row(session)).last is None:
            self._drop(session)
