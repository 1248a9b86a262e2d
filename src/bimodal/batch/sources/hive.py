"""Hive partitions: columns whose values stand in the names of folders, as in `country=DE/day=2024-01-01/part.csv`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from bimodal.batch.sources.contract import Chunk, Cursor, Piece, Reading, Source
from bimodal.batch.sources.files import InputFile
from bimodal.errors import SourceError

NULL = "__HIVE_DEFAULT_PARTITION__"
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Constant:
    """A column of one value. text: the value as the folder's name tells it."""

    text: str | None
    kind: pa.DataType

    @property
    def value(self) -> Any:
        return int(self.text) if self.text is not None and pa.types.is_integer(self.kind) else self.text

    def kept(self, count: int) -> pa.Array:
        return pa.repeat(pa.scalar(self.value, self.kind), count)

    def feature(self, count: int, wanted: pa.DataType | None) -> pa.Array:
        """Text is one word and many places of it. wanted: what a text file's column would be read as."""
        text = pa.types.is_string(self.kind) or (wanted is not None and pa.types.is_string(wanted))
        if not text or self.text is None:
            return self.kept(count)
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([self.text]))


def partitions(files: Sequence[InputFile]) -> list[dict[str, Constant]]:
    """The columns that each file's folders tell: all files the same ones. A column whose values are integers holds
    64-bit integers, any other holds text; `__HIVE_DEFAULT_PARTITION__` is a missing value.
    """
    told = [dict(map(_value, filter(_tells, file.folders))) for file in files]
    for file, values in zip(files, told, strict=True):
        if list(values) != list(told[0]):
            raise SourceError(
                f"{file.name} lies in folders that tell {_listed(values)}, {files[0].name} in such that tell "
                f"{_listed(told[0])}; all files of a run tell the same columns"
            )
    kinds = {name: _kind([values[name] for values in told]) for name in (told[0] if told else ())}
    return [{name: Constant(text, kinds[name]) for name, text in values.items()} for values in told]


def _tells(folder: str) -> bool:
    return "=" in folder


def _value(folder: str) -> tuple[str, str | None]:
    name, _, text = folder.partition("=")
    return unquote(name), None if text == NULL else unquote(text)


def _kind(values: Sequence[str | None]) -> pa.DataType:
    given = [value for value in values if value is not None]
    return pa.int64() if given and all(map(INTEGER.fullmatch, given)) else pa.string()


def _listed(values: Mapping[str, str | None]) -> str:
    return ", ".join(values) or "no column"


class Partitioned(Source):
    """A file's source with the columns that its folders tell. A column that stands in the file too is the file's."""

    def __init__(self, source: Source, constants: Mapping[str, Constant]) -> None:
        self._source = source
        self._constants = {name: each for name, each in constants.items() if name not in source.columns}
        self.name, self.kind, self.index, self.hint = source.name, source.kind, source.index, source.hint
        self.doubt = source.doubt
        self.decimal = source.decimal
        self.columns = (*source.columns, *self._constants)
        self.total_bytes, self.total_rows = source.total_bytes, source.total_rows
        self.notes = (*source.notes, *self._told(constants))

    def _told(self, constants: Mapping[str, Constant]) -> Iterator[str]:
        if self._constants:
            names = [
                f"{name} ({'integers' if each.kind == pa.int64() else 'text'})" for name, each in constants.items()
            ]
            yield f"columns that the names of folders tell: {', '.join(names)}"
        twice = [name for name in constants if name not in self._constants]
        if twice:
            yield f"{', '.join(twice)} stands in the files and in the names of their folders: the files' is read"

    def fingerprint(self) -> str:
        """The file's, and its values: a file that is moved to another partition is another."""
        values = " ".join(f"{name}={each.text!r}" for name, each in self._constants.items())
        return f"{self._source.fingerprint()} {values}"

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        own = self._source.kept_schema(tuple(name for name in names if name not in self._constants))
        return pa.schema(
            [
                pa.field(name, self._constants[name].kind) if name in self._constants else own.field(name)
                for name in names
            ]
        )

    def carry_as_text(self) -> None:
        self._source.carry_as_text()

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        return (self._with(chunk, reading) for chunk in self._source.chunks(self._own(reading)))

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        for piece in self._source.pieces(self._own(reading), after):
            yield replace(piece, load=partial(self._load, piece, reading))

    def _own(self, reading: Reading) -> Reading:
        """What is wanted of the file itself: a column at least, so that it tells the rows."""
        features = {name: kind for name, kind in reading.features.items() if name not in self._constants}
        kept = tuple(name for name in reading.kept if name not in self._constants)
        return replace(reading, features=features, kept=kept if kept or features else self._source.columns[:1])

    def _load(self, piece: Piece, reading: Reading) -> Chunk:
        return self._with(piece.load(), reading)

    def _with(self, chunk: Chunk, reading: Reading) -> Chunk:
        count = max(chunk.features.num_rows, chunk.kept.num_rows)
        features = [
            self._constants[name].feature(count, kind) if name in self._constants else chunk.features.column(name)
            for name, kind in (reading.features.items() if chunk.records is None else ())
        ]
        kept = [
            self._constants[name].kept(count) if name in self._constants else chunk.kept.column(name)
            for name in reading.kept
        ]
        return replace(
            chunk,
            features=chunk.features if chunk.records is not None else pa.table(features, list(reading.features)),
            kept=pa.table(kept, list(reading.kept)),
            records=None if chunk.records is None else self._records(chunk.records, reading),
            rejects=tuple(replace(bad, raw=self._raw(bad.raw, chunk.form)) for bad in chunk.rejects),
            raw=lambda place: self._raw(chunk.raw(place), chunk.form),
            form=self._form(chunk.form),
        )

    def _records(self, records: list[list[Any]], reading: Reading) -> list[list[Any]]:
        own = [name for name in reading.features if name not in self._constants]
        values = {name: self._constants[name].value for name in reading.features if name in self._constants}
        return [
            [{**values, **dict(zip(own, record, strict=True))}[name] for name in reading.features] for record in records
        ]

    # -- refused rows ------------------------------------------------------------------------------------------------

    def _form(self, form: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """How `_raw` is written: the columns of the folders come last."""
        if form is None:
            return None
        if "types" in form:
            return {**form, "types": {**form["types"], **{name: str(each.kind) for name, each in self._each}}}
        return {**form, "columns": (*form["columns"], *self._constants)}

    def _raw(self, raw: object, form: Mapping[str, Any] | None) -> object:
        """A refused row with the folders' values behind its own, so that it can be run again from anywhere."""
        if isinstance(raw, dict):
            return {**raw, **{name: each.value for name, each in self._each}}
        if not isinstance(raw, str):
            return raw
        if form is not None:
            cells = io.StringIO()
            texts = ["" if each.text is None else each.text for _, each in self._each]
            csv.writer(cells, delimiter=form["separator"], lineterminator="").writerow(texts)
            return raw.rstrip("\r\n") + str(form["separator"]) + cells.getvalue()
        line = raw.rstrip()
        if not (line.startswith("{") and line.endswith("}")):
            return raw
        members = [f"{json.dumps(name)}: {json.dumps(each.value)}" for name, each in self._each]
        own = line[:-1].rstrip()
        return ", ".join([own, *members] if own != "{" else [own + members[0], *members[1:]]) + "}"

    @property
    def _each(self) -> list[tuple[str, Constant]]:
        return list(self._constants.items())

    def unchanged(self, end: Cursor | None) -> bool:
        return self._source.unchanged(end)

    def reads(self, path: Path) -> bool:
        return self._source.reads(path)

    def close(self) -> None:
        self._source.close()
