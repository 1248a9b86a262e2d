"""Thrift's compact protocol: a struct as a tree, and back to the same bytes. What Parquet's footer is written in.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. A struct is a dict from a
field's number to a Value; a list (or set) is a Sequence of values without their kinds; a map is not read, as no part of
a Parquet footer has one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)
NUMBERS = (I16, I32, I64)
LONG = 15  # a list of so many values or more tells its length apart
FIXED = {BYTE: 1, DOUBLE: 8, UUID: 16}  # kinds that take so many bytes, kept as they stand


@dataclass(slots=True)
class Value:
    """A field's value and its kind. Booleans are kinds of their own."""

    kind: int
    value: Any = None


@dataclass(slots=True)
class Sequence:
    """The values of a list, all of one kind."""

    kind: int
    values: list[Any] = field(default_factory=list)


Tree = dict[int, Value]


class Reader:
    """From bytes to a tree. Raises ValueError (IndexError at their end) for what is no such struct."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self._data, self.place = data, place

    def struct(self) -> Tree:
        tree: Tree = {}
        number = 0
        while (first := self._byte()) != 0:
            kind, step = first & 15, first >> 4
            number = number + step if step else self._signed()
            tree[number] = Value(kind, self._value(kind))
        return tree

    def _value(self, kind: int) -> Any:
        if kind in NUMBERS:
            return self._signed()
        if kind == BINARY:
            return self._take(self._unsigned())
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, SET):
            return self._sequence()
        if kind in (TRUE, FALSE):
            return None
        if kind in FIXED:
            return self._take(FIXED[kind])
        raise ValueError(f"a value of kind {kind}")

    def _sequence(self) -> Sequence:
        first = self._byte()
        kind, count = first & 15, first >> 4
        count = self._unsigned() if count == LONG else count
        if kind in (TRUE, FALSE):  # in a list a boolean is a byte
            return Sequence(kind, [self._byte() for _ in range(count)])
        return Sequence(kind, [self._value(kind) for _ in range(count)])

    def _byte(self) -> int:
        byte = self._data[self.place]
        self.place += 1
        return byte

    def _take(self, count: int) -> bytes:
        taken = self._data[self.place : self.place + count]
        if len(taken) < count:
            raise ValueError("the bytes end in the middle")
        self.place += count
        return taken

    def _unsigned(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 128:
            number |= (byte & 127) << shift
            shift += 7
        return number | byte << shift

    def _signed(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)


class Writer:
    """From a tree to bytes. A struct in it may stand as the bytes it is to have."""

    def __init__(self) -> None:
        self.data = bytearray()

    def struct(self, tree: Tree) -> None:
        before = 0
        for number, each in sorted(tree.items()):
            if 0 < number - before < 16:
                self.data.append((number - before) << 4 | each.kind)
            else:
                self.data.append(each.kind)
                self._signed(number)
            self._value(each.kind, each.value)
            before = number
        self.data.append(0)

    def _value(self, kind: int, value: Any) -> None:
        if kind in NUMBERS:
            self._signed(value)
        elif kind == BINARY:
            self._unsigned(len(value))
            self.data += value
        elif kind == STRUCT and isinstance(value, bytes):
            self.data += value
        elif kind == STRUCT:
            self.struct(value)
        elif kind in (LIST, SET):
            self._sequence(value)
        elif kind in FIXED:
            self.data += value

    def _sequence(self, sequence: Sequence) -> None:
        count = len(sequence.values)
        self.data.append(min(count, LONG) << 4 | sequence.kind)
        if count >= LONG:
            self._unsigned(count)
        if sequence.kind in (TRUE, FALSE):
            self.data += bytes(sequence.values)
            return
        for value in sequence.values:
            self._value(sequence.kind, value)

    def _unsigned(self, number: int) -> None:
        while number > 127:
            self.data.append(number & 127 | 128)
            number >>= 7
        self.data.append(number)

    def _signed(self, number: int) -> None:
        self._unsigned(number << 1 if number >= 0 else (-number << 1) - 1)


def read(data: bytes) -> Tree:
    """A struct that begins with the first byte."""
    return Reader(data).struct()


def write(tree: Tree) -> bytes:
    """A struct as bytes."""
    writer = Writer()
    writer.struct(tree)
    return bytes(writer.data)
