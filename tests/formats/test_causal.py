"""Hugging Face folders that generate text: the answers of transformers' own generate, piece by piece."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bimodal.errors import InputError
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.huggingface import HuggingFace
from bimodal.runtimes.generating import Draw, Words
from tests.spoken import saved, tokenizer, transformers

HELLO = [{"role": "user", "content": "Hello"}]
WORDS = tokenizer(template=False)
OUTPUTS = ("text", "finish_reason", "prompt_tokens", "completion_tokens")


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """One thread; the environment as it was."""
    threads, environment = torch.get_num_threads(), dict(os.environ)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp(request.param), kind=request.param)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return HuggingFace().load(Source(str(folder)))


def pieces(loaded: Loaded, **record: Any) -> list[dict[str, Any]]:
    rows, _, problems = loaded.signature.check([record])
    assert not problems
    given = loaded.runtime.stream(rows, OUTPUTS)
    return [{name: piece.array(name)[0] for name in piece} for piece in given]


def text(given: list[dict[str, Any]]) -> str:
    return "".join(piece.get("text", "") for piece in given)


def test_the_text_is_that_of_generate(loaded: Loaded, folder: Path) -> None:
    words, model = tokenizer(template=True), transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    written = words.apply_chat_template(HELLO, tokenize=False, add_generation_prompt=True)
    asked = words(written, return_tensors="pt")
    expected = model.generate(**asked, max_new_tokens=24, do_sample=False)[0, asked["input_ids"].shape[1] :]
    given = pieces(loaded, messages=HELLO, max_tokens=24)
    whole = words.decode(expected, skip_special_tokens=True)
    assert text(given).replace("\ufffd", "") == whole.replace("\ufffd", "")
    assert given[0] == {"prompt_tokens": asked["input_ids"].shape[1]}
    assert given[-1]["completion_tokens"] == len(expected)
    assert given[-1]["finish_reason"] == ("stop" if expected[-1] == 2 else "length")


def test_a_seed_gives_the_same_text_whatever_is_generated_beside_it(loaded: Loaded) -> None:
    asked: dict[str, Any] = {"text": "abc", "max_tokens": 16, "temperature": 1.5}
    alone = pieces(loaded, **asked, seed=5)
    others = [threading.Thread(target=pieces, args=(loaded,), kwargs={**asked, "seed": each}) for each in (6, 7)]
    for each in others:
        each.start()
    beside = pieces(loaded, **asked, seed=5)
    for each in others:
        each.join()
    assert beside == alone
    assert any(pieces(loaded, **asked, seed=seed) != alone for seed in (8, 9, 10))
    assert pieces(loaded, **{**asked, "temperature": None}, seed=5) != pieces(loaded, text="abc", max_tokens=16)
    cold = pieces(loaded, **{**asked, "temperature": 0})
    assert cold == pieces(loaded, text="abc", max_tokens=16)


def test_tokens_are_drawn_by_their_chances() -> None:
    config = transformers.GenerationConfig()
    draw = Draw.of(torch, config, {"temperature": 0.5, "top_p": 0.9, "seed": 1}, "cpu")
    assert draw is not None
    scores = torch.tensor([[2.0, 1.0, 0.0, -3.0]])
    drawn = [int(draw(None, scores).argmax()) for _ in range(2000)]
    chances = torch.softmax(scores[0] / 0.5, 0)[:2]  # two make up 0.9
    share = drawn.count(0) / len(drawn)
    assert set(drawn) == {0, 1}
    assert abs(share - float(chances[0] / chances.sum())) < 0.03


def test_a_reader_who_leaves_ends_the_thread(loaded: Loaded) -> None:
    rows, _, _ = loaded.signature.check([{"text": "abc", "max_tokens": 100}])
    before = set(threading.enumerate())
    given = loaded.runtime.stream(rows, OUTPUTS)
    next(given)
    next(given)
    (thread,) = set(threading.enumerate()) - before
    time.sleep(0.2)  # it waits for its reader
    given.close()
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "either text or messages"),
        ({"text": "a", "messages": HELLO}, "either text or messages"),
        ({"text": ""}, "no token"),
        ({"text": "x" * 200}, "room for 128"),
        ({"text": "a", "max_tokens": 0}, "from 1 on"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "chat template"),
    ],
)
def test_what_it_does_not_take_is_told_without_its_data(record: dict[str, Any], said: str, loaded: Loaded) -> None:
    with pytest.raises(InputError, match=said) as caught:
        pieces(loaded, **record)
    assert "secret" not in str(caught.value)


def test_an_answer_ends_where_the_room_does(loaded: Loaded) -> None:
    given = pieces(loaded, text="x" * 120)
    assert given[0]["prompt_tokens"] + given[-1]["completion_tokens"] <= 128


def test_without_a_template_there_is_one_text(tmp_path: Path) -> None:
    plain = HuggingFace().load(Source(str(saved(tmp_path, template=False))))
    assert [each.name for each in plain.signature.inputs][:2] == ["text", "max_tokens"]
    assert plain.runtime.streams


@given(st.text())
def test_pieces_of_text_are_whole_characters(said: str) -> None:
    words = WORDS
    kept = Words(words, threading.Lock())
    told = [kept.add(token) for token in words(said)["input_ids"]]
    assert "".join(told) + kept.rest() == words.decode(words(said)["input_ids"])
    assert not any("\ufffd" in piece for piece in told if "\ufffd" not in said)
