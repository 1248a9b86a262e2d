"""The page in a real browser: its numbers are those of the JSON, its policy holds, it is readable in dark and light."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from selenium import webdriver

from bimodal.advice.page import page, write
from bimodal.advice.plots import HEIGHT, WIDTH, Axis, Series, plot
from bimodal.errors import SinkError
from tests.advice.scenes import advice, machine

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1200,900", "--disable-sync")
ASKED: dict[str, Any] = {"requests_per_day": 1e6, "keys": 1_000_000, "freshness": 3600.0, "latency": 0.1}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    assert chromium, "Chromium is needed: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield browser
    browser.quit()


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def contrast(one: str, other: str) -> float:
    """Of two colours as the browser tells them (WCAG 2)."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.browser
def test_the_page_shows_the_numbers_of_the_json_and_asks_nobody(browser: Any, tmp_path: Path) -> None:
    found = advice(**ASKED)
    write(found, tmp_path / "advice.html")
    browser.get((tmp_path / "advice.html").as_uri())
    told = json.loads(json.dumps(found.told()))
    for mode in told["modes"]:
        for name in ("p50", "p99", "throughput", "machines", "month", "per_million", "freshness", "idle"):
            cell = find(browser, f"#{mode['name'].replace(' ', '-')}-{name}")
            value, wanted = cell.get_attribute("value"), mode[name]["value"]
            assert (float(value) if value else None) == wanted, (mode["name"], name)
    assert find(browser, "#recommended").text == told["recommended"]
    assert find(browser, "#reason").text == told["reason"]
    assert told["break_even"]["told"] in find(browser, "#break-even").text
    assert len(browser.find_elements("css selector", "svg")) == 3
    assert "a file <b>" in find(browser, "main").text
    for theme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        )
        card = find(browser, "section").value_of_css_property("background-color")
        assert contrast(find(browser, "#reason").value_of_css_property("color"), card) > 7, theme
        assert contrast(find(browser, "td small").value_of_css_property("color"), card) > 4.5, theme
        assert contrast(find(browser, "svg text").value_of_css_property("fill"), card) > 4.5, theme
        for kind in ("one", "two", "three"):
            assert contrast(find(browser, f"polyline.{kind}").value_of_css_property("stroke"), card) > 3, theme
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file:", "data:", "chrome:")) for url in asked)
    assert any(url.startswith("file:") for url in asked)


def test_the_page_holds_no_script_and_no_style_that_its_policy_refuses() -> None:
    text = page(advice(**ASKED))
    assert not re.search(r"<script|\son\w+=|style=|javascript:|https?://", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    "asked", [{"rows": 1000}, {"requests_per_day": 10.0}, {"requests_per_day": 1e9, "latency": 1e-9}]
)
def test_every_plot_is_whole_whatever_is_asked(asked: dict[str, Any]) -> None:
    text = page(advice(machine(rows=1e6, start=0.1), **asked))
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        for each in ElementTree.fromstring(drawing).iter():
            for points in (each.get("points") or "").split():
                x, y = map(float, points.split(","))
                assert 0 <= x <= WIDTH
                assert 0 <= y <= HEIGHT


def test_points_stand_where_their_values_are() -> None:
    across, up = Axis.over("x", [1.0, 100.0], str), Axis("y", 0.0, 1.0, str, log=False)
    drawing = plot("title", across, up, [Series("a", "one", [(1.0, 0.0), (10.0, 0.5), (100.0, 1.0)])])
    found = re.search(r'points="([^"]+)"', drawing)
    assert found
    first, middle, last = (tuple(map(float, point.split(","))) for point in found[1].split())
    assert middle == pytest.approx(((first[0] + last[0]) / 2, (first[1] + last[1]) / 2), abs=0.1)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written"):
        write(advice(**ASKED), tmp_path / "absent" / "advice.html")
