"""The head of an HTTP/1 request: parsed by llhttp, then held to stricter rules: no proxy may read it otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import httptools

from bimodal.realtime.refusal import Refusal, given_id, malformed

CHUNKED = -1
SLASH = "\ud82f"  # an encoded slash in a path: no separator (RFC 3986, section 2.2), and nothing else that UTF-8 gives

_host = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*").fullmatch
_slash = re.compile(rb"%2[Ff]").split
_line = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/([0-9]\.[0-9])\r\n").match
_absolute = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE).match
_word = re.compile(rb"[A-Z]+ ").match
_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_plain_get = re.compile(rb"GET (/[A-Za-z0-9._~%/-]*) HTTP/1\.1\r\n").match


@dataclass(slots=True)
class Head:
    """What a request says ahead of its body. It is shared, and nobody changes it: equal bytes have the same head."""

    method: str
    path: str  # percent-decoded but for slashes (SLASH), without the query
    query: str  # raw, without the question mark
    headers: Mapping[bytes, bytes]  # lower-case names; a field sent twice is joined with a comma
    length: int  # bytes of the body, or CHUNKED
    old: bool  # HTTP/1.0
    keep_alive: bool
    awaits_continue: bool
    request_id: bytes | None  # the caller's, where it is sane
    plain: bool  # the answer needs nothing but its content: no HEAD, no close, no request id, no HTTP/1.0
    whole: bool = False  # the app was asked, and does not take the body in pieces
    verdict: Any = None  # the guard's, once it was asked
    told: Any = None  # what the observer has made of it
    route: tuple[str, str] = field(init=False)  # method and path

    def __post_init__(self) -> None:
        self.route = (self.method, self.path)


class _Fields:
    """What llhttp calls back with."""

    def __init__(self, most: int) -> None:
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.most = most
        self.count = 0
        self.refusal: Refusal | None = None
        self.complete = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.count += 1
        if self.count > self.most:
            self.refusal = self.refusal or many_fields(self.most)
            return
        name, value = name.lower(), value.strip(b" \t")
        if name in self.headers:
            if name in (b"host", b"transfer-encoding"):
                self.refusal = self.refusal or malformed(f"more than one {name.decode()} header")
            value = self.headers[name] + (b"; " if name == b"cookie" else b", ") + value
        self.headers[name] = value

    def on_headers_complete(self) -> None:
        self.complete = True


def long_head(most: int) -> Refusal:
    """More bytes than a head may have."""
    return Refusal(431, "headers_too_large", f"the request line and header fields are over {most} bytes")


def many_fields(most: int) -> Refusal:
    """More fields than a head may have."""
    return Refusal(431, "headers_too_large", f"more than {most} header fields")


def parse(raw: bytes, most_fields: int) -> Head:
    """Read a head: `raw` is one request line, its fields, and the empty line, nothing after it. Raises Refusal."""
    fields = _Fields(most_fields)
    try:
        return _parsed(raw, fields)
    except Refusal as refusal:
        refusal.request_id = given_id(fields.headers)
        raise


def _parsed(raw: bytes, fields: _Fields) -> Head:
    check_start(raw)
    raw = raw.removeprefix(b"\r\n")  # one empty line before a request is allowed
    parser = httptools.HttpRequestParser(fields)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # an offer to change the protocol is declined by answering in this one
    except httptools.HttpParserInvalidMethodError:
        raise unknown_method(raw) from None
    except httptools.HttpParserError as error:
        line = _line(raw)
        if line is not None:
            _check_version(line[1].decode("ascii"))
        raise fields.refusal or malformed(f"malformed HTTP: {error.args[0]}") from None
    if fields.refusal is not None:
        raise fields.refusal
    if not fields.target:
        raise malformed("malformed HTTP: empty lines where a request should be")
    method: bytes = parser.get_method()
    old = _version(raw, method, fields.target, parser.get_http_version())
    if not fields.complete:
        raise malformed("malformed HTTP: the head does not end where its empty line is")
    headers = fields.headers
    _check_host(headers, old)
    path, query = split_target(method, fields.target)
    absolute = _absolute(fields.target)
    if absolute is not None:
        headers[b"host"] = absolute[1]  # it counts, and the field does not (RFC 9112, section 3.2.2)
    keep_alive = _keeps_alive(headers, old)
    request_id = given_id(headers)
    return Head(
        method=method.decode("ascii"),
        path=path,
        query=query,
        headers=MappingProxyType(headers),
        length=_length(headers, old),
        old=old,
        keep_alive=keep_alive,
        awaits_continue=_awaits_continue(headers, old),
        request_id=request_id,
        plain=keep_alive and not old and request_id is None and method != b"HEAD",
    )


class Rests:
    """Heads of GET that differ in a plain path alone (as lookups by key do): what follows the request line is parsed
    once. Whatever else a line may hold takes the whole way.
    """

    MOST = 256  # rests remembered

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, raw: bytes) -> Head | None:
        """The head, where its rest was parsed before. Raises Refusal."""
        line = _plain_get(raw)
        known = self._known.get(raw[line.end() :]) if line is not None else None
        if known is None or line is None:
            return None
        return Head(
            known.method,
            decode_path(line[1]),
            "",
            known.headers,
            known.length,
            known.old,
            known.keep_alive,
            known.awaits_continue,
            known.request_id,
            known.plain,
        )

    def keep(self, raw: bytes, head: Head) -> None:
        """What was parsed of these bytes."""
        line = _plain_get(raw)
        if line is None:
            return
        if len(self._known) >= self.MOST:
            self._known.clear()
        self._known[raw[line.end() :]] = head


def check_start(data: bytes) -> None:
    """Refuse what can never become a head, before its end has come: other protocols, lines that end in a bare LF."""
    if data[0] == 0x16:
        raise malformed("this port speaks plain HTTP, not TLS: use http:// in the address")
    if not (65 <= data[0] <= 90 or data[:1] == b"\r"):
        raise malformed("malformed HTTP: a request begins with a method in capital letters")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise malformed("malformed HTTP: a line ends with LF alone, without CR")


def unknown_method(raw: bytes) -> Refusal:
    """A word that could be a method but is none, or no word at all."""
    if _word(raw):
        return Refusal(501, "not_implemented", "unknown HTTP method")
    return malformed("malformed HTTP: a request begins with a method")


def split_target(method: bytes, target: bytes) -> tuple[str, str]:
    """Path (decoded) and query (raw) of a request target, in origin or absolute form. Raises Refusal."""
    if method == b"CONNECT":
        raise Refusal(501, "not_implemented", "CONNECT is not supported: this is no proxy")
    if target == b"*" and method == b"OPTIONS":
        return "*", ""
    absolute = _absolute(target)
    if absolute is not None:
        if not absolute[1] or not _host(absolute[1]):
            raise malformed("the request target names no valid host")
        target = target[absolute.end() :]
        if not target.startswith(b"/"):
            target = b"/" + target
    path, _, query = target.partition(b"?")
    if not path.startswith(b"/") or b"#" in target:
        raise malformed("the request target must be a path or a full http address, without a fragment")
    return decode_path(path), query.decode("ascii")


def decode_path(path: bytes) -> str:
    """Undo percent encoding, but for that of slashes: they become SLASH. Refuses what is no UTF-8 text."""
    if b"%" not in path:
        return path.decode("ascii")
    if _escape(path):
        raise malformed("the path holds a percent sign that begins no escape")
    try:
        text = SLASH.join([unquote_to_bytes(part).decode("utf-8") for part in _slash(path)])
    except UnicodeDecodeError:
        raise malformed("the path is not UTF-8") from None
    if "\0" in text:
        raise malformed("the path holds a null character")
    return text


def unquoted(path: str) -> str:
    """The same of a path whose escapes somebody else has looked at."""
    return SLASH.join([unquote(part) for part in re.split("%2[Ff]", path)])


def _version(raw: bytes, method: bytes, target: bytes, version: str) -> bool:
    """True for HTTP/1.0, False for 1.1. llhttp forgives more in a request line than the standard does: not here."""
    _check_version(version)
    if not raw.startswith(b"%b %b HTTP/%b\r\n" % (method, target, version.encode("ascii"))):
        raise malformed("malformed HTTP: a request line is a method, a target and a version, one space between them")
    return version == "1.0"


def _check_version(version: str) -> None:
    if version not in ("1.0", "1.1"):
        raise Refusal(505, "version_not_supported", "only HTTP/1.1 and HTTP/1.0 are understood")


def _check_host(headers: dict[bytes, bytes], old: bool) -> None:
    host = headers.get(b"host")
    if host is None:
        if not old:
            raise malformed("HTTP/1.1 needs a host header")
    elif not _host(host):
        raise malformed("the host header is no valid host")


def _keeps_alive(headers: dict[bytes, bytes], old: bool) -> bool:
    connection = headers.get(b"connection")
    if connection is None:
        return not old
    options = [option.strip() for option in connection.lower().split(b",")]
    return b"close" not in options and (not old or b"keep-alive" in options)


def _length(headers: dict[bytes, bytes], old: bool) -> int:
    """Bytes of the body, or CHUNKED. A request with both framings never gets here: llhttp refuses it, and so do we."""
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is None:
        return int(length) if length is not None else 0
    if length is not None:
        raise malformed("content-length and transfer-encoding exclude each other")
    if old:
        raise malformed("HTTP/1.0 has no transfer-encoding")
    if coding.lower() != b"chunked":
        raise Refusal(501, "not_implemented", "the only transfer-encoding understood is chunked")
    return CHUNKED


def _awaits_continue(headers: dict[bytes, bytes], old: bool) -> bool:
    expected = headers.get(b"expect")
    if expected is None or old:
        return False
    if expected.lower() != b"100-continue":
        raise Refusal(417, "expectation_failed", "the only expectation understood is 100-continue")
    return True
