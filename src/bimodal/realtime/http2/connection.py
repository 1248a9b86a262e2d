"""The server's side of one HTTP/2 connection (RFC 9113), without a socket: bytes in, streams and bytes out.

A frame that every call has (HEADERS with a whole block, DATA) is handled in `receive` itself; the others each have a
method. What a peer may ask for without any use (resets, pings, settings, empty frames) is bounded by two budgets;
beyond them the connection ends with ENHANCE_YOUR_CALM (CVE-2023-44487 and its kin).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from bimodal.realtime.http2 import frames
from bimodal.realtime.http2.budget import Budget
from bimodal.realtime.http2.fields import LONGEST, SHRINK, Reader
from bimodal.realtime.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEAD_BYTES,
    HEADERS,
    MOST_WINDOW,
    PREFACE,
    PRIORITIZED,
    SETTINGS,
    TABLE_BYTES,
    WINDOW,
    Code,
    ConnectionFault,
    StreamFault,
    frame,
    goaway,
    head_of,
    number,
    rst_stream,
    unpadded,
    window_update,
)
from bimodal.realtime.http2.heads import Head, check_trailers, head
from bimodal.realtime.http2.sending import STREAM_ROOM, Sending
from bimodal.realtime.http2.stream import Stream
from bimodal.realtime.limits import Limits

ROOM = 4 * 2**20  # bytes of DATA that a connection takes before it must grant more
CONTINUATIONS = 32  # frames that a header block may go on in
RESETS = (500, 100)  # streams that a peer may end before their time: at once, and a second
NUISANCES = (2000, 500)  # frames that are of no use by themselves
_SKIPS_KEPT = 64
_DRAIN = b"draining"

Make = Callable[["Connection", int, Head], Stream]


class Connection(Sending):
    """make: the stream of a request. stirred: called when there is something to send where there was nothing.

    room: bytes of DATA that we take. last: the highest stream the peer has opened.
    """

    def __init__(
        self,
        make: Make,
        limits: Limits,
        stirred: Callable[[Sending], None] = lambda _: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(stirred, clock)
        self.room = ROOM
        self.last = 0
        self.fault: ConnectionFault | None = None
        self.leaving = False  # we take no more streams
        self.left = False  # the peer opens no more
        self.pongs = 0  # answers to our pings
        self.greeted = False  # the peer's preface has come
        self.partial = 0.0  # when a frame or header block began that is not whole; 0 where there is none
        self._make = make
        self._limits = limits
        self._reader: Reader[Head] = Reader(head, limits.header_bytes)
        self._take: Callable[[bytes], int] = self._take_preface
        self._rest = b""
        self._block: list[bytes] = []  # of a HEADERS that goes on in CONTINUATIONs
        self._block_flags = 0
        self._block_stream = 0
        self._skipped: list[range] = []  # numbers that were passed over
        self._reset_budget = Budget(*RESETS, clock)
        self._nuisance_budget = Budget(*NUISANCES, clock)
        self._draining = False

    # What the link calls

    def start(self) -> None:
        """The server's preface: its settings."""
        told = {
            frames.MAX_CONCURRENT_STREAMS: self._limits.streams,
            frames.INITIAL_WINDOW_SIZE: STREAM_ROOM,
            frames.MAX_HEADER_LIST_SIZE: self._limits.header_bytes,
        }
        self.put(frames.settings(told) + window_update(0, ROOM - WINDOW))

    def receive(self, data: bytes) -> None:
        """Take what has arrived."""
        if self.fault is not None:
            return
        self.now = self._clock()
        if self._rest:
            data, self._rest = self._rest + data, b""
        blocked = bool(self._block)
        try:
            at = self._take(data)
        except ConnectionFault as fault:
            self.end(fault)
        else:
            if at < len(data):
                self._rest = data[at:]
            if not self._rest and not self._block:
                self.partial = 0.0
            elif not self.partial or (at and not (blocked and self._block)):
                self.partial = self.now

    @property
    def is_in_data(self) -> bool:
        """Whether what is `partial` is content; else it belongs to a head, or to the connection."""
        return not self._block and self._rest[3:4] == bytes((DATA,))

    def end(self, fault: ConnectionFault) -> None:
        """Say what was wrong, and end all streams."""
        if self.fault is not None:
            return
        self.fault = fault
        self.put(goaway(self.last, fault.code, fault.sentence))
        self.lose()

    def lose(self) -> None:
        """Nothing more arrives, nothing more can be sent."""
        streams, self.streams = self.streams, {}
        self._held.clear()
        for stream in streams.values():
            stream.receiving = stream.sending = False
            stream.waiting = None
            stream.lose()
        self.unsent = 0

    def drain(self) -> None:
        """Ask the peer to open no more streams. Those on their way are still taken, until it has answered a ping or
        `leave` is called (section 6.8)."""
        if not self._draining and self.fault is None:
            self._draining = True
            self.put(goaway(MOST_WINDOW, Code.NO_ERROR) + frame(frames.PING, 0, 0, _DRAIN))

    def leave(self) -> None:
        """Take no more streams."""
        if not self.leaving and self.fault is None:
            self.leaving = True
            self.put(goaway(self.last, Code.NO_ERROR))

    def ping(self) -> None:
        """Ask whether the peer is there: it adds to `pongs`."""
        self.put(frame(frames.PING, 0, 0, b"present?"))

    # Frames

    def _take_preface(self, data: bytes) -> int:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the connection does not begin with the preface of HTTP/2")
        if len(data) < len(PREFACE) + HEAD_BYTES:
            return 0
        _, _, kind, flags, _ = head_of(data, len(PREFACE))
        if kind != SETTINGS or flags & ACK:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is no SETTINGS")
        self.greeted = True
        self._take = self._take_frames
        return self._take_frames(data, len(PREFACE))

    def _take_frames(self, data: bytes, at: int = 0) -> int:
        """Take the whole frames; returns where the rest begins."""
        streams, known, end = self.streams, self._reader.known, len(data)
        while end - at >= HEAD_BYTES:
            high, low, kind, flags, stream_id = head_of(data, at)
            start = at + HEAD_BYTES
            stop = start + (high << 8 | low)
            if stop > end:
                if stop - start > FRAME_BYTES:
                    raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame over {FRAME_BYTES} bytes")
                break
            at = stop
            payload = data[start:stop]
            stream_id &= 0x7FFFFFFF
            if kind == DATA and not self._block:
                stream = streams.get(stream_id)
                if stream is not None and flags <= END_STREAM and stop - start <= FRAME_BYTES:
                    self._take_data(stream, payload, stop - start, flags)
                    continue
            elif kind == HEADERS and flags & ~END_STREAM == END_HEADERS and not self._block:
                head = known.get(payload)
                if head is not None and stream_id > self.last and stream_id & 1:
                    self._open(stream_id, head, flags & END_STREAM)
                    if self.fault is not None:
                        break
                    continue
            self._take_other(kind, flags, stream_id, payload)
            if self.fault is not None:
                break
        return at

    def _take_other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """A frame that is not of the common case."""
        if len(payload) > FRAME_BYTES:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame over {FRAME_BYTES} bytes")
        if self._block and (kind != CONTINUATION or stream != self._block_stream):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is interrupted by another frame")
        if kind not in (HEADERS, DATA):
            self._spend(self._nuisance_budget)
        handle = _HANDLERS.get(kind)
        if handle is None:
            return  # unknown kinds are ignored (section 5.5)
        try:
            handle(self, flags, stream, payload)
        except StreamFault as fault:
            self._end_stream(stream, fault)

    def _end_stream(self, number: int, fault: StreamFault) -> None:
        """End one stream for what its peer did."""
        if number > self.last or not number & 1:  # an idle one cannot be reset
            raise ConnectionFault(fault.code, fault.sentence)
        self._spend(self._reset_budget)
        self.put(rst_stream(number, fault.code))
        stream = self.streams.get(number)
        if stream is None:
            self.remember(number)
            return
        self.drop(stream, by_us=True)
        stream.lose()

    def _spend(self, budget: Budget) -> None:
        if not budget.spend(self.useful * (1 if budget is self._reset_budget else 8)):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that are of no use")

    # DATA

    def _take_data(self, stream: Stream, content: bytes, size: int, ended: int) -> None:
        """DATA of a stream that is known. size: with the padding."""
        self._count(size)
        if not stream.receiving:
            return self._end_stream(stream.id, StreamFault(Code.STREAM_CLOSED, "DATA after the end of the stream"))
        stream.room -= size
        stream.size += len(content)
        length = stream.head.length
        if stream.room < 0:
            fault = StreamFault(Code.FLOW_CONTROL_ERROR, "more DATA than the stream's window has room for")
            return self._end_stream(stream.id, fault)
        if length >= 0 and (stream.size > length or (ended and stream.size != length)):
            fault = StreamFault(Code.PROTOCOL_ERROR, "content-length is not the length of the content")
            return self._end_stream(stream.id, fault)
        if ended:
            stream.receiving = False
            if stream.sending:
                stream.take(content, True)
            else:
                self.streams.pop(stream.id, None)
            return None
        stream.owed += size
        if stream.owed >= STREAM_ROOM >> 1:
            self.refill(stream)
        if content:
            if stream.sending:
                stream.take(content, False)
        else:
            self._spend(self._nuisance_budget)
        return None

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        """DATA that is padded, or of a stream that is not known."""
        stream = self.streams.get(stream_id)
        content = unpadded(flags, payload)
        if stream is not None:
            self._take_data(stream, content, len(payload), flags & END_STREAM)
            return
        self._check_opened(stream_id, "DATA")
        self._spend(self._nuisance_budget)
        self._count(len(payload))  # it counts all the same (section 5.1)
        if stream_id <= self.last and stream_id not in self.resets:
            raise ConnectionFault(Code.STREAM_CLOSED, "DATA of a stream that is closed")

    def _count(self, size: int) -> None:
        """DATA has arrived: less room, or room again."""
        room = self.room = self.room - size
        if room < ROOM >> 1:
            if room < 0:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more DATA than the connection's window has room for")
            self.put(window_update(0, ROOM - room))
            self.room = ROOM

    # HEADERS

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS of a stream that no client opens")
        block = unpadded(flags, payload)
        if flags & PRIORITIZED:
            if len(block) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            if number(block) == stream_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream that depends on itself")
            block = block[5:]
        if flags & END_HEADERS:
            self._take_block(stream_id, block, flags & END_STREAM)
        else:
            self._block = [block]
            self._block_flags, self._block_stream = flags, stream_id

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._block:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without a header block to continue")
        self._block.append(payload)
        if len(self._block) > CONTINUATIONS or sum(map(len, self._block)) > LONGEST:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block in too many or too long pieces")
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), []
            self._take_block(stream_id, block, self._block_flags & END_STREAM)

    def _take_block(self, stream_id: int, block: bytes, ended: int) -> None:
        """A whole header block. It is decoded whatever becomes of it: the ones after it build on it."""
        if stream_id > self.last and not self.leaving:
            try:
                found = self._reader.read(block)
            except StreamFault:
                self._note(stream_id)
                raise
            self._open(stream_id, found, ended)
            return
        fields = self._reader.fields(block)
        stream = self.streams.get(stream_id)
        if stream is not None:
            if not stream.receiving:
                raise StreamFault(Code.STREAM_CLOSED, "HEADERS after the end of the stream")
            if not ended:
                raise StreamFault(Code.PROTOCOL_ERROR, "trailers that do not end their stream")
            check_trailers(fields)
            self._take_data(stream, b"", 0, END_STREAM)
        elif stream_id > self.last:
            self._spend(self._nuisance_budget)  # it was opened after we said goodbye: it is the peer's to try elsewhere
        elif any(stream_id in each for each in self._skipped):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the number of a stream is lower than that of an earlier one")
        elif stream_id not in self.resets:
            raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS of a stream that is closed")

    def _note(self, stream_id: int) -> None:
        """A stream is opened; lower ones that were not are closed by that (section 5.1.1)."""
        if stream_id > self.last + 2 or not self.last:
            passed = range(self.last + 1, stream_id)
            self._skipped = [*self._skipped[-_SKIPS_KEPT:], passed]
        self.last = stream_id

    def _open(self, stream_id: int, head: Head, ended: int) -> None:
        if self.leaving:
            return
        if stream_id == self.last + 2:
            self.last = stream_id
        else:
            self._note(stream_id)
        if len(self.streams) >= self._limits.streams:
            self._end_stream(stream_id, StreamFault(Code.REFUSED_STREAM, "too many streams at once"))
            return
        if ended and head.length > 0:
            self._end_stream(stream_id, StreamFault(Code.PROTOCOL_ERROR, "content-length without content"))
            return
        stream = self.streams[stream_id] = self._make(self, stream_id, head)
        if ended:
            stream.receiving = False
        stream.begin()
        if ended and stream.sending:
            stream.take(b"", True)

    # Other frames

    def _priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        """Ignored (section 5.3.2), but for its form."""
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY that belongs to no stream")
        if len(payload) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR, "PRIORITY of a length other than 5")
        if number(payload) == stream_id:
            raise StreamFault(Code.PROTOCOL_ERROR, "a stream that depends on itself")

    def _rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_opened(stream_id, "RST_STREAM")
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM of a length other than 4")
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.drop(stream)
            stream.lose()
            self._spend(self._reset_budget)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS that belong to a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with a content")
            return
        for setting, value in frames.read_settings(payload):
            if setting == frames.HEADER_TABLE_SIZE and value < TABLE_BYTES:
                self.shrink = SHRINK
            elif setting == frames.MAX_FRAME_SIZE:
                self.frame_bytes = value
            elif setting == frames.INITIAL_WINDOW_SIZE:
                self.change_windows(value)
        self.put(frame(SETTINGS, ACK, 0))
        self.pump()

    def _push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING that belongs to a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING of a length other than 8")
        if not flags & ACK:
            self.put(frame(frames.PING, ACK, 0, payload))
            return
        self.pongs += 1
        if self._draining and payload == _DRAIN:
            self.leave()

    def _goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY that belongs to a stream")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY shorter than 8 bytes")
        self.left = True

    def _window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a length other than 4")
        size = number(payload)
        if not stream_id:
            if not size:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self.window += size
            if self.window > MOST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
            self.pump()
            return
        self._check_opened(stream_id, "WINDOW_UPDATE")
        if not size:
            raise StreamFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.window += size
            if stream.window > MOST_WINDOW:
                raise StreamFault(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
            self.pump()

    def _check_opened(self, stream_id: int, kind: str) -> None:
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"{kind} that belongs to no stream")
        if not stream_id & 1 or (stream_id > self.last and not self.leaving):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"{kind} of a stream that was never opened")


_HANDLERS: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    frames.DATA: Connection._data,
    frames.HEADERS: Connection._headers,
    frames.PRIORITY: Connection._priority,
    frames.RST_STREAM: Connection._rst_stream,
    frames.SETTINGS: Connection._settings,
    frames.PUSH_PROMISE: Connection._push_promise,
    frames.PING: Connection._ping,
    frames.GOAWAY: Connection._goaway,
    frames.WINDOW_UPDATE: Connection._window_update,
    frames.CONTINUATION: Connection._continuation,
}
