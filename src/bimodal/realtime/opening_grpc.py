"""The opening of a gRPC call: what its head asks for, read once for all calls with the same head."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping
from math import inf

from bimodal.realtime.calls import Metadata, Methods, Status, Streaming, Unary
from bimodal.realtime.http2 import fields
from bimodal.realtime.http2.compression import ACCEPTED, CODINGS
from bimodal.realtime.http2.heads import Head
from bimodal.realtime.limits import Limits
from bimodal.realtime.refusal import REQUEST_ID

CONTENT_TYPE = b"application/grpc"

_type = re.compile(rb"application/grpc(\+proto)?(;.*)?").fullmatch
_timeout = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def is_call(head: Head) -> bool:
    """Whether a request is gRPC."""
    return head.headers.get(b"content-type", b"").startswith(CONTENT_TYPE) and head.method == b"POST"


class Refused(Exception):
    """A call that the wire itself refuses."""

    def __init__(self, status: Status, message: str, metadata: Metadata = ()) -> None:
        super().__init__(message)
        self.status = status
        self.metadata = metadata


class Opening:
    """What the head of a call asks for. Equal heads share one. coding: of its messages. answers: of ours. echo: the
    field of the caller's request id. bare: neither changes our answers.
    """

    __slots__ = (
        "answers",
        "bare",
        "coding",
        "echo",
        "media",
        "metadata",
        "path",
        "refused",
        "streaming",
        "timeout",
        "unary",
    )

    def __init__(self, head: Head) -> None:
        self.path = head.target.decode("ascii", "replace")
        self.metadata: Mapping[bytes, bytes] = head.headers
        self.unary: Unary | None = None
        self.streaming: Streaming | None = None
        self.timeout = inf
        self.coding = b"identity"
        self.answers: bytes | None = None
        self.echo = fields.field(REQUEST_ID, head.request_id) if head.request_id is not None else b""
        self.media = bool(_type(head.headers[b"content-type"]))
        self.refused: Refused | None = None
        self.bare = False

    @classmethod
    def of(cls, head: Head, methods: Methods, limits: Limits) -> Opening:
        opening = cls(head)
        try:
            opening._read(head, methods, limits)
        except Refused as refused:
            opening.refused = refused
        opening.bare = not opening.echo and opening.answers is None
        return opening

    def _read(self, head: Head, methods: Methods, limits: Limits) -> None:
        if head.count > limits.header_fields:
            raise Refused(Status.RESOURCE_EXHAUSTED, f"more than {limits.header_fields} fields of metadata")
        self.unary, self.streaming = methods.unary.get(self.path), methods.streaming.get(self.path)
        if self.unary is None and self.streaming is None:
            raise Refused(Status.UNIMPLEMENTED, "no such method; the reflection service lists them all")
        self.timeout = _seconds(head.headers.get(b"grpc-timeout"))
        self.coding = head.headers.get(b"grpc-encoding", b"identity")
        if self.coding in CODINGS:
            accepted = head.headers.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
            self.answers = self.coding if self.coding in accepted else None
        elif self.coding != b"identity":
            told = ((b"grpc-accept-encoding", ACCEPTED),)
            raise Refused(Status.UNIMPLEMENTED, "messages are compressed in a way that is not understood here", told)
        self.metadata = _metadata(head.headers)


def _seconds(timeout: bytes | None) -> float:
    if timeout is None:
        return inf
    found = _timeout(timeout)
    if found is None:
        raise Refused(Status.INTERNAL, "grpc-timeout is up to eight digits and one of H, M, S, m, u, n")
    return int(found[1]) * _UNITS[found[2]]


def _metadata(headers: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """The headers, with the values of names that end in -bin as bytes (several: joined with a comma)."""
    if not any(name.endswith(b"-bin") for name in headers):
        return headers
    return {name: _binary(value) if name.endswith(b"-bin") else value for name, value in headers.items()}


def _binary(value: bytes) -> bytes:
    try:
        return b",".join([_unbase64(each.strip(b" =")) for each in value.split(b",")])
    except NoBase64:
        raise Refused(Status.INTERNAL, "metadata whose name ends in -bin is no base64") from None


def _unbase64(text: bytes) -> bytes:
    """With padding or without."""
    return b64decode(text + b"=" * (-len(text) % 4), validate=True)
