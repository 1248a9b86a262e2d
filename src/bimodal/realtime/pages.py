"""The pages at `/`, `/docs` and `/chat`: static files of the package, which ask nothing of any other server."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from bimodal.realtime.app import Handler
from bimodal.realtime.exchange import Request, Respond, Response
from bimodal.realtime.metrics import Metrics

PAGES = {"/": "index.html", "/docs": "docs.html", "/chat": "chat.html"}
FILES = ("page.css", "calls.js", "index.js", "docs.js", "chat.js", "icon.svg")
TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


def routes(metrics: Metrics) -> dict[tuple[str, str], Handler]:
    """The pages and their files."""
    names = {**PAGES, **{f"/static/{name}": name for name in FILES}}
    return {("GET", path): _handler(name, metrics) for path, name in names.items()}


@cache
def content(name: str) -> bytes:
    """A static file."""
    return files("bimodal.realtime").joinpath("static", name).read_bytes()


def _handler(name: str, metrics: Metrics) -> Handler:
    kind = TYPES[name.rpartition(".")[2]]

    def handle(request: Request, respond: Respond) -> None:
        metrics.other(200)
        respond(Response(200, content(name), kind, HEADERS))

    return handle
