"""Chat in OpenAI's shape, with OpenAI's own client: a Python model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import bimodal
from bimodal.realtime.server import Server
from tests.talkative import TALK, note

HELLO: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "well met my friend"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("talkative")
    (made / "talk.py").write_text(TALK)
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with bimodal.serve(f"{folder}/talk.py:Chat", f"{folder}/talk.py:Later", port=0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_completion_has_its_text_its_reason_and_its_tokens(client: openai.OpenAI) -> None:
    given = client.chat.completions.create(model="Chat", messages=HELLO)
    (choice,) = given.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "well met my friend ")
    assert choice.finish_reason == "stop"
    assert given.usage is not None
    assert (given.usage.prompt_tokens, given.usage.completion_tokens, given.usage.total_tokens) == (2, 4, 6)
    assert given.object == "chat.completion"
    assert given.id.startswith("chatcmpl-")


def test_options_reach_the_model(client: openai.OpenAI) -> None:
    given = client.chat.completions.create(model="Chat", messages=HELLO, max_tokens=2, temperature=0.5, seed=1)
    assert given.choices[0].message.content == "well met "
    assert given.choices[0].finish_reason == "length"


def test_a_stop_ends_the_text_also_between_two_pieces(client: openai.OpenAI) -> None:
    given = client.chat.completions.create(model="Chat", messages=HELLO, stop=["t my"])
    assert given.choices[0].message.content == "well me"
    assert given.choices[0].finish_reason == "stop"


def test_a_stream_says_the_same_piece_by_piece(client: openai.OpenAI) -> None:
    options: Any = {"stream": True, "stream_options": {"include_usage": True}, "stop": "friend"}
    *chunks, last = client.chat.completions.create(model="Chat", messages=HELLO, **options)
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "well ", "met ", "my ", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["stop"]
    assert last.choices == []
    assert {chunk.id for chunk in chunks} == {last.id}


def test_usage_comes_last_where_it_is_asked_for(client: openai.OpenAI) -> None:
    *_, last = client.chat.completions.create(
        model="Chat", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    assert last.usage is not None
    assert last.usage.total_tokens == 6


def test_the_asynchronous_client_gets_the_same(server: Server) -> None:
    async def both() -> tuple[Any, list[Any]]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            whole = await client.chat.completions.create(model="Chat", messages=HELLO)
            pieces = await client.chat.completions.create(model="Chat", messages=HELLO, stream=True)
            return whole, [chunk.choices[0].delta.content or "" async for chunk in pieces]

    whole, pieces = asyncio.run(both())
    assert "".join(pieces) == whole.choices[0].message.content == "well met my friend "


def test_a_bare_prompt_is_completed(client: openai.OpenAI) -> None:
    given = client.completions.create(model="Chat", prompt="one two", max_tokens=1)
    assert (given.choices[0].text, given.choices[0].finish_reason) == ("one ", "length")
    pieces = client.completions.create(model="Later", prompt="one two", stream=True)
    assert [chunk.choices[0].text for chunk in pieces] == ["one", "two", ""]


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [each.id for each in client.models.list()] == ["Chat", "Later"]
    assert client.models.retrieve("Chat").object == "model"


def test_a_model_is_told_alike_in_the_list_and_alone(client: openai.OpenAI, folder: Path) -> None:
    written = int((folder / "talk.py").stat().st_mtime)
    for listed in client.models.list().data:
        alone = client.models.retrieve(listed.id)
        assert (alone.id, alone.created, alone.owned_by) == (listed.id, written, "bimodal")
        assert listed.created == written


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("POST", "/v1/embeddings", 404, "no such route"),
        ("POST", "/v1/responses", 404, "no such route"),
        ("GET", "/v1/chat/completions", 405, "this route takes POST, not GET"),
        ("DELETE", "/v1/models", 405, "this route takes GET, HEAD, not DELETE"),
    ],
)
def test_what_is_no_route_is_told_in_the_shape_of_the_protocol(
    server: Server, method: str, path: str, status: int, sentence: str
) -> None:
    given = httpx.request(method, server.url + path, json={})
    assert given.status_code == status
    error = given.json()["error"]
    assert error["message"].startswith(sentence)
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


def test_the_client_shows_the_sentence_of_a_route_that_is_not_there(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="Chat", input="a")
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"].startswith("no such route")
    assert isinstance(httpx.get(f"{server.url}/nothing").json()["error"], str)


def test_the_same_model_takes_tensors_without_the_options(server: Server) -> None:
    tensor = {"name": "messages", "shape": [1], "datatype": "BYTES", "data": ['[{"role": "user", "content": "a b"}]']}
    answer = httpx.post(f"{server.url}/v2/models/Chat/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    told = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    assert (told["text"], told["completion_tokens"]) == (["a b "], [2])


def test_the_example_of_the_api_page_is_a_conversation(server: Server) -> None:
    told = httpx.get(f"{server.url}/models/Chat").json()
    assert told["example"] == {"rows": [{"messages": [{"role": "user", "content": "Hello"}]}]}
    answer = httpx.post(f"{server.url}/models/Chat/predict", json=told["example"])
    assert answer.json()["text"] == ["Hello "]
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    for kind, media in paths["/models/Chat/predict"]["post"]["requestBody"]["content"].items():
        if isinstance(media.get("example"), str):
            again = httpx.post(
                f"{server.url}/models/Chat/predict", content=media["example"], headers={"content-type": kind}
            )
            assert again.status_code == 200, (kind, again.text)
    assert "/v2/models/Chat/generate" in paths


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'Chat'"):
        client.chat.completions.create(model="Chatt", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="Chat", messages=HELLO, n=2)
    assert (bad.value.param, bad.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.InternalServerError, match="ValueError") as failed:
        client.chat.completions.create(model="Chat", messages=[{"role": "user", "content": "fail"}])
    assert failed.value.code == "model_failed"
    assert "4711" not in str(failed.value)


def test_a_body_that_is_no_json_is_told_in_the_same_shape(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=b"{")
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_stream_that_is_left_ends_in_the_model(server: Server, client: openai.OpenAI, folder: Path) -> None:
    with client.completions.create(model="Later", prompt="on and on " * 10**5, stream=True) as pieces:
        next(iter(pieces))
    with pytest.raises(ValueError, match="invalid literal"):
        note(folder, "later.closed")  # it wrote a word
