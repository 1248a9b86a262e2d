"""HTTP/1.1 of a client without a socket: the head of a request, and an answer as its bytes come."""

from __future__ import annotations

from collections.abc import Callable

from httptools import HttpParserError, HttpResponseParser

from bimodal import __version__
from bimodal.client.address import Address, plain
from bimodal.client.patience import Cut
from bimodal.client.question import Answer, Question
from bimodal.errors import UsageError


class Written:
    """What all requests to one server have in common."""

    def __init__(self, address: Address, key: str | None) -> None:
        self._base = address.base
        fields = [f"host: {address.authority}", f"user-agent: bimodal/{__version__}"]
        if key is not None:
            fields.append(f"authorization: Bearer {_value(key)}")
        self._fields = "".join(f"{each}\r\n" for each in fields)

    def request(self, question: Question, left: float) -> bytes:
        """The bytes of a request. left: seconds that its answer may take. Raises UsageError."""
        path = self._base + question.path
        if not plain(path):
            raise UsageError("the path of a request is ASCII without spaces; quote it")
        body = question.body
        head = (
            f"{question.method} {path} HTTP/1.1\r\n{self._fields}x-request-timeout-ms: {max(1, int(left * 1000))}\r\n"
        )
        if question.headers:
            head += "".join(f"{name}: {_value(value)}\r\n" for name, value in question.headers)
        if body is None:
            return f"{head}\r\n".encode("latin-1")
        return (
            f"{head}content-type: {question.content_type}\r\ncontent-length: {len(body)}\r\n\r\n".encode("latin-1")
            + body
        )


def _value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise UsageError("the value of a header is printable ASCII")
    return value


class Reading:
    """The answers of one connection, one after the other."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.begin()

    def begin(self, sink: Callable[[bytes], None] | None = None) -> None:
        """Another answer is expected. sink: takes the pieces of its body as they come."""
        self.headers: dict[bytes, bytes] = {}
        self.pieces: list[bytes] = []
        self.begun = self.headed = self.done = False
        self.keep = False
        self.status = 0
        self._sink = sink or self.pieces.append

    def feed(self, data: bytes) -> None:
        """Some of its bytes. Raises Cut where they are no HTTP."""
        self.begun = True
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise Cut(f"no HTTP: {error}", begun=True) from None

    @property
    def answer(self) -> Answer:
        pieces = self.pieces
        return Answer(self.status, self.headers, pieces[0] if len(pieces) == 1 else b"".join(pieces))

    @property
    def streams(self) -> bool:
        """Whether it is an answer in pieces."""
        return self.status == 200 and self.headers.get(b"content-type", b"").startswith(b"text/event-stream")

    # -- called by the parser ---------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.headed = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self._sink(body)

    def on_message_complete(self) -> None:
        if self.status < 200:  # an interim answer
            self.headers = {}
            return
        self.keep = self._parser.should_keep_alive()
        self.done = True
