"""An extension adds routes, beginnings of routes, metrics and paths to a worker; what is there already stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bimodal.realtime.exchange import Request, Respond, Response
from bimodal.realtime.extension import Extension
from tests.realtime.desk import Desk, told
from tests.realtime.shelf import onnx

closed: list[str] = []


def extend(extension: Extension) -> None:
    def say(request: Request, respond: Respond) -> None:
        respond(Response(200, request.path.encode(), b"text/plain"))

    def longer(request: Request, respond: Respond) -> None:
        respond(Response(200, b"longer", b"text/plain"))

    async def close() -> None:
        closed.append(extension.spec["word"])

    extension.routes["GET", "/word"] = say
    extension.prefixes["GET", "/word/"] = say
    extension.prefixes["GET", "/word/of/"] = longer
    extension.paths["/word"] = {"get": {"responses": {"200": {"description": "The word."}}}}
    extension.texts.append(lambda: f"words_total {extension.spec['count']}\n")
    extension.closes.append(close)


@pytest.fixture
def desk() -> Iterator[Desk]:
    spec = {"extensions": ["tests.realtime.test_extension:extend"], "word": "so", "count": 3}
    desk = Desk(onnx(), spec=spec)
    yield desk
    desk.close()


def test_what_an_extension_adds_is_served(desk: Desk) -> None:
    assert desk.get("/word").body == b"/word"
    assert desk.get("/word/a/b").body == b"/word/a/b"
    assert desk.get("/word/of/c").body == b"longer"
    assert b"\nwords_total 3\n" in desk.get("/metrics").body
    assert "/word" in told(desk.get("/openapi.json"))["paths"]
    assert "/predict" in told(desk.get("/openapi.json"))["paths"]


def test_the_bare_beginning_and_other_methods_are_no_route(desk: Desk) -> None:
    assert desk.get("/word/").status == 404
    assert desk.ask("/word/a", b"{}").status == 404


def test_it_is_closed_with_the_worker(desk: Desk) -> None:
    closed.clear()
    desk.run(desk.wired.close)
    assert closed == ["so"]
