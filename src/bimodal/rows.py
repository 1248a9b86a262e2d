"""Rows: named columns of one length, the one value that passes between the rooms of Bimodal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Dictionary:
    """A text column, dictionary-encoded: each value stands once, each row holds its place.

    codes: int32 [n], the place of the row's value, -1 where the row is null; values: object [k], str.
    """

    __slots__ = ("codes", "values")

    def __init__(self, codes: NDArray[np.int32], values: NDArray[np.object_]) -> None:
        self.codes = codes
        self.values = values

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, place: slice | Array) -> Dictionary:
        return Dictionary(self.codes[place], self.values)

    def __repr__(self) -> str:
        return f"Dictionary({len(self.codes)} rows, {len(self.values)} values)"

    def decode(self) -> NDArray[np.object_]:
        """The rows' values: object [n], None where null. Equal values are one object."""
        with_null = np.empty(len(self.values) + 1, object)
        with_null[:-1] = self.values
        return with_null[self.codes]

    @classmethod
    def encode(cls, values: Sequence[str | None] | Array) -> Dictionary:
        places: dict[str, int] = {}
        codes = np.fromiter(
            (-1 if value is None else places.setdefault(value, len(places)) for value in values), np.int32, len(values)
        )
        kept = np.empty(len(places), object)
        kept[:] = list(places)
        return cls(codes, kept)

    @staticmethod
    def concat(parts: Sequence[Dictionary]) -> Dictionary:
        first = parts[0].values
        if all(part.values is first for part in parts):
            return Dictionary(np.concatenate([part.codes for part in parts]), first)
        return Dictionary.encode(np.concatenate([part.decode() for part in parts]))


Column = Array | Dictionary


class Rows(Mapping[str, Column]):
    """A frozen mapping from a column's name to its values; every column has `count` rows.

    A column is a NumPy array (its first axis is the row; an image column is [n, h, w, c]) or a Dictionary (text).
    Null is NaN in float columns, NaT in time columns and None in object columns.
    """

    __slots__ = ("_columns", "count")

    def __init__(self, columns: Mapping[str, Column], count: int | None = None) -> None:
        self._columns = dict(columns)
        for column in self._columns.values():
            if count is None:
                count = len(column)
            elif len(column) != count:
                sizes = ", ".join(f"{name}: {len(each)}" for name, each in self._columns.items())
                raise ValueError(f"columns of one length are needed, not {sizes}")
        self.count: int = count or 0

    @overload
    def __getitem__(self, name: str) -> Column: ...
    @overload
    def __getitem__(self, name: slice) -> Rows: ...
    def __getitem__(self, name: str | slice) -> Column | Rows:
        if isinstance(name, slice):
            return Rows({key: column[name] for key, column in self._columns.items()})
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """The number of columns, as of any mapping; the number of rows is `count`."""
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Rows({self.count} rows: {', '.join(self._columns)})"

    def array(self, name: str) -> Array:
        """The column as a plain array: a Dictionary is decoded."""
        column = self._columns[name]
        return column.decode() if isinstance(column, Dictionary) else column

    def slice(self, start: int, stop: int) -> Rows:
        return self[start:stop]

    def take(self, places: Array) -> Rows:
        """The rows at these places (indices, or a boolean mask)."""
        return Rows({name: column[places] for name, column in self._columns.items()})

    def select(self, names: Sequence[str]) -> Rows:
        return Rows({name: self._columns[name] for name in names}, self.count)

    @staticmethod
    def concat(parts: Sequence[Rows]) -> Rows:
        """The parts one after another; every part has the first one's columns."""
        if len(parts) == 1:
            return parts[0]
        return Rows({name: _join([part[name] for part in parts]) for name in parts[0]})


def _join(columns: Sequence[Column]) -> Column:
    if all(isinstance(column, Dictionary) for column in columns):
        return Dictionary.concat([column for column in columns if isinstance(column, Dictionary)])
    return np.concatenate([column.decode() if isinstance(column, Dictionary) else column for column in columns])
