"""A long JSON body, decoded piece by piece: between two pieces the event loop answers others.

16 MB of JSON take a fifth of a second to decode, with the interpreter's lock held: no other request, and no question
after the server's health, would be answered meanwhile. So a body of rows is cut between two rows, and each piece is
decoded as a small body with the same beginning. What cannot be cut so (other letters than ASCII, or escaped ones), or
does not fit the generated type, goes the ordinary way, as a whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from bimodal.realtime import gather
from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.protocols import choice
from bimodal.realtime.work import Work
from bimodal.rows import Rows

if TYPE_CHECKING:
    from bimodal.realtime.protocols.rows import Fast, RowsDoor

LONG = 1 << 20  # bytes of a body that is decoded in pieces
PIECE = 1 << 17  # bytes of a piece: about a millisecond

_begin = re.compile(rb'\s*\{\s*"(?:input|rows)"\s*:\s*\[(?=\s*([\[{]))').match
_ends = {b"[": b"],", b"{": b"},"}
_running: set[asyncio.Task[None]] = set()


def pieces(data: bytes, size: int = PIECE) -> Iterator[bytes]:
    """Small bodies with the rows of a long one, in order; what stands after the rows is in the last. A body that looks
    otherwise is its own only piece.

    A text that holds the end of a row may be cut through: that piece is no JSON then, whatever follows.
    """
    found = _begin(data)
    if found is None:
        yield data
        return
    head, end, at = data[: found.end()], _ends[found[1]], found.end()
    while len(data) - at > size:
        cut = data.find(end, at + size)
        if cut < 0:
            break
        yield head + data[at : cut + 1] + b"]}"
        at = cut + len(end)
    yield head + data[at:]


def _is_plain(piece: bytes) -> bool:
    """Whether a piece says no more than its own rows: nothing in it can be read as a second list of rows, of which the
    last one would count.
    """
    return piece.isascii() and b"\\u" not in piece and piece.count(b'"rows"') + piece.count(b'"input"') == 1


class Piecemeal:
    """One such request on its way to the model."""

    def __init__(self, door: RowsDoor, fast: Fast, request: Request, respond: Respond) -> None:
        self._door = door
        self._fast = fast
        self._request = request
        self._respond = respond
        self._work: Work | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    def cancel(self) -> None:
        """The caller left."""
        if self._work is not None:
            self._work.cancel()
        else:
            self._task.cancel()

    async def _run(self) -> None:
        door, request, respond = self._door, self._request, self._respond
        try:
            work = await self._taken()
            self._work = work = door.taken(request, respond) if work is None else work
            door.served.batcher.submit(work)
        except Exception as error:
            door.served.refuse(door.route, request, respond, error)

    async def _taken(self) -> Work | None:
        """The request as a work, or None where it has to be looked at as a whole. Raises InputError, UsageError."""
        door, fast, request, start = self._door, self._fast, self._request, monotonic()
        limits, served = door.served.limits, door.served
        deadline = start + choice.seconds(request.headers, limits.deadline)
        if request.query or served.ragged:
            return None
        parts: list[Rows] = []
        parse, count = 0.0, 0
        asked: list[Any] = []
        for piece in pieces(request.body):
            began = monotonic()
            told, values = fast.take(piece, limits.depth) if _is_plain(piece) else (None, [])
            if told is None or not values or any(asked):
                return None
            count += len(values)
            door.bound(count)
            rows = fast.gather([values])
            if rows is None or rows.count != len(values):
                return None
            asked = [told.outputs, told.threshold]  # told with the last rows, or not at all
            parts.append(rows)
            parse += monotonic() - began
            await asyncio.sleep(0)
        key = served.choose(*asked)
        rows = Rows.concat(parts)
        now = monotonic()
        return Work(door, request, self._respond, gather.ready, [rows], rows.count, key, deadline, now, parse)
