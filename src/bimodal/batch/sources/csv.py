"""CSV as people have it: recognised from its head, parsed typed and threaded, re-read with care where that fails."""

from __future__ import annotations

import codecs
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from bimodal.batch.sources.contract import LONGEST_RAW, BadRow, Chunk, Cursor, Piece, Reading, Source
from bimodal.batch.sources.cutter import Block, check_place, cut, skipped
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.lines import LINE_FEED, RETURN, Places
from bimodal.batch.sources.magic import demand_text
from bimodal.batch.sources.stream import (
    Bytes,
    ByteStream,
    Rewound,
    StandardInput,
    Transcoded,
)
from bimodal.dialect import (
    COUNTED,
    DOUBTFUL,
    HEAD,
    HEADLESS,
    WESTERN,
    Dialect,
    Overrides,
    columns_of,
    counts,
    encoding_of,
    index_of,
    looks_like_data,
    recognise,
    whole_lines,
)
from bimodal.errors import SourceError

SAY = "--header absent or --header present"
EXACT = float(2**53)
TEXT = pa.dictionary(pa.int32(), pa.string())


class CsvSource(Source):
    """A CSV file, or CSV on standard input (file None)."""

    kind = "csv"

    def __init__(
        self,
        file: InputFile | None,
        overrides: Overrides | None = None,
        *,
        head: bytes = b"",
        stdin: StandardInput | None = None,
    ) -> None:
        self.file = file
        self.path = file.path if file else None
        self.name = file.name if file else stdin.name if stdin else "standard input"
        self.live = file is None
        self._overrides = overrides or Overrides()
        self._stdin, self._head = stdin, head
        self.total_bytes = file.size if file else None
        raw, text, lines = self._look()
        separator = "\t" if file and file.suffix in (".tsv", ".tab") else None
        self._encoding, self._mark = raw
        self._letters = letters_of(self._encoding)
        self.dialect = recognise(lines, self._overrides, encoding=self._encoding, separator=separator)
        self.columns = columns_of(text, self.dialect)
        self.index = index_of(self.columns)
        self.decimal = self.dialect.decimal
        self.hint = self._hint()
        # in a whole file, three or more names of pandas' own are sooner a header than a row
        counted = self.dialect.doubtful and len(self.columns) > 2 and counts(self.columns)
        doubtful = self.dialect.doubtful and not counted
        self.doubt = f"{self.name}: {DOUBTFUL}; say which: {SAY}" if doubtful else None
        notes = [*self.dialect.notes(), *([f"{COUNTED}; if it is data: --header absent"] if counted else [])]
        self.notes = tuple(f"{self.name}: {note}" for note in notes)

    def _hint(self) -> str | None:
        """Why the names may not fit: the first row is none of names."""
        remedy = f"write a first line with the names of the columns into {self.name}"
        if not self.dialect.header:
            return f"the first row {HEADLESS}; {remedy}, or say --header present"
        if any(map(looks_like_data, self.columns)):
            remedy = f"{remedy}, or say --header absent"
            return f"the first row looks like data, not like the names of columns; if it is, {remedy}"
        return None

    # -- the head ---------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[tuple[str, int], str, str]:
        """The encoding and its mark's length, the head's text, and the whole lines of it."""
        head, whole = self._read_head()
        if not head:
            raise SourceError(f"{self.name} is empty: not even a header")
        demand_text(self.name, head, self._overrides.encoding)
        encoding = encoding_of(head, self._overrides.encoding)
        decoder = codecs.getincrementaldecoder("cp1252" if encoding[0] == "cp1252" else encoding[0])("replace")
        text = decoder.decode(head[encoding[1] :])
        if not text.strip():
            raise SourceError(f"{self.name} holds nothing but blank lines: not even a header")
        return encoding, text, text if whole else whole_lines(text)

    def _read_head(self) -> tuple[bytes, bool]:
        """The beginning of the file, and whether it is all of it."""
        if self.file is None:
            return self._wait_for_lines()
        stream = ByteStream(self.file)
        try:
            pieces: list[bytes] = []
            length = 0
            while length < HEAD:
                piece = stream.read(HEAD)
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                length += len(piece)
            return b"".join(pieces), False
        finally:
            stream.close()

    def _wait_for_lines(self) -> tuple[bytes, bool]:
        """From standard input: a header and one row, or the end."""
        assert self._stdin is not None
        whole = False
        while self._head.count(b"\n") < 2 and not whole:
            piece = self._stdin.read()
            self._head += piece
            whole = not piece
        return self._head, whole

    # -- the contract -----------------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        if self.file is None:
            return ""
        return hashlib.sha256(f"{self.file.fingerprint()} {self.dialect}".encode()).hexdigest()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in names])

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        for piece in self.pieces(reading):
            yield piece.load()

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        """The cursor's offset is a place in the file (in what a compressed file holds); in the text as UTF-8, where
        an encoding tells no exact place.
        """
        number, row, offset = (after["chunk"] + 1, after["row"], after["offset"]) if after else (0, 1, self._mark)
        header = self.dialect.header and after is None
        parser = Parser(self.columns, self.dialect, reading)
        stream = self._stream(offset)
        try:
            text = self._text(stream, offset)
            for block in cut(text, ord(self.dialect.separator), header=header, live=self.live, start=offset):
                if not block.rows:  # nothing but blank lines
                    continue
                done = block.end if self._seeks else stream.position
                cursor = {"chunk": number, "row": row + block.rows, "offset": block.end}
                yield Piece(number, row, cursor, done, partial(self._load, parser, block, number, row, done))
                number, row = number + 1, row + block.rows
        finally:
            stream.close()

    def _load(self, parser: Parser, block: Block, number: int, row: int, done: int) -> Chunk:
        if self._letters is not None:
            block = replace(block, data=codecs.charmap_decode(block.data, "replace", self._letters)[0].encode())
        chunk = parser.parse(block)
        rejects = tuple(replace(bad, row=bad.row + row) for bad in chunk.rejects)
        form = {"columns": self.columns, "separator": self.dialect.separator, "decimal": self.dialect.decimal}
        chunk = replace(chunk, number=number, source=self.name, first_row=row, bytes_done=done)
        return replace(chunk, rejects=rejects, form=form)

    @property
    def _seeks(self) -> bool:
        """Whether a place in the text is a place in the file."""
        return self.file is not None and not self.file.codec and not self._transcoded

    @property
    def _transcoded(self) -> bool:
        return self._letters is None and self._encoding.lower().replace("_", "-") not in ("utf-8", "utf8")

    def _stream(self, offset: int) -> ByteStream | StandardInput:
        """The bytes, from this place on where that is possible."""
        if self.file is None:
            return self._stdin or StandardInput()
        if self._seeks and offset > self._mark:
            check_place(self.file, offset)
        return ByteStream(self.file, offset if self._seeks else 0)

    def _text(self, stream: ByteStream | StandardInput, offset: int) -> Bytes:
        """The text from this place on: in UTF-8, or in an encoding of single bytes."""
        text: Bytes = Rewound(self._head, stream) if self.file is None else stream
        if self._transcoded:
            text = Transcoded(text, self._encoding)
        return text if self._seeks or not offset else skipped(text, offset)


def letters_of(encoding: str) -> str | None:
    """The letters of an encoding in which each is a byte and ASCII is itself: it is cut as it is. None of others."""
    if encoding == "cp1252":
        return WESTERN
    name = codecs.lookup(encoding).name.replace("-", "_")
    table = getattr(sys.modules.get(f"encodings.{name}"), "decoding_table", None)
    return table if isinstance(table, str) and table[:128] == WESTERN[:128] else None


class Parser:
    """From a block of text to a chunk's tables. The rows of the refused are counted from 0 within the block."""

    def __init__(self, columns: tuple[str, ...], dialect: Dialect, reading: Reading) -> None:
        self.columns, self.dialect, self.reading = columns, dialect, reading
        self.types = {
            name: TEXT if kind is None or kind == pa.string() else kind for name, kind in reading.features.items()
        }
        self.missing = pa.array(reading.missing, pa.string())
        carried = [name for name in reading.kept if name not in self.types]
        self.twice = [name for name in reading.kept if name in self.types]  # a feature that is carried too
        self.plain = {**self.types, **dict.fromkeys(carried, pa.string())}

    def parse(self, block: Block) -> Chunk:
        if block.open or block.loose:
            return self._careful(block)
        try:
            table = self._read(block, self.plain)
            texts = self._read(block, dict.fromkeys(self.twice, pa.string()))
        except pa.ArrowInvalid:
            return self._careful(block)
        if table.num_rows != block.rows:
            return self._careful(block)
        features = pa.table([self._feature(name, table.column(name), block) for name in self.types], list(self.types))
        kept = [texts.column(name) if name in self.types else table.column(name) for name in self.reading.kept]
        return Chunk(0, "", 0, features, pa.table(kept, list(self.reading.kept)), raw=_Raw(block), text=True)

    def _read(self, block: Block, types: dict[str, pa.DataType], skip: Any = None) -> pa.Table:
        """Parse these columns as these types.

        skip: called with each row of a wrong number of fields, which is then left out.
        """
        if not types:
            return pa.table({})
        if not block.rows:
            return pa.table({name: pa.array([], kind) for name, kind in types.items()})
        return arrow_csv.read_csv(
            pa.BufferReader(block.data),
            read_options=arrow_csv.ReadOptions(
                column_names=self.columns, block_size=len(block.data) + 1, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.dialect.separator,
                newlines_in_values=block.multiline or skip is not None,
                invalid_row_handler=skip,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=self.reading.missing,
                strings_can_be_null=False,
                decimal_point=self.dialect.decimal,
            ),
        )

    # -- features ---------------------------------------------------------------------------------------------------

    def _feature(self, name: str, column: pa.ChunkedArray, block: Block, skip: Any = None) -> pa.Array:
        """A typed column, with nulls for the missing; as text again where a number may not be what was written."""
        kind = self.types[name]
        if pa.types.is_dictionary(kind):
            return self._missing_texts(_whole(column))
        if kind == pa.float64() and _beyond_exact(column):
            texts = self._read(block, {name: pa.string()}, skip)
            return self._cells(texts.column(name))
        return _whole(column)

    def _missing_texts(self, column: pa.DictionaryArray) -> pa.DictionaryArray:
        missing = pc.is_in(column.dictionary, value_set=self.missing)
        if not pc.any(missing).as_py():
            return column
        codes = pc.if_else(pc.take(missing, column.indices), pa.scalar(None, pa.int32()), column.indices)
        return pa.DictionaryArray.from_arrays(codes, column.dictionary)

    def _cells(self, column: pa.ChunkedArray | pa.Array) -> pa.Array:
        """A number's column as text, to be judged cell by cell."""
        texts = _whole(column)
        texts = pc.if_else(pc.is_in(texts, value_set=self.missing), pa.scalar(None, pa.string()), texts)
        if self.dialect.decimal == ",":
            # a point separates thousands there: such a cell must not pass for a number with a fraction
            texts = pc.replace_substring(pc.replace_substring(texts, ".", "\N{MIDDLE DOT}"), ",", ".")
        return texts

    # -- with care --------------------------------------------------------------------------------------------------

    def _careful(self, block: Block) -> Chunk:
        """Read all as text, find the bad rows, and go on with the good ones."""
        rows = _Raw(block)
        starts = rows.starts
        bad: dict[int, BadRow] = {}
        for place in np.unique(np.searchsorted(starts, block.loose_quotes(), "right") - 1).tolist():
            bad[place] = BadRow(place, "bad_quotes", "a quoted field goes on after its closing quote")
        if block.open:
            place = len(starts) - 1
            bad[place] = BadRow(place, "unclosed_quote", "the input ends inside a quoted field")
            block = replace(block, data=block.data[: starts[-1]], rows=block.rows - 1, open=False)
        shapes = _Shapes(rows, block)
        binary = self._read(block, dict.fromkeys(self.plain, pa.binary()), shapes)
        bad = {**shapes.bad, **bad}
        places = np.setdiff1d(np.arange(block.rows), list(shapes.bad))
        texts = {name: self._decoded(name, binary.column(name), places, bad) for name in self.plain}
        features = [self._typed(name, texts[name], block) for name in self.types]
        good = ~np.isin(places, list(bad))
        kept = pa.table([texts[name] for name in self.reading.kept], list(self.reading.kept))
        rejects = tuple(replace(each, raw=rows.at(each.row)) for _, each in sorted(bad.items()))
        table = pa.table(features, list(self.types))
        raw = _Raw(rows.block, places[good])
        return Chunk(0, "", 0, table.filter(pa.array(good)), _filter(kept, good), rejects, places[good], raw, text=True)

    def _decoded(self, name: str, column: pa.ChunkedArray, places: Places, bad: dict[int, BadRow]) -> pa.Array:
        """Bytes as text; a row with bytes that are none is refused."""
        cells = _whole(column)
        try:
            return cells.cast(pa.string())
        except pa.ArrowInvalid:
            texts = []
            for place, cell in zip(places.tolist(), cells.to_pylist(), strict=True):
                try:
                    texts.append(cell.decode())
                except UnicodeDecodeError:
                    texts.append("")
                    bad.setdefault(place, BadRow(place, "bad_encoding", "bytes that are no UTF-8 text", name))
            return pa.array(texts, pa.string())

    def _typed(self, name: str, texts: pa.Array, block: Block) -> pa.Array:
        """The feature as its type if all its cells are of it, otherwise as text."""
        skip = _Shapes(_Raw(block), block)
        try:
            column = self._read(block, {name: self.types[name]}, skip).column(name)
            return self._feature(name, column, block, skip)
        except pa.ArrowInvalid:
            if pa.types.is_dictionary(self.types[name]):  # bytes that are no text, seen to before
                return self._missing_texts(texts.dictionary_encode())
            return self._cells(texts)


class _Shapes:
    """Notes each row with a wrong number of fields, and has it left out."""

    def __init__(self, rows: _Raw, block: Block) -> None:
        self.bad: dict[int, BadRow] = {}
        self._rows, self._block = rows, block

    def __call__(self, row: Any) -> str:
        place = row.number - 1
        short = row.actual_columns < row.expected_columns
        many = "1 field" if row.actual_columns == 1 else f"{row.actual_columns} fields"
        reason = f"{many} where {row.expected_columns} are needed"
        start, end = self._rows.span(place)
        last = self._block.data[start:end]
        if short and last[-1] not in (LINE_FEED, RETURN):
            reason += "; the input ends in this row"
        elif last.strip(b"\r\n").count(b"\n"):
            reason += "; a quoted field runs over several lines, is a quote not closed?"
        self.bad[place] = BadRow(place, "short_row" if short else "long_row", reason)
        return "skip"


class _Raw:
    """From a place among a chunk's good rows to the row as it stands in the text."""

    def __init__(self, block: Block, places: Places | None = None) -> None:
        self.block, self._places = block, places

    @cached_property
    def starts(self) -> Places:
        return self.block.starts()

    @cached_property
    def _ends(self) -> Places:
        return self.block.ends()

    def span(self, place: int) -> tuple[int, int]:
        start = int(self.starts[place])
        return start, int(self._ends[np.searchsorted(self._ends, start, "right")])

    def at(self, place: int) -> str:
        start, end = self.span(place)
        return self.block.data[start:end].decode("utf-8", "replace").rstrip("\r\n")[:LONGEST_RAW]

    def __call__(self, place: int) -> str:
        return self.at(int(place if self._places is None else self._places[place]))


def _beyond_exact(column: pa.ChunkedArray) -> bool:
    """Whether a number is too large to be sure that it is the one that was written."""
    span = pc.min_max(column).as_py()
    return span["min"] is not None and (span["max"] >= EXACT or span["min"] <= -EXACT)


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _filter(table: pa.Table, good: Any) -> pa.Table:
    return table.filter(pa.array(good)) if table.num_columns else table
