"""Dialect: how a CSV file is written, recognised from its head. Files and requests are read by the same rules."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bimodal.errors import UsageError

SEPARATORS = ",;\t|"
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
HEAD = 1 << 18
MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# windows-1252 as browsers read it: the five bytes without a character stand for themselves
WESTERN = "".join(
    bytes([byte]).decode("cp1252", "replace").replace("\N{REPLACEMENT CHARACTER}", chr(byte)) for byte in range(256)
)
HEADLESS = "holds numbers, so it was not taken for a header"
DOUBTFUL = "the first row is mostly numbers, so it may be data as well as the names of columns"
COUNTED = "the first row is 0, 1, 2, …, as pandas writes it over columns without names, and was taken for a header"
BLANKS = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "nil", "?", "-"))  # in lower case
INDEX = "Unnamed: 0"  # the name that pandas gives to an index it wrote
COMMA_NUMBER = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*")
POINT_NUMBER = re.compile(r"\s*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Dialect:
    """How the file is written. header: the first row names the columns; without one they are called 0, 1, 2, …

    doubtful: it was taken for a header, and may be data; who takes columns by position must not believe it.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    header: bool = True
    doubtful: bool = field(default=False, compare=False, repr=False)

    def notes(self) -> list[str]:
        """What differs from plain CSV, in sentences."""
        plain = Dialect()
        said = []
        if self.separator != plain.separator:
            said.append(f"values are separated by {NAMES.get(self.separator, repr(self.separator))}")
        if self.decimal != plain.decimal:
            said.append("numbers have a decimal comma")
        if self.encoding != plain.encoding:
            said.append(f"the encoding is {self.encoding}")
        if not self.header:
            said.append("the first row holds numbers, so there is no header; the columns are called 0, 1, 2, …")
        return said


@dataclass(frozen=True)
class Overrides:
    """What the user says about the file; None is recognised."""

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None

    def __post_init__(self) -> None:
        if self.separator is not None and len(self.separator.encode()) != 1:
            raise UsageError("the separator of a CSV file is one character, such as ';'")
        if self.decimal not in (None, ".", ","):
            raise UsageError("the decimal mark is '.' or ','")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise UsageError(f"the encoding {self.encoding!r} is not known; utf-8, utf-16 and cp1252 are") from None


def encoding_of(head: bytes, said: str | None = None) -> tuple[str, int]:
    """The encoding of a file that begins with `head`, and how many bytes its mark takes."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return (name, 0) if name == "utf-16" else (said or name, len(mark))
    if said:
        name = codecs.lookup(said).name
        return ("cp1252" if name in ("cp1252", "iso8859-1") else said), 0
    # the head may end in the middle of a character
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head)
    bad = text.count("\N{REPLACEMENT CHARACTER}")
    good = sum(letter > "\x7f" for letter in text) - bad if bad else 0
    return ("cp1252" if bad > good else "utf-8"), 0


def recognise(
    text: str, overrides: Overrides | None = None, *, encoding: str = "utf-8", separator: str | None = None
) -> Dialect:
    """The dialect of a file that begins with `text` (whole lines). separator: what its extension says."""
    said = overrides or Overrides()
    chosen = said.separator or separator or _separator(text)
    rows = _rows(text, chosen)
    decimal = said.decimal or _decimal(rows[1:], chosen)
    header, doubtful = (said.header, False) if said.header is not None else _header(rows, decimal)
    return Dialect(chosen, decimal, encoding, header, doubtful)


def _rows(text: str, separator: str, most: int = 200) -> list[list[str]]:
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if row:
                rows.append(row)
            if len(rows) == most:
                break
    except csv.Error:
        pass  # a field longer than the module takes: what was read so far decides
    return rows


def _separator(text: str) -> str:
    """The candidate that cuts most rows into as many fields as the first, more than one; among such the one that leaves
    more numbers (with a decimal comma, too), then the one that gives more fields.
    """
    best, score = ",", (0.0, 0.0, 0)
    for candidate in SEPARATORS:
        rows = _rows(text, candidate)
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        alike = sum(len(row) == width for row in rows) / len(rows)
        reached = (round(alike, 1), round(_numeric(rows), 1), width)
        if reached > score:
            best, score = candidate, reached
    return best


def _numeric(rows: Sequence[Sequence[str]]) -> float:
    """The share of cells that are numbers."""
    cells = [cell for row in rows for cell in row]
    return sum(_is_number(cell) or bool(COMMA_NUMBER.fullmatch(cell)) for cell in cells) / len(cells)


def _decimal(rows: Sequence[Sequence[str]], separator: str) -> str:
    if separator == ",":
        return "."
    cells = [cell for row in rows for cell in row]
    commas = sum(bool(COMMA_NUMBER.fullmatch(cell)) for cell in cells)
    if all(THOUSANDS.fullmatch(cell) for cell in cells if COMMA_NUMBER.fullmatch(cell)):
        return "."  # 1,000 may be one or a thousand: it is refused as a number until --decimal says which
    points = sum(bool(POINT_NUMBER.fullmatch(cell)) for cell in cells)
    return "," if commas > points else "."


def _header(rows: Sequence[Sequence[str]], decimal: str) -> tuple[bool, bool]:
    """Whether the first row is a header, and whether that is doubtful.

    Numbers, and beside them cells without a value, are data; 0, 1, 2, … may be what pandas writes over columns without
    names. Numbers beside text are a row with a bad value, or names among which are years. So are whole numbers behind
    an empty cell, where pandas writes an index.
    """
    cells = [cell.strip().replace(decimal, ".") for cell in rows[0]] if rows else []
    numbers = [cell for cell in cells if looks_like_data(cell)]
    if not numbers:
        return not cells or not all(map(_is_number, cells)) or not any(cells), False
    if counts(cells):
        return True, True
    if cells[0] in ("", INDEX) and tuple(numbers) in (_places(len(numbers)), _places(len(numbers), 1)):
        return True, False  # without the index it has fewer columns than as a row, and another width is told
    if any(not _is_number(cell) and cell.lower() not in BLANKS for cell in cells):
        return True, 2 * len(numbers) >= len(cells)
    indexed = not cells[0] and all(map(str.isdecimal, numbers))
    return indexed, indexed


def counts(cells: Sequence[str]) -> bool:
    """Whether they are 0, 1, 2, …, as pandas names columns that have no names."""
    return tuple(cells) == _places(len(cells))


def _places(count: int, start: int = 0) -> tuple[str, ...]:
    return tuple(str(place) for place in range(start, start + count))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def said_of_header(word: str | None) -> bool | None:
    """What `present` and `absent` say of a header; None is recognised. Raises UsageError."""
    if word not in (None, "present", "absent"):
        raise UsageError(f"header is present or absent, not {word!r}")
    return None if word is None else word == "present"


def looks_like_data(name: str) -> bool:
    """Whether a column's name is a number. Some are called so: 0, 1, 2 …, or the years."""
    return _is_number(name) and any(letter.isdigit() for letter in name)


def whole_lines(text: str) -> str:
    """The text without its last line, which may go on; all of it where it has but one."""
    end = max(text.rfind("\n"), text.rfind("\r")) + 1
    return text[:end] if end else text


def columns_of(text: str, dialect: Dialect) -> tuple[str, ...]:
    """The names of the columns: the first row, or numbers where it is no header. Raises csv.Error."""
    first = next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=dialect.separator)), [])
    return names_of(first) if dialect.header else _places(len(first))


def index_of(columns: Sequence[str]) -> str | None:
    """The first column, if it is an index that was written along: no feature, unless a model has one of that name."""
    return INDEX if columns[0] == INDEX else None


def names_of(row: Sequence[str]) -> tuple[str, ...]:
    """The columns' names; a nameless one gets the name that pandas gives it."""
    return tuple(name if name else f"Unnamed: {place}" for place, name in enumerate(row))
