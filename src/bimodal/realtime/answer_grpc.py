"""The bytes of gRPC's answers around their messages: heads, trailers, and both with metadata."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from struct import Struct

from bimodal.realtime.calls import Metadata, Status
from bimodal.realtime.http2 import fields
from bimodal.realtime.http2.frames import END_HEADERS, HEADERS
from bimodal.realtime.opening_grpc import CONTENT_TYPE
from bimodal.realtime.refusal import REQUEST_ID

HEAD = fields.status(200) + fields.field(b"content-type", CONTENT_TYPE)
TAIL = fields.field(b"grpc-status", b"0")
_TAIL_FRAME = bytes((0, 0, len(TAIL), 1, 5))  # HEADERS with END_HEADERS and END_STREAM; its stream follows
_back = Struct(f">5sI{len(TAIL)}s").pack
_escaped = re.compile(rb"[^ -$&-~]")


def tail_frame(stream: int) -> bytes:
    """The trailers of a call that went well."""
    return _back(_TAIL_FRAME, stream, TAIL)


def tail_with(name: bytes) -> bytes:
    """The same as a block, with a request id of ours."""
    return TAIL + fields.field(REQUEST_ID, name)


def tail_frame_with(stream: int, name: bytes) -> bytes:
    """The same as `tail_frame`."""
    block = tail_with(name)
    return b"\x00\x00%c\x01\x05%b%b" % (len(block), stream.to_bytes(4, "big"), block)


def metadata_block(metadata: Metadata) -> bytes:
    """Raises ValueError for a value with a line end in it."""
    return fields.block(
        [(name, b64encode(value).rstrip(b"=") if name.endswith(b"-bin") else value) for name, value in metadata]
    )


class Beginning:
    """What an answer begins with: the answers of one batch share their metadata, and so all of this.

    block: of the head. frame: what stands before it in its frame, up to the number of the stream. pack: makes bytes of
    frame, stream, block, then of the head of DATA (its length in two parts, zeros for kind and flags, the stream) and
    the prefix of the message (zero, its length).
    """

    __slots__ = ("block", "frame", "metadata", "pack")

    def __init__(self, metadata: Metadata) -> None:
        """Raises ValueError for metadata that cannot be sent."""
        self.metadata = metadata
        self.block = HEAD + metadata_block(metadata)
        size = len(self.block)
        self.frame = bytes((size >> 16, size >> 8 & 0xFF, size & 0xFF, HEADERS, END_HEADERS))
        self.pack = _packing(size)


@lru_cache(256)
def _packing(size: int) -> Callable[..., bytes]:
    return Struct(f">5sI{size}sBHHIBI").pack


BARE = Beginning(())


class Beginnings:
    """The one made last."""

    last = BARE

    def of(self, metadata: Metadata) -> Beginning:
        if not metadata:
            return BARE
        last = self.last
        if metadata is not last.metadata:
            last = self.last = Beginning(metadata)
        return last


beginnings = Beginnings()


def failed(status: Status, message: str) -> bytes:
    """The trailers of a failure; the message is percent-encoded."""
    text = _escaped.sub(lambda found: b"%%%02X" % found[0][0], message.encode("utf-8"))
    return fields.field(b"grpc-status", b"%d" % status) + fields.field(b"grpc-message", text)
