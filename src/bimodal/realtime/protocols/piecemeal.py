"""A long JSON body, decoded piece by piece: between two pieces the event loop answers others.

16 MB of JSON take a fifth of a second to decode, with the interpreter's lock held: no other request, and no question
after the server's health, would be answered meanwhile. So a body of rows (of `/predict`, or in MLflow's or TensorFlow's
words) is cut between two rows, and each piece is decoded as a small body with the same beginning. What cannot be cut so
(other letters than ASCII, or escaped ones), or does not fit the generated type, goes the ordinary way, as a whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any, Protocol

import msgspec

from bimodal.realtime import gather
from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.protocols import choice
from bimodal.realtime.protocols.underway import Underway
from bimodal.realtime.service import Served
from bimodal.realtime.work import Door, Work
from bimodal.rows import Rows

LONG = 1 << 20  # bytes of a body that is decoded in pieces
PIECE = 1 << 17  # bytes of a piece: about a millisecond

_KEYS = ("input", "rows", "instances", "inputs", "dataframe_records", "dataframe_split")
_begin = re.compile(
    rb'\s*\{\s*(?:"(?:input|rows|instances|inputs|dataframe_records)"|"dataframe_split"\s*:\s*(?P<split>\{\s*)'
    rb'(?:"index"\s*:\s*\[[^\[\]"]*\]\s*,\s*)?(?P<columns>"columns"\s*:\s*\[[^\[\]]*\]\s*,\s*)?"data")'
    rb"\s*:\s*\[(?=\s*(?P<row>[\[{]))"
).match
_ends = {b"[": b"],", b"{": b"},"}
_MARKS = [each.encode() for each in _KEYS]


def pieces(data: bytes, size: int | None = None) -> Iterator[bytes]:
    """Small bodies with the rows of a long one, in order; what stands after the rows is in the last. A body that looks
    otherwise is its own only piece.

    A text that holds the end of a row may be cut through: that piece is no JSON then, whatever follows.
    """
    size = PIECE if size is None else size
    found = _begin(data)
    if found is None:
        yield data
        return
    head, end, at, close = data[: found.end()], _ends[found["row"]], found.end(), b"]}"
    if found["split"]:
        close = b"]}}"
    while len(data) - at > size:
        cut = data.find(end, at + size)
        if cut < 0:
            break
        yield head + data[at : cut + 1] + close
        at = cut + len(end)
        if found["split"]:  # the first piece has the index, which may be long
            head = b'{"dataframe_split":{%b"data":[' % (found["columns"] or b"")
    yield head + data[at:]


def _is_plain(piece: bytes) -> bool:
    """Whether a piece says no more than its own rows: nothing in it can be read as a second list of rows, of which the
    last one would count.
    """
    if not piece.isascii() or b"\\u" in piece or sum([piece.count(b'"%b"' % key) for key in _MARKS]) != 1:
        return False
    return b'"dataframe_split"' not in piece or (piece.count(b'"data"') == 1 and piece.count(b'"columns"') <= 1)


class Part(msgspec.Struct, gc=False):
    """What a piece holds: values for its gather, of `count` rows; the names of their values, where the rows tell them
    and their order counts; what is asked for; and the `extra` of the work.
    """

    gather: gather.Gather
    values: list[Any]
    count: int
    outputs: Sequence[str] | None = None
    threshold: float | None = None
    names: list[str] = []
    extra: Any = None


class Cutting(Door, Protocol):
    """A door whose bodies are cut."""

    @property
    def served(self) -> Served: ...

    def part(self, piece: bytes) -> Part | None:
        """A small body; None: the full verdict must look at the whole."""

    def bound(self, count: int) -> None:
        """Raise TooLarge for more rows than a request may have."""

    def taken(self, request: Request, respond: Respond) -> Work:
        """The whole request as a work."""


class Piecemeal(Underway):
    """One such request."""

    def __init__(self, door: Cutting, request: Request, respond: Respond) -> None:
        super().__init__(door, request, respond)
        self._cutting = door

    async def taken(self) -> Work:
        work = await self._in_pieces()
        return self._cutting.taken(self.request, self.respond) if work is None else work

    async def _in_pieces(self) -> Work | None:
        """The request as a work, or None where it has to be looked at as a whole. Raises InputError, UsageError."""
        door, request, start = self._cutting, self.request, monotonic()
        served = door.served
        deadline = start + choice.seconds(request.headers, served.limits.deadline)
        if request.query or served.ragged:
            return None
        parts: list[Rows] = []
        parse, count = 0.0, 0
        names: list[str] | None = None
        asked: list[Any] = []
        for piece in pieces(request.body):
            began = monotonic()
            part = door.part(piece) if _is_plain(piece) else None
            if part is None or any(asked) or names not in (None, part.names):
                return None
            count += part.count
            door.bound(count)
            rows = part.gather([part.values])
            if rows is None or rows.count != part.count:
                return None
            names, extra = part.names, part.extra
            asked = [part.outputs, part.threshold]  # told with the last rows, or not at all
            parts.append(rows)
            parse += monotonic() - began
            await asyncio.sleep(0)
        key = served.choose(*asked)
        rows = Rows.concat(parts)
        now = monotonic()
        return Work(door, request, self.respond, gather.ready, [rows], rows.count, key, deadline, now, parse, extra)
