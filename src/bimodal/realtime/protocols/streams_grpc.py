"""ModelStreamInfer: many requests over one call. Each is answered, in their order, by one response, or by several where
the model answers in pieces; a request that is refused is answered by its error, and the stream goes on.

Requests that come together are predicted together. While the caller does not read its answers, or the model is behind,
no more is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import Any

from bimodal.errors import BimodalError, Overloaded, Unavailable
from bimodal.messages.pool import message
from bimodal.realtime import faults
from bimodal.realtime.batcher import Work
from bimodal.realtime.calls import Call
from bimodal.realtime.exchange import Response
from bimodal.realtime.note import Note
from bimodal.realtime.protocols import statuses
from bimodal.realtime.protocols.inference_grpc import Inference
from bimodal.realtime.protocols.pieces_grpc import Pieces
from bimodal.realtime.protocols.tensor_bytes import field
from bimodal.realtime.protocols.tensor_messages import Request, fill, parsed

log = logging.getLogger("bimodal.realtime")

OPEN = 64  # requests of one stream whose answers are not written
HIGH, LOW = 1 << 20, 1 << 18  # bytes of requests that wait: no more is read above HIGH, until LOW
BEHIND = 0.02  # seconds before a stream asks again whether the model has room
ASKS = b"triton_enable_empty_final_response"  # a parameter: the last answer is to say so
FINAL = field(4, field(1, b"triton_final_response") + field(2, b"\x08\x01"))  # of a ModelInferResponse

_Response = message("inference.ModelStreamInferResponse")


class Streams:
    """The method."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def __call__(self, call: Call) -> Stream:
        return Stream(self._inference, call)


class Place:
    """Where the answer to one request goes. told: the message, once there is one."""

    def __init__(self, stream: Stream, data: bytes) -> None:
        self._stream = stream
        self.data = data
        self.told: bytes | None = None
        self.work: Work | None = None
        self.pieces: Pieces | None = None
        self.received = monotonic()
        self.until = self.received + stream.patience
        self.final = ASKS in data and _asks(data)

    @property
    def metadata(self) -> Mapping[bytes, bytes]:
        """The caller's."""
        return self._stream.metadata

    @property
    def name(self) -> bytes | None:
        """The id of the call."""
        return self._stream.name

    def __call__(self, response: Response) -> None:
        self._tell(field(2, response.body + FINAL if self.final else response.body))

    def fail(self, error: BaseException, note: Note | None = None) -> None:
        if not isinstance(error, BimodalError):
            log.error("a request of a stream failed", exc_info=error)
        self._tell(told(error, self.data))

    def _tell(self, message: bytes) -> None:
        self.told = message
        self._stream.wake.set()


class Stream:
    """One call: `calls.Messages`."""

    def __init__(self, inference: Inference, call: Call) -> None:
        self._inference = inference
        self._call = call
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._places: deque[Place] = deque()
        self._whole = False
        self._paused = False
        self._behind: asyncio.TimerHandle | None = None
        self.patience = inference.limits.deadline
        self.wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

        self._leaving = inference.leaving
        self._leaving.add(self.wake.set)

    @property
    def metadata(self) -> Mapping[bytes, bytes]:
        """The caller's."""
        return self._call.metadata

    @property
    def name(self) -> bytes | None:
        """The id of the call."""
        return self._call.name

    def feed(self, message: bytes) -> None:
        self._waiting.append(message)
        self._size += len(message)
        self._begin()

    def finish(self) -> None:
        self._whole = True
        self.wake.set()

    def abort(self) -> None:
        self._leaving.discard(self.wake.set)
        self._task.cancel()
        if self._behind is not None:
            self._behind.cancel()
        for each in self._places:
            if each.work is not None:
                each.work.cancel()
            if each.pieces is not None:
                each.pieces.release()

    def _begin(self) -> None:
        """Put requests on their way while there is room, then read on or not."""
        while self._waiting and len(self._places) < OPEN and self._behind is None:
            data = self._waiting.popleft()
            self._size -= len(data)
            place = Place(self, data)
            self._places.append(place)
            self._try(place)
        full = self._size > HIGH or (self._size > LOW and self._paused) or len(self._waiting) > OPEN
        if full != self._paused:
            self._paused = full
            (self._call.pause if full else self._call.resume)()
        self.wake.set()

    def _try(self, place: Place) -> None:
        """Ask the model; where it has no room, again a little later, and nobody behind goes first."""
        self._behind = None
        try:
            place.pieces = self._inference.pieces(place.data)
            if place.pieces is None:
                place.work = self._inference.begin(place, place.data, self._call.deadline, patient=True)
        except Overloaded as error:
            if monotonic() + BEHIND < min(place.until, self._call.deadline):
                self._behind = asyncio.get_running_loop().call_later(BEHIND, self._again, place)
            else:
                self._inference.refuse(None, place, error)
        except Exception as error:
            self._inference.refuse(None, place, error)

    def _again(self, place: Place) -> None:
        self._try(place)
        self._begin()

    async def _run(self) -> None:
        try:
            while await self._any():
                place = self._places[0]
                if place.pieces is not None:
                    await self._give(place, place.pieces)
                else:
                    self._call.write(place.told or b"")
                self._places.popleft()
                await self._call.ready()
                self._begin()
            if self._whole:
                self._call.end()
            else:
                statuses.fail(self._call, Unavailable("the server is shutting down; ask another"))
        except Exception as error:
            statuses.fail(self._call, error)
        finally:
            self._leaving.discard(self.wake.set)

    async def _any(self) -> bool:
        """Wait for the answer to the first request; False at the end, and where the server drains and all is said."""
        while True:
            if self._places and (self._places[0].told is not None or self._places[0].pieces is not None):
                return True
            if not self._places and not self._waiting and (self._whole or self._inference.draining):
                return False
            self.wake.clear()
            await self.wake.wait()

    async def _give(self, place: Place, pieces: Pieces) -> None:
        """The answers of a model that gives several."""
        try:
            silent = not place.final
            async for each in pieces.responses(self._call.deadline):
                silent = False
                self._call.write(field(2, each))
                await self._call.ready()
            if place.final:
                self._call.write(field(2, pieces.nothing + FINAL))
            elif silent:  # the caller waits for an answer
                self._call.write(field(2, pieces.nothing))
        except BimodalError as error:
            self._call.write(told(error, place.data))
        finally:
            await pieces.close()


def told(error: BaseException, data: bytes) -> bytes:
    """The message that tells what is wrong with a request; its id, the code and the place are in the response."""
    faults.tell(error, "a request of a stream")
    response: Any = _Response(error_message=statuses.told(error))
    code = error.code if isinstance(error, BimodalError) else "internal"
    place = {"error_row": getattr(error, "row", None), "error_column": getattr(error, "column", None)}
    fill(
        response.infer_response.parameters,
        {"error_code": code, **{name: value for name, value in place.items() if value is not None}},
    )
    try:
        request = parsed(Request, data)
    except BimodalError:
        pass  # it is no request: it has no id
    else:
        response.infer_response.id = request.id
        response.infer_response.model_name = request.model_name
    message: bytes = response.SerializeToString()
    return message


def _asks(data: bytes) -> bool:
    """Whether the parameter is there, and true."""
    try:
        request = parsed(Request, data)
    except BimodalError:
        return False
    return bool(request.parameters[ASKS.decode()].bool_param) if ASKS.decode() in request.parameters else False
