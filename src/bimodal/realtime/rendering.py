"""Responses as HTTP/1.1 bytes: what is the same every time is made once."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from bimodal.realtime.exchange import Response
from bimodal.realtime.head import Head
from bimodal.realtime.refusal import REQUEST_ID

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
BODILESS = (204, 304)  # the status of a response without a body
_STARTS = 256  # pairs of status and content type remembered


class Rendering:
    """Makes the bytes of responses; `set_date` is to be called every second. ending: of a head, with the date."""

    def __init__(self) -> None:
        self._starts: dict[tuple[int, bytes], bytes] = {}
        self._headers: tuple[tuple[bytes, bytes], ...] = ()
        self._status, self._type = 0, b""
        self._heads: dict[int, bytes] = {}  # with those headers, of that status and content type, by length of the body
        self._opens: dict[int, bytes] = {}  # the same without their end, for a request id to follow
        self.set_date()

    def set_date(self) -> None:
        """The time is now."""
        self._heads.clear()
        self._opens.clear()
        self.date = formatdate(usegmt=True).encode("ascii")
        self.ending = b"date: %b\r\n\r\n" % self.date

    def whole(self, head: Head | None, response: Response, closes: bool, name: bytes | None = None) -> bytes:
        """A response with its body. `head` is None where the request's could not be read. name: a request id of ours.

        Raises ValueError if a header field holds a line end.
        """
        if head is not None and head.plain and not closes and response.status not in BODILESS:
            # Nothing but the response decides: the answers of one batch share their headers, and many of them the
            # length of their bodies.
            if (
                response.headers is not self._headers
                or response.status != self._status
                or response.content_type != self._type
            ):
                self._headers, self._status, self._type = response.headers, response.status, response.content_type
                self._heads.clear()
                self._opens.clear()
            body = response.body
            if name is None:
                return (self._heads.get(len(body)) or self._plain_head(response)) + body
            return b"%b%b\r\n\r\n%b" % (self._opens.get(len(body)) or self._open_head(response), name, body)
        start = self.start(response)
        fields = _fields(head, response, closes, name)
        if response.status in BODILESS:
            return b"%b%b%b" % (start, fields, self.ending)
        body = b"" if head is not None and head.method == "HEAD" else response.body
        return b"%b%bcontent-length: %d\r\n%b%b" % (start, fields, len(response.body), self.ending, body)

    def _plain_head(self, response: Response) -> bytes:
        """What stands before the body."""
        lines = b"".join([_line(name, value) for name, value in response.headers])
        size = len(response.body)
        head = self._heads[size] = b"%b%bcontent-length: %d\r\n%b" % (self.start(response), lines, size, self.ending)
        return head

    def _open_head(self, response: Response) -> bytes:
        """What `_plain_head` gives, up to a request id."""
        head = self._opens[len(response.body)] = self._plain_head(response)[:-2] + b"x-request-id: "
        return head

    def beginning(
        self, head: Head | None, response: Response, *, chunked: bool, closes: bool, name: bytes | None = None
    ) -> bytes:
        """The head of a response whose body comes in pieces. Raises ValueError as `whole` does."""
        coding = b"transfer-encoding: chunked\r\n" if chunked else b""
        return b"%b%b%b%b" % (self.start(response), _fields(head, response, closes, name), coding, self.ending)

    def start(self, response: Response) -> bytes:
        """The status line and the content type."""
        known = self._starts.get((response.status, response.content_type))
        if known is not None:
            return known
        start = b"HTTP/1.1 %d %b\r\n" % (response.status, _phrase(response.status))
        if response.status not in BODILESS:
            start += _line(b"content-type", response.content_type)
            if len(self._starts) >= _STARTS:
                self._starts.clear()
            self._starts[response.status, response.content_type] = start
        return start


def chunk(piece: bytes) -> bytes:
    """A piece of a chunked body; it must not be empty, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _fields(head: Head | None, response: Response, closes: bool, name: bytes | None = None) -> bytes:
    """The header fields that not every response has."""
    lines = [_line(name, value) for name, value in response.headers]
    if head is not None and head.request_id is not None and all(name != REQUEST_ID for name, _ in response.headers):
        lines.append(_line(REQUEST_ID, head.request_id))
    elif name is not None:
        lines.append(_line(REQUEST_ID, name))
    if closes:
        lines.append(b"connection: close\r\n")
    elif head is not None and head.old:
        lines.append(b"connection: keep-alive\r\n")
    return b"".join(lines)


def _line(name: bytes, value: bytes) -> bytes:
    line = b"%b: %b\r\n" % (name, value)
    if line.count(b"\n") != 1 or line.count(b"\r") != 1:
        raise ValueError(f"header field {name!r} holds a line end")
    return line


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b"Status"
