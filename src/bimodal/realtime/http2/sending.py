"""What a connection sends: header blocks, DATA within the windows of its peer (RFC 9113, 5.2, 6.9), ends of streams."""

from __future__ import annotations

from collections.abc import Callable

from bimodal.realtime.http2.frames import (
    CONTINUATION,
    END_HEADERS,
    FRAME_BYTES,
    HEADERS,
    MOST_WINDOW,
    WINDOW,
    Code,
    ConnectionFault,
    frame,
    rst_stream,
    window_update,
)
from bimodal.realtime.http2.stream import Stream

STREAM_ROOM = 2**20  # bytes of DATA that a stream takes before it must grant more
_RESETS_KEPT = 1024  # ids of streams that we ended, whose frames may still be on their way


class Sending:
    """The sending half of a connection.

    window: bytes of DATA that the peer takes on all streams together; peer_window: on a new one. out: what is to be
    sent; stirred: called when there is something where there was nothing. useful: calls answered, frames of DATA sent.
    unsent: bytes of DATA that wait for windows. resets: streams that we ended, and their peer may not know it yet.
    shrink: goes ahead of our next header block. now: the time of what is being received.
    """

    def __init__(self, stirred: Callable[[Sending], None], clock: Callable[[], float]) -> None:
        self.streams: dict[int, Stream] = {}
        self.out: list[bytes] = []
        self.window = self.peer_window = WINDOW
        self.frame_bytes = FRAME_BYTES
        self.stream_room = STREAM_ROOM
        self.useful = 0
        self.unsent = 0
        self.now = clock()
        self.resets: dict[int, None] = {}
        self.shrink = b""
        self._stirred = stirred
        self._clock = clock
        self._held: dict[int, Stream] = {}  # streams with DATA that waits, in the order of their turns

    def put(self, data: bytes) -> None:
        """To be sent."""
        if not self.out:
            self._stirred(self)
        self.out.append(data)

    def header_frames(self, stream: int, block: bytes, flags: int) -> bytes:
        """The frames of a header block."""
        if self.shrink:
            block, self.shrink = self.shrink + block, b""
        most = self.frame_bytes
        if len(block) <= most:
            return frame(HEADERS, flags, stream, block)
        *pieces, last = [block[start : start + most] for start in range(0, len(block), most)]
        first = frame(HEADERS, flags & ~END_HEADERS, stream, pieces[0])
        between = [frame(CONTINUATION, 0, stream, piece) for piece in pieces[1:]]
        return b"".join([first, *between, frame(CONTINUATION, END_HEADERS, stream, last)])

    @property
    def plain(self) -> bool:
        """Whether a header block goes out just as it is, in a frame of its own."""
        return not self.shrink

    def close_sending(self, stream: Stream) -> None:
        """Our last frame of a stream is sent. A peer that still sends may take its time to notice (`dismiss`)."""
        stream.sending = False
        self.useful += 1
        if stream.receiving:
            stream.moved = self._clock()
        else:
            self.streams.pop(stream.id, None)

    def dismiss(self, stream: Stream) -> None:
        """Tell a peer that still sends what nobody will read that it need not (section 8.1)."""
        self.put(rst_stream(stream.id, Code.NO_ERROR))
        self.drop(stream, by_us=True)

    def drop(self, stream: Stream, *, by_us: bool = False) -> None:
        """A stream is over: nothing of it is sent any more. by_us: the peer may not know it yet."""
        stream.receiving = stream.sending = False
        if stream.unsent:
            self.release(stream, stream.unsent)
            stream.unsent = 0
        stream.waiting = None
        self._held.pop(stream.id, None)
        self.streams.pop(stream.id, None)
        if by_us:
            self.remember(stream.id)

    def remember(self, number: int) -> None:
        """We ended this stream, and its peer may not know it yet."""
        self.resets[number] = None
        if len(self.resets) > _RESETS_KEPT:
            del self.resets[next(iter(self.resets))]

    def hold(self, stream: Stream, size: int) -> None:
        """DATA of a stream waits."""
        if stream.id not in self._held:
            stream.moved = self._clock()
            self._held[stream.id] = stream
        self.unsent += size
        self.pump()

    def release(self, stream: Stream, size: int) -> None:
        """So much of it waits no longer."""
        self.unsent -= size
        stream.moved = self.now

    def refill(self, stream: Stream) -> None:
        """Grant a stream what it has used up."""
        if stream.owed and stream.receiving and stream.sending and not stream.paused:
            self.put(window_update(stream.id, stream.owed))
            stream.room += stream.owed
            stream.owed = 0

    def pump(self) -> None:
        """Send what the windows have room for, a frame of each stream in turn."""
        held = self._held
        stuck = 0
        while held and stuck < len(held) and self.window > 0:
            first, stream = next(iter(held.items()))
            del held[first]
            moved = stream.pump()
            stuck = 0 if moved else stuck + 1
            if moved:
                self.useful += 1  # a reader updates its windows as it takes what is sent
                stream.progressed()
            if stream.waiting:
                held[first] = stream

    def change_windows(self, value: int) -> None:
        """The window of streams, also of those that are open (section 6.9.2): it may become negative."""
        change = value - self.peer_window
        self.peer_window = value
        for stream in self.streams.values():
            stream.window += change
            if stream.window > MOST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
