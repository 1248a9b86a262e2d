"""A request that the wire itself refuses, and the JSON body that every refusal has."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

import msgspec

from bimodal.realtime.exchange import Response
from bimodal.realtime.note import Note

REQUEST_ID = b"x-request-id"
INTERNAL = "internal error"

_sane = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}").fullmatch


class Refusal(Exception):
    """The wire refuses a request: an HTTP status, a stable code, a sentence that repeats nothing of the request."""

    def __init__(self, status: int, code: str, sentence: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.headers = headers
        self.request_id: bytes | None = None  # the caller's, where its head was read before it was refused

    def response(self, request_id: bytes | None) -> Response:
        """The answer; an id is made where the caller sent none."""
        name = request_id or self.request_id or new_id()
        body = msgspec.json.encode({"error": self.sentence, "code": self.code, "request_id": name.decode("ascii")})
        headers = ((REQUEST_ID, name), *self.headers)
        return Response(self.status, body, headers=headers, note=Note(code=self.code))


def malformed(sentence: str) -> Refusal:
    """Not HTTP as the standard has it."""
    return Refusal(400, "malformed", sentence)


def too_large(sentence: str) -> Refusal:
    """A body over its limit."""
    return Refusal(413, "too_large", sentence)


def long_body(most: int) -> Refusal:
    """A body over the limit of bytes."""
    return too_large(f"the body of the request is over {most} bytes")


def late(sentence: str) -> Refusal:
    """A caller too slow in sending."""
    return Refusal(408, "request_timeout", sentence)


def overloaded(sentence: str) -> Refusal:
    """No room: try again in a second."""
    return Refusal(503, "overloaded", sentence, (b"retry-after", b"1"))


def crowded(most: int) -> str:
    """One connection more than a worker takes."""
    return f"{most} connections are open, the most that a worker takes: reuse them, close idle ones, or add --workers"


def expired(seconds: float) -> Refusal:
    """No answer within the deadline."""
    return Refusal(504, "deadline_exceeded", f"no answer within the deadline of {seconds:g} s")


def internal() -> Refusal:
    """A fault of ours: the log has it in full, under the same request id."""
    return Refusal(500, "internal", INTERNAL)


def given_id(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The caller's own request id, if it is short and plain."""
    given = headers.get(REQUEST_ID)
    return given if given is not None and _sane(given) else None


def id_of(response: Response) -> bytes | None:
    """The id that an answer has among its headers; those that succeed have none there."""
    if response.status < 400:
        return None
    return next((value for name, value in response.headers if name == REQUEST_ID), None)


def new_id() -> bytes:
    """A request id of our own: 16 hexadecimal digits."""
    return secrets.token_hex(8).encode("ascii")
