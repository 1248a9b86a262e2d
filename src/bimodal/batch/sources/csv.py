"""CSV as people have it: recognised from its head, parsed typed and threaded, re-read with care where that fails."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from bimodal.batch.sources.contract import BadRow, Chunk, Reading, Source
from bimodal.batch.sources.cutter import LINE_FEED, QUOTE, RETURN, Piece, Places, cut
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.stream import (
    Bytes,
    ByteStream,
    Rewound,
    StandardInput,
    Transcoded,
)
from bimodal.dialect import (
    HEAD,
    HEADLESS,
    Dialect,
    Overrides,
    columns_of,
    encoding_of,
    index_of,
    recognise,
    whole_lines,
)
from bimodal.errors import SourceError

EXACT = float(2**53)
TEXT = pa.dictionary(pa.int32(), pa.string())
LONGEST_RAW = 10_000  # characters of a refused row that are kept


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
        self.name = file.name if file else "standard input"
        self.live = file is None
        self._overrides = overrides or Overrides()
        self._stdin, self._head = stdin, head
        self.total_bytes = file.size if file else None
        raw, text, lines = self._look()
        separator = "\t" if file and file.suffix in (".tsv", ".tab") else None
        self._encoding, self._mark = raw
        self.dialect = recognise(lines, self._overrides, encoding=self._encoding, separator=separator)
        self.columns = columns_of(text, self.dialect)
        self.index = index_of(self.columns)
        if not self.dialect.header:
            self.hint = f"the first row of {self.name} {HEADLESS}"
        self.notes = tuple(f"{self.name}: {note}" for note in self.dialect.notes())

    # -- the head ---------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[tuple[str, int], str, str]:
        """The encoding and its mark's length, the head's text, and the whole lines of it."""
        head, whole = self._read_head()
        if not head:
            raise SourceError(f"{self.name} is empty: not even a header")
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
        stream: ByteStream | StandardInput
        stream = ByteStream(self.file) if self.file else self._stdin or StandardInput()
        try:
            yield from self._parse(self._text(stream), stream, Parser(self.columns, self.dialect, reading))
        finally:
            stream.close()

    def _text(self, stream: ByteStream | StandardInput) -> Bytes:
        """The file in UTF-8, without mark and header."""
        text: Bytes = Rewound(self._head, stream) if self.file is None else stream
        if self._encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
            text = Transcoded(text, self._encoding)
        if self._mark:
            text = Rewound(_first(text)[self._mark :], text)
        return text

    def _parse(self, text: Bytes, stream: ByteStream | StandardInput, parser: Parser) -> Iterator[Chunk]:
        number, row = 0, 1
        for piece in cut(text, ord(self.dialect.separator), header=self.dialect.header, live=self.live):
            chunk = parser.parse(piece)
            if not chunk.count:  # nothing but blank lines
                continue
            rejects = tuple(replace(bad, row=bad.row + row) for bad in chunk.rejects)
            position = stream.position
            yield replace(chunk, number=number, source=self.name, first_row=row, rejects=rejects, bytes_done=position)
            number, row = number + 1, row + chunk.count


def _first(stream: Bytes) -> bytes:
    """The stream's beginning, three bytes at least where it has as many."""
    head = b""
    while len(head) < 3 and (piece := stream.read()):
        head += piece
    return head


class Parser:
    """From a piece of text to a chunk's tables. The rows of the refused are counted from 0 within the piece."""

    def __init__(self, columns: tuple[str, ...], dialect: Dialect, reading: Reading) -> None:
        self.columns, self.dialect, self.reading = columns, dialect, reading
        self.types = {
            name: TEXT if kind is None or kind == pa.string() else kind for name, kind in reading.features.items()
        }
        self.missing = pa.array(reading.missing, pa.string())
        carried = [name for name in reading.kept if name not in self.types]
        self.twice = [name for name in reading.kept if name in self.types]  # a feature that is carried too
        self.plain = {**self.types, **dict.fromkeys(carried, pa.string())}

    def parse(self, piece: Piece) -> Chunk:
        if piece.open or len(_loose_quotes(piece, ord(self.dialect.separator))):
            return self._careful(piece)
        try:
            table = self._read(piece.data, self.plain, multiline=piece.multiline)
            texts = self._read(piece.data, dict.fromkeys(self.twice, pa.string()), multiline=piece.multiline)
        except pa.ArrowInvalid:
            return self._careful(piece)
        if table.num_rows != len(piece.ends) and table.num_rows != len(piece.starts()):
            return self._careful(piece)
        features = pa.table([self._feature(name, table.column(name), piece) for name in self.types], list(self.types))
        kept = [texts.column(name) if name in self.types else table.column(name) for name in self.reading.kept]
        return Chunk(0, "", 0, features, pa.table(kept, list(self.reading.kept)), raw=_Raw(piece), text=True)

    def _read(self, data: bytes, types: dict[str, pa.DataType], *, multiline: bool, skip: Any = None) -> pa.Table:
        """Parse these columns as these types.

        skip: called with each row of a wrong number of fields, which is then left out.
        """
        if not types:
            return pa.table({})
        if not data.strip(b"\r\n"):
            return pa.table({name: pa.array([], kind) for name, kind in types.items()})
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                column_names=self.columns, block_size=len(data) + 1, use_threads=skip is None
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.dialect.separator, newlines_in_values=multiline, invalid_row_handler=skip
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

    def _feature(self, name: str, column: pa.ChunkedArray, piece: Piece, skip: Any = None) -> pa.Array:
        """A typed column, with nulls for the missing; as text again where a number may not be what was written."""
        kind = self.types[name]
        if pa.types.is_dictionary(kind):
            return self._missing_texts(_whole(column))
        if kind == pa.float64() and _beyond_exact(column):
            texts = self._read(piece.data, {name: pa.string()}, multiline=piece.multiline, skip=skip)
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

    def _careful(self, piece: Piece) -> Chunk:
        """Read all as text, find the bad rows, and go on with the good ones."""
        starts = piece.starts()
        bad: dict[int, BadRow] = {}
        rows = _Raw(piece)
        for place in np.unique(
            np.searchsorted(starts, _loose_quotes(piece, ord(self.dialect.separator)), "right") - 1
        ).tolist():
            bad[place] = BadRow(place, "bad_quotes", "a quoted field goes on after its closing quote")
        if piece.open:
            place = len(starts) - 1
            bad[place] = BadRow(place, "unclosed_quote", "the input ends inside a quoted field")
            piece = replace(piece, data=piece.data[: starts[-1]], open=False)
        shapes = _Shapes(rows, piece)
        binary = self._read(piece.data, dict.fromkeys(self.plain, pa.binary()), multiline=True, skip=shapes)
        bad = {**shapes.bad, **bad}
        total = len(starts) - (len(piece.data) < len(rows.piece.data))
        places = np.setdiff1d(np.arange(total), list(shapes.bad))
        texts = {name: self._decoded(name, binary.column(name), places, bad) for name in self.plain}
        features = [self._typed(name, texts[name], piece) for name in self.types]
        good = ~np.isin(places, list(bad))
        kept = pa.table([texts[name] for name in self.reading.kept], list(self.reading.kept))
        rejects = tuple(replace(each, raw=rows.at(each.row)) for _, each in sorted(bad.items()))
        table = pa.table(features, list(self.types))
        raw = _Raw(rows.piece, places[good])
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

    def _typed(self, name: str, texts: pa.Array, piece: Piece) -> pa.Array:
        """The feature as its type if all its cells are of it, otherwise as text."""
        skip = _Shapes(_Raw(piece), piece)
        try:
            column = self._read(piece.data, {name: self.types[name]}, multiline=True, skip=skip).column(name)
            return self._feature(name, column, piece, skip)
        except pa.ArrowInvalid:
            if pa.types.is_dictionary(self.types[name]):  # bytes that are no text, seen to before
                return self._missing_texts(texts.dictionary_encode())
            return self._cells(texts)


class _Shapes:
    """Notes each row with a wrong number of fields, and has it left out."""

    def __init__(self, rows: _Raw, piece: Piece) -> None:
        self.bad: dict[int, BadRow] = {}
        self._rows, self._piece = rows, piece

    def __call__(self, row: Any) -> str:
        place = row.number - 1
        short = row.actual_columns < row.expected_columns
        many = "1 field" if row.actual_columns == 1 else f"{row.actual_columns} fields"
        reason = f"{many} where {row.expected_columns} are needed"
        start, end = self._rows.span(place)
        last = self._piece.data[start:end]
        if short and last[-1] not in (LINE_FEED, RETURN):
            reason += "; the input ends in this row"
        elif last.strip(b"\r\n").count(b"\n"):
            reason += "; a quoted field runs over several lines, is a quote not closed?"
        self.bad[place] = BadRow(place, "short_row" if short else "long_row", reason)
        return "skip"


class _Raw:
    """From a place among a chunk's good rows to the row as it stands in the text."""

    def __init__(self, piece: Piece, places: Places | None = None) -> None:
        self.piece, self._places = piece, places
        self._starts: Places | None = None

    def span(self, place: int) -> tuple[int, int]:
        if self._starts is None:
            self._starts = self.piece.starts()
        start = int(self._starts[place])
        return start, int(self.piece.ends[np.searchsorted(self.piece.ends, start, "right")])

    def at(self, place: int) -> str:
        start, end = self.span(place)
        return self.piece.data[start:end].decode("utf-8", "replace").rstrip("\r\n")[:LONGEST_RAW]

    def __call__(self, place: int) -> str:
        return self.at(int(place if self._places is None else self._places[place]))


def _loose_quotes(piece: Piece, separator: int) -> Places:
    """The quotes that close a field which then goes on."""
    closing = piece.quotes[1::2]
    if not len(closing):
        return closing
    array = np.frombuffer(piece.data, np.uint8)
    after = array[np.minimum(closing + 1, len(array) - 1)]
    fine = (
        (after == separator) | (after == LINE_FEED) | (after == RETURN) | (after == QUOTE) | (closing == len(array) - 1)
    )
    loose: Places = closing[~fine]
    return loose


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
