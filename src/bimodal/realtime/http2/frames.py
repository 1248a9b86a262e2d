"""Frames of HTTP/2 (RFC 9113, sections 4, 6 and 7): their numbers, their bytes, and the two kinds of fault."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

FRAME_BYTES = 16_384  # the largest frame we take, and the largest that every peer takes
MOST_FRAME_BYTES = 2**24 - 1
WINDOW = 65_535  # flow-control window until a SETTINGS says otherwise
MOST_WINDOW = 2**31 - 1
TABLE_BYTES = 4096  # of the dynamic tables of HPACK

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

head_of = Struct(">HBBBI").unpack_from  # length (two upper bytes, lowest byte), kind, flags, stream
_head = Struct(">HBBBI").pack
_number = Struct(">I")
_setting = Struct(">HI")
HEAD_BYTES = 9


class Code(IntEnum):
    """Error codes, RFC 9113, section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):
    """The peer broke the rules of the connection: it ends with a GOAWAY (section 5.4.1)."""

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class StreamFault(Exception):
    """The peer broke the rules of one stream: it ends with a RST_STREAM (section 5.4.2)."""

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """The bytes of a frame."""
    size = len(payload)
    return _head(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join([_setting.pack(*each) for each in values.items()]))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Numbers and values. Raises ConnectionFault for what no setting may be (section 6.5.2)."""
    if len(payload) % 6:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a length that is no multiple of 6")
    found = list(_setting.iter_unpack(payload))
    for number, value in found:
        if number == ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if number == INITIAL_WINDOW_SIZE and value > MOST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is over 2^31 - 1")
        if number == MAX_FRAME_SIZE and not FRAME_BYTES <= value <= MOST_FRAME_BYTES:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is not between 2^14 and 2^24 - 1")
    return found


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _number.pack(size))


def rst_stream(stream: int, code: Code) -> bytes:
    return frame(RST_STREAM, 0, stream, _number.pack(code))


def goaway(last: int, code: Code, sentence: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _number.pack(last) + _number.pack(code) + sentence.encode("ascii", "replace"))


def number(payload: bytes) -> int:
    """The 31-bit number that a payload begins with."""
    found: int = _number.unpack_from(payload)[0]
    return found & 0x7FFFFFFF


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding (sections 6.1, 6.2)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    if payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than the frame has room for")
    return payload[1 : len(payload) - payload[0]]
