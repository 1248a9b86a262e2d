"""A file of requests in batch: each costs its own line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

import bimodal
from bimodal.batch.progress import Lines
from bimodal.chat.requests import of_requests
from bimodal.errors import TooManyRejects
from bimodal.model import Model
from tests.talkative import TALK

SAID = ["well met", "fail", "one two three", "die", "four"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("talkative")
    (made / "talk.py").write_text(TALK)
    return made


@pytest.fixture(scope="module")
def chat(folder: Path) -> Iterator[Model]:
    with bimodal.load(f"{folder}/talk.py:Chat") as model:
        yield model


def request(number: int, said: str, url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    asked = {"model": "Chat", "messages": [{"role": "user", "content": said}], **body}
    return {"custom_id": f"request-{number}", "method": "POST", "url": url, "body": asked}


def write(folder: Path, requests: list[Any]) -> None:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in requests]
    (folder / "requests.jsonl").write_text("\n".join(lines) + "\n")


def answered(chat: Model, folder: Path, requests: list[Any], allowed: int = 1) -> list[Any]:
    write(folder, requests)
    output = folder / "results.jsonl"
    bimodal.predict_file(
        chat, folder / "requests.jsonl", output, overwrite=True, fresh=True, max_rejects=allowed, progress="quiet"
    )
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_each_request_has_a_line_whatever_becomes_of_the_others(chat: Model, folder: Path) -> None:
    lines = answered(chat, folder, [request(place, said) for place, said in enumerate(SAID)])
    assert [line["custom_id"] for line in lines] == [f"request-{place}" for place in range(5)]
    assert [line["response"]["status_code"] for line in lines] == [200, 500, 200, 500, 200]
    for line, said in zip(lines, SAID, strict=True):
        assert set(line) == {"id", "custom_id", "response", "error"}
        if line["response"]["status_code"] == 200:
            told = ChatCompletion.model_validate(line["response"]["body"], strict=True)
            assert (told.choices[0].message.content or "").split() == said.split()
    assert lines[1]["response"]["body"]["error"]["code"] == "model_failed"
    assert lines[3]["response"]["body"]["error"]["code"] == "model_crashed"
    assert "4711" not in json.dumps(lines)


def test_the_same_file_gives_the_same_bytes(chat: Model, folder: Path) -> None:
    requests = [request(place, "well met") for place in range(3)]
    first, second = answered(chat, folder, requests), answered(chat, folder, requests)
    assert first == second
    assert len({line["id"] for line in first}) == 3


def test_what_is_wrong_with_a_request_is_told_in_its_line(chat: Model, folder: Path) -> None:
    wrong = [
        request(0, "a", n=2),
        request(1, "a", model="gpt-4o"),
        request(2, "a", url="/v1/embeddings"),
        request(3, "a", stream=True),
        {**request(4, "a"), "method": "GET"},
        request(5, "one two", url="/v1/completions", prompt="one two", stop="two"),
    ]
    lines = answered(chat, folder, wrong)
    assert [line["response"]["status_code"] for line in lines] == [400, 404, 404, 400, 404, 200]
    assert lines[0]["response"]["body"]["error"]["param"] == "n"
    assert lines[5]["response"]["body"]["choices"][0]["text"] == "one "


def test_a_line_that_is_no_object_is_rejected_as_any_other(chat: Model, folder: Path) -> None:
    for line in ('{"custom_id": "x"', "[1]", "7"):
        lines = answered(chat, folder, [request(0, "a"), line, request(2, "b")])
        assert [line["custom_id"] for line in lines] == ["request-0", "request-2"]
    write(folder, [request(0, "a"), "{"])
    with pytest.raises(TooManyRejects, match=r"requests\.jsonl, row 2: broken JSON"):
        bimodal.predict_file(chat, folder / "requests.jsonl", folder / "none.jsonl", progress="quiet")


@pytest.mark.parametrize(
    ("wrong", "told", "param"),
    [
        ({"method": None}, "x", "method"),
        ({"method": ...}, "x", "method"),
        ({"url": 7}, "x", "url"),
        ({"custom_id": 7}, "7", "custom_id"),
        ({"custom_id": [1]}, None, "custom_id"),
        ({"custom_id": ...}, None, "custom_id"),
        ({"body": ...}, "x", "body"),
        ({"body": "{}"}, "x", "model"),
        ({"body": "abc"}, "x", "body"),
        ({"body": 7}, "x", None),
        ({"body": {}}, "x", "model"),
    ],
)
def test_an_object_that_is_no_request_has_a_line_of_its_own(
    chat: Model, folder: Path, wrong: dict[str, Any], told: str | None, param: str | None
) -> None:
    asked = {**request(1, "a"), "custom_id": "x", **wrong}
    given = {name: value for name, value in asked.items() if value is not ...}
    for others in ([], [request(0, "a")]):
        *good, line = answered(chat, folder, [*others, given], allowed=0)
        assert [each["response"]["status_code"] for each in good] == [200] * len(others)
        assert line["custom_id"] == told
        assert line["response"]["status_code"] == 400
        assert line["response"]["body"]["error"]["param"] == param


def test_ids_that_stand_twice_are_told(chat: Model, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(folder, [request(place, "a") for place in (0, 1, 2, 1, 0)])
    bimodal.predict_file(chat, folder / "requests.jsonl", folder / "twice.jsonl", progress=Lines(sys.stderr))
    told = capfd.readouterr().err
    assert "requests.jsonl, row 4: the custom_id of row 2; 1 more row repeats one" in told


def test_other_files_are_predicted_as_ever(chat: Model, folder: Path) -> None:
    assert of_requests(chat, ["messages"]) is chat
    (folder / "plain.jsonl").write_text(json.dumps({"id": 7, "messages": [{"role": "user", "content": "hi"}]}) + "\n")
    bimodal.predict_file(chat, folder / "plain.jsonl", folder / "plain.out.jsonl", progress="quiet")
    told = json.loads((folder / "plain.out.jsonl").read_text())
    assert told == {"id": 7, "text": "hi ", "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1}


def test_a_line_may_lack_an_option_that_others_have(chat: Model, folder: Path) -> None:
    lines = [{"messages": [{"role": "user", "content": "one two"}], **more} for more in ({"max_tokens": 1}, {})]
    (folder / "some.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    bimodal.predict_file(chat, folder / "some.jsonl", folder / "some.out.jsonl", progress="quiet")
    told = [json.loads(line)["text"] for line in (folder / "some.out.jsonl").read_text().splitlines()]
    assert told == ["one ", "one two "]
