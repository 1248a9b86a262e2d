"""Answers in pieces, between processes: their order, their pace, their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bimodal.errors import InputError, ModelCrashed, ModelError, ModelFailed, UsageError
from bimodal.field import Field
from bimodal.model import Model, load
from bimodal.rows import Rows
from bimodal.runtimes import process
from bimodal.runtimes.process import Limit, ProcessRuntime
from bimodal.runtimes.streams import WINDOW
from bimodal.runtimes.yielding import Yielding
from tests.talkative import TALK, note

ENDLESS = 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("talkative")
    (made / "talk.py").write_text(TALK)
    return made


@pytest.fixture(scope="module")
def talk(folder: Path) -> Iterator[Model]:
    with load(f"{folder}/talk.py:Talk") as model:
        yield model


def asked(prompt: str, count: int = 3) -> dict[str, Any]:
    return {"prompt": prompt, "count": count}


async def _all(pieces: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in pieces]


def test_pieces_come_in_their_order(talk: Model) -> None:
    assert talk.streams
    assert list(talk.stream(asked("a"))) == [{"text": f"a {step};", "step": step} for step in range(3)]
    assert list(talk.stream(asked("a"), outputs=["step"])) == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_on_the_loop_they_are_the_same(talk: Model) -> None:
    async def pieces(prompt: str) -> list[Any]:
        return [piece async for piece in talk.stream_async(asked(prompt, 40))]

    async def together() -> list[list[Any]]:
        return await asyncio.gather(*[pieces(prompt) for prompt in "abc"])

    assert asyncio.run(together()) == [list(talk.stream(asked(prompt, 40))) for prompt in "abc"]


def test_a_prediction_joins_texts_and_takes_the_last_of_all_else(talk: Model) -> None:
    answers = talk.predict([asked("a", 2), asked("b", 3)])
    assert answers == [{"text": "a 0;a 1;", "step": 1}, {"text": "b 0;b 1;b 2;", "step": 2}]


def test_an_answer_without_a_piece_lacks_its_numbers(talk: Model) -> None:
    assert talk.predict([asked("a", 0)], outputs=["text"]) == [{"text": ""}]
    with pytest.raises(ModelFailed, match="yielded no step"):
        talk.predict([asked("a", 0)])
    assert list(talk.stream(asked("a", 0), outputs=["text"])) == [{"text": ""}]
    with pytest.raises(ModelFailed, match="yielded no step"):
        list(talk.stream(asked("a", 0)))


def test_the_model_waits_for_a_slow_reader(talk: Model, folder: Path) -> None:
    pieces = talk.stream(asked("waits", ENDLESS))
    next(pieces)
    time.sleep(0.3)
    assert note(folder, "waits") <= 2 * WINDOW
    pieces.close()


def test_a_reader_who_leaves_ends_the_generator(talk: Model, folder: Path) -> None:
    pieces = talk.stream(asked("left", ENDLESS))
    assert next(pieces)["step"] == 0
    assert not (folder / "left.closed").exists()
    pieces.close()
    assert note(folder, "left.closed") <= 2 * WINDOW


def test_so_does_one_on_the_loop(talk: Model, folder: Path) -> None:
    async def leave() -> None:
        pieces = talk.stream_async(asked("gone", ENDLESS))
        await anext(pieces)
        await pieces.aclose()
        await asyncio.sleep(0.05)

    asyncio.run(leave())
    assert note(folder, "gone.closed") <= 2 * WINDOW


def test_an_error_comes_after_the_pieces_before_it_and_without_its_data(talk: Model) -> None:
    pieces = talk.stream(asked("fail"))
    assert [next(pieces)["step"], next(pieces)["step"]] == [0, 1]
    with pytest.raises(ModelFailed, match="ValueError") as caught:
        next(pieces)
    assert "4711" not in str(caught.value)


def test_what_was_not_promised_is_an_error(talk: Model) -> None:
    with pytest.raises(ModelFailed, match="a number as text, where text was promised"):
        list(talk.stream(asked("strange")))


@pytest.mark.parametrize(
    ("said", "outputs", "sentence"),
    [
        ("'\\ud800'", "{'text': str}", "the model yielded text as text that is no valid Unicode"),
        ("object()", "{'text': str}", "the model yielded an object of type object as text, where text was promised"),
        ("object()", "{'a': int, 'b': int}", "the model yielded an object of type object, where a dict of its outputs"),
        ("{'a': float('nan')}", "{'a': int}", "the model gave a as float64 with NaN or infinity where int64 was"),
        ("{'a': 1.5}", "{'a': int}", "the model gave a as float64 with a fraction or out of range where int64 was"),
        ("{'a': object()}", "{'a': int}", "the model gave a as an object of type object where int64 was promised"),
    ],
)
def test_what_does_not_fit_is_named(said: str, outputs: str, sentence: str) -> None:
    def yields(row: dict[str, Any]) -> Iterator[Any]:
        yield eval(said)

    fields = [Field(name, {"str": "string", "int": "int64"}[kind.__name__]) for name, kind in eval(outputs).items()]
    yielding = Yielding(yields, [], 1)
    yielding.promise(fields)
    with pytest.raises(ModelFailed) as caught:
        list(yielding.stream(Rows({}, 1), [each.name for each in fields]))
    assert sentence in str(caught.value)


def test_a_crash_ends_all_streams_and_the_next_one_finds_a_new_process(
    talk: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "WAIT", 60.0)  # the next process may start slowly
    assert isinstance(talk.runtime, ProcessRuntime)
    pid = talk.runtime.pid

    async def crash() -> list[str]:
        other = talk.stream_async(asked("other", ENDLESS))
        await anext(other)
        fates = []
        for each in (talk.stream_async(asked("die")), other):
            with pytest.raises(ModelCrashed, match="SIGSEGV") as caught:
                await _all(each)
            fates.append(str(caught.value))
        assert [piece["step"] async for piece in talk.stream_async(asked("a"))] == [0, 1, 2]
        return fates

    assert len(asyncio.run(crash())) == 2
    assert talk.runtime.pid != pid
    assert talk.predict([asked("a")])[0]["step"] == 2


def test_a_model_that_hangs_between_two_pieces_is_ended(talk: Model) -> None:
    assert isinstance(talk.runtime, ProcessRuntime)
    talk.runtime.limit = Limit(0.2)
    try:
        with pytest.raises(ModelCrashed, match=r"nothing more within 0\.2 s"):
            list(talk.stream(asked("stuck")))
    finally:
        talk.runtime.limit = None


def test_a_stream_answers_one_row_that_fits(talk: Model) -> None:
    with pytest.raises(InputError, match="count"):
        talk.stream({"prompt": "a", "count": "many"})
    with pytest.raises(UsageError, match="one row"):
        talk.stream(talk.signature.example_rows(2))


def test_an_asynchronous_generator_streams_too(folder: Path) -> None:
    with load(f"{folder}/talk.py:Later") as later:
        assert list(later.stream("one two")) == [{"text": "one"}, {"text": "two"}]
        assert later.predict(["one two", "three"]) == [{"text": "onetwo"}, {"text": "three"}]
        pieces = later.stream("one two " * 1000)
        next(pieces)
        (folder / "later.closed").unlink(missing_ok=True)
        pieces.close()
        until = time.monotonic() + 60
        while not (told := _text(folder / "later.closed")) and time.monotonic() < until:
            time.sleep(0.01)
        assert told in ("one", "two")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_chat_takes_messages_and_the_options_that_are_given(folder: Path) -> None:
    hello = [{"role": "user", "content": "well met friend"}]
    with load(f"{folder}/talk.py:Chat") as chat:
        assert [each.name for each in chat.signature.inputs] == [
            "messages",
            "max_tokens",
            "temperature",
            "top_p",
            "seed",
        ]
        assert list(chat.stream({"messages": hello}))[:2] == [{"text": "well "}, {"text": "met "}]
        (answer,) = chat.predict([{"messages": hello, "max_tokens": 2}])
        asked = {"messages": [{"role": "user", "content": "options"}], "seed": 3}
        assert list(chat.stream(asked)) == [{"text": "['seed']"}]
    assert answer == {"text": "well met ", "finish_reason": "length", "prompt_tokens": 1, "completion_tokens": 2}


def test_a_generator_says_what_its_record_holds(folder: Path) -> None:
    (folder / "mute.py").write_text("def predict(row):\n    yield 'a'\n")
    with pytest.raises(ModelError, match="says what is in it"):
        load(f"{folder}/mute.py:predict")


def test_a_model_that_does_not_stream_gives_one_piece(folder: Path) -> None:
    (folder / "plain.py").write_text(
        "class Plain:\n    inputs = {'x': float}\n    def predict(self, rows):\n        return rows['x']\n"
    )
    with load(f"{folder}/plain.py:Plain") as plain:
        assert not plain.streams
        assert list(plain.stream({"x": 2.0})) == [{"prediction": 2.0}]
