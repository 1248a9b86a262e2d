"""The pages in a real browser, of a server that asks for keys: the page asks once, and forgets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bimodal import keys
from bimodal.realtime.server import Server
from tests import browsers
from tests.realtime.shelf import onnx
from tests.realtime.test_pages import find


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def key(file: Path) -> str:
    return keys.add(file, "page")


@pytest.fixture(scope="module")
def server(file: Path, key: str) -> Iterator[Server]:
    with Server({"models": [onnx().spec()], "guard": {"keys": str(file)}}) as server:
        yield server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    with browsers.browser(tmp_path) as opened:
        yield opened


def unlock(browser: Any, key: str) -> None:
    field = find(browser, "#key")
    field.clear()
    field.send_keys(key)
    find(browser, "#unlock").click()


@pytest.mark.browser
def test_the_pages_ask_for_a_key_and_go_on_with_it(browser: Any, server: Server, key: str) -> None:
    browser.get(server.url)
    assert "needs an API key" in find(browser, "section.key").text
    unlock(browser, "bmk_wrong")
    assert "none of this server's" in find(browser, "section.key").text
    unlock(browser, key)
    find(browser, "#predict").click()
    assert find(browser, "#is-prediction").text in ("0", "1", "2")
    assert browser.execute_script("return document.querySelector('section.key')") is None
    call = find(browser, "#call").text
    assert "Authorization: Bearer KEY" in call
    assert key not in browser.page_source
    assert browser.execute_script("return [document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
    browser.refresh()
    assert find(browser, "#key").get_attribute("value") == ""
    browser.get(f"{server.url}/docs")
    unlock(browser, key)
    find(browser, "details.route[open] button").click()
    assert find(browser, "details.route[open] .told").text.startswith("{")
