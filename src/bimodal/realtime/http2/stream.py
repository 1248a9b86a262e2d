"""One stream of a connection: what has arrived and may still arrive, what is sent and waits to be sent.

Subclasses take what arrives. The rules of sections 5.1 (states) and 5.2 (flow control) are kept here, in
`sending.py` and in `connection.py`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from bimodal.realtime.http2.frames import DATA, END_HEADERS, END_STREAM, Code, frame, rst_stream
from bimodal.realtime.http2.heads import Head

if TYPE_CHECKING:
    from bimodal.realtime.http2.sending import Sending


class Stream:
    """A stream that the peer opened.

    receiving: the peer may send more. sending: so may we. window: bytes of DATA that the peer takes. room: bytes that
    we take; owed: those of them taken since the last WINDOW_UPDATE. size: bytes of content so far. waiting: DATA that
    the windows have no room for; tail: the header block that comes after it, or None; ends: nothing comes after it.
    """

    __slots__ = (
        "connection",
        "ends",
        "head",
        "id",
        "moved",
        "owed",
        "paused",
        "receiving",
        "room",
        "sending",
        "size",
        "tail",
        "unsent",
        "waiting",
        "window",
    )

    def __init__(self, connection: Sending, number: int, head: Head) -> None:
        self.connection = connection
        self.id = number
        self.head = head
        self.receiving = True
        self.sending = True
        self.window = connection.peer_window
        self.room = connection.stream_room
        self.owed = 0
        self.size = 0
        self.paused = False
        self.waiting: deque[memoryview] | None = None
        self.unsent = 0
        self.tail: bytes | None = None
        self.ends = False
        self.moved = connection.now  # when the waiting DATA last went on

    # What a taker does

    def begin(self) -> None:
        """The head is complete."""

    def take(self, data: bytes, ended: bool) -> None:
        """A piece of the content, which is not empty unless it is the last."""

    def progressed(self) -> None:
        """Something that waited was sent."""

    def lose(self) -> None:
        """The stream ended before both sides were done: nothing more can be sent."""

    # What a taker calls

    def send_block(self, block: bytes, *, ends: bool = False) -> None:
        """A header block: head, or trailers, which wait for the DATA before them."""
        if not self.sending:
            return
        if self.waiting:
            self.tail, self.ends = block, ends
            return
        self._put_block(block, ends)

    def send(self, data: bytes, *, ends: bool = False) -> None:
        """Content: what the windows have room for now, the rest when they have."""
        if not self.sending:
            return
        connection = self.connection
        size = len(data)
        if not self.waiting and size <= min(max(self.window, 0), max(connection.window, 0), connection.frame_bytes):
            self.window -= size
            connection.window -= size
            connection.put(frame(DATA, ends, self.id, data))
            if ends:
                connection.close_sending(self)
            return
        self.ends |= ends
        if not data:  # and something waits
            return
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(memoryview(data))
        self.unsent += size
        connection.hold(self, size)

    def reset(self, code: Code) -> None:
        """End the stream at once."""
        self.connection.put(rst_stream(self.id, code))
        self.connection.drop(self, by_us=True)

    def pause(self) -> None:
        """Let the peer send no more than it may by now."""
        self.paused = True

    def resume(self) -> None:
        """Let it go on."""
        self.paused = False
        self.connection.refill(self)

    # What the connection calls

    def pump(self) -> bool:
        """Send one frame of what waits; False where the windows have no room, or nothing waits."""
        waiting, connection = self.waiting, self.connection
        if not waiting:
            return False
        size = min(len(waiting[0]), connection.frame_bytes, connection.window, self.window)
        if size <= 0:
            return False
        piece = waiting.popleft()
        if size < len(piece):
            waiting.appendleft(piece[size:])
            piece = piece[:size]
        self.window -= size
        connection.window -= size
        self.unsent -= size
        connection.release(self, size)
        last = not waiting and self.ends and self.tail is None
        connection.put(frame(DATA, last, self.id, piece))
        if last:
            connection.close_sending(self)
        elif not waiting and self.tail is not None:
            self._put_block(self.tail, self.ends)
        return True

    def _put_block(self, block: bytes, ends: bool) -> None:
        connection = self.connection
        connection.put(connection.header_frames(self.id, block, END_HEADERS | (END_STREAM if ends else 0)))
        if ends:
            connection.close_sending(self)
