"""examples/assistant: a conversation over the wire, on the page in a browser, and overnight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browsers import browser
from tests.examples.story import told

HOSTILE = '<img src="x" onerror="document.title=\'broken\'"><script>document.title = "broken"</script>'


def test_it_is_talked_to(tmp_path: Path) -> None:
    with told("assistant", tmp_path) as reader:
        url = f"http://localhost:{reader.ports['8000']}"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
            given = client.chat.completions.create(
                model="Assistant", messages=[{"role": "user", "content": "Do you deliver abroad?"}]
            )
        assert (given.choices[0].message.content or "").startswith("A parcel takes two working days")
        lines = [json.loads(line) for line in (reader.folder / "results.jsonl").read_text().splitlines()]
        assert [line["response"]["status_code"] for line in lines] == [200, 400, 200]
        converse(url, tmp_path / "browser")


def converse(url: str, profile: Path) -> None:
    """On the page: the answer comes piece by piece, is stopped, and is never taken for markup."""
    with browser(profile) as page:
        page.get(f"{url}/chat")
        title = page.title
        ask(page, "May I send it back?")
        answered(page, 1, "the money is back within a week.")
        ask(page, HOSTILE)
        turn = answered(page, 2, "gift cards.")
        assert HOSTILE in turn
        assert page.title == title
        assert page.execute_script("return document.querySelectorAll('.said img, .said script').length") == 0
        ask(page, "word " * 3000)
        page.find_element(By.ID, "stop").click()
        WebDriverWait(page, 60).until(lambda page: page.find_element(By.ID, "send").is_enabled())
        problems = [each for each in page.get_log("browser") if each["level"] == "SEVERE"]
        assert problems == []


def ask(page: Any, text: str) -> None:
    WebDriverWait(page, 60).until(lambda page: page.find_element(By.ID, "send").is_enabled())
    page.execute_script("document.getElementById('text').value = arguments[0]", text)
    page.find_element(By.ID, "send").click()


def answered(page: Any, number: int, end: str) -> str:
    """What the model said as its answer of this number, once it ends so."""

    def said(page: Any) -> str:
        turns = [each.text for each in page.find_elements(By.CSS_SELECTOR, ".turn.assistant")]
        return turns[number - 1] if len(turns) >= number and turns[number - 1].rstrip().endswith(end) else ""

    return str(WebDriverWait(page, 60).until(said))
