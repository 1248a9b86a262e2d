"""HTTP/2 against the library h2 as the peer, without a socket: each reads what the other sends."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from h2.settings import SettingCodes
from hpack import Decoder, Encoder
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bimodal.realtime.http2 import frames
from bimodal.realtime.http2.fields import KNOWN, Reader, block, status
from bimodal.realtime.http2.frames import GOAWAY, PING, Code, ConnectionFault, frame
from bimodal.realtime.http2.sending import STREAM_ROOM
from bimodal.realtime.limits import Limits
from tests.realtime.frames import GET, POST, Kept, Said, Side, data, headers, parted, quiet

NAMES = st.sampled_from([b"x-a", b"x-b", b"accept", b"cookie", b"grpc-timeout", b"te-x", b"x-long-name-of-a-field"])
VALUES = st.binary(max_size=300).map(lambda value: value.replace(b"\0", b"0").replace(b"\r", b"1").replace(b"\n", b"2"))
FIELDS = st.lists(st.tuples(NAMES, VALUES.map(bytes.strip)), max_size=4)
LONG = re.compile(rb"[\x0f\x1f\x3f\x7f\xff][\x80-\xff]{4}", re.DOTALL)  # what may be a number of five bytes or more
SIZES = st.sampled_from([0, 1, 5, 100, 16_384, 16_385, 40_000])


@dataclass
class Request:
    """One request that h2 is to send, and the answer that we are to give."""

    fields: list[tuple[bytes, bytes]]
    pieces: list[int]
    padding: int | None
    trailers: bool
    answer: list[int]
    answer_trailers: bool
    cancelled: bool


REQUESTS = st.builds(
    Request,
    FIELDS,
    st.lists(SIZES, max_size=3),
    st.sampled_from([None, None, 0, 7, 255]),
    st.booleans(),
    st.lists(SIZES, max_size=3),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)


@dataclass
class Answered:
    """What h2 read."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content: bytes = b""
    trailers: list[tuple[bytes, bytes]] | None = None
    ended: bool = False
    reset: int | None = None


class Pair:
    """h2 as the client, and our side; whatever either says reaches the other in pieces of `cut` bytes."""

    def __init__(self, side: Side, cut: int = 1 << 30, window: int = 65_535, table: int = 4096) -> None:
        self.side = side
        self.cut = cut
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.client = h2.connection.H2Connection(config)
        self.client.initiate_connection()
        changed: dict[SettingCodes | int, int] = {
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.HEADER_TABLE_SIZE: table,
        }
        self.client.update_settings(changed)
        self.answers: dict[int, Answered] = {}
        self.others: list[Any] = []
        self.shuttle()

    def shuttle(self) -> None:
        """Until both are silent."""
        while True:
            told = self.client.data_to_send()
            for at in range(0, len(told), self.cut):
                self.side.connection.receive(told[at : at + self.cut])
            out, self.side.connection.out = self.side.connection.out, []
            if not told and not out:
                return
            said = b"".join(out)
            for at in range(0, len(said), self.cut):
                for event in self.client.receive_data(said[at : at + self.cut]):
                    self._note(event)

    def send(self, request: Request, number: int) -> bytes:
        """Send a request as far as windows let it; returns its content."""
        client = self.client
        fields = [*POST, *request.fields]
        content = b""
        ends = not request.pieces and not request.trailers
        client.send_headers(number, fields, end_stream=ends)
        self.answers[number] = Answered()
        for place, size in enumerate(request.pieces):
            piece = bytes((place + 1,)) * size
            content += piece
            rest = piece
            last = place == len(request.pieces) - 1 and not request.trailers
            while True:
                taken, rest = rest[:8000], rest[8000:]
                client.send_data(number, taken, end_stream=last and not rest, pad_length=request.padding)
                self.shuttle()
                if not rest:
                    break
        if request.trailers:
            client.send_headers(number, [(b"x-trailer", b"1")], end_stream=True)
        return content

    def _note(self, event: Any) -> None:
        number = getattr(event, "stream_id", None) or 0
        answer = self.answers.setdefault(number, Answered())
        if isinstance(event, h2.events.ResponseReceived):
            answer.headers = list(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            answer.content += event.data
            self.client.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)
        else:
            self.others.append(event)


def joined(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """As a Request has them."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        end = b"; " if name == b"cookie" else b", "
        found[name] = found[name] + end + value if name in found else value
    return found


@settings(max_examples=100, deadline=None)
@given(
    st.lists(REQUESTS, min_size=1, max_size=5),
    st.sampled_from([1 << 30, 1000, 17, 1]),
    st.sampled_from([65_535, 1, 20_000, 2**31 - 1]),
    st.sampled_from([4096, 0, 100]),
)
def test_what_either_side_sends_the_other_reads(requests: list[Request], cut: int, window: int, table: int) -> None:
    """Headers, content, padding, trailers, cancellation; small windows, small tables of HPACK, pieces of any size."""
    if cut < 100:
        requests = [request for request in requests if sum(request.pieces) + sum(request.answer) < 20_000]
    if window == 1:
        requests = [request for request in requests if sum(request.answer) < 300]
    for request in requests:
        request.fields = [each for each in request.fields if each[0] != b"cookie"]  # which h2 joins for itself
    asked = dict(zip(range(1, 100, 2), requests, strict=False))

    def answer(stream: Kept) -> None:
        request = asked[stream.id]
        stream.send_block(status(200) + block([(b"x-number", b"%d" % stream.id), *request.fields]))
        for place, size in enumerate(request.answer):
            last = place == len(request.answer) - 1 and not request.answer_trailers
            stream.send(bytes((place + 65,)) * size, ends=last)
        if request.answer_trailers or not request.answer:
            stream.send_block(block([(b"x-end", b"1")]), ends=True)

    side = Side(answer)
    pair = Pair(side, cut, window, table)
    for number, request in asked.items():
        if request.cancelled:
            pair.client.send_headers(number, [*POST, *request.fields])
            pair.client.reset_stream(number, Code.CANCEL)
            pair.shuttle()
            assert side.seen[number].lost
            continue
        content = pair.send(request, number)
        pair.shuttle()
        seen, answered = side.seen[number], pair.answers[number]
        assert dict(seen.head.headers) == joined([(b"host", b"test"), *request.fields])
        assert (seen.head.method, seen.head.target) == (b"POST", b"/")
        assert seen.content == content
        assert seen.ended
        assert answered.headers == [(b":status", b"200"), (b"x-number", b"%d" % number), *request.fields]
        assert answered.content == b"".join(bytes((place + 65,)) * size for place, size in enumerate(request.answer))
        assert answered.ended
        assert answered.trailers == ([(b"x-end", b"1")] if request.answer_trailers or not request.answer else None)
    assert side.connection.fault is None
    assert not side.connection.streams
    assert side.connection.unsent == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=6), max_size=12), st.booleans())
def test_header_blocks_are_read_as_the_library_reads_them(
    lists: list[list[tuple[bytes, bytes, bool]]], huffman: bool
) -> None:
    """Blocks build on each other; those that change nothing are kept, and mean the same as long as they are."""
    encoder, decoder = Encoder(), Decoder(1 << 20)
    reader: Reader[list[tuple[bytes, bytes]]] = Reader(list, 1 << 20)
    for place, fields in enumerate(lists):
        if place == 5:
            encoder.header_table_size = 150
        told = encoder.encode(fields, huffman=huffman)
        expected = [(bytes(name), bytes(value)) for name, value in decoder.decode(told, raw=True)]
        assert reader.read(told) == expected
        if not any(byte & 0xC0 == 0x40 for byte in told) and not told.startswith(b"\x3f"):
            assert reader.read(told) == expected  # from the table of those seen


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_block_for_both_or_for_none(told: bytes) -> None:
    """The library forgives numbers of any length; where only that differs, we refuse."""
    reader: Reader[list[tuple[bytes, bytes]]] = Reader(list, 1 << 20)
    try:
        expected = [(bytes(name), bytes(value)) for name, value in Decoder(1 << 20).decode(told, raw=True)]
    except Exception:
        with pytest.raises(ConnectionFault):
            reader.read(told)
        return
    assume(not LONG.search(told))
    assert reader.read(told) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_the_library_reads_what_we_write(fields: list[tuple[bytes, bytes]]) -> None:
    read = Decoder(1 << 20).decode(status(404) + status(418) + block(fields), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in read] == [
        (b":status", b"404"),
        (b":status", b"418"),
        *fields,
    ]


def test_no_line_end_gets_into_a_field() -> None:
    for value in (b"a\r\nb", b"a\nb", b"a\0"):
        with pytest.raises(ValueError, match="line end"):
            block([(b"x-a", value)])


def test_blocks_that_are_remembered_are_bounded() -> None:
    reader: Reader[list[tuple[bytes, bytes]]] = Reader(list, 1 << 20)
    for count in range(3 * KNOWN):
        reader.read(b"\x00\x01a\x04%04d" % count)
        assert len(reader.known) <= KNOWN


def test_a_block_means_what_the_table_says_by_then() -> None:
    """0xbe is the newest entry of the table."""
    reader: Reader[list[tuple[bytes, bytes]]] = Reader(list, 1 << 20)
    reader.read(b"\x40\x01a\x011")
    assert reader.read(b"\xbe") == reader.read(b"\xbe") == [(b"a", b"1")]
    reader.read(b"\x40\x01b\x012")
    assert reader.read(b"\xbe") == [(b"b", b"2")]


# Flow control


def test_answers_wait_for_windows_and_take_turns() -> None:
    side = Side().greet({frames.INITIAL_WINDOW_SIZE: 30_000})
    side.say(frames.window_update(0, 1_000_000))
    for number in (1, 3):
        side.say(headers(number, POST, frames.END_HEADERS), *[data(number, b"x" * 10_000)] * 10)
    said = side.say(data(1, b"", frames.END_STREAM), data(3, b"", frames.END_STREAM))
    assert sizes(said) == {1: 30_000, 3: 30_000}
    assert side.connection.unsent == 140_000
    said = side.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 60_000}))
    assert sizes(said) == {1: 30_000, 3: 30_000}
    assert [each.stream for each in said if each.kind == frames.DATA] == [1, 3, 1, 3]
    side.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 10_000}))
    assert side.connection.streams[1].window == -50_000  # section 6.9.2
    assert sizes(side.say(frames.window_update(1, 50_000))) == {}
    said = side.say(frames.window_update(1, 40_000))
    assert sizes(said) == {1: 40_000}
    assert said[-1].flags & frames.END_STREAM


def test_a_window_of_the_connection_that_is_used_up_stops_all() -> None:
    side = Side().greet()
    for number in (1, 3):
        side.say(headers(number, POST, frames.END_HEADERS), *[data(number, b"x" * 10_000)] * 5)
    said = side.say(data(1, b"", frames.END_STREAM), data(3, b"", frames.END_STREAM))
    assert sum(sizes(said).values()) == 65_535
    assert sum(sizes(side.say(frames.window_update(0, 10))).values()) == 10
    assert sum(sizes(side.say(frames.window_update(0, 100_000))).values()) == 100_000 - 65_545


def test_what_arrives_is_granted_anew_unless_its_taker_pauses() -> None:
    side = Side(quiet).greet()
    side.say(headers(1, POST, frames.END_HEADERS))
    stream = side.seen[1]
    stream.pause()
    said = [each for _ in range(40) for each in side.say(data(1, b"x" * 16_384))]
    assert {each.stream for each in said} <= {0}
    stream.resume()
    assert [(each.kind, each.stream) for each in side.told()] == [(frames.WINDOW_UPDATE, 1)]
    assert stream.room == STREAM_ROOM


def test_a_long_header_block_is_cut_into_frames() -> None:
    def answer(stream: Kept) -> None:
        stream.send_block(status(200) + block([(b"x-%d" % each, b"v" * 1000) for each in range(50)]), ends=True)

    pair = Pair(Side(answer))
    pair.client.update_settings({SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 20})
    pair.send(Request([], [], None, False, [], False, False), 1)
    pair.shuttle()
    assert len(pair.answers[1].headers) == 51


# Ends


def test_a_drain_lets_calls_finish_and_takes_those_on_their_way() -> None:
    side = Side(quiet).greet()
    side.say(headers(1))
    side.connection.drain()
    first, ping = side.told()
    assert (first.kind, first.code, first.payload[:4]) == (GOAWAY, Code.NO_ERROR, b"\x7f\xff\xff\xff")
    side.say(headers(3))
    assert 3 in side.seen  # the peer had not read of the drain
    second = side.say(frame(PING, frames.ACK, 0, ping.payload))[0]
    assert (second.kind, second.code, second.payload[:4]) == (GOAWAY, Code.NO_ERROR, b"\0\0\0\3")
    assert side.say(headers(5, POST, frames.END_HEADERS), data(5, b"x"), frames.window_update(5, 9)) == []
    assert 5 not in side.seen
    for number in (1, 3):
        side.seen[number].send_block(status(200), ends=True)
    assert [each.stream for each in side.told()] == [1, 3]
    assert not side.connection.streams


def test_an_answer_before_the_end_of_its_request() -> None:
    """Section 8.1: what still comes is let pass; a peer that goes on is told that no more is wanted."""
    side = Side(quiet).greet()
    side.say(headers(1, POST, frames.END_HEADERS), data(1, b"x"))
    side.seen[1].send_block(status(413), ends=True)
    assert [each.kind for each in side.told()] == [frames.HEADERS]
    assert side.say(*[data(1, b"x" * 16_384)] * 40) == []  # its window is not opened again
    stream = side.seen[1]
    assert stream.content == b"x"
    side.connection.dismiss(stream)
    assert [each.code for each in side.told()] == [Code.NO_ERROR]
    assert side.say(data(1, b"more"), data(1, b"", frames.END_STREAM)) == []
    side.say(headers(3, POST, frames.END_HEADERS))
    side.seen[3].send_block(status(413), ends=True)
    side.say(data(3, b"last", frames.END_STREAM))
    assert not side.connection.streams


def test_a_lost_connection_loses_its_streams() -> None:
    side = Side(quiet, Limits()).greet()
    side.say(headers(1), headers(3))
    side.connection.lose()
    assert all(stream.lost for stream in side.seen.values())
    side.seen[1].send_block(status(200), ends=True)
    assert side.told() == []


def test_many_calls_of_the_same_head_are_one_to_read() -> None:
    side = Side(quiet).greet()
    side.say(headers(1), headers(3), headers(5, GET))
    assert side.seen[1].head is side.seen[3].head is side.seen[5].head


def sizes(said: list[Said]) -> dict[int, int]:
    """Bytes of DATA by stream."""
    found: dict[int, int] = {}
    for each in said:
        if each.kind == frames.DATA:
            found[each.stream] = found.get(each.stream, 0) + len(each.payload)
    return found


def test_frames_are_taken_apart_by_the_tests_themselves() -> None:
    assert [each.payload for each in parted(frame(0, 0, 1, b"ab") + frame(6, 0, 0, b""))] == [b"ab", b""]
