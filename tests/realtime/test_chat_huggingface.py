"""Chat with a causal model of transformers, over the wire with OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

import bimodal
from tests.spoken import saved

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = saved(tmp_path_factory.mktemp("spoken") / "tiny")
    with (
        bimodal.serve(str(folder), port=0) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


def test_whole_and_streamed_are_the_same_and_its_tokens_are_counted(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 8
    assert whole.choices[0].finish_reason == "length"
    *chunks, last = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert last.usage == whole.usage


def test_a_seed_gives_the_same_text(client: openai.OpenAI) -> None:
    options: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 12, "temperature": 1.5}
    texts = [client.chat.completions.create(**options, seed=seed).choices[0].message.content for seed in (4, 4, 5, 6)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_what_it_does_not_take_is_told_without_its_data(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="room for 128"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * 300}])
    with pytest.raises(openai.BadRequestError, match="chat template") as refused:
        client.chat.completions.create(model="tiny", messages=[{"role": "assistant", "content": "a"}])
    assert "secret" not in str(refused.value)
