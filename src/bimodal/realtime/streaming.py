"""Answers in pieces, for every wire: opened within bounds, given as they are taken, stopped when the caller leaves.

The deadline is that of the first piece; after it each further piece has as long again, counted from when it is asked
for, so a slow reader costs the model no time. For who wants the whole answer it is that of the whole, which is bounded
by the longest body. At most `runtime.streams` answers of a model are open side by side; one
more is refused at once. A place is free again when the model has let go of it: a model that computes a long piece for
a caller who left holds its place until that piece is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

from bimodal.errors import BimodalError, DeadlineExceeded, InputError, Overloaded, Unavailable
from bimodal.model import Model
from bimodal.realtime import faults, gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Batcher, Key, Work
from bimodal.realtime.failure import status
from bimodal.realtime.layout import STREAM
from bimodal.realtime.ledger import Ledger
from bimodal.realtime.limits import Limits
from bimodal.rows import Rows
from bimodal.runtimes.collected import Room
from bimodal.runtimes.process import ProcessRuntime
from bimodal.runtimes.streams import LoopStream

PARTING = 1.0  # seconds in which a model may let go of what it streams, before it is closed


class Streams:
    """The open answers of one model. All calls come from the event loop's thread.

    hold: keeps the model until what it returns is called.
    """

    def __init__(
        self,
        model: Model,
        batcher: Batcher,
        ledger: Ledger,
        limits: Limits,
        hold: Callable[[], Callable[[], None]],
    ) -> None:
        self.open = 0  # of these answers, those that the model has not let go of
        self.hold = hold
        self.ledger = ledger
        self._model = model
        self._batcher = batcher
        self._longest = limits.deadline
        self._most = limits.body_bytes
        self._stopped = False
        self._vacant: asyncio.Event | None = None
        self._pieces: set[Pieces] = set()

    def begin(self, rows: Rows, key: Key, deadline: float, *, whole: bool = False) -> Pieces:
        """The answer to rows. whole: told at its end. Raises InputError, Overloaded, Unavailable."""
        span = min(deadline - monotonic(), self._longest)
        if not self._model.streams:
            return Pieces(self, _Whole(self._batcher, rows, key, monotonic() + span), span)
        if rows.count != 1:
            raise InputError(f"this model answers one row in pieces; {rows.count} were given")
        runtime = _runtime(self._model)
        if self._stopped:
            raise self.failed(Unavailable("the server is shutting down"))
        if not runtime.places.take():
            raise self.failed(Overloaded(f"this model gives {runtime.streams} answers at once; try again later"))
        self.open += 1
        room = Room(self._most) if whole else None
        return Pieces(self, _Streamed(self._model, rows, key, self._leave), span, room)

    def failed(self, error: Exception, seconds: float = 0.0) -> Exception:
        """Count what has no answer, or no whole one, so many seconds after it was asked for."""
        faults.of(error, self._model)
        code = error.code if isinstance(error, BimodalError) else "internal"
        self.ledger.refused(STREAM, status(error), code, seconds)
        return error

    def _leave(self) -> None:
        self.open -= 1
        _runtime(self._model).places.leave()
        if not self.open and self._vacant is not None:
            self._vacant.set()

    def enter(self, pieces: Pieces) -> None:
        self._pieces.add(pieces)

    def over(self, pieces: Pieces) -> None:
        """Nothing more comes of it."""
        self._pieces.discard(pieces)

    async def stop(self) -> None:
        """Refuse what comes, stop what is open."""
        self._stopped = True
        for each in list(self._pieces):
            each.close()
        if self.open:
            self._vacant = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._vacant.wait(), PARTING)


class Pieces(AsyncIterator[Rows]):
    """One answer: iterate to its end, or close it. Raises ModelFailed, ModelCrashed, DeadlineExceeded.

    span: seconds to its first piece. room: of an answer that is told as a whole, whose span is that of all pieces.
    """

    def __init__(self, streams: Streams, given: _Streamed | _Whole, span: float, room: Room | None = None) -> None:
        self._streams = streams
        self._given = given
        self._span = span
        self._room = room
        self._began = monotonic()
        self._deadline = self._began + span
        self._over = False
        self._release = streams.hold()
        streams.enter(self)

    async def __anext__(self) -> Rows:
        if self._over:
            raise StopAsyncIteration
        asked = monotonic()
        limit = self._deadline if self._deadline < math.inf else asked + self._span
        try:
            async with asyncio.timeout(limit - asked):
                if self._room is not None:
                    await asyncio.sleep(0)  # a model that is quicker than this loop must not keep it
                piece = await self._given.next()
            if self._room is not None and piece is not None:
                self._room.take(piece)
        except TimeoutError:
            raise self._failed(DeadlineExceeded("the model gave nothing more within the deadline")) from None
        except Exception as error:
            self._failed(error)
            raise
        except BaseException:
            self.close()
            raise
        if self._room is None:
            self._deadline = math.inf
        if piece is None:
            self._streams.ledger.streamed()
            self.close()
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        """Stop the model; nothing where it has ended."""
        if not self._over:
            self._over = True
            self._streams.over(self)
            self._given.close()
            self._release()

    async def aclose(self) -> None:
        self.close()

    def _failed(self, error: Exception) -> Exception:
        self.close()
        return self._streams.failed(error, monotonic() - self._began)


class _Streamed:
    """From a model that streams."""

    def __init__(self, model: Model, rows: Rows, key: Key, leave: Callable[[], None]) -> None:
        self._model = model
        self._rows = rows
        self._outputs = key[0]
        self._leave = leave
        self._stream: LoopStream | None = None
        self._left = False

    async def next(self) -> Rows | None:
        if self._stream is None:
            self._stream = await _runtime(self._model).stream_async(self._rows, self._outputs, self._leave)
        return await anext(self._stream, None)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        elif not self._left:  # it was never opened, or could not be
            self._left = True
            self._leave()


class _Whole:
    """The one piece of a model that does not stream; its call is shared with other requests."""

    route = STREAM
    content_type = b""

    def __init__(self, batcher: Batcher, rows: Rows, key: Key, deadline: float) -> None:
        self._batcher = batcher
        self._deadline = deadline
        self._rows = rows
        self._key = key
        self._answer: asyncio.Future[Rows] | None = None
        self._work: Work | None = None

    async def next(self) -> Rows | None:
        if self._answer is not None:
            return None
        self._answer = asyncio.get_running_loop().create_future()
        rows, key = self._rows, self._key
        self._work = Work(
            self, None, _ignore, gather.ready, [rows], rows.count, key, self._deadline, queued=monotonic()
        )
        self._batcher.submit(self._work)
        return await self._answer

    def close(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer.outputs.slice(start, stop))
        return b""

    def recheck(self, work: Work) -> Rows:
        raise InputError("the rows do not fit the model")  # not reached: they were judged

    def fail(self, work: Work, error: BaseException) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _runtime(model: Model) -> ProcessRuntime:
    assert isinstance(model.runtime, ProcessRuntime), "what streams is not compiled"
    return model.runtime


def _ignore(response: Any) -> None:
    """The answer was taken when it was encoded."""
