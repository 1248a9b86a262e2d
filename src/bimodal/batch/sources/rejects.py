"""Rejects as a source: the raw rows of `OUTPUT.rejects.jsonl`, perhaps mended, are run again.

Each line stands alone: its `form` says how its raw row is written, so the file that it came from may be gone. A row
that is refused once more is told with the number and the source that it had at first.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from bimodal.batch.databases.contract import TYPE, declared_type
from bimodal.batch.sources import csv, jsonl
from bimodal.batch.sources.contract import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    LONGEST_RAW,
    BadRow,
    Chunk,
    Cursor,
    Piece,
    Reading,
    Source,
)
from bimodal.batch.sources.cutter import Block, check_place, cut
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.lines import Lines
from bimodal.batch.sources.stream import ByteStream
from bimodal.batch.sources.tables import chunk_of
from bimodal.dialect import Dialect
from bimodal.errors import SourceError

ENDING = ".rejects.jsonl"
MEMBERS = {"row", "source", "code", "reason", "raw"}
WRITTEN = {*MEMBERS, "column"}  # of a line as a run writes it: by these it is known under any name
HEAD = 1 << 20
# refused before the row's bytes were known to be text: what was none stands as this letter
UNREAD = ("bad_encoding", "malformed", "short_row", "long_row", "bad_quotes", "unclosed_quote")
REPLACED = "\N{REPLACEMENT CHARACTER}"
Form = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the file. number: counts from 1. end: where it ends. problem: why it is none that can be run."""

    number: int
    end: int
    size: int
    row: int = 0
    source: str = ""
    raw: Any = None
    form: Form | None = None
    problem: BadRow | None = None

    @property
    def kind(self) -> tuple[str, str]:
        """Lines of one kind that follow each other are read together."""
        return self.source, json.dumps(self.form)


def is_rejects(file: InputFile) -> bool:
    """Whether a file is one of refused rows, by its first line."""
    stream = ByteStream(file)
    try:
        head = stream.read(HEAD)
    finally:
        stream.close()
    first = next((line for line in head.splitlines() if line.strip()), b"")
    try:
        record = json.loads(first)
    except ValueError:
        return False
    return isinstance(record, dict) and record.keys() >= (MEMBERS if file.name.endswith(ENDING) else WRITTEN)


class RejectsSource(Source):
    """The rows of a rejects file. kind: what they were when they were refused: csv, jsonl, or parquet for any table."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self.path = file.path
        self.name = file.name
        self.total_bytes = file.size
        head = self._head()
        lines = [line for line in head if line.problem is None]
        if not lines:
            why = next((f": {line.problem.reason}" for line in head if line.problem is not None), "")
            raise SourceError(f"{self.name} holds no refused row that can be run again{why}")
        self.form = next((line.form for line in lines if line.form is not None), None)
        self._read: dict[str, pa.Field] = {}
        if self.form is None:
            self.kind = "jsonl"
            self._look([line.raw for line in lines])
        elif "types" in self.form:
            self.kind = "parquet"
            carried = self.form.get("carried", {})
            self._read = {name: _field(name, kind, carried.get(name)) for name, kind in self.form["types"].items()}
        else:
            self.kind = "csv"
            self.decimal = self.form["decimal"]
            self._read = {name: pa.field(name, pa.string()) for name in self.form["columns"]}
        self.columns = tuple(self._read)
        self._types = dict(self._read)

    def _look(self, raws: Sequence[Any]) -> None:
        """The columns of rows that are JSON."""
        records = []
        for raw in raws:
            try:
                records.append(jsonl.decode(raw.encode()) if isinstance(raw, str) else raw)
            except ValueError:
                continue  # it will be refused again
        kinds = [type(each) for each in records if isinstance(each, dict | list)]
        if not kinds:
            raise SourceError(f"{self.name}: none of its raw rows can be read; mend them first")
        self.lists = kinds[0] is list
        values = [each for each in records if isinstance(each, kinds[0])]
        self._read = {
            name: jsonl.kept_field(name, [jsonl.cell(value, name) for value in values])
            for name in jsonl.columns_of(values)
        }

    def _head(self) -> list[Line]:
        stream = ByteStream(self.file)
        try:
            block = next(cut(stream, None, size=HEAD), None)
            return [] if block is None else list(_lines(block, 1, 0))
        finally:
            stream.close()

    # -- the contract -----------------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        return self.file.fingerprint()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([self._types.get(name, pa.field(name, pa.string())) for name in names])

    def carry_as_text(self) -> None:
        """The output is text: as of JSON Lines."""
        if self.kind == "jsonl":
            self._types = {name: jsonl.as_text(kind) for name, kind in self._read.items()}

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        for piece in self.pieces(reading):
            yield piece.load()

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        """Lines of one kind that follow each other are a chunk, so that each starts anew where one goes on."""
        number, row, offset = (after["chunk"] + 1, after["row"], after["offset"]) if after else (0, 1, 0)
        if offset:
            check_place(self.file, offset)
        stream = ByteStream(self.file, offset)
        try:
            for lines in _groups(chain.from_iterable(self._blocks(stream, row, offset))):
                last = lines[-1]
                cursor = {"chunk": number, "row": last.number + 1, "offset": last.end}
                load = partial(self._load, reading, lines, number)
                yield Piece(number, _first(lines), cursor, last.end, load)
                number += 1
        finally:
            stream.close()

    def _blocks(self, stream: ByteStream, row: int, offset: int) -> Iterator[Iterator[Line]]:
        for block in cut(stream, None, start=offset):
            yield _lines(block, row, block.end - len(block.data))
            row += block.rows

    # -- reading ----------------------------------------------------------------------------------------------------

    def _load(self, reading: Reading, lines: list[Line], number: int) -> Chunk:
        good = [line for line in lines if line.problem is None]
        problems = [line.problem for line in lines if line.problem is not None]
        if good and not self._alike(good[0].form):
            reason = "its columns are others than those of the first line; run it by itself"
            problems += [BadRow(line.row, "malformed", reason, raw=line.raw) for line in good]
            good = []
        chunk, kept = self._parsed(reading, good)
        rows = np.array([line.row for line in kept], np.int64)
        places = rows if chunk.places is None else rows[chunk.places]
        refused = [replace(bad, row=kept[bad.row].row, raw=kept[bad.row].raw) for bad in chunk.rejects]
        raws = [line.raw for line in kept]
        taken = np.arange(len(kept)) if chunk.places is None else chunk.places
        gone = {line.number for line in kept}
        refused += [_unfit(line) for line in good if line.number not in gone]
        return replace(
            chunk,
            number=number,
            source=lines[0].source or self.name,
            first_row=_first(lines),
            rejects=tuple(sorted([*problems, *refused], key=lambda bad: bad.row)),
            places=places - _first(lines),
            raw=lambda place: raws[int(taken[place])],
            bytes_done=lines[-1].end,
            form=lines[0].form,
        )

    def _alike(self, form: Form | None) -> bool:
        """Whether rows of this form have the source's columns."""
        if form is None or self.form is None:
            return form is self.form
        if "types" in self.form or "types" in form:
            return form.get("types") == self.form.get("types")
        return list(form["columns"]) == list(self.form["columns"])

    def _parsed(self, reading: Reading, lines: list[Line]) -> tuple[Chunk, list[Line]]:
        """The lines' rows, and the lines that could be read as rows: each of them is one."""
        if self.form is None:
            return self._from_json(reading, lines)
        if "types" in self.form:
            return self._from_tables(reading, lines)
        return self._from_csv(reading, lines)

    def _from_csv(self, reading: Reading, lines: list[Line]) -> tuple[Chunk, list[Line]]:
        form = lines[0].form if lines else self.form
        assert form is not None, "rows of CSV have a form"
        separator = form["separator"]
        texts = [line.raw.rstrip("\r\n").encode() + b"\n" if isinstance(line.raw, str) else b"\n" for line in lines]
        fine = _are_rows(texts, ord(separator))
        whole = [line for line, good in zip(lines, fine, strict=True) if good]
        data = b"".join(text for text, good in zip(texts, fine, strict=True) if good)
        found = Lines(data, ord(separator))
        block = Block(data, len(whole), len(data), ord(separator), found.inner.count > 0, found.loose.count > 0)
        parser = csv.Parser(tuple(form["columns"]), Dialect(separator, form["decimal"]), reading)
        return parser.parse(block), whole

    def _from_json(self, reading: Reading, lines: list[Line]) -> tuple[Chunk, list[Line]]:
        texts = [_as_line(line.raw).encode() + b"\n" for line in lines]
        fine = _are_rows(texts, None)
        whole = [line for line, good in zip(lines, fine, strict=True) if good]
        data = b"".join(text for text, good in zip(texts, fine, strict=True) if good)
        parser = jsonl.Parser(self.columns, self._read, self._types, reading, lists=self.lists)
        return parser.parse(Block(data, len(whole), len(data), None)), whole

    def _from_tables(self, reading: Reading, lines: list[Line]) -> tuple[Chunk, list[Line]]:
        rows, bad = [], []
        for place, line in enumerate(lines):
            try:
                rows.append(self._row(line.raw))
            except _NotRead as error:
                bad.append(BadRow(place, "wrong_type", str(error), error.column))
        columns = [pa.array([row[name] for row in rows], field.type) for name, field in self._read.items()]
        table = pa.table(columns, schema=pa.schema(list(self._read.values())))
        chunk = chunk_of(table, reading, number=0, source="", first_row=0, bytes_done=0)
        places = np.setdiff1d(np.arange(len(lines)), [each.row for each in bad])
        chunk = replace(chunk, features=_fed(chunk.features))
        return replace(chunk, rejects=tuple(bad), places=places), lines

    def _row(self, raw: Any) -> dict[str, Any]:
        if not isinstance(raw, dict) or raw.keys() != self._read.keys():
            raise _NotRead(f"its raw row must be an object with the members {', '.join(self._read)}")
        return {name: _value(raw[name], field) for name, field in self._read.items()}


class _NotRead(Exception):
    """A raw row that cannot be turned back into what it was."""

    def __init__(self, reason: str, column: str | None = None) -> None:
        super().__init__(reason)
        self.column = column


# -- lines ------------------------------------------------------------------------------------------------------------


def _lines(block: Block, number: int, start: int) -> Iterator[Line]:
    """The block's lines; blank ones are none."""
    ends = block.ends()
    for begin in block.starts().tolist():
        end = int(ends[np.searchsorted(ends, begin, "right")])
        yield _line(block.data[begin:end], number, start + end)
        number += 1


def _line(data: bytes, number: int, end: int) -> Line:
    line = Line(number, end, len(data))
    no_json = False
    try:
        record = json.loads(data)
    except ValueError:
        record, no_json = None, True
    if not isinstance(record, dict) or not record.keys() >= MEMBERS or type(record["row"]) is not int:
        what = f"line {number} is no JSON, so it" if no_json else "this line"
        reason = f"{what} is no refused row: an object with row, source, code, reason and raw"
        raw = data.decode("utf-8", "replace").rstrip("\r\n")[:LONGEST_RAW]
        return replace(line, problem=BadRow(number, "malformed", reason, raw=raw))
    row, source, raw, form = record["row"], str(record["source"]), record["raw"], record.get("form")
    problem = _problem(record)
    return replace(
        line, row=row, source=source, raw=raw, form=form, problem=BadRow(row, *problem, raw=raw) if problem else None
    )


def _problem(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a refused row cannot be run again as it stands."""
    raw, code, form = record["raw"], record["code"], record.get("form")
    if raw is None:
        return "malformed", "its raw row was not kept; run it from its source"
    if isinstance(raw, str) and len(raw) >= LONGEST_RAW:
        return "malformed", f"its raw row was cut at {LONGEST_RAW:,} characters; run it from its source"
    if isinstance(raw, str) and code in UNREAD and REPLACED in raw:
        return "bad_encoding", "bytes that were no text stand in its raw row as \N{REPLACEMENT CHARACTER}; mend them"
    return None if _is_form(form) else ("malformed", "its form is not understood: leave it as it was written")


def _is_form(form: Any) -> bool:
    if form is None:
        return True
    if not isinstance(form, dict):
        return False
    return form.keys() >= {"columns", "separator", "decimal"} or isinstance(form.get("types"), dict)


def _groups(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Lines of one kind that follow each other, as many as a chunk may have."""
    group: list[Line] = []
    size = 0
    for line in lines:
        if group and (line.kind != group[0].kind or len(group) == CHUNK_ROWS or size + line.size > CHUNK_BYTES):
            yield group
            group, size = [], 0
        group.append(line)
        size += line.size
    if group:
        yield group


def _as_line(raw: Any) -> str:
    return raw.rstrip("\r\n") if isinstance(raw, str) else json.dumps(raw)


def _are_rows(texts: Sequence[bytes], separator: int | None) -> list[bool]:
    """Which of the texts are one row and no more; most often all are."""
    together = Lines(b"".join(texts), separator)
    if np.array_equal(together.ends.places() + 1, np.cumsum([len(text) for text in texts])):
        return [text not in (b"\n", b"\r\n") for text in texts]
    alone = [Lines(text, separator) for text in texts]
    return [lines.ends.count == 1 and lines.closed and not lines.blank.count for lines in alone]


def _first(lines: Sequence[Line]) -> int:
    """The smallest number of a row, from which a chunk counts."""
    return min(line.row for line in lines)


def _unfit(line: Line) -> BadRow:
    reason = "its raw row must be one row: is a quote not closed, or a line end not within quotes?"
    return BadRow(line.row, "malformed", reason, raw=line.raw)


# -- values of tables -------------------------------------------------------------------------------------------------

DECIMAL = re.compile(r"decimal(\d+)\((\d+), (-?\d+)\)")
STAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]")
DICTIONARY = re.compile(r"dictionary<values=([a-z_0-9]+), .*>")
LIST = re.compile(r"(?:fixed_size_|large_)?list<[^:]+: ([^<>]+)>(?:\[\d+\])?")
BYTES = re.compile(r"fixed_size_binary\[(\d+)\]")


def type_of(text: str) -> pa.DataType | None:
    """The type that Arrow writes so; None where a value of it cannot be read back from JSON."""
    if found := DECIMAL.fullmatch(text):
        make = {"32": pa.decimal32, "64": pa.decimal64, "128": pa.decimal128, "256": pa.decimal256}[found[1]]
        return make(int(found[2]), int(found[3]))
    if found := STAMP.fullmatch(text):
        return pa.timestamp(found[1], found[2])
    if found := BYTES.fullmatch(text):
        return pa.binary(int(found[1]))
    if found := DICTIONARY.fullmatch(text):
        return type_of(found[1])
    if found := LIST.fullmatch(text):
        inner = type_of(found[1])
        return pa.list_(inner) if inner is not None else None
    if text.startswith("duration"):
        return None
    try:
        return pa.type_for_alias({"halffloat": "float16", "float": "float32", "double": "float64"}.get(text, text))
    except ValueError:
        return None


def _field(name: str, text: str, carried: str | None) -> pa.Field:
    """A type that cannot be read back is carried as the JSON that stands in the raw row. carried: what a text is in the
    database that it comes from.
    """
    kind = type_of(text)
    if carried is not None:
        return pa.field(name, kind, metadata={TYPE: carried.encode()})
    return pa.field(name, kind) if kind is not None else pa.field(name, pa.string(), metadata=jsonl.NESTED)


def _is_number(field: pa.Field) -> bool:
    """Whether it is text because a database has longer numbers than Arrow."""
    return bool(pa.types.is_string(field.type)) and declared_type(field, "") == "numeric"


def _fed(features: pa.Table) -> pa.Table:
    """The columns as the model takes them: as the database's own source gives them."""
    schema = pa.schema([field.with_type(pa.float64()) if _is_number(field) else field for field in features.schema])
    return features.cast(schema)


def _value(value: Any, field: pa.Field) -> Any:
    """The value that `plain` turned into JSON, as its type; _NotRead where it is none."""
    if value is None:
        return None
    if field.metadata == jsonl.NESTED:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        made = _made(value, field.type)
        if _is_number(field):
            pa.scalar(made, field.type).cast(pa.float64())
        return made if isinstance(made, pa.Scalar) else pa.scalar(made, field.type)
    except (ValueError, TypeError, ArithmeticError, pa.ArrowInvalid, pa.ArrowTypeError):
        raise _NotRead(f"its raw value cannot be read back as {field.type}", field.name) from None


def _made(value: Any, kind: pa.DataType) -> Any:
    """The value, or each value of a list."""
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            raise TypeError
        return [None if each is None else _made(each, kind.value_type) for each in value]
    made = _maker(kind)(value)
    if pa.types.is_integer(kind) and type(made) is not int:  # Arrow would cut a fraction off
        raise TypeError
    return made


def _maker(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_decimal(kind):
        return Decimal
    if pa.types.is_time(kind):
        return time.fromisoformat
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return lambda value: pa.scalar(value, pa.string()).cast(kind)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return partial(base64.b64decode, validate=True)
    return _float if pa.types.is_floating(kind) else lambda value: value


def _float(value: Any) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and value not in ("inf", "-inf")):
        raise TypeError
    return float(value)
