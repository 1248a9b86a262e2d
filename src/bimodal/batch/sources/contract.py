"""Source: numbered chunks of rows from a file, from several files, or from standard input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CHUNK_ROWS = 65_536
CHUNK_BYTES = 32 << 20  # of text: a chunk of very wide rows ends earlier
LONGEST_RAW = 1_000_000  # characters of a refused row that are kept; a longer one cannot be run again

# What pandas' read_csv takes for a missing value.
MISSING = (
    "", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


@dataclass(frozen=True)
class BadRow:
    """A row that the parser refused. `row` counts from 1 within its file; `raw` is the row as it stands there."""

    row: int
    code: str
    reason: str
    column: str | None = None
    raw: object = None


@dataclass(frozen=True)
class Reading:
    """What a run wants from a source.

    features: the columns that feed the model, and the type to read each as in a text file (None: as the source has it).
    kept: the columns that are carried to the output untouched, in output order; a feature may be among them.
    missing: the words that stand for a missing value in a feature of a text file. strict: a column that first appears
    late is refused, not dropped. optional: features that a row of JSON Lines may lack, and then are null.
    """

    features: Mapping[str, pa.DataType | None]
    kept: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    strict: bool = True
    optional: frozenset[str] = frozenset()


def _given(chunk: Chunk) -> Callable[[], Chunk]:
    return lambda: chunk


def _no_raw(place: int) -> object:
    return None


@dataclass(frozen=True)
class Chunk:
    """A numbered piece of the input, the same every time for the same source.

    number: from 0 through all files. source: the file's name. first_row: the number, within its file and from 1, of
    the chunk's first row, refused ones counted. features, kept: the good rows, in two tables of one length.
    rejects: the others. places: where in the chunk the tables' rows stand (None: no row is missing).
    raw: from a place in the tables to the row as it stands in the source. bytes_done: how much of the source's bytes
    was read when the chunk was complete. text: the source is a text file, so numbers may still stand as text.
    records: the features as Python values, a list for each row, where they had to be read one by one; the table is
    then as long, and holds nothing. form: what the rejects file must tell so that its raw rows can be run again: of CSV
    the columns, separator and decimal mark, of tables the types; None where the raw row tells all.
    """

    number: int
    source: str
    first_row: int
    features: pa.Table
    kept: pa.Table
    rejects: tuple[BadRow, ...] = ()
    places: NDArray[np.int64] | None = None
    raw: Callable[[int], object] = field(default=_no_raw, repr=False)
    bytes_done: int = 0
    text: bool = False
    records: list[list[Any]] | None = field(default=None, repr=False)
    form: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """The rows read, good and bad."""
        return int(self.features.num_rows) + len(self.rejects)

    def row(self, place: int) -> int:
        """The number of the tables' row at this place."""
        return self.first_row + int(place if self.places is None else self.places[place])


Cursor = Mapping[str, Any]
"""Where a source goes on after a chunk: plain values that JSON can hold, understood by that kind of source alone."""


@dataclass(frozen=True)
class Piece:
    """A chunk that is not read yet. Pieces come in order from one thread; `load` may be called in any, once.

    number, first_row: of the chunk. cursor: where the source goes on after it. bytes_done: how much of the source's
    bytes is read when it is. load: does the work (reading, parsing, decoding) and gives the chunk.
    """

    number: int
    first_row: int
    cursor: Cursor
    bytes_done: int
    load: Callable[[], Chunk] = field(repr=False)


def stands_in(file: Path, place: Path) -> bool:
    """Whether the file is that file, or lies in that folder."""
    if place.is_dir():
        return place.resolve() in file.resolve().parents
    return place.exists() and file.samefile(place)


class Source(ABC):
    """Rows in chunks. Opening one reads its head only: the names of its columns, and how it is written.

    Chunks depend on the source alone: 65,536 rows, or the row group where that is smaller. Memory does not grow with
    the size of the input. What cannot be read at all is a SourceError; a row that cannot be read is a BadRow, and the
    reading goes on.
    """

    name: str
    columns: tuple[str, ...]
    kind: str  # csv, parquet, jsonl, arrow, or a database's name
    total_bytes: int | None = None
    total_rows: int | None = None
    counted: bool = True  # total_rows is exact, where it is known
    notes: tuple[str, ...] = ()  # what was recognised, in sentences to print
    index: str | None = None  # a nameless first column, as pandas writes its index
    decimal: str = "."  # the decimal mark of its numbers, where they are text
    hint: str | None = None  # what to say as well where the columns do not fit
    doubt: str | None = None  # why columns must not be taken by position
    database: Any = None  # where it is one's table or query: the Database
    relation: Any = None  # and the TableName or Query there
    live: bool = False  # rows come as somebody writes them; a chunk is what is there

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the content changes; no location in it. For standard input it is empty."""

    @abstractmethod
    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        """The types of these columns when they are carried untouched; known before anything is read."""

    def carry_as_text(self) -> None:  # noqa: B027 - most sources know the types of all that comes
        """The output is text, so a source that cannot be sure of a column's type may carry it as JSON text."""

    @abstractmethod
    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        """All chunks, in order. May be called once more after it ended, for a source that is a file."""

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        """The same chunks, to be read in several threads. after: go on behind the chunk with this cursor, cheaply.

        Raises SourceChanged where what stands before that place is known to be another than it was.
        """
        done = -1 if after is None else int(after["chunk"])
        for chunk in self.chunks(reading):
            if chunk.number > done:
                yield Piece(chunk.number, chunk.first_row, {"chunk": chunk.number}, chunk.bytes_done, _given(chunk))

    def unchanged(self, end: Cursor | None) -> bool:
        """Whether a source of this fingerprint still holds what it held when it was read up to its end. A file's
        fingerprint says so; a database is read again.
        """
        return True

    def keep_clear(self, database: Any) -> None:  # noqa: B027 - a file stands in nobody's way
        """The sink writes to that Database: do not keep its writer waiting, where it is the one that is read."""

    def reads(self, path: Path) -> bool:
        """Whether this file is (part of) the source, or part of it lies in this folder."""
        mine = getattr(self, "path", None)
        return isinstance(mine, Path) and stands_in(mine, path)

    def close(self) -> None:  # noqa: B027 - most sources hold nothing open between reads
        """Let go of what is open."""
