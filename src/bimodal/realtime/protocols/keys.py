"""What a lookup asks for: {"key": 17}, {"keys": [17, 18]}, each with or without its row; or a key in the path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from bimodal.errors import InputError, UsageError
from bimodal.field import kind, listed, nearest
from bimodal.predictions.contract import LONGEST, Edition
from bimodal.realtime import gather
from bimodal.realtime.protocols import body, choice
from bimodal.realtime.protocols.rows import too_many
from bimodal.rows import Rows
from bimodal.signature import Signature, require

TAKES = (
    'the body needs one of {"key": 17}, {"keys": [17, 18]}, {"key": 17, "row": {…}}, {"keys": [17, 18], "rows": [{…}, '
    "{…}]}"
)
WORDS = ("key", "keys", "row", "rows", "outputs")
INTEGER = re.compile(r"-?\d{1,19}")
HIGHEST = 2**63  # an integer key is below it, and not below its negative

Key = int | str


class Asked(msgspec.Struct):
    """One lookup. rows: those that were sent, judged, in the order of `places`: which of the keys they belong to."""

    keys: Sequence[Key]
    many: bool = False
    rows: Rows | None = None
    places: Sequence[int] = ()
    outputs: tuple[str, ...] | None = None

    @property
    def plain(self) -> bool:
        """One key, and nothing with it."""
        return not self.many and self.rows is None and self.outputs is None


class Reader:
    """Reads the bodies of one model's lookups."""

    def __init__(self, signature: Signature, depth: int, most: int) -> None:
        self._signature, self._depth, self._most = signature, depth, most
        plain = signature.named and gather.scalars(signature)
        row: Any = signature.row_type if plain else dict[str, Any]
        self._gather = gather.records(signature) if plain else None
        self._decode = msgspec.json.Decoder(
            msgspec.defstruct(
                "Body",
                [
                    ("key", int | str | None, None),
                    ("keys", list[int | str] | None, None),
                    ("row", row | None, None),
                    ("rows", list[row | None] | None, None),
                    ("outputs", list[str] | None, None),
                ],
                forbid_unknown_fields=True,
            )
        ).decode

    def of_body(self, data: bytes, query: str) -> Asked:
        """Raises InputError, UsageError. Says nothing of the keys' kind: that depends on the edition."""
        if data.isascii() and not query and (data.count(b"{") + data.count(b"[") <= self._depth):
            asked = self._fast(data)
            if asked is not None:
                return asked
        return self._judged(body.decode(data, self._depth), query)

    def records(self, data: bytes) -> list[Any]:
        """The rows as they were sent, null where none was, for what is collected."""
        told = msgspec.json.decode(data)
        rows = [told.get("row")] if "key" in told else told.get("rows")
        return rows or [None] * len(told["keys"])

    def judged(self, records: Sequence[Any]) -> Rows:
        """Rows as they were sent. Raises InputError."""
        rows, _, problems = self._signature.check(records)
        require(problems)
        return rows

    def _fast(self, data: bytes) -> Asked | None:
        """A body without fault whose rows need no further verdict; None for all others."""
        try:
            told: Any = self._decode(data)
        except body.BROKEN:
            return None
        if (told.key is None) == (told.keys is None):
            return None
        outputs = None if told.outputs is None else tuple(told.outputs)
        if told.row is None and told.rows is None:
            if told.keys is None:
                return Asked((told.key,), outputs=outputs) if _fits(told.key) else None
            good = told.keys and len(told.keys) <= self._most and all(map(_fits, told.keys))
            return Asked(told.keys, True, outputs=outputs) if good else None
        if told.row is None or told.key is None or told.rows is not None or self._gather is None:
            return None
        rows = self._gather([[told.row]])
        return Asked((told.key,), False, rows, (0,), outputs) if rows is not None and _fits(told.key) else None

    def _judged(self, told: Any, query: str) -> Asked:
        if not isinstance(told, dict):
            raise InputError(f"{kind(told)} is no body; {TAKES}")
        for word in told:
            near = nearest(word, WORDS) if word not in WORDS else None
            if near is not None:
                raise InputError(f'the body has no key "{near}", but one like it; did you mean "{near}"?')
            if word not in WORDS:
                raise InputError(f"the body has something else beside what a lookup takes; {TAKES}")
        many = "keys" in told
        if many == ("key" in told) or ("row" in told and many) or ("rows" in told and not many):
            raise InputError(TAKES)
        keys = told["keys"] if many else [told["key"]]
        if not isinstance(keys, list):
            raise InputError(f'"keys" needs a list of keys, not {kind(keys)}')
        if not keys:
            raise InputError('"keys" names no key')
        if len(keys) > self._most:
            raise too_many(self._most)
        for place, key in enumerate(keys, 1):
            _check(key, place if many else None)
        records = told.get("rows", [None] * len(keys)) if many else [told.get("row")]
        places, rows = self._rows(records, len(keys), many)
        asked = choice.of_body({"outputs": told.get("outputs")}).over(of_query(query))
        return Asked(keys, many, rows, places, asked.outputs)

    def _rows(self, records: Any, count: int, many: bool) -> tuple[list[int], Rows | None]:
        if not isinstance(records, list):
            raise InputError(f'"rows" needs a list of rows, not {kind(records)}')
        if len(records) != count:
            raise InputError(f"{len(records)} rows for {count} keys: send a row for each, null where there is none")
        places = [place for place, record in enumerate(records) if record is not None]
        if not places:
            return [], None
        rows, _, problems = self._signature.check([records[place] for place in places])
        if problems and many:
            problems = [each if each.row is None else each.at(places[each.row - 1] + 1) for each in problems]
        require(problems)
        return places, rows


def of_query(query: str) -> choice.Choice:
    """Of the parameters of an address, `outputs` alone counts here. Raises UsageError."""
    asked = choice.of_query(query)
    if asked.threshold is not None or asked.keep is not False:
        raise UsageError("a lookup takes ?outputs= alone: what is stored was predicted before")
    return asked


def typed(keys: Sequence[Key], edition: Edition | None, *, path: bool = False) -> Sequence[Key]:
    """The keys as the edition has them. path: they are text, whatever the edition's are. Raises InputError."""
    if edition is None:
        return keys
    if edition.kind == "int":
        if path:
            return [_integer(key) for key in keys]
        wrong = next((place for place, key in enumerate(keys, 1) if not isinstance(key, int)), None)
        needed = "an integer"
    else:
        wrong = next((place for place, key in enumerate(keys, 1) if not isinstance(key, str)), None)
        needed = "text"
    if wrong is not None:
        raise InputError(f"key {wrong} needs to be {needed}, as the keys of this model's results are")
    return keys


def chosen(outputs: tuple[str, ...] | None, stored: Sequence[str]) -> tuple[str, ...] | None:
    """The outputs that were asked for, of those stored; None for all. Raises UsageError."""
    if outputs is None or tuple(outputs) == tuple(stored):
        return None
    for name in outputs:
        if name not in stored:
            near = nearest(name, stored)
            raise UsageError(
                f"outputs: an output that is not stored; did you mean {near!r}?"
                if near
                else f"outputs: an output that is not stored; stored are {listed(list(stored))}"
            )
    if not outputs:
        raise UsageError(f"outputs names none; stored are {listed(list(stored))}")
    return tuple(dict.fromkeys(outputs))


def _integer(key: Key) -> int:
    if isinstance(key, int):
        return key
    if INTEGER.fullmatch(key) is None or not key.isascii() or not _fits(int(key)):
        raise InputError("the key in the path needs to be an integer, as the keys of this model's results are")
    return int(key)


def _fits(key: Key) -> bool:
    if type(key) is int:
        return -HIGHEST <= key < HIGHEST
    return type(key) is str and 0 < len(key) <= LONGEST


def _check(key: Any, place: int | None) -> None:
    where = '"key"' if place is None else f"key {place}"
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise InputError(f"{where} needs an integer or text, not {kind(key)}")
    if isinstance(key, int) and not _fits(key):
        raise InputError(f"{where} is no integer of 64 bits")
    if not _fits(key):
        raise InputError(f"{where} is empty" if not key else f"{where} is longer than {LONGEST} characters")
