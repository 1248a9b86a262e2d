"""`/predict` in NDJSON: a row a line, answered as the lines come, in their order; a bad line is answered by its error.

Several lines that have come together are predicted in one call. While the caller does not read its answers, or the
model is behind, no more is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol, runtime_checkable

import msgspec

from bimodal.errors import (
    BimodalError,
    InputError,
    ModelCrashed,
    ModelFailed,
    Overloaded,
    TooLarge,
)
from bimodal.realtime import faults, gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.exchange import Intake, Request, Respond, Response, Writer
from bimodal.realtime.failure import described
from bimodal.realtime.origin import Part, named
from bimodal.realtime.protocols import body, choice
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.service import Served
from bimodal.rows import Rows
from bimodal.signature import require

log = logging.getLogger("bimodal.realtime")

NDJSON = b"application/x-ndjson"
TOGETHER = 1000  # lines of one call at most
HIGH, LOW = 1 << 20, 1 << 18  # bytes of lines that wait: no more is read above HIGH, until LOW
LONGEST = 1 << 20  # bytes of one line
BEHIND = 0.02  # seconds before a stream asks again whether the model has room

Cancel = Callable[[], None]


@runtime_checkable
class Pausing(Protocol):
    """A Writer whose wire can read no further for a while; behind others the limit of the body bounds a stream."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class LinesDoor:
    """Streams of lines for one model."""

    route = "stream"
    content_type = NDJSON

    def __init__(self, served: Served) -> None:
        self.served = served
        self._encode = msgspec.json.Encoder(enc_hook=plain).encode

    def stream(self, request: Request, writer: Writer) -> Intake | None:
        """The taker of a stream, or None where the whole request is to be refused."""
        try:
            return Lines(self, request, writer)
        except BimodalError:
            return None

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        """A body that came as a whole."""
        try:
            lines = Lines(self, request, Whole(respond))
        except BimodalError as error:
            self.served.refuse(self.route, request, respond, error)
            return None
        lines.feed(request.body)
        lines.finish()
        return lines.abort

    def recheck(self, work: Work) -> Rows:
        raise InputError("the rows do not fit the model")  # not reached: lines are judged one by one

    def fail(self, work: Work, error: BaseException) -> None:
        work.respond(error)

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        names = [name for name, _ in answer.lists]
        columns = [values[start:stop] for _, values in answer.lists]
        kept: Sequence[dict[str, Any]] = work.extra
        return b"\n".join(
            [
                self._encode({**extra, **dict(zip(names, values, strict=True))})
                for extra, *values in zip(kept, *columns, strict=True)
            ]
        )


class Lines:
    """One stream: takes the pieces of a body, writes the lines of the answer."""

    def __init__(self, door: LinesDoor, request: Request, writer: Writer) -> None:
        asked = choice.of_query(request.query)
        self._door = door
        self._name = named(request)
        self._served = door.served
        self._signature = door.served.signature
        self._keep = asked.keep
        self._span = choice.seconds(request.headers, door.served.limits.deadline)  # of the answer to each line
        self._key = door.served.choose(asked.outputs, asked.threshold)
        self._writer = writer
        self._rest = b""
        self._skips = False  # up to the end of a line that is refused as too long
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._row = 0
        self._whole = False
        self._cut = b""  # the last line of an answer whose body was cut
        self._paused = False
        self._more = asyncio.Event()
        self._work: Work | None = None
        self._release = self._served.hold()  # another version may take its place meanwhile
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(lambda _: self._release())

    def feed(self, piece: bytes) -> None:
        if self._skips:
            _, end, piece = piece.partition(b"\n")
            if not end:
                return
            self._skips = False
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LONGEST:
            lines.append(self._rest)  # its one error tells of the whole line
            self._rest, self._skips = b"", True
        for line in lines:
            if len(line) > LONGEST or line.strip():
                self._lines.append(line)
                self._size += len(line)
        if lines:
            self._more.set()
        if self._size > HIGH and not self._paused and isinstance(self._writer, Pausing):
            self._paused = True
            self._writer.pause()

    def finish(self) -> None:
        if self._rest.strip():
            self._lines.append(self._rest)
        self._whole = True
        self._more.set()

    def cut(self, code: str, sentence: str) -> None:
        self._rest = b""  # half a line is no row
        self._cut = msgspec.json.encode({"error": sentence, "code": code}) + b"\n"
        self._whole = True
        self._more.set()

    def abort(self) -> None:
        self._task.cancel()
        if self._work is not None:
            self._work.cancel()

    async def _run(self) -> None:
        self._writer.start(Response(200, b"", NDJSON))
        try:
            while await self._any():
                lines = [self._lines.popleft() for _ in range(min(len(self._lines), TOGETHER))]
                self._size -= sum(map(len, lines))
                if self._paused and self._size < LOW and isinstance(self._writer, Pausing):
                    self._paused = False
                    self._writer.resume()
                self._writer.write(await self._answered(lines))
                await self._writer.ready()
        except Exception as error:  # a fault of ours: an answer that ends here must not look whole
            log.exception("a stream failed")
            self._cut = msgspec.json.encode(described(error)) + b"\n"
        self._writer.write(self._cut)
        self._served.ledger.streamed()
        self._writer.end()

    async def _any(self) -> bool:
        """Wait for lines; False at the end of the body."""
        while not self._lines:
            if self._whole:
                return False
            self._more.clear()
            await self._more.wait()
        return True

    async def _answered(self, lines: Sequence[bytes]) -> bytes:
        """The answers to some lines, a line each."""
        first = self._row + 1
        self._row += len(lines)
        answers: list[bytes] = [b""] * len(lines)
        good: list[int] = []
        parts: list[Rows] = []
        extras: list[dict[str, Any]] = []
        for place, line in enumerate(lines):
            try:
                rows, extra = self._judged(line)
            except Exception as error:  # a fault of ours too is told of its line, and costs its neighbours nothing
                answers[place] = self._error(error, first + place)
            else:
                good.append(place)
                parts.append(rows)
                extras.append(extra)
        for group in _alike(parts):
            rows = Rows.concat([parts[i] for i in group])
            places = [good[i] for i in group]
            told = await self._predicted(rows, [extras[i] for i in group], [first + place for place in places])
            for place, answer in zip(places, told, strict=True):
                answers[place] = answer
        return b"\n".join(answers) + b"\n"

    def _judged(self, line: bytes) -> tuple[Rows, dict[str, Any]]:
        if len(line) > LONGEST:
            raise TooLarge(f"the line is over {LONGEST} bytes")
        record = body.decode(line.strip(), self._served.limits.depth)
        rows, _, problems = self._signature.check([record])
        require(problems)
        if not self._keep or not isinstance(record, dict):
            return rows, {}
        asked = choice.Choice(keep=self._keep)
        return rows, {name: record[name] for name in asked.kept(self._signature.spare(list(record)), self._key[0])}

    async def _predicted(self, rows: Rows, extras: list[dict[str, Any]], numbers: list[int]) -> list[bytes]:
        """The answers to rows; if the model fails (or what is ours), its halves are tried, down to the guilty row."""
        try:
            return (await self._call(rows, extras, numbers)).split(b"\n")
        except Exception as error:
            if isinstance(error, BimodalError) and not isinstance(error, ModelFailed | ModelCrashed):
                return [self._error(error, number) for number in numbers]
            if rows.count == 1:
                return [self._error(error, numbers[0])]
            half = rows.count // 2
            first = await self._predicted(rows.slice(0, half), extras[:half], numbers[:half])
            return first + await self._predicted(rows.slice(half, rows.count), extras[half:], numbers[half:])

    async def _call(self, rows: Rows, extras: list[dict[str, Any]], numbers: list[int]) -> bytes:
        """One call of the model. A stream waits for room where a single request would be refused."""
        deadline = monotonic() + self._span
        part = Part(self._name, numbers)
        while True:
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            now = monotonic()
            key = self._served.lane(self._key, rows)
            self._work = Work(
                self._door, part, _teller(answer), gather.ready, [rows], rows.count, key, deadline, now, 0.0, extras
            )
            try:
                self._served.batcher.submit(self._work)
            except Overloaded:
                if now + BEHIND >= deadline:
                    raise
                await asyncio.sleep(BEHIND)
            else:
                return await answer

    def _error(self, error: BaseException, row: int) -> bytes:
        """The line of a row that has no prediction."""
        faults.tell(error, f"line {row} of a stream")
        if not isinstance(error, BimodalError):
            log.error("line %d of a stream failed", row, exc_info=error)
        told = described(error)
        message = str(told["error"]).removeprefix("row 1, ").removeprefix("row 1: ")
        return msgspec.json.encode({**told, "error": message, "row": row})


def _teller(answer: asyncio.Future[bytes]) -> Callable[[Any], None]:
    def tell(response: Response | BaseException) -> None:
        if answer.done():
            return
        if isinstance(response, BaseException):
            answer.set_exception(response)
        else:
            answer.set_result(response.body)

    return tell


def _shape(rows: Rows) -> list[int]:
    return [size for name in rows for size in rows.array(name).shape[1:]]


def _alike(parts: Sequence[Rows]) -> list[list[int]]:
    """The places of rows of one shape; a model that takes any width may get several."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, rows in enumerate(parts):
        groups.setdefault(tuple(_shape(rows)), []).append(place)
    return list(groups.values())


class Whole:
    """A Writer that answers a whole body at once."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._pieces: list[bytes] = []

    def start(self, response: Response) -> None:
        self._response = response
        self._pieces.append(response.body)

    def write(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def end(self) -> None:
        self._response.body = b"".join(self._pieces)
        self._respond(self._response)

    async def ready(self) -> None:
        await asyncio.sleep(0)
