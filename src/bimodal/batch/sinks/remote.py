"""An output in an object store: made whole on this machine, journalled and locked there, and uploaded when it is done.

A single object appears when its last byte is there. Of a prefix the parts come one after another and `_SUCCESS` last:
who reads a prefix waits for it. The run record and the rejects are objects beside the output. What failed to be
uploaded is kept, and the same command uploads it again. Two machines do not see each other's locks.
"""

from __future__ import annotations

import contextlib
import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from bimodal.batch.history import state_folder
from bimodal.batch.lock import Lock
from bimodal.batch.marks import Published
from bimodal.batch.mishap import told
from bimodal.batch.sinks.contract import Encoder, Sink
from bimodal.batch.sinks.folder import PART, FolderSink
from bimodal.batch.sinks.journalled import JournalledSink
from bimodal.batch.sinks.outputs import CODECS, output_of
from bimodal.batch.sinks.record import run_of
from bimodal.batch.sinks.single import FileSink
from bimodal.batch.store import Store
from bimodal.errors import OutputExists, SinkError, SourceError, UsageError

SUCCESS = "_SUCCESS"
TOGETHER = 8  # parts that are uploaded at once


def open_remote(text: str, *, like: str, overwrite: bool) -> Sink:
    """The sink of an address such as s3://bucket/out.parquet, or s3://bucket/out/ for a prefix of parts. like: the kind
    of the input, for an address that tells no format.
    """
    store = Store.of(text)
    if "/" not in store.key:
        raise UsageError(f"{store.url} is a bucket; name an object in it, or a prefix: {store.url}/predictions/")
    folder = text.partition("?")[0].endswith("/")
    place = staging(store)
    name = store.key.rpartition("/")[2]
    output = output_of(f"{place / name}{'/' if folder else ''}", like=like)
    encoder = output.encoder()
    if not folder:
        return RemoteFile(store, place / name, encoder, overwrite=overwrite)
    ending = "".join(suffix for suffix, codec in CODECS.items() if codec == output.codec)
    return RemoteFolder(store, place / name, encoder, f".{output.kind}{ending}", overwrite=overwrite)


def staging(store: Store) -> Path:
    """The folder of this machine where an output is made that belongs to this address alone."""
    digest = hashlib.sha256(f"{store.endpoint} {store.url}".encode()).hexdigest()[:16]
    return state_folder() / "staging" / digest


class Remote(JournalledSink):
    """What an object and a prefix of objects have in common: everything but the publication is a local sink's."""

    store: Store

    def _lies_at(self, store: Store) -> None:
        self.store, self.name = store, store.url
        self._lock = Lock(self.folder, store.url)

    @abstractmethod
    def _upload(self) -> None:
        """Put the finished output under its name. Raises OSError."""

    @abstractmethod
    def _stamp(self) -> Mapping[str, Any] | None:
        """What the output in the store is known by; None: it is not there, or not whole."""

    # -- before -----------------------------------------------------------------------------------------------------

    def _see_place(self) -> None:
        with self._sending():
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def check(self, schema: pa.Schema | None = None) -> tuple[str, ...]:
        """Begins an upload, that is never ended."""
        super().check(schema)
        with self._sending():
            self.store.try_out()
        return ()

    def exists(self) -> bool:
        """Whether another's output is there: what this run has begun to upload is its own."""
        with self._sending():
            record, here = self._record(), self._run_here()
            mine = record is not None and here is not None and record["output_file"].get("run") == here
            return not mine and self._there()

    def _there(self) -> bool:
        return self.store.file() is not None

    def published(self, plan_key: str | None = None) -> Published | None:
        with self._sending():
            record = self._record()
            stamp = None if record is None else record["output_file"].get("stamp")
            if record is None or stamp is None or stamp != self._stamp():
                return None
        if plan_key is not None and Published(record).plan.get("key") != plan_key:
            return None
        if self._lock.held and self._run_here() == run_of(record):  # killed while it cleared up
            with self._failing():
                self._empty()
        return Published(record, record.get("end"))

    def _record(self) -> dict[str, Any] | None:
        data = self.store.beside(".run.json").read()
        with contextlib.suppress(msgspec.DecodeError):  # no record of ours: as if there were none
            record: dict[str, Any] = msgspec.json.decode(data or b"", type=dict[str, Any])
            if isinstance(record.get("output_file"), dict) and isinstance(record.get("plan"), dict):
                return record
        return None

    # -- publication ------------------------------------------------------------------------------------------------

    def publish(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        story = self._known()
        assert story.complete, "complete comes first"
        if self.exists() and not self._overwrite:
            raise OutputExists(f"{self.name} appeared while the run was going on; --overwrite replaces it")
        report = {**report, "rejects": self._rejects_url if story.ends[1] else None}
        report.setdefault("end", None if story.last is None else story.last.cursor)
        run = story.head["run"]
        with self._sending():
            self.show_rejects()
            self._tell(report, {"run": run, "stamp": None})  # from here on what is there is this run's
            self._upload()
            self._tell(report, {"run": run, "stamp": self._stamp()})
        with contextlib.suppress(OSError):  # it is published; the next call clears up
            self._clear()
            self.path.parent.rmdir()
        self._story = None
        return report

    def _tell(self, report: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        data = msgspec.json.encode({**report, "output_file": dict(output)})
        self.store.beside(".run.json").put(msgspec.json.format(data, indent=2) + b"\n")

    @property
    def _rejects_url(self) -> str:
        return self.store.url + ".rejects.jsonl"

    def show_rejects(self) -> str:
        place = self.store.beside(".rejects.jsonl")
        with self._sending():
            if self._known().ends[1]:
                place.put(self._rejects.path)
            else:
                place.delete()
        return self._rejects_url

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        """An error of the store in one sentence. The work stays: nothing here makes the local output broken."""
        try:
            yield
        except (OSError, SourceError) as error:
            reason = told(error) if isinstance(error, OSError) else error.message.partition(": ")[2]
            story = self._story
            kept = "nothing was left behind"
            if story is not None and story.kept:
                kept = "everything that is predicted is kept on this machine, and the same command goes on from there"
            raise SinkError(f"{self.name} cannot be written: {reason}; {kept}") from error


class RemoteFile(Remote, FileSink):
    """One object."""

    def __init__(self, store: Store, path: Path, encoder: Encoder, *, overwrite: bool) -> None:
        FileSink.__init__(self, path, encoder, overwrite=overwrite)
        self._lies_at(store)

    def _upload(self) -> None:
        self.store.put(self._finished())

    def _stamp(self) -> Mapping[str, Any] | None:
        file = self.store.file()
        return None if file is None else {"size": file.size, "tag": file.fingerprint()}


class RemoteFolder(Remote, FolderSink):
    """A prefix with an object a chunk, and `_SUCCESS`."""

    def __init__(self, store: Store, path: Path, encoder: Encoder, ending: str, *, overwrite: bool) -> None:
        FolderSink.__init__(self, path, encoder, ending, overwrite=overwrite)
        self._lies_at(store)

    def _there(self) -> bool:
        return next(self.store.under(), None) is not None

    def _upload(self) -> None:
        """First nothing says any more that the prefix is whole; what an earlier output left is taken away."""
        self._see_parts()
        parts = {f"{self.store.key}/{each.name}": each for each in sorted(self._finished().iterdir())}
        success = self.store.at(f"{self.store.key}/{SUCCESS}")
        success.delete()
        for file in self.store.under():
            if file.key not in parts:
                self.store.at(file.key).delete()
        with ThreadPoolExecutor(TOGETHER, "bimodal-upload") as pool:
            for _ in pool.map(self._put, parts, parts.values()):
                pass
        success.put(b"")

    def check(self, schema: pa.Schema | None = None) -> tuple[str, ...]:
        with self._sending():
            self._see_parts()
        return super().check(schema)

    def _see_parts(self) -> None:
        """What is no part of an output is not replaced."""
        for file in self.store.under() if self._overwrite else ():
            if file.folders or not (PART.fullmatch(file.name) or file.name == SUCCESS):
                raise OutputExists(
                    f"{self.name} is not replaced: it holds {file.name}, which is no part of an output; name another "
                    "prefix, or move that away"
                )

    def _put(self, key: str, path: Path) -> None:
        self.store.at(key).put(path)

    def _stamp(self) -> Mapping[str, Any] | None:
        sizes = {file.key.rpartition("/")[2]: file.size for file in self.store.under()}
        if SUCCESS not in sizes:
            return None
        digest = hashlib.sha256(msgspec.json.encode(sizes, order="sorted")).hexdigest()
        return {"files": len(sizes), "size": sum(sizes.values()), "names": digest}
