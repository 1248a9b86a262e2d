"""One file of the prediction log, from its first rows until it stands under its own name.

While it grows it is an Arrow stream under a temporary name, `.NAME.arrow`, that each piece is appended to with one
write: what was written survives the end of the process, and a failed write (a full disk) is cut off again. When it is
large or old enough it is written as Parquet under another temporary name, made durable, and renamed; only then is the
stream deleted. So a file under a name that readers look at is whole. Whoever grows a stream holds a lock on it that
ends with the process: what an ended process left behind is taken over by the next (`left`).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.parquet as pq

from bimodal.durable import sync
from bimodal.logged import REQUEST, TIME, completed, whole

STREAM, UNFINISHED = ".arrow", ".parquet-tmp"
GROUP = 65_536  # rows of a row group
END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of an Arrow stream


class LogFile:
    """A stream that grows. place: the Parquet file that it will be. Only the thread that writes uses it."""

    def __init__(self, place: Path, schema: pa.Schema) -> None:
        make_folder(place.parent)
        self.schema = schema
        self.place = place
        self.rows = 0
        self.size = 0
        self.began = monotonic()
        self._stream = _stream(place)
        self._number = os.open(self._stream, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(schema.serialize())
        except OSError:
            self.abandon()
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Raises OSError; the file is then as it was before."""
        self._write(batch.serialize())
        self.rows += batch.num_rows

    def _write(self, data: pa.Buffer) -> None:
        view, at = memoryview(data), 0
        try:
            while at < len(view):
                at += os.write(self._number, view[at:])
        except OSError:
            os.ftruncate(self._number, self.size)
            os.lseek(self._number, self.size, os.SEEK_SET)
            raise
        self.size += at

    def publish(self) -> None:
        """Put the Parquet file under its name. Raises OSError; what was appended is then still there, and this may be
        called again.
        """
        publish(self._stream, self.place)
        os.close(self._number)

    def abandon(self) -> None:
        """Delete it."""
        os.unlink(self._stream)
        os.close(self._number)


def make_folder(folder: Path) -> None:
    """It and those above it, which nobody else may read. Raises OSError, also where a file has its name."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file has its name", str(folder))


def _stream(place: Path) -> Path:
    return place.with_name(f".{place.stem}{STREAM}")


def publish(stream: Path, place: Path) -> int:
    """Make a durable Parquet file of a stream, as far as that is whole; returns its rows. A stream without rows is
    deleted. Raises OSError.
    """
    unfinished = place.with_name(f".{place.stem}{UNFINISHED}")
    rows = 0
    try:
        with pa.memory_map(str(stream)) as source:
            batches = _whole(source)
            first = next(batches, None)
            if first is not None:
                rows = _write(unfinished, first, batches)
        if rows:
            sync(unfinished)
            os.rename(unfinished, place)
            sync(place.parent)
        os.unlink(stream)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return rows


def _write(place: Path, first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> int:
    schema = whole(first.schema)
    few = [each.name for each in schema if pa.types.is_string(each.type) and each.name != REQUEST]  # different values
    number = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    rows = 0
    with (
        os.fdopen(number, "wb") as file,
        pq.ParquetWriter(file, schema, use_dictionary=few, write_statistics=[TIME]) as writer,
    ):
        held, count = [first], first.num_rows
        for batch in others:
            if count >= GROUP:
                writer.write_table(completed(pa.Table.from_batches(held).combine_chunks()), row_group_size=GROUP)
                rows += count
                held, count = [], 0
            held.append(batch)
            count += batch.num_rows
        if held:
            writer.write_table(completed(pa.Table.from_batches(held).combine_chunks()), row_group_size=GROUP)
            rows += count
    return rows


def _whole(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """The batches of a stream up to where it breaks off, if it does."""
    try:
        reader = pa.ipc.open_stream(source)
        while True:
            yield reader.read_next_batch()
    except (StopIteration, EOFError, pa.ArrowInvalid, OSError):
        return


def left(folder: Path) -> Iterator[tuple[Path, Path, int]]:
    """The streams below a folder that nobody grows any more, with the places of their files: each is locked (the
    number of its open file) until that is closed.
    """
    for stream in sorted(folder.rglob(f".*{STREAM}")):
        try:
            number = os.open(stream, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # another worker has just dealt with it
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            continue
        if os.fstat(number).st_nlink:
            yield stream, stream.with_name(f"{stream.name.removeprefix('.').removesuffix(STREAM)}.parquet"), number
        else:
            os.close(number)
