"""Damage: what becomes of a file's bytes: bits flipped, parts lost, doubled and swapped, lengths changed."""

from __future__ import annotations

import random

EXTREMES = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def changed(data: bytes, chance: random.Random) -> bytes:
    """Damaged, and not by chance the same again."""
    while (other := damaged(data, chance)) == data:
        pass
    return other


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The same with one to three faults."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        chance.choice(FAULTS)(out, chance)
    return bytes(out)


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(1, max(2, len(data))) :]


def _lose(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randint(1, 64)]
    data.extend(b"\0" * (not data))


def _double(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start:start] = data[start : start + chance.randint(1, 256)]


def _swap(data: bytearray, chance: random.Random) -> None:
    length = chance.randint(1, 32)
    one, other = chance.randrange(len(data)), chance.randrange(len(data))
    data[one : one + length], data[other : other + length] = data[other : other + length], data[one : one + length]


def _length(data: bytearray, chance: random.Random) -> None:
    """Whatever stands there as a number of four or eight bytes, or in digits, is another."""
    start = chance.randrange(len(data))
    if chr(data[start]).isdigit():
        data[start : start + 1] = str(chance.choice(EXTREMES)).encode()
    else:
        size = chance.choice((4, 8))
        data[start : start + size] = chance.choice(EXTREMES).to_bytes(size, "little")


FAULTS = (_flip, _cut, _lose, _double, _swap, _length)
