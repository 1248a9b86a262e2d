"""The pages at / and /docs in a real browser: fill in a row, press the button, see the answer; nobody else is asked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import fastapi
import httpx
import pytest

from bimodal.realtime import pages
from bimodal.realtime.asgi import asgi
from bimodal.realtime.limits import Limits
from bimodal.realtime.server import Server
from bimodal.realtime.wiring import wire
from tests import browsers
from tests.realtime.desk import Desk
from tests.realtime.shelf import loaded, onnx
from tests.realtime.test_asgi import uvicorn_serving


def test_every_file_of_the_pages_is_served_with_its_type_and_policy() -> None:
    desk = Desk(onnx())
    for path in ("/", "/docs", *(f"/static/{name}" for name in pages.FILES)):
        response = desk.get(path)
        assert response.status == 200
        headers = dict(response.headers)
        assert b"default-src 'none'" in headers[b"content-security-policy"]
        assert headers[b"x-content-type-options"] == b"nosniff"
    desk.close()


def test_the_pages_name_no_other_server_and_hold_no_inline_code() -> None:
    for name in (*pages.PAGES.values(), *pages.FILES):
        text = files("bimodal.realtime").joinpath("static", name).read_text()
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"\son\w+=|style=|innerHTML|eval\(", text), name


def test_the_pages_are_small() -> None:
    assert sum(len(pages.content(name)) for name in (*pages.PAGES.values(), *pages.FILES)) < 40_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = [loaded("mixed").spec(), onnx().spec(), loaded("text").spec()]
    spec = {"models": models, "metrics": str(tmp_path_factory.mktemp("pages") / "metrics")}
    with Server(spec) as server:
        yield server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    with browsers.browser(tmp_path) as opened:
        yield opened


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def requests(browser: Any) -> list[str]:
    """The addresses asked for, but for the browser's own pages."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("chrome:", "data:"))]


def assert_clean(browser: Any, server: Server) -> None:
    assert browser.get_log("browser") == []
    asked = requests(browser)
    assert asked
    assert all(url.startswith(server.url) for url in asked), asked


@pytest.mark.browser
def test_a_row_is_filled_in_and_answered(browser: Any, server: Server) -> None:
    browser.get(server.url)
    income = find(browser, "input#f1")
    income.clear()
    income.send_keys("91000")
    find(browser, "#predict").click()
    assert find(browser, "#is-prediction").text in ("stays", "leaves")
    assert len(browser.find_elements("css selector", "#answer meter")) == 2
    assert "the model" in find(browser, "#times table").text
    assert "91000" in find(browser, "#call").text
    assert find(browser, "#call").text.startswith("curl")
    assert_clean(browser, server)


@pytest.mark.browser
def test_the_same_call_runs_as_python_and_as_curl(browser: Any, server: Server) -> None:
    browser.get(server.url)
    find(browser, "#predict").click()
    answer = find(browser, "#is-prediction").text
    find(browser, "#tab-Python").click()
    code = find(browser, "#call").text
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert answer in done.stdout
    find(browser, "#tab-curl").click()
    command = find(browser, "#call").text.replace("curl ", "curl -s ", 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=20)
    assert json.loads(done.stdout)["prediction"] == [answer]
    find(browser, "#tab-JavaScript").click()
    assert "fetch(" in find(browser, "#call").text


@pytest.mark.browser
@pytest.mark.parametrize("name", ["inline", "text"])
def test_another_model_is_chosen(browser: Any, server: Server, name: str) -> None:
    browser.get(server.url)
    find(browser, f"#model option[value={name}]").click()
    find(browser, "#predict").click()
    assert find(browser, "#is-prediction").text in ("0", "1", "2")
    assert_clean(browser, server)


@pytest.fixture
def mounted() -> Iterator[str]:
    """Where the first model is mounted in an application of someone else's."""
    outer = fastapi.FastAPI()
    wired = wire([loaded("mixed"), onnx()], Limits())
    outer.mount("/some/model", asgi(wired.app))
    with uvicorn_serving(outer) as port:
        yield f"http://127.0.0.1:{port}/some/model"


def test_everything_the_pages_name_is_below_the_place_where_they_are_mounted(mounted: str) -> None:
    for page in ("/", "/docs"):
        text = httpx.get(mounted + page).text
        names = re.findall(r'(?:href|src)="([^"]*)"', text)
        assert len(names) > 5
        for name in names:
            address = urljoin(mounted + page, name)
            assert address.startswith(mounted + "/")
            assert httpx.get(address).status_code == 200, address
    for name in pages.FILES:
        assert "/static/" not in httpx.get(f"{mounted}/static/{name}").text
    document = httpx.get(f"{mounted}/openapi.json").json()
    server = urljoin(f"{mounted}/openapi.json", document["servers"][0]["url"]).rstrip("/")
    assert server == mounted
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert httpx.post(f"{server}/predict", json=body).status_code == 200


@pytest.mark.browser
def test_mounted_below_a_path_the_pages_ask_and_show_the_right_addresses(browser: Any, mounted: str) -> None:
    browser.get(f"{mounted}/")
    find(browser, "#predict").click()
    answer = find(browser, "#is-prediction").text
    assert answer in ("stays", "leaves")
    command = find(browser, "#call").text
    assert f"'{mounted}/predict'" in command
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=20)
    assert json.loads(done.stdout)["prediction"] == [answer]
    find(browser, "#model option[value=inline]").click()
    find(browser, "#predict").click()
    assert find(browser, "#is-prediction").text in ("0", "1", "2")
    for tab in ("Python", "JavaScript"):
        find(browser, f"#tab-{tab}").click()
        assert f'"{mounted}/models/inline/predict"' in find(browser, "#call").text
    find(browser, "nav a").click()
    find(browser, "details.route[open] button[type=submit]").click()
    assert "prediction" in find(browser, "details.route[open] pre.told").text
    assert browser.get_log("browser") == []
    assert all(url.startswith(f"{mounted}/") for url in requests(browser))


@pytest.mark.browser
def test_an_error_is_told_on_the_page(browser: Any, server: Server) -> None:
    browser.get(server.url)
    find(browser, "#model option[value=inline]").click()
    find(browser, "input#f0").clear()
    find(browser, "#predict").click()
    assert "null where" in find(browser, "#answer [role=alert]").text


@pytest.mark.browser
def test_the_api_page_sends_the_example_of_a_route(browser: Any, server: Server) -> None:
    browser.get(f"{server.url}/docs")
    find(browser, "details.route[open] button[type=submit]").click()
    assert "prediction" in find(browser, "details.route[open] pre.told").text
    assert "200" in find(browser, "details.route[open] h3").text
    assert_clean(browser, server)
