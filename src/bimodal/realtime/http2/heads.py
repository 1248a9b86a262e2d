"""The head of an HTTP/2 request: its fields, checked as RFC 9113, section 8, has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bimodal.realtime.http2.fields import Fields
from bimodal.realtime.http2.frames import Code, StreamFault
from bimodal.realtime.refusal import given_id

NO_LENGTH = -1

_name = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
_bad_value = re.compile(rb"[\0\r\n]|^[ \t]|[ \t]$").search
_authority = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*").fullmatch
_method = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_length = re.compile(rb"[0-9]{1,15}").fullmatch
_PSEUDO = (b":method", b":scheme", b":path", b":authority")
_HOP_BY_HOP = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))


class Head:
    """What a request says ahead of its body. Equal header blocks share one, so nobody changes it.

    target: raw, with the query. length: what content-length says, or NO_LENGTH. count: fields. opening: what its taker
    has made of it, once. verdict: the guard's, once it was asked. told: what the observer has made of it.
    """

    __slots__ = ("count", "headers", "length", "method", "opening", "request_id", "target", "told", "verdict")

    def __init__(self, method: bytes, target: bytes, headers: Mapping[bytes, bytes], length: int, count: int) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.length = length
        self.count = count
        self.request_id = given_id(headers)
        self.opening: Any = None
        self.verdict: Any = None
        self.told: Any = None


def malformed(sentence: str) -> StreamFault:
    """Not a request as section 8.1.1 has it."""
    return StreamFault(Code.PROTOCOL_ERROR, sentence)


def head(fields: Fields) -> Head:
    """The head that a request's fields make. Raises StreamFault."""
    pseudo: dict[bytes, bytes] = {}
    start = 0
    for name, value in fields:
        if not name.startswith(b":"):
            break
        if name not in _PSEUDO or name in pseudo:
            raise malformed("a pseudo-header that is unknown or sent twice")
        _check_value(value)
        pseudo[name] = value
        start += 1
    headers = _headers(fields[start:])
    method, target = _start_line(pseudo)
    authority = pseudo.get(b":authority")
    if authority is not None and headers.setdefault(b"host", authority).lower() != authority.lower():
        raise malformed("host is not what :authority says")
    if not _authority(headers.get(b"host", b"")):
        raise malformed("no valid host")
    return Head(method, target, MappingProxyType(headers), _content_length(headers), len(fields))


def check_trailers(fields: Fields) -> None:
    """Fields after the body: no pseudo-headers. Raises StreamFault."""
    _headers(fields)


def _headers(fields: Fields) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        if not _name(name):
            raise malformed("a field name that is none, or a pseudo-header in the wrong place")
        _check_value(value)
        if name in _HOP_BY_HOP or (name == b"te" and value != b"trailers"):
            raise malformed("a field that belongs to HTTP/1.1 connections")
        if name in headers:
            if name in (b"content-length", b"host"):
                raise malformed("content-length or host sent twice")
            value = headers[name] + (b"; " if name == b"cookie" else b", ") + value
        headers[name] = value
    return headers


def _check_value(value: bytes) -> None:
    if _bad_value(value):
        raise malformed("a field value with a null, a line end, or space around it")


def _start_line(pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    method = pseudo.get(b":method")
    if method is None or not _method(method):
        raise malformed("no valid :method")
    if method == b"CONNECT":
        if b":scheme" in pseudo or b":path" in pseudo or not pseudo.get(b":authority"):
            raise malformed("CONNECT has an :authority, and neither :scheme nor :path")
        return method, b""
    target = pseudo.get(b":path")
    if not target or not pseudo.get(b":scheme"):
        raise malformed("no :path or no :scheme")
    if not target.startswith(b"/") and (target != b"*" or method != b"OPTIONS"):
        raise malformed(":path is no path")
    return method, target


def _content_length(headers: dict[bytes, bytes]) -> int:
    told = headers.get(b"content-length")
    if told is None:
        return NO_LENGTH
    if not _length(told):
        raise malformed("content-length is no number")
    return int(told)
