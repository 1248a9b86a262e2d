"""HTTP/2 by hand: frames as bytes, a connection without a socket, and what it says, taken apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import unpack

from hpack import Decoder, Encoder

from bimodal.realtime.http2 import frames
from bimodal.realtime.http2.connection import Connection
from bimodal.realtime.http2.fields import block, status
from bimodal.realtime.http2.frames import Code, frame
from bimodal.realtime.http2.heads import Head
from bimodal.realtime.http2.stream import Stream
from bimodal.realtime.limits import Limits

Fields = Sequence[tuple[bytes, bytes]]

GET: Fields = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"test"))
POST: Fields = ((b":method", b"POST"), *GET[1:])


def encoded(*fields: tuple[bytes, bytes]) -> bytes:
    """A header block that changes no table."""
    return bytes(Encoder().encode([(*each, True) for each in fields], huffman=False))


def headers(stream: int, fields: Fields = GET, flags: int = frames.END_HEADERS | frames.END_STREAM) -> bytes:
    return frame(frames.HEADERS, flags, stream, encoded(*fields))


def data(stream: int, content: bytes, flags: int = 0) -> bytes:
    return frame(frames.DATA, flags, stream, content)


@dataclass
class Said:
    """A frame that the server sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> Code:
        """Of a RST_STREAM or GOAWAY."""
        return Code(unpack(">I", self.payload[:4] if self.kind == frames.RST_STREAM else self.payload[4:8])[0])


def parted(told: bytes) -> list[Said]:
    """The frames of what was sent, which must be whole."""
    found = []
    while told:
        size, kind, flags = int.from_bytes(told[:3], "big"), told[3], told[4]
        assert len(told) >= 9 + size, "a frame is cut"
        found.append(Said(kind, flags, int.from_bytes(told[5:9], "big"), told[9 : 9 + size]))
        told = told[9 + size :]
    return found


class Kept(Stream):
    """A stream that keeps what arrives, and answers as it is told to."""

    def __init__(self, connection: Connection, number: int, head: Head, answer: Callable[[Kept], None]) -> None:
        super().__init__(connection, number, head)
        self.pieces: list[bytes] = []
        self.ended = False
        self.lost = False
        self.moves = 0
        self.answered = False
        self.answer = answer

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    def take(self, data: bytes, ended: bool) -> None:
        assert not self.ended, "nothing follows the end"
        self.pieces.append(data)
        if ended:
            self.ended = True
            self.answer(self)

    def lose(self) -> None:
        self.lost = True

    def progressed(self) -> None:
        self.moves += 1


def quiet(stream: Kept) -> None:
    """No answer yet."""


def echo(stream: Kept) -> None:
    """Answer with what has arrived."""
    stream.send_block(status(200) + block([(b"content-type", b"text/plain")]))
    stream.send(stream.content, ends=True)


@dataclass
class Side:
    """A server's side whose peer is the test."""

    answer: Callable[[Kept], None] = echo
    limits: Limits = field(default_factory=Limits)
    time: float = 1000.0

    def __post_init__(self) -> None:
        self.seen: dict[int, Kept] = {}
        self.connection = Connection(self._make, self.limits, clock=lambda: self.time)
        self.connection.start()
        self.decoder = Decoder()

    def greet(self, settings: dict[int, int] | None = None) -> Side:
        """Both sides' prefaces, out of the way."""
        self.connection.receive(frames.PREFACE + frames.settings(settings or {}))
        self.told()
        return self

    def say(self, *told: bytes) -> list[Said]:
        """Send; what is said in reply."""
        self.connection.receive(b"".join(told))
        return self.told()

    def told(self) -> list[Said]:
        out, self.connection.out = self.connection.out, []
        return parted(b"".join(out))

    def fields(self, said: Said) -> list[tuple[bytes, bytes]]:
        return [(bytes(name), bytes(value)) for name, value in self.decoder.decode(said.payload, raw=True)]

    def _make(self, connection: Connection, number: int, head: Head) -> Stream:
        self.seen[number] = Kept(connection, number, head, self.answer)
        return self.seen[number]
