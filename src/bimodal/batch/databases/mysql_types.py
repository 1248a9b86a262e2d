"""Types of MySQL: as what a new table holds an Arrow column, and what is lost on the way from one type to another."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

TEXT = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
TYPES = {
    pa.bool_(): "TINYINT(1)",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.uint8(): "TINYINT UNSIGNED",
    pa.uint16(): "SMALLINT UNSIGNED",
    pa.uint32(): "INT UNSIGNED",
    pa.uint64(): "BIGINT UNSIGNED",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.string_view(): TEXT,
    pa.null(): TEXT,
    pa.binary(): "LONGBLOB",
    pa.large_binary(): "LONGBLOB",
    pa.date32(): "DATE",
    pa.date64(): "DATE",
}
DIGITS, SCALE = 65, 30  # the most that a DECIMAL has (38 after the point in MariaDB)
SIZES = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}
LENGTHS = {  # bytes
    "tinytext": 255, "text": 65_535, "mediumtext": 16_777_215,
    "tinyblob": 255, "blob": 65_535, "mediumblob": 16_777_215,
}  # fmt: skip
EXACT = {"float": 1 << 24, "double": 1 << 53}
FAMILIES = {
    "whole": (*SIZES, "year", "bit"),
    "decimal": ("decimal", "numeric"),
    "floating": ("float", "double"),
    "text": ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json", "uuid", "inet6"),
    "bytes": ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"),
    "moment": ("date", "datetime", "timestamp"),
    "clock": ("time",),
}
NUMBERS = ("whole", "decimal", "floating")


def type_of(kind: pa.DataType) -> str | None:
    """As what a new table holds it; None where nothing does."""
    if pa.types.is_dictionary(kind):
        return type_of(kind.value_type)
    if kind in TYPES:
        return TYPES[kind]
    if pa.types.is_decimal(kind):
        digits, scale = kind.precision - min(kind.scale, 0), max(kind.scale, 0)
        return f"DECIMAL({max(digits, scale)},{scale})" if max(digits, scale) <= DIGITS and scale <= SCALE else None
    if pa.types.is_timestamp(kind):
        return "DATETIME(6)" if kind.tz is None else "TIMESTAMP(6) NULL"
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return "TIME(6)"
    return "LONGBLOB" if pa.types.is_fixed_size_binary(kind) else None


@dataclass(frozen=True)
class Declared:
    """A type as MySQL writes it: `decimal(10,2) unsigned`."""

    word: str
    sizes: tuple[int, ...]
    unsigned: bool

    @classmethod
    def of(cls, text: str) -> Declared:
        found = re.match(r"(\w+)(?:\(([\d, ]+)\))?", text.lower())
        word, sizes = (found[1], found[2]) if found else (text.lower(), None)
        return cls(word, tuple(int(each) for each in sizes.split(",")) if sizes else (), "unsigned" in text.lower())

    @property
    def family(self) -> str:
        return next((family for family, words in FAMILIES.items() if self.word in words), self.word)

    @property
    def size(self) -> int:
        """The number in the brackets; for a time the digits behind the second."""
        return self.sizes[0] if self.sizes else 1 if self.word in ("char", "binary", "bit") else 0

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest of whole numbers."""
        if self.word == "year":
            return 1901, 2155
        if self.word == "bit":
            return 0, (1 << self.size) - 1
        bits = SIZES[self.word]
        return (0, (1 << bits) - 1) if self.unsigned else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)

    @property
    def decimal(self) -> str:
        """As CAST names it."""
        digits, scale = (*self.sizes, 10, 0)[:2] if len(self.sizes) != 1 else (self.size, 0)
        return f"DECIMAL({digits},{scale})"


def convertible(have: str, want: str) -> bool:
    """Whether a value of one type can stand in a column of the other."""
    mine, other = Declared.of(have).family, Declared.of(want).family
    return mine == other or (mine in NUMBERS and other in (*NUMBERS, "text")) or (mine == "clock" and other == "text")


def differs(column: str, have: str, want: str) -> str | None:
    """A condition that holds where a value would not be the same in a column of the other type."""
    mine, other = Declared.of(have), Declared.of(want)
    if mine == other:
        return None
    make = {
        "whole": _beyond,
        "decimal": _rounded,
        "floating": _inexact,
        "text": _longer,
        "bytes": _longer,
        "moment": _cut,
        "clock": _cut,
    }.get(other.family)
    return make(column, mine, other) if make is not None else None


def _beyond(column: str, have: Declared, want: Declared) -> str | None:
    least, most = want.range
    if have.family == "whole":
        low, high = have.range
        parts = [f"{column} < {least}"] * (low < least) + [f"{column} > {most}"] * (high > most)
        return " OR ".join(parts) or None
    outside = f"{column} < {least} OR {column} > {most}"
    return f"{column} <> ROUND({column}) OR {outside}"


def _rounded(column: str, have: Declared, want: Declared) -> str:
    cast = f"CAST({column} AS {want.decimal})"
    below = f" OR {column} < 0" if want.unsigned else ""
    return (f"CAST({cast} AS DOUBLE) <> {column}" if have.family == "floating" else f"{cast} <> {column}") + below


def _inexact(column: str, have: Declared, want: Declared) -> str | None:
    """Into FLOAT or DOUBLE, also those with digits (FLOAT(7,4))."""
    if have.family == "whole" and not want.sizes:
        most = EXACT[want.word]
        low, high = have.range
        back = f"CAST(CAST({column} AS {want.word.upper()}) AS DECIMAL(30,0)) <> {column}"
        return back if high > most or low < -most else None
    if len(want.sizes) == 2:
        return f"ROUND({column}, {want.sizes[1]}) <> {column} OR ABS({column}) >= 1e{want.sizes[0] - want.sizes[1]}"
    if have.family == "decimal":
        digits = "DECIMAL(65,30)"
        return f"CAST(CAST({column} AS {want.word.upper()}) AS {digits}) <> CAST({column} AS {digits})"
    if have.word == "double" and want.word == "float":
        return f"ABS({column}) > 3.4028234663852886e38 OR CAST(CAST({column} AS FLOAT) AS DOUBLE) <> {column}"
    return None


def _longer(column: str, have: Declared, want: Declared) -> str | None:
    if want.word in LENGTHS:
        return f"LENGTH({column}) > {LENGTHS[want.word]}"
    if want.word == "binary":
        return f"LENGTH({column}) <> {want.size}"
    if want.word in ("char", "varchar", "varbinary"):
        size = f"{'LENGTH' if want.word == 'varbinary' else 'CHAR_LENGTH'}({column}) > {want.size}"
        return f"{size} OR {column} LIKE '% '" if want.word == "char" else size
    return None


def _cut(column: str, have: Declared, want: Declared) -> str | None:
    if want.word == "date":
        return None if have.word == "date" else f"TIME({column}) <> 0"
    if want.size >= have.size:
        return None
    return f"MICROSECOND({column}) % {10 ** (6 - want.size)} <> 0"
