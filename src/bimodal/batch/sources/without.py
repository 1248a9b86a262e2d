"""Without: a source without the rows whose key is known already.

The known keys lie in a temporary SQLite file, so memory does not grow with them (its cache holds 64 MB); the limit is
the disk, some 30 bytes a key.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bimodal.batch.databases.contract import Database, TableName
from bimodal.batch.sources.contract import Chunk, Cursor, Piece, Reading, Source
from bimodal.errors import UsageError

CACHE = 64 << 10  # KiB of SQLite's cache
LONGEST = 19  # digits that SQLite's integers hold in any case


class Known:
    """A set of keys on the disk. Integers are compared as such, all else as text. keyed: a row whose key is null is
    left out too; `keyless` says how many.
    """

    def __init__(self, column: str, folder: str | os.PathLike[str], *, keyed: bool = False) -> None:
        self.column, self.keyed = column, keyed
        self._keyless = dict[int, int]()  # by the number of the chunk: one may be looked at twice
        self.count = 0
        self.digest = ""
        self._lock = threading.Lock()
        self._file = tempfile.NamedTemporaryFile(prefix="keys-", suffix=".db", dir=folder)  # noqa: SIM115 - it lives as long as this
        self._keys = sqlite3.connect(self._file.name, check_same_thread=False, isolation_level=None)
        for each in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE}"):
            self._keys.execute(f"PRAGMA {each}")
        self._keys.execute("CREATE TABLE keys (k PRIMARY KEY) WITHOUT ROWID")

    def fill(self, batches: Iterable[pa.Array]) -> Known:
        hashed = hashlib.sha256()
        self._keys.execute("BEGIN")
        for batch in batches:
            keys = [(each,) for each in told(batch) if each is not None]
            hashed.update(repr(keys).encode())
            self._keys.executemany("INSERT OR IGNORE INTO keys VALUES (?)", keys)
            self.count += len(keys)
        self._keys.execute("COMMIT")
        self.digest = hashed.hexdigest()
        return self

    def has(self, keys: pa.Array | pa.ChunkedArray) -> list[bool]:
        """Of each key, whether it is known; one that is null never is, or always where all have to be keyed."""
        asked, found = "SELECT 1 FROM keys WHERE k = ? OR k = ?", []
        with self._lock:
            for each in told(keys):
                other = _other(each)
                if each is None:
                    found.append(self.keyed)
                    continue
                found.append(self._keys.execute(asked, (each, other)).fetchone() is not None)
        return found

    @property
    def keyless(self) -> int:
        """Rows of the chunks read so far that were left out because their key is null."""
        return sum(self._keyless.values())

    def note(self, chunk: int, keys: pa.Array | pa.ChunkedArray) -> None:
        if self.keyed and keys.null_count:
            self._keyless[chunk] = keys.null_count

    def close(self) -> None:
        self._keys.close()
        self._file.close()


@dataclass(frozen=True)
class KeysIn:
    """The keys that a table holds."""

    database: Database
    table: TableName
    column: str

    def read(self, folder: str | os.PathLike[str], *, keyed: bool = False) -> Known:
        batches = (batch.column(0) for batch in self.database.batches(self.table, [self.column]))
        return Known(self.column, folder, keyed=keyed).fill(batches)


class Without(Source):
    """The rows of another source whose key is not known."""

    counted = False

    def __init__(self, source: Source, known: Known) -> None:
        self._source, self._known = source, known
        self.name, self.columns, self.kind = source.name, source.columns, source.kind
        self.total_bytes, self.notes, self.index = source.total_bytes, source.notes, source.index
        self.decimal, self.hint, self.live = source.decimal, source.hint, source.live
        self.doubt = source.doubt
        if known.column not in source.columns:
            raise UsageError(f"{source.name} has no column {known.column!r} to tell its rows by")

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self._source.fingerprint()} without {self._known.digest}".encode()).hexdigest()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return self._source.kept_schema(names)

    def carry_as_text(self) -> None:
        self._source.carry_as_text()

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        for piece in self.pieces(reading):
            yield piece.load()

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        if self._known.column not in reading.kept:
            raise UsageError(
                f"the column {self._known.column!r} tells which rows are new, so it has to be kept: --keep "
                f"{','.join((*reading.kept, self._known.column))}"
            )
        for piece in self._source.pieces(reading, after):
            yield replace(piece, load=_Loading(piece, self._known))

    def unchanged(self, end: Cursor | None) -> bool:
        return self._source.unchanged(end)

    @property
    def database(self) -> Any:
        return self._source.database

    @property
    def relation(self) -> Any:
        return self._source.relation

    def keep_clear(self, database: Any) -> None:
        self._source.keep_clear(database)

    def reads(self, path: Path) -> bool:
        return self._source.reads(path)

    def close(self) -> None:
        self._source.close()
        self._known.close()


@dataclass(frozen=True)
class _Loading:
    piece: Piece
    known: Known

    def __call__(self) -> Chunk:
        chunk = self.piece.load()
        keys = chunk.kept.column(self.known.column)
        self.known.note(self.piece.number, keys)
        new = ~np.array(self.known.has(keys), bool)
        if new.all():
            return chunk
        at = np.flatnonzero(new)
        raw = chunk.raw
        return replace(
            chunk,
            features=chunk.features.take(at),
            kept=chunk.kept.take(at),
            places=at if chunk.places is None else chunk.places[at],
            raw=lambda place: raw(int(at[place])),
            records=None if chunk.records is None else [chunk.records[int(place)] for place in at],
        )


def told(keys: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Keys as SQLite compares them."""
    if pa.types.is_dictionary(keys.type):
        keys = keys.cast(keys.type.value_type)
    values: list[Any] = keys.to_pylist()
    if pa.types.is_integer(keys.type):
        return values
    return [None if each is None else str(each) for each in values]


def _other(key: Any) -> Any:
    """The same key as a text file or another database would hold it: 17 and "17" are one."""
    if isinstance(key, int):
        return str(key)
    spelled = isinstance(key, str) and len(key) < LONGEST and key.lstrip("-").isdecimal()
    return int(key) if spelled and str(int(key)) == key else key
