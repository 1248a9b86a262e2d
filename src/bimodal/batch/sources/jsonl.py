"""JSON Lines: one object a line (or one list), read by Arrow, and line by line where Arrow refuses.

What is carried has a type before anything is read: that of the values in the first lines and in a few places further on
(the end among them). A value of another kind that turns up elsewhere is text in a column of text; is carried as it is
where the output is text (`carry_as_text`); in a typed output it has no place, and its row is refused with the remedy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from bimodal.batch.sinks.text import floats
from bimodal.batch.sources.contract import LONGEST_RAW, BadRow, Chunk, Cursor, Piece, Reading, Source
from bimodal.batch.sources.cutter import Block, check_place, cut, skipped
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.lines import Places
from bimodal.batch.sources.magic import demand_text
from bimodal.batch.sources.stream import Bytes, ByteStream, Rewound, StandardInput
from bimodal.errors import Problem, SourceError, WrongFormat
from bimodal.field import Field

EXACT = 2**53
HEAD = 1 << 20
SPOTS, SPOT = 8, 1 << 17  # places further on that are looked at for the types, and how many bytes of each
NESTED = {b"bimodal": b"json"}  # a text column that holds JSON


class JsonlSource(Source):
    """A file of JSON Lines, or JSON Lines on standard input (file None)."""

    kind = "jsonl"

    def __init__(self, file: InputFile | None, *, head: bytes = b"", stdin: StandardInput | None = None) -> None:
        self.file = file
        self.path = file.path if file else None
        self.name = file.name if file else stdin.name if stdin else "standard input"
        self.live = file is None
        self._stdin, self._head = stdin, head
        self.total_bytes = file.size if file else None
        records = self._look()
        self.lists = bool(records) and isinstance(records[0], list)
        records += [each for each in self._spots() if not self.lists or len(each) == len(records[0])]
        self.columns = columns_of(records)
        self._read = {name: kept_field(name, [cell(record, name) for record in records]) for name in self.columns}
        self._types = dict(self._read)
        if self.live:
            self.carry_as_text()  # the first line tells no type for all that come

    def carry_as_text(self) -> None:
        """The output is text: what is carried and is no text becomes JSON, which has a place for any value."""
        self._types = {name: as_text(kind) for name, kind in self._read.items()}

    def _spots(self) -> list[Any]:
        """Values from further on in a large file."""
        if self.file is None or self.file.codec or self.file.size <= HEAD + SPOT:
            return []
        values = []
        for place in np.linspace(HEAD, self.file.size - SPOT, SPOTS).astype(int).tolist():
            stream = ByteStream(self.file, place)
            lines = stream.read(SPOT).splitlines()[1:]  # the first began before
            stream.close()
            values += [value for line in lines if (value := _plausible(line, list if self.lists else dict)) is not None]
        return values

    def _look(self) -> list[Any]:
        """The values of the first lines; a broken line among them is left to the reading."""
        stream: ByteStream | StandardInput
        stream = ByteStream(self.file) if self.file else self._stdin or StandardInput()
        if self.file is None:
            while b"\n" not in self._head.lstrip():
                piece = stream.read()
                if not piece:
                    break
                self._head += piece
            data = self._head
        else:
            data = stream.read(HEAD)
            while len(data) < HEAD and (more := stream.read(HEAD)):
                data += more
            stream.close()
        if not data:
            raise SourceError(f"{self.name} is empty")
        demand_text(self.name, data, wanted="JSON Lines")
        lines = data.splitlines()
        whole = lines if len(data) < HEAD or self.file is None or len(lines) == 1 else lines[:-1]
        return self._values([line for line in whole if line.strip()])

    def _values(self, lines: Sequence[bytes]) -> list[Any]:
        values, reason = [], ""
        for line in lines:
            try:
                values.append(decode(line))
            except ValueError as error:
                reason = reason or str(error)
        if lines and not values:
            raise WrongFormat(f"{self.name} is no JSON Lines: in its first line, {reason}")
        kinds = {type(value) for value in values}
        if kinds - {dict, list}:
            values = [value for value in values if isinstance(value, dict | list)]
        if values and any(isinstance(value, dict) for value in values):
            values = [value for value in values if isinstance(value, dict)]
        if lines and not values:
            raise WrongFormat(f'{self.name}: every line must be an object such as {{"column": 1}}, or a list')
        return values

    # -- the contract -----------------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        return self.file.fingerprint() if self.file else ""

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([self._types.get(name, pa.field(name, pa.string())) for name in names])

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        for piece in self.pieces(reading):
            yield piece.load()

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        """The cursor's offset is a place in the file, or in what a compressed file holds."""
        number, row, offset = (after["chunk"] + 1, after["row"], after["offset"]) if after else (0, 1, 0)
        if self.live:  # what is carried never decides whether an event is predicted
            reading = replace(reading, strict=False)
        parser = Parser(self.columns, self._read, self._types, reading, lists=self.lists)
        stream = self._stream(offset)
        try:
            for block in cut(self._text(stream, offset), None, live=self.live, start=offset):
                if not block.rows:
                    continue
                done = block.end if self._seeks else stream.position
                cursor = {"chunk": number, "row": row + block.rows, "offset": block.end}
                yield Piece(number, row, cursor, done, partial(self._load, parser, block, number, row, done))
                number, row = number + 1, row + block.rows
        finally:
            stream.close()

    def _load(self, parser: Parser, block: Block, number: int, row: int, done: int) -> Chunk:
        chunk = parser.parse(block)
        rejects = tuple(replace(bad, row=bad.row + row) for bad in chunk.rejects)
        return replace(chunk, number=number, source=self.name, first_row=row, rejects=rejects, bytes_done=done)

    @property
    def _seeks(self) -> bool:
        return self.file is not None and not self.file.codec

    def _stream(self, offset: int) -> ByteStream | StandardInput:
        """The bytes, from this place on where that is possible."""
        if self.file is None:
            return self._stdin or StandardInput()
        if self._seeks and offset:
            check_place(self.file, offset)
        return ByteStream(self.file, offset if self._seeks else 0)

    def _text(self, stream: ByteStream | StandardInput, offset: int) -> Bytes:
        """The text from this place on."""
        text: Bytes = Rewound(self._head, stream) if self.file is None else stream
        return text if self._seeks else skipped(text, offset)


class _Twice(ValueError):
    """An object names a member twice."""


class _Absent(ValueError):
    """An object lacks a feature."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _plausible(line: bytes, kind: type) -> Any:
    """A line's value; None for a line that is broken, or cut off."""
    try:
        value = decode(line)
    except ValueError:
        return None
    return value if isinstance(value, kind) else None


@cache
def _member(name: str) -> re.Pattern[bytes]:
    """A member of this name, as the objects of a block write it."""
    return re.compile(rb'"%b"\s*:' % re.escape(name.encode()))


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"the member {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return members


def _constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def decode(line: bytes) -> Any:
    """A line's value; a ValueError says, without the line's data, why there is none."""
    try:
        return json.loads(line, object_pairs_hook=_pairs, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON at character {error.pos + 1}: {error.msg[0].lower()}{error.msg[1:]}") from None
    except UnicodeDecodeError:
        raise ValueError("bytes that are no UTF-8 text") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def columns_of(records: Sequence[Any]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record if isinstance(record, dict) else map(str, range(len(record)))))
    return tuple(names)


def cell(record: Any, name: str) -> Any:
    if isinstance(record, dict):
        return record.get(name)
    return record[int(name)] if int(name) < len(record) else None


def kept_field(name: str, values: Sequence[Any]) -> pa.Field:
    """As what to carry a column with these values, so that nothing is lost."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {bool}:
        return pa.field(name, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.field(name, pa.int64())
    if kinds in ({float}, {int, float}) and all(type(value) is not int or abs(value) <= EXACT for value in values):
        return pa.field(name, pa.float64())
    if kinds <= {str}:
        return pa.field(name, pa.string())
    return pa.field(name, pa.string(), metadata=NESTED)


def as_text(kind: pa.Field) -> pa.Field:
    """The column as text: JSON, where it was none."""
    return kind if pa.types.is_string(kind.type) else pa.field(kind.name, pa.string(), metadata=NESTED)


@dataclass(frozen=True)
class Parser:
    """From lines to a chunk's tables. read: as what Arrow reads each column. types: as what it is carried."""

    columns: tuple[str, ...]
    read: Mapping[str, pa.Field]
    types: Mapping[str, pa.Field]
    reading: Reading
    lists: bool = False

    def parse(self, block: Block) -> Chunk:
        if self.lists or any(self.read[name].metadata for name in self.reading.kept):
            return self._careful(block)
        if b"NaN" in block.data or b"Infinity" in block.data:  # no JSON, but Arrow takes them
            return self._careful(block)
        try:
            table = arrow_json.read_json(
                pa.BufferReader(block.data),
                read_options=arrow_json.ReadOptions(block_size=len(block.data) + 1, use_threads=False),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._schema(),
                    unexpected_field_behavior="error" if self.reading.strict else "ignore",
                ),
            )
        except pa.ArrowInvalid:
            return self._careful(block)
        if table.num_rows != block.rows or self._doubtful(table, block.data):
            return self._careful(block)
        return Chunk(0, "", 0, self._features(table), self._kept(table), raw=_Raw(block))

    def _schema(self) -> pa.Schema:
        """Features by the model's types; what is carried, by the types of the first lines."""
        fields = {name: self.read[name].type for name in self.columns} if self.reading.strict else {}
        for name in self.reading.kept:
            fields[name] = self.read[name].type
        for name, kind in self.reading.features.items():
            if name not in self.reading.kept:
                fields[name] = kind if kind is not None else self.read[name].type
            elif kind is not None and kind != fields[name]:
                fields[name] = _wider(kind, fields[name])
        return pa.schema(list(fields.items()))

    def _features(self, table: pa.Table) -> pa.Table:
        return table.select(list(self.reading.features))

    def _kept(self, table: pa.Table) -> pa.Table:
        columns = [self._carried_column(name, table.column(name)) for name in self.reading.kept]
        return pa.table(columns, schema=pa.schema([self.types[name] for name in self.reading.kept]))

    def _carried_column(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        column = column.cast(self.read[name].type)
        if column.type == self.types[name].type:
            return column
        return floats(column) if pa.types.is_floating(column.type) else column.cast(pa.string())

    def _doubtful(self, table: pa.Table, data: bytes) -> bool:
        """Whether a number is too large to be sure that it is the one that was written, or a null may be one that was
        not: a key that is missing.
        """
        for name in {*self.reading.features, *self.reading.kept}:
            column = table.column(name)
            missing = column.null_count and name in self.reading.features and name not in self.reading.optional
            if missing and len(_member(name).findall(data)) != table.num_rows:
                return True
            if pa.types.is_floating(column.type):
                span = pc.min_max(column).as_py()
                if span["min"] is not None and (span["max"] >= EXACT or span["min"] <= -EXACT):
                    return True
        return False

    # -- line by line -----------------------------------------------------------------------------------------------

    def _careful(self, block: Block) -> Chunk:
        rows = _Raw(block)
        records, places, bad = [], [], []
        for place in range(block.rows):
            try:
                records.append(self._record(rows.line(place)))
                places.append(place)
            except _Absent as error:
                problem = error.problem
                bad.append(BadRow(place, problem.code, problem.message, problem.column, rows.at(place)))
            except ValueError as error:
                bad.append(BadRow(place, "malformed", str(error), raw=rows.at(place)))
        values, kept, good = self._carried(records, places, bad, rows)
        features = pa.table({"rows": pa.nulls(len(values))})
        chosen = np.array(places, np.int64)[good]
        rejects = tuple(sorted(bad, key=lambda each: each.row))
        return Chunk(0, "", 0, features, kept, rejects, chosen, _Raw(block, chosen), records=values)

    def _record(self, line: bytes) -> Any:
        record = decode(line)
        if not isinstance(record, list if self.lists else dict):
            raise ValueError(
                "every line must be a list, as the first is" if self.lists else "every line must be an object"
            )
        if isinstance(record, list) and len(record) != len(self.columns):
            raise ValueError(f"{len(record)} values where {len(self.columns)} are needed")
        needed = (name for name in self.reading.features if name not in self.reading.optional)
        if isinstance(record, dict) and (absent := [name for name in needed if name not in record]):
            spare = [name for name in record if name not in self.reading.features]
            raise _Absent(Field(absent[0], "any").missing(spare))
        if self.reading.strict and isinstance(record, dict) and (new := record.keys() - self.types.keys()):
            raise ValueError(f"the column {min(new)!r} is not in the first lines; name what to carry with --keep")
        return record

    def _carried(
        self, records: list[Any], places: list[int], bad: list[BadRow], rows: _Raw
    ) -> tuple[list[list[Any]], pa.Table, Any]:
        """The features' values, the carried columns, and which records are good."""
        good = np.ones(len(records), bool)
        columns = {}
        for name in self.reading.kept:
            kind = self.types[name]
            cells = [_as_carried(cell(record, name), kind) for record in records]
            for at, value in enumerate(cells):
                if value is _Misfit:
                    cells[at] = None
                    if good[at]:
                        reason = (
                            f"a value of another kind than in the lines looked at first, where it was {kind.type}, "
                            "which such an output keeps; write JSON Lines or CSV, or name what to carry with --keep"
                        )
                        bad.append(BadRow(places[at], "wrong_type", reason, name, rows.at(places[at])))
                    good[at] = False
            columns[name] = pa.array(cells, kind.type)
        kept = pa.table(columns, schema=pa.schema([self.types[name] for name in columns])) if columns else pa.table({})
        features = list(self.reading.features)
        values = [[cell(record, name) for name in features] for record, fine in zip(records, good, strict=True) if fine]
        return values, (kept.filter(pa.array(good)) if columns else kept), good


class _Misfit:
    """Stands for a value that cannot be carried in its column."""


def _as_carried(value: Any, field: pa.Field) -> Any:
    """The value as its column carries it."""
    if value is None:
        return None
    kind = field.type
    if field.metadata or (pa.types.is_string(kind) and not isinstance(value, str)):
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except ValueError:  # 1e999
            return _Misfit
    if pa.types.is_string(kind):
        return value
    if pa.types.is_boolean(kind):
        return value if isinstance(value, bool) else _Misfit
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _Misfit
    if pa.types.is_floating(kind):
        return float(value) if abs(value) <= EXACT or isinstance(value, float) else _Misfit
    whole = int(value) if isinstance(value, int) or value.is_integer() else None  # 5.0 is the number 5
    return whole if whole is not None and -(2**63) <= whole < 2**63 else _Misfit


def _wider(kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type in which a column that is a feature and carried too is read."""
    return kind if pa.types.is_floating(kind) and pa.types.is_integer(other) else other


class _Raw:
    """From a place among a chunk's good rows to its line."""

    def __init__(self, block: Block, places: Places | None = None) -> None:
        self._block, self._places = block, places

    @cached_property
    def _starts(self) -> Places:
        return self._block.starts()

    @cached_property
    def _ends(self) -> Places:
        ends = self._block.ends()
        right: Places = ends[np.searchsorted(ends, self._starts, "right")]
        return right

    def line(self, place: int) -> bytes:
        return self._block.data[int(self._starts[place]) : int(self._ends[place])]

    def at(self, place: int) -> str:
        return self.line(place).decode("utf-8", "replace").rstrip("\r\n")[:LONGEST_RAW]

    def __call__(self, place: int) -> str:
        return self.at(int(place if self._places is None else self._places[place]))
