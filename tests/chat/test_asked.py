"""What a request in OpenAI's shape asks for, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bimodal.chat.asked import Asked, asked, model_of
from bimodal.chat.speaker import Speaker
from bimodal.errors import InputError
from bimodal.field import Field
from bimodal.formats.yielded import ANSWER, MESSAGES, OPTIONS
from bimodal.signature import Signature

CHAT = Speaker.of(Signature((MESSAGES, *OPTIONS), ANSWER))
PLAIN = Speaker.of(Signature((Field("prompt", "string"),), (Field("text", "string"),)))
HELLO = [{"role": "user", "content": "Hello"}]


def judged(speaker: Speaker | None = CHAT, **body: Any) -> Asked:
    assert speaker is not None
    return asked({"model": "m", "messages": HELLO, **body}, speaker)


def record(given: Asked) -> dict[str, Any]:
    return {name: given.rows.array(name)[0] for name in given.rows if given.rows.array(name)[0] is not None}


def test_a_conversation_and_its_options_are_a_row() -> None:
    given = judged(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind"}]}
        ],
        max_completion_tokens=5,
        seed=7,
        stop="\n",
        n=1,
        user="somebody",
        logprobs=False,
        presence_penalty=0,
    )
    told = record(given)
    assert msgspec.json.decode(told.pop("messages")) == [{"role": "system", "content": "Be kind"}]
    assert {name: value for name, value in told.items() if value == value} == {"max_tokens": 5, "seed": 7}
    assert given.stops == ("\n",)


def test_a_model_of_one_text_takes_one_message() -> None:
    assert record(judged(PLAIN)) == {"prompt": "Hello"}
    with pytest.raises(InputError, match="one text"):
        judged(PLAIN, messages=[*HELLO, *HELLO])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [*HELLO, {"role": "robot", "content": "a"}]}, "messages.1.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "messages.0.tool_calls"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": "a"}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 1.5}, "presence_penalty"),
        ({"temprature": 0.5}, "temprature"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": True}}, "stream_options"),
    ],
)
def test_what_is_wrong_names_its_parameter(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InputError) as caught:
        judged(**body)
    assert caught.value.column == param


def test_a_model_must_be_named() -> None:
    bodies: list[Any] = [[], {}, {"model": ""}, {"model": 7}]
    for body in bodies:
        with pytest.raises(InputError):
            model_of(body)


def test_a_model_without_text_is_not_talked_to() -> None:
    number = Field("prediction", "float64")
    assert Speaker.of(Signature((Field("x", "float64"),), (Field("text", "string"),))) is None
    assert Speaker.of(Signature((Field("prompt", "string"),), (number,))) is None
