"""One route, several kinds of body: the door is found by the content type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import cast

from bimodal.errors import MissingLibrary, UnsupportedMedia
from bimodal.formats.library import library
from bimodal.realtime.exchange import JSON, Intake, Request, Respond, Writer
from bimodal.realtime.protocols import choice
from bimodal.realtime.protocols.events import Live, Plain, plainly, tell, wants_events
from bimodal.realtime.protocols.lines import NDJSON, LinesDoor
from bimodal.realtime.protocols.rows import RowsDoor
from bimodal.realtime.service import Served

CSV, ARROW, PARQUET = b"text/csv", b"application/vnd.apache.arrow.stream", b"application/vnd.apache.parquet"
MEDIA = (JSON, CSV, ARROW, PARQUET, NDJSON)
ALSO = {  # other names that people use
    b"": JSON,
    b"text/json": JSON,
    b"application/x-www-form-urlencoded": JSON,  # what curl sends unless told otherwise
    b"application/csv": CSV,
    b"application/x-parquet": PARQUET,
    b"application/parquet": PARQUET,
    b"application/ndjson": NDJSON,
    b"application/jsonl": NDJSON,
    b"application/jsonlines": NDJSON,
    b"application/x-jsonlines": NDJSON,
}

Cancel = Callable[[], None]
Handler = Callable[[Request, Respond], Cancel | None]


class Media:
    """`/predict` of one model."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._json = RowsDoor(served)
        self._lines = LinesDoor(served)
        self._events = Live(self._tell, served.limits, plainly, served.streams.failed)
        self._doors: dict[bytes, Handler] = {JSON: self._json, NDJSON: self._lines}

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        headers = request.headers
        door = self._doors.get(headers.get(b"content-type", JSON))
        if door is None or b"content-encoding" in headers:
            try:
                door = self._door(request)
            except UnsupportedMedia as error:
                self._served.refuse("predict", request, respond, error)
                return None
        return door(request, respond)

    def stream(self, request: Request, writer: Writer) -> Intake | None:
        """The taker of lines; or of a body that is to be answered in events, where those are asked for."""
        if wants_events(request):
            return self._events.stream(request, writer)
        if kind(request) != NDJSON or b"content-encoding" in request.headers:
            return None
        return self._lines.stream(request, writer)

    async def _tell(self, request: Request, writer: Writer) -> None:
        """Answer in events."""
        require_plain(request)
        if kind(request) != JSON:
            raise UnsupportedMedia("what is answered in events is asked in JSON")
        served = self._served
        rows, asked, _ = self._json.judged(request.body, choice.of_query(request.query))
        deadline = monotonic() + choice.seconds(request.headers, served.limits.deadline)
        pieces = served.stream(rows, served.choose(asked.outputs, asked.threshold), deadline)
        await tell(writer, pieces, Plain(request, one=served.model.streams))

    def _door(self, request: Request) -> Handler:
        require_plain(request)
        found = kind(request)
        if found not in MEDIA:
            names = ", ".join(each.decode() for each in MEDIA)
            raise UnsupportedMedia(f"this content type is not understood; understood are {names}")
        header = said_of_header(request.headers) if found == CSV else None
        key = found if header is None else found + (b"; header=present" if header else b"; header=absent")
        if key not in self._doors:
            # Arrow is loaded when the first table comes: a server of JSON alone does without its memory
            try:
                tables = library("bimodal.realtime.protocols.tables")
            except MissingLibrary as error:
                raise UnsupportedMedia(f"this server takes no tables, JSON alone: {error.message}") from error
            self._doors[key] = cast(Handler, tables.TableDoor(self._served, found, header=header))
        return self._doors[key]


def require_plain(request: Request) -> None:
    """Raises UnsupportedMedia where the body is compressed."""
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMedia("compressed bodies are not understood; send it without content-encoding")


def said_of_header(headers: Mapping[bytes, bytes]) -> bool | None:
    """Whether the caller says that its CSV has a header (`text/csv; header=present`, or `absent`: RFC 4180)."""
    for part in headers[b"content-type"].lower().split(b";")[1:]:
        name, _, value = part.partition(b"=")
        if name.strip() == b"header":
            words = {b"present": True, b"absent": False}
            found = words.get(value.strip(b' "'))
            if found is None:
                raise UnsupportedMedia("the content type's header is either present or absent")
            return found
    return None


def kind(request: Request) -> bytes:
    """The content type by its own name, without parameters."""
    told = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if told.endswith(b"+json"):
        return JSON
    return ALSO.get(told, told)
