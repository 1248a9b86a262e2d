"""GGUF files answer as llama-cpp-python itself does, over every way in.

pip install -e ".[gguf]" gguf
python tasks.py test tests/formats/test_gguf_llama.py -m soak -s      1 minute, after minutes of compiling
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

import bimodal
from bimodal.cli import build
from bimodal.errors import InputError, ModelError
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.gguf import Gguf
from bimodal.runtimes.process import ProcessRuntime
from tests.llamas import LETTERS, saved

pytestmark = pytest.mark.soak

HELLO: list[Any] = [{"role": "user", "content": "hello there"}]
OUTPUTS = ("text", "finish_reason", "prompt_tokens", "completion_tokens")
DRAWN: list[dict[str, Any]] = [
    {"temperature": 0.0},
    *({"temperature": 1.0, "seed": seed} for seed in range(8)),
    {"temperature": 0.7, "top_p": 0.5, "seed": 2**40 + 3},
    {"seed": 1},
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("llamas") / "tiny.gguf")


@pytest.fixture(scope="module")
def oracle(file: Path) -> Iterator[Callable[..., Any]]:
    """The library's own whole answer, of a context that knows nothing of other questions."""
    llama = import_module("llama_cpp").Llama(str(file), n_ctx=512, verbose=False)

    def answer(asked: Any, **options: Any) -> Any:
        llama.reset()
        if "seed" in options:
            options["seed"] %= 2**32
        if isinstance(asked, str):
            return llama.create_completion(asked, **options)
        return llama.create_chat_completion(asked, **options)

    yield answer
    llama.close()


@pytest.fixture(scope="module")
def model(file: Path) -> Iterator[bimodal.Model]:
    with bimodal.load(file) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def client(file: Path) -> Iterator[openai.OpenAI]:
    with (
        bimodal.serve(str(file), port=0) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


def joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    last = {name: value for piece in pieces for name, value in piece.items()}
    return {**last, "text": "".join(piece.get("text", "") for piece in pieces)}


def agree(found: dict[str, Any], expected: Any, said: str, most: int) -> None:
    """The library goes up to 3 tokens beyond max_tokens where these stand in the middle of a character; we do not."""
    assert found["prompt_tokens"] == expected["usage"]["prompt_tokens"]
    if expected["usage"]["completion_tokens"] > most:
        assert said.startswith(found["text"])
        assert (found["completion_tokens"], found["finish_reason"]) == (most, "length")
    else:
        assert found["text"] == said
        assert found["completion_tokens"] == expected["usage"]["completion_tokens"]
        assert found["finish_reason"] == expected["choices"][0]["finish_reason"]


@pytest.mark.parametrize("drawn", DRAWN)
def test_a_conversation_is_answered_as_the_library_does(
    drawn: dict[str, Any], model: bimodal.Model, oracle: Callable[..., Any]
) -> None:
    expected = oracle(HELLO, max_tokens=40, **drawn)
    pieces = list(model.stream({"messages": HELLO, "max_tokens": 40, **drawn}))
    found = joined(pieces)
    agree(found, expected, expected["choices"][0]["message"]["content"], 40)
    assert len(pieces) == found["completion_tokens"] + 2  # the question's tokens, one each, the end
    assert model.predict([{"messages": HELLO, "max_tokens": 40, **drawn}])[0]["text"] == found["text"]


@pytest.mark.parametrize("drawn", DRAWN)
def test_a_text_goes_on_as_the_library_has_it(
    drawn: dict[str, Any], model: bimodal.Model, oracle: Callable[..., Any]
) -> None:
    expected = oracle("once upon", max_tokens=30, **drawn)
    found = joined(list(model.stream({"text": "once upon", "max_tokens": 30, **drawn})))
    agree(found, expected, expected["choices"][0]["text"], 30)


def test_over_the_wire_whole_and_in_chunks(client: openai.OpenAI, oracle: Callable[..., Any]) -> None:
    expected = oracle(HELLO, max_tokens=40, temperature=0.0)
    said = expected["choices"][0]["message"]["content"]
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 40, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content == said
    assert whole.choices[0].finish_reason == expected["choices"][0]["finish_reason"]
    assert whole.usage is not None
    assert whole.usage.model_dump(include=set(expected["usage"])) == expected["usage"]
    *chunks, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said
    assert last.usage == whole.usage


def test_a_stop_ends_it(client: openai.OpenAI, oracle: Callable[..., Any]) -> None:
    said = oracle(HELLO, max_tokens=40, temperature=0.0)["choices"][0]["message"]["content"]
    stop = said[len(said) // 2 :][:2]
    for stream in (False, True):
        given: Any = client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=40, temperature=0, stop=stop, stream=stream
        )
        if stream:
            chunks = list(given)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            text, reason = given.choices[0].message.content, given.choices[0].finish_reason
        assert text == said[: said.index(stop)]
        assert reason == "stop"


def test_one_answer_at_a_time_and_a_reader_who_leaves_makes_room(model: bimodal.Model) -> None:
    """The second waits while the first is made, whose reader goes no further, and is answered once that one left."""
    asked: dict[str, Any] = {"messages": HELLO, "temperature": 0.0}
    first = model.stream({**asked, "max_tokens": 400})
    for _ in range(4):
        next(first)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(model.predict, [{**asked, "max_tokens": 2}])
        with pytest.raises(TimeoutError):
            second.result(2.5)
        first.close()
        assert second.result(10)[0]["completion_tokens"] == 2


def loaded(folder: Path, **options: Any) -> Loaded:
    file = saved(folder / "tiny.gguf")
    file.with_name("tiny.gguf.json").write_text(json.dumps(options))
    return Gguf().load(Source(str(file)))


def asked(loaded: Loaded, record: dict[str, Any]) -> dict[str, Any]:
    rows, _, problems = loaded.signature.check([record])
    assert not problems
    return joined([{name: each.array(name)[0] for name in each} for each in loaded.runtime.stream(rows, OUTPUTS)])


def test_what_was_asked_before_changes_no_answer_and_saves_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a context that knows nothing, for conversations that begin alike."""
    llama_cpp = import_module("llama_cpp")
    computed: list[int] = []
    evaluate = llama_cpp.Llama.eval
    runtime = loaded(tmp_path, n_ctx=512, n_batch=16, n_threads=1)
    fresh = llama_cpp.Llama(str(tmp_path / "tiny.gguf"), n_ctx=512, n_batch=16, n_threads=2, verbose=False)
    counting = [False]

    def counted(self: Any, tokens: Any) -> None:
        if counting[0]:
            computed.append(len(tokens))
        evaluate(self, tokens)

    monkeypatch.setattr(llama_cpp.Llama, "eval", counted)
    draw = random.Random(5)
    stems = ["".join(draw.choices(LETTERS, k=draw.randint(20, 300))) for _ in range(4)]
    needed = 0
    for turn in range(60):
        stem = stems[turn // 10 % len(stems)]
        said = stem[: draw.randint(len(stem) // 2, len(stem))] + "".join(draw.choices(LETTERS, k=draw.randint(0, 40)))
        options: dict[str, Any] = {"temperature": draw.choice([0.0, 1.0]), "seed": turn, "max_tokens": 12}
        fresh.reset()
        expected = fresh.create_chat_completion([{"role": "user", "content": said}], **options)
        counting[0] = True
        found = asked(runtime, {"messages": [{"role": "user", "content": said}], **options})
        counting[0] = False
        agree(found, expected, expected["choices"][0]["message"]["content"], 12)
        needed += expected["usage"]["prompt_tokens"]
    questions = sum(count for count in computed if count > 1)
    print(f"of {needed} tokens of questions {questions} were computed")
    assert questions < 0.6 * needed


def test_a_reader_who_leaves_stops_the_generation(tmp_path: Path) -> None:
    runtime = loaded(tmp_path, n_threads=1)
    rows, _, _ = runtime.signature.check([{"messages": HELLO, "max_tokens": 400, "temperature": 0.0}])
    given = runtime.runtime.stream(rows, OUTPUTS)
    counts = [next(given) for _ in range(4)]
    given.close()
    assert counts[-1].array("completion_tokens")[0] < 10
    assert asked(runtime, {"text": "a", "max_tokens": 3})["completion_tokens"] == 3


def test_two_answers_side_by_side(tmp_path: Path) -> None:
    runtime = loaded(tmp_path, streams=2, n_threads=1, n_ctx=256)
    record = {"messages": HELLO, "max_tokens": 20, "temperature": 0.0}
    rows, _, _ = runtime.signature.check([record])
    alone = asked(runtime, record)
    both = [runtime.runtime.stream(rows, OUTPUTS) for _ in range(2)]
    first, second = zip(*zip(*both, strict=True), strict=True)
    for pieces in (first, second):
        assert joined([{name: each.array(name)[0] for name in each} for each in pieces]) == alone


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "either text or messages"),
        ({"text": "a", "messages": HELLO}, "either text or messages"),
        ({"text": "x" * 600}, "room for 512"),
        ({"text": "a", "max_tokens": 0}, "from 1 on"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "chat template"),
    ],
)
def test_what_it_does_not_take_is_told_without_its_data(
    record: dict[str, Any], said: str, model: bimodal.Model
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        list(model.stream(record))
    assert "secret" not in str(caught.value)


def test_an_answer_ends_where_the_room_does(model: bimodal.Model) -> None:
    found = joined(list(model.stream({"text": "x" * 490, "temperature": 0.0, "max_tokens": 400})))
    assert found["prompt_tokens"] + found["completion_tokens"] <= 512


def test_without_a_template_there_is_one_text(tmp_path: Path) -> None:
    with bimodal.load(saved(tmp_path / "plain.gguf", template=False)) as plain:
        assert [each.name for each in plain.signature.inputs][:2] == ["text", "max_tokens"]
        assert joined(list(plain.stream({"text": "abc", "max_tokens": 5})))["completion_tokens"] == 5


def test_the_file_is_mapped_by_a_process_of_its_own(model: bimodal.Model, file: Path) -> None:
    assert isinstance(model.runtime, ProcessRuntime)
    process = model.runtime._child.process.pid
    assert str(file) in Path(f"/proc/{process}/maps").read_text()


def test_a_damaged_file_is_told(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(ModelError, match="is damaged"):
        bimodal.load(cut)


def test_a_file_of_requests_gives_the_same_bytes_twice(file: Path, tmp_path: Path, oracle: Callable[..., Any]) -> None:
    lines: list[dict[str, Any]] = [
        {"custom_id": f"r{place}", "method": "POST", "url": "/v1/chat/completions"}
        | {"body": {"model": "tiny", "messages": [{"role": "user", "content": "x" * place}], "max_tokens": 10}}
        for place in range(1, 12)
    ]
    asked = tmp_path / "requests.jsonl"
    asked.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    results = []
    for name in ("one.jsonl", "two.jsonl"):
        done = CliRunner().invoke(build(None), ["predict", str(file), str(asked), "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        results.append((tmp_path / name).read_bytes())
    assert results[0] == results[1]
    told = [
        json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] for line in results[0].splitlines()
    ]
    assert told == [
        oracle(line["body"]["messages"], max_tokens=10, seed=1)["choices"][0]["message"]["content"] for line in lines
    ]


def test_a_package_holds_the_options_too(tmp_path: Path) -> None:
    file = saved(tmp_path / "tiny.gguf")
    file.with_name("tiny.gguf.json").write_text('{"n_ctx": 256}')
    bimodal.pack(file, tmp_path / "tiny.bimodal")
    with bimodal.load(tmp_path / "tiny.bimodal") as model:
        assert model.facts["tokens"] == 256
