"""JournalledSink: an output in the file system, with its journal in a work folder `.NAME.bimodal/` beside it.

The work folder holds `journal`, the output as it grows, `rejects`, `scored`, and `holder`; its lock is the output's.
What is appended is believed after a kill if the journal says that it was durable (`synced`), or else if the bytes stand
there as the journal describes them: then no order of the disk's own can make a mark without its rows.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import secrets
import shutil
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from bimodal.batch.journal import VERSION, Journal
from bimodal.batch.lock import Lock
from bimodal.batch.marks import Begun, Beside, Mark, Published
from bimodal.batch.report import rows
from bimodal.batch.sinks.appended import Appended
from bimodal.batch.sinks.contract import Encoded, Encoder, Sink
from bimodal.batch.sinks.durable import appeared, link_over, reason, sync_folder, writable
from bimodal.batch.sinks.record import read_record, run_of, write_record
from bimodal.errors import PlanChanged, SinkError

SYNCED = 1.0  # seconds between two times that what was written is made durable
FULL = (errno.ENOSPC, errno.EDQUOT)


class Body(ABC):
    """The output as it grows in the work folder. Its bytes are counted through all chunks. Raises OSError."""

    @abstractmethod
    def head(self, data: bytes) -> int:
        """Write the head of a format; gives the end behind it."""

    @abstractmethod
    def add(self, number: int, data: bytes | memoryview) -> int:
        """Write a chunk; gives the end behind it."""

    @abstractmethod
    def finish(self, tail: bytes) -> int:
        """Write the tail; gives the end behind it."""

    @abstractmethod
    def stands(self, number: int, start: int, end: int) -> bool:
        """Whether there is as much as the chunk needs."""

    @abstractmethod
    def holds(self, number: int, start: int, end: int, checksum: int) -> bool:
        """Whether the chunk stands there as it was written."""

    @abstractmethod
    def open(self, number: int, end: int) -> None:
        """Go on behind this chunk (-1: there is none); what stands after it is taken away."""

    @abstractmethod
    def again(self, number: int, start: int) -> None:
        """Write once more what comes behind this chunk."""

    @abstractmethod
    def sync(self) -> None:
        """Make everything that is written durable. In another thread than `add`."""

    @abstractmethod
    def close(self) -> None: ...


@dataclass
class Story:
    """What a journal tells and the files bear out. size: the byte of the journal behind it. ends: of the body, the
    rejects, and what is scored; durable: the same, as far as it is known to be on the disk, with the chunk's number.
    """

    head: Mapping[str, Any]
    size: int
    schema: bytes | None = None
    last: Mark | None = None
    chunks: int = 0
    read: int = 0
    predicted: int = 0
    rejected: int = 0
    ends: list[int] = field(default_factory=lambda: [0, 0, 0])
    durable: tuple[int, list[int]] = (-1, [0, 0, 0])
    complete: bool = False

    @property
    def number(self) -> int:
        return -1 if self.last is None else self.last.number

    @property
    def kept(self) -> bool:
        """Whether there is anything worth keeping."""
        return self.complete or self.last is not None

    def count(self, mark: Mark, ends: list[int]) -> None:
        """One more chunk."""
        self.last, self.ends = mark, ends
        self.chunks += 1
        self.read += mark.read
        self.predicted += mark.predicted
        self.rejected += mark.rejected

    def told(self) -> Begun:
        head = self.head
        return Begun(
            plan=head["plan"],
            run=head["run"],
            started=head["started"],
            last=self.last,
            chunks=self.chunks,
            read=self.read,
            predicted=self.predicted,
            rejected=self.rejected,
            schema=self.schema,
            complete=self.complete,
        )


class JournalledSink(Sink):
    """What a file and a folder of files have in common; see Sink for the order of calls.

    No fsync is waited for while chunks are appended: a thread makes durable what is written, about once a second, and
    notes in the journal how far that is. What failed once is not tried again: the sink takes no more chunks.
    """

    path: Path
    rejects_path: Path

    def __init__(self, path: Path, encoder: Encoder, *, overwrite: bool, kind: str) -> None:
        self.name, self.path, self.kind = str(path), path, kind
        self.folder = path.with_name(f".{path.name}.bimodal")
        self.rejects_path = path.with_name(f"{path.name}.rejects.jsonl")
        self._encoder, self._overwrite, self.text = encoder, overwrite, encoder.text
        self._lock = Lock(self.folder, self.name)
        self._journal = Journal(self.folder / "journal")
        self._rejects, self._scored = Appended(self.folder / "rejects"), Appended(self.folder / "scored")
        self._body = self._body_in(self.folder)
        self.spool = self.folder / "calls"
        self._story: Story | None = None
        self._broken = False
        self._thread: ThreadPoolExecutor | None = None
        self._syncing: Future[None] | None = None
        self._synced = 0.0

    # -- what a file and a folder do otherwise ----------------------------------------------------------------------

    @abstractmethod
    def _body_in(self, folder: Path) -> Body:
        """The body in the work folder."""

    @abstractmethod
    def _finished(self) -> Path:
        """Where the finished output stands before it is published."""

    @abstractmethod
    def _move(self) -> None:
        """Put the finished output under its name, in one step. Raises OSError, OutputExists."""

    @abstractmethod
    def _see(self) -> None:
        """SinkError where the place is of the wrong sort."""

    # -- before -----------------------------------------------------------------------------------------------------

    def hold(self, wait: float, told: Callable[[str], None]) -> None:
        self._see_place()
        with writable(self.name):
            self._lock.take(wait, told)

    def published(self, plan_key: str | None = None) -> Published | None:
        record = read_record(self._record_path, self.path)
        if record is None or (plan_key is not None and Published(record).plan.get("key") != plan_key):
            return None
        if self._lock.held and self._run_here() == run_of(record):  # killed while it cleared up
            with self._failing():
                sync_folder(self.path.parent)  # the name may not be durable yet
                self._empty()
        return Published(record, record.get("end"))

    def begun(self) -> Begun | None:
        with self._failing("read"):
            if self._damaged():
                raise SinkError(
                    f"{self.name}: the journal of the interrupted run ({self._journal.path}) was damaged since, so "
                    "nobody knows what is done; --fresh throws its progress away and starts anew"
                )
            self._story = self._believed()
        return None if self._story is None else self._story.told()

    def check(self, schema: pa.Schema | None = None) -> tuple[str, ...]:
        self._see_place()
        if self._lock.held:  # then the work folder could be made
            return ()
        trial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        with writable(self.name):
            trial.touch()
            trial.unlink()
        return ()

    def _see_place(self) -> None:
        parent = self.path.parent
        if not parent.is_dir():
            raise SinkError(f"{self.name} cannot be written: there is no folder {parent}")
        self._see()

    # -- the chunks -------------------------------------------------------------------------------------------------

    def start(self, plan: Mapping[str, Any], run: str) -> None:
        self.drop()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        head = {"journal": VERSION, "plan": dict(plan), "run": run, "started": started}
        with self._failing():
            self._story = Story(head, 0)
            self._journal.begin(head)
            self._journal.sync()  # so that a head that cannot be read was damaged
            self._open(self._story)
            sync_folder(self.folder)
            sync_folder(self.folder.parent)
        self._synced = time.monotonic()

    def resume(self, begun: Begun) -> None:
        story = self._known()
        assert begun.last == story.last, "resume goes on with what begun found"
        self._see_kept(story)
        if story.complete:
            return
        number, ends = story.durable
        with self._failing():
            self._open(story)
            self._body.again(number, ends[0])
            self._rejects.again(ends[1])
            self._scored.again(ends[2])
            self._sync_files()
            self._journal.go_on(story.size)
            self._journal.add({"synced": story.number})
            self._journal.sync()
            sync_folder(self.folder)
        self._synced = time.monotonic()

    def _damaged(self) -> bool:
        """Whether the journal is broken as only somebody or a disk breaks it, and there is something to lose."""
        if self._journal.damaged():
            return True
        own = ("journal", "journal.new", "holder")
        return self._journal.headless and any(
            each.is_file() and each.name not in own and each.stat().st_size for each in self.folder.rglob("*")
        )

    def _see_kept(self, story: Story) -> None:
        """Read all that is kept, before more comes behind it: what was durable once may have been damaged since."""
        with self._failing("read"):
            sound, _ = self._read(-1)
        if sound is None or (sound.number, sound.complete) != (story.number, story.complete):
            good = 0 if sound is None else sound.read
            raise SinkError(
                f"{self.name}: what the interrupted run had written (in {self.folder}) was damaged since, behind its "
                f"first {rows(good)}; --fresh throws its progress away and starts anew"
            )

    def _open(self, story: Story) -> None:
        self._body.open(story.number, story.ends[0])
        self._rejects.open(story.ends[1])
        self._scored.open(story.ends[2])

    def weigh(self, table: pa.Table) -> int | None:
        self._encoder.begin(table.schema, {})
        return len(self._encoder.encode(table).data)

    def settle(self, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        story = self._known()
        with self._failing():
            head = self._begin(schema, metadata)
            if story.schema is None:
                story.ends[0] = self._body.head(head)
                story.schema = schema.serialize().to_pybytes()
                known = base64.b64encode(story.schema).decode()
                self._journal.add({"schema": known, "body": [story.ends[0], zlib.crc32(head)]})

    def _begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> bytes:
        """What comes before the first chunk."""
        return self._encoder.begin(schema, metadata)

    def encode(self, table: pa.Table) -> Encoded:
        return self._summed(self._encoder.encode(table))

    @staticmethod
    def _summed(encoded: Encoded) -> Encoded:
        """With the checksum of its bytes, made in the thread that made them."""
        return replace(encoded, content=zlib.crc32(encoded.data))

    def append(self, mark: Mark, encoded: Encoded, beside: Beside) -> None:
        story = self._known()
        assert story.schema is not None, "settle comes first"
        if mark.number <= story.number:
            raise SinkError(f"{self.name}: chunk {mark.number} is there already; this is a fault, please report it")
        with self._failing():
            self._look_at_syncing()
            ends = [self._body.add(mark.number, encoded.data)]
            for file, data in ((self._rejects, beside.rejects), (self._scored, beside.scored)):
                file.add(data)
                ends.append(file.end)
            self._journal.add(
                {
                    "mark": mark.number,
                    "cursor": mark.cursor,
                    "read": mark.read,
                    "predicted": mark.predicted,
                    "rejected": mark.rejected,
                    "body": [ends[0], encoded.content],
                    "rejects": [ends[1], zlib.crc32(beside.rejects)],
                    "scored": [ends[2], zlib.crc32(beside.scored)],
                    "note": encoded.note,
                }
            )
            story.count(mark, ends)
            self._sync_sometimes(mark.number)

    def complete(self) -> None:
        story = self._known()
        assert story.schema is not None, "settle comes first"
        with self._failing():
            self._end_syncing()
            tail = self._tail()
            end = self._body.finish(tail)
            self._sync_files()
            self._journal.add({"complete": end, "checksum": zlib.crc32(tail)})
            self._journal.sync()
            sync_folder(self.folder)
            self._close()
        story.complete = True

    def _tail(self) -> bytes:
        """What comes after the last chunk."""
        return self._encoder.tail(self._notes())

    def _notes(self) -> Iterator[tuple[int, Any]]:
        """For the tail: where each chunk begins, and its note."""
        start = 0
        for entry, _ in self._journal.entries():
            if "mark" in entry:
                yield start, entry["note"]
            if "body" in entry:
                start = entry["body"][0]

    def scored(self) -> Iterator[bytes]:
        return self._beside("scored", self._scored)

    def rejects(self) -> Iterator[bytes]:
        return self._beside("rejects", self._rejects)

    def _beside(self, name: str, file: Appended) -> Iterator[bytes]:
        """What the chunks gave that gave anything."""
        start = 0
        with self._failing("read"):
            for entry, _ in self._journal.entries():
                if "mark" in entry and entry[name][0] > start:
                    yield b"".join(file.blocks(start, entry[name][0]))
                    start = entry[name][0]

    # -- durability -------------------------------------------------------------------------------------------------

    def _sync_files(self) -> None:
        self._body.sync()
        self._rejects.sync()
        self._scored.sync()

    def _sync_sometimes(self, number: int) -> None:
        if self._syncing is None and time.monotonic() - self._synced >= SYNCED:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="bimodal-sync")
            self._syncing = self._thread.submit(self._sync, number)

    def _sync(self, number: int) -> None:
        """In the thread: everything up to this chunk."""
        self._sync_files()
        self._journal.add({"synced": number})
        self._journal.sync()

    def _look_at_syncing(self) -> None:
        """Raises what went wrong in the thread."""
        if self._syncing is not None and self._syncing.done():
            self._end_syncing()

    def _end_syncing(self) -> None:
        if self._syncing is not None:
            ended, self._syncing = self._syncing, None
            ended.result()
            self._synced = time.monotonic()

    # -- what is believed -------------------------------------------------------------------------------------------

    def _known(self) -> Story:
        if self._story is None:
            self.begun()
        assert self._story is not None, "start or begun comes first"
        return self._story

    def _believed(self) -> Story | None:
        """What the journal tells and the files bear out."""
        durable = -1
        for entry, _ in self._journal.entries():
            durable = entry.get("synced", durable)
        story, short = self._read(durable)
        if short:  # what was on the disk is not there any more: somebody else was here, so everything is read again
            story, _ = self._read(-1)
        return story

    def _read(self, durable: int) -> tuple[Story | None, bool]:
        """The story up to the first entry that is not borne out, and whether that one should have been."""
        story: Story | None = None
        for entry, size in self._journal.entries():
            if "journal" in entry:
                self._see_version(entry)
                story = Story(entry, size)
            elif story is None:
                return None, False
            elif "schema" in entry:
                end, checksum = entry["body"]
                if not self._body.holds(-1, 0, end, checksum):
                    return story, durable >= 0
                story.schema, story.ends[0] = base64.b64decode(entry["schema"]), end
            elif "mark" in entry:
                known = entry["mark"] <= durable
                if not self._stands(story, entry, known=known):
                    return story, known
                ends = [entry[name][0] for name in ("body", "rejects", "scored")]
                story.count(msgspec.convert({**entry, "number": entry["mark"]}, Mark), ends)
                if known:
                    story.durable = (entry["mark"], ends)
            elif "complete" in entry:
                if not self._body.holds(0, story.ends[0], entry["complete"], entry["checksum"]):
                    return story, False
                story.complete = True
            story.size = size
        return story, False

    def _stands(self, story: Story, entry: Mapping[str, Any], *, known: bool) -> bool:
        """Whether a chunk is there; known: it was durable once, so that its size is enough to see."""
        number, start = entry["mark"], story.ends
        (end, checksum), files = entry["body"], ((self._rejects, "rejects"), (self._scored, "scored"))
        if number <= story.number or end < start[0]:
            return False
        if known:
            small = any(file.size < entry[name][0] for file, name in files)
            return not small and self._body.stands(number, start[0], end)
        return self._body.holds(number, start[0], end, checksum) and all(
            file.holds(start[place], *entry[name]) for place, (file, name) in enumerate(files, 1)
        )

    def _see_version(self, head: Mapping[str, Any]) -> None:
        if head["journal"] != VERSION:
            raise PlanChanged(
                f"the unfinished run at {self.name} was begun by another version of Bimodal; --fresh throws it away"
            )

    def _run_here(self) -> str | None:
        """The id of the run that the work folder belongs to."""
        for entry, _ in self._journal.entries():
            return str(entry.get("run"))
        return None

    # -- publication ------------------------------------------------------------------------------------------------

    def publish(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        story = self._known()
        assert story.complete, "complete comes first"
        told = {**report, "rejects": str(self.rejects_path) if story.ends[1] else None}
        told.setdefault("end", None if story.last is None else story.last.cursor)
        record = read_record(self._record_path, self.path)
        with self._failing():
            if record is None or run_of(record) != story.head["run"]:
                if self.exists() and not self._overwrite:
                    raise appeared(self.path)
                self.show_rejects()
                write_record(self._record_path, told, self._finished(), story.head["run"])
                self._move()
            sync_folder(self.path.parent)
        with contextlib.suppress(OSError):  # it is published; the next call clears up
            self._clear()
        self._story = None
        return told

    def show_rejects(self) -> str:
        """Without a refused row the file of an earlier run is taken away."""
        with self._failing():
            if self._known().ends[1]:
                link_over(self._rejects.path, self.rejects_path)
            else:
                self.rejects_path.unlink(missing_ok=True)
        return str(self.rejects_path)

    @property
    def _record_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.run.json")

    # -- letting go -------------------------------------------------------------------------------------------------

    def drop(self) -> None:
        with self._failing():
            self._close()
            self._empty()
        self._story, self._broken = None, False

    def release(self) -> None:
        try:
            with contextlib.suppress(OSError):  # told already, or nothing that matters any more
                self._close()
                if self._lock.stands and not self._worth():
                    self._clear()
        finally:
            self._lock.free()

    def _worth(self) -> bool:
        """Whether the work folder holds something that a later run goes on with."""
        for entry, _ in self._journal.entries():
            if "mark" in entry or "complete" in entry or entry.get("journal", VERSION) != VERSION:
                return True
        if self._damaged():
            return True
        return self.spool is not None and self.spool.is_dir() and any(self.spool.iterdir())

    def _stop_syncing(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None

    def _close(self) -> None:
        self._stop_syncing()
        self._journal.close()
        for file in (self._body, self._rejects, self._scored):
            file.close()

    def _empty(self) -> None:
        """Take away what the work folder holds, the journal first: without it the rest is nothing."""
        self._journal.path.unlink(missing_ok=True)
        for each in self.folder.iterdir() if self.folder.is_dir() else ():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != "holder":
                each.unlink()

    def _clear(self) -> None:
        """Take the work folder away."""
        self._close()
        self._empty()
        (self.folder / "holder").unlink(missing_ok=True)
        os.rmdir(self.folder)

    # -- errors -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _failing(self, verb: str = "written") -> Iterator[None]:
        """An error of the system in one sentence, that says what is kept; after it nothing more is appended."""
        if self._broken and verb == "written":
            raise SinkError(f"{self.name} cannot be written any more in this run; {self._kept()}")
        try:
            yield
        except OSError as error:
            self._broken = True
            raise SinkError(f"{self.name} cannot be {verb}: {reason(error)}; {self._kept(error)}") from error

    def _kept(self, error: OSError | None = None) -> str:
        if self._story is None or not self._story.kept:
            return "nothing was left behind"
        count = self._story.read
        there = "room" if error is not None and error.errno in FULL else "nothing in the way"
        done = "what is done" if count == 0 else f"the first {'row' if count == 1 else f'{count:,} rows'}"
        stay = "stays" if count <= 1 else "stay"
        return f"{done} {stay} done, and the same command goes on from there once there is {there}"
