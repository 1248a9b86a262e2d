"""Files: several files of one format and the same columns, one after another, as one source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from bimodal.batch.sources.contract import Chunk, Cursor, Piece, Reading, Source, stands_in
from bimodal.batch.sources.files import InputFile
from bimodal.errors import SourceChanged, SourceError

OPENED = 256  # files whose columns are compared at the start; of the others, when their turn comes
TOGETHER = 8  # files of an object store that are opened at once
NOTES = 10  # sentences about single files that are worth telling


class Files(Source):
    """The files' sources, each opened when its turn comes (the first of them at once)."""

    def __init__(self, files: Sequence[InputFile], opened: Callable[[InputFile], Source]) -> None:
        self._files, self._open = list(files), opened
        self._as_text = False
        self._sources = _first(self._files[:OPENED], opened)
        first = self._sources[0]
        for each in self._sources[1:]:
            _same(first, each)
        self.name = f"{len(files)} files"
        self.kind, self.columns, self.index, self.hint = first.kind, first.columns, first.index, first.hint
        self.doubt = first.doubt
        self.decimal = first.decimal
        self.total_bytes = sum(each.size for each in files)
        rows = [each.total_rows for each in self._sources]
        if len(rows) == len(files) and None not in rows:
            self.total_rows = sum(count for count in rows if count is not None)
        self.notes = _notes(self._sources)

    def fingerprint(self) -> str:
        """Of the files that were opened at the start by their content, of the others by size and time of change."""
        told = [each.fingerprint() for each in self._sources]
        told += [each.stamp for each in self._files[OPENED:]]
        return hashlib.sha256(" ".join(told).encode()).hexdigest()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        schema = self._sources[0].kept_schema(names)
        for each in self._sources[1:]:
            self._agree(schema, each, names)
        return schema

    def carry_as_text(self) -> None:
        for each in self._sources:
            each.carry_as_text()
        self._as_text = True

    def _agree(self, schema: pa.Schema, other: Source, names: tuple[str, ...]) -> None:
        for mine, theirs in zip(schema, other.kept_schema(names), strict=True):
            if _kind(mine) != _kind(theirs):
                first = self._sources[0].name
                raise SourceError(
                    f"{other.name}: column {mine.name!r} is {_kind(theirs)}, in {first} it is {_kind(mine)}"
                )

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        return (piece.load() for piece in self.pieces(reading))

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        place, inner, number = self._behind(after)
        before = [0, *accumulate(each.size for each in self._files)]
        for at in range(place, len(self._files)):
            for piece in self._source(at, reading).pieces(reading, inner):
                load = partial(_renumbered, piece, number, before[at])
                cursor = {"chunk": number, "file": at, "inner": piece.cursor}
                yield Piece(number, piece.first_row, cursor, before[at] + piece.bytes_done, load)
                number += 1
            inner = None

    def _behind(self, after: Cursor | None) -> tuple[int, Cursor | None, int]:
        """The file to go on with, the place in it, and the next chunk's number."""
        if after is None:
            return 0, None, 0
        try:
            return int(after["file"]), after["inner"], int(after["chunk"]) + 1
        except (KeyError, TypeError, ValueError):
            raise SourceChanged(
                f"{self.name} are another kind of input than the unfinished run read; --fresh starts anew"
            ) from None

    def _source(self, place: int, reading: Reading) -> Source:
        if place < len(self._sources):
            return self._sources[place]
        source = self._open(self._files[place])
        if self._as_text:
            source.carry_as_text()
        _same(self._sources[0], source)
        self._agree(self._sources[0].kept_schema(reading.kept), source, reading.kept)
        return source

    def reads(self, path: Path) -> bool:
        return any(each.path is not None and stands_in(each.path, path) for each in self._files)

    def close(self) -> None:
        for each in self._sources:
            each.close()


def _kind(field: pa.Field) -> str:
    """As what a column is carried: text that holds JSON is another kind than text."""
    return "JSON" if b"bimodal" in (field.metadata or {}) else str(field.type)


def _first(files: Sequence[InputFile], opened: Callable[[InputFile], Source]) -> list[Source]:
    """The files' sources; those of a store side by side, since each waits for its answer."""
    if all(file.path for file in files):
        return [opened(file) for file in files]
    with ThreadPoolExecutor(TOGETHER, "bimodal-open") as pool:
        return list(pool.map(opened, files))


def _renumbered(piece: Piece, number: int, before: int) -> Chunk:
    chunk = piece.load()
    return replace(chunk, number=number, bytes_done=before + chunk.bytes_done)


def _notes(sources: Sequence[Source]) -> tuple[str, ...]:
    notes = list(dict.fromkeys(note for each in sources for note in each.notes))
    more = len(notes) - NOTES
    return tuple(notes if more <= 0 else [*notes[:NOTES], f"… and {more} more of this sort"])


def _same(first: Source, other: Source) -> None:
    """The same columns; they are found by name, so their order may be another."""
    if other.kind != first.kind:
        raise SourceError(
            f"{other.name} is {other.kind}, {first.name} is {first.kind}; one run reads files of one format"
        )
    if other.columns == first.columns:
        return
    missing = [name for name in first.columns if name not in other.columns]
    extra = [name for name in other.columns if name not in first.columns]
    if missing:
        raise SourceError(f"{other.name} has no column {missing[0]!r}, unlike {first.name}")
    if extra:
        raise SourceError(f"{other.name} has a column {extra[0]!r} more than {first.name}")
    if len(other.columns) != len(first.columns):
        raise SourceError(f"{other.name} has two columns of one name, unlike {first.name}")
