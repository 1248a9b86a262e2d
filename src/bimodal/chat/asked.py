"""What a request in OpenAI's shape asks for, judged: https://platform.openai.com/docs/api-reference/chat/create"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bimodal.chat.speaker import Speaker
from bimodal.conversation import conversation
from bimodal.errors import InputError
from bimodal.field import kind, nearest
from bimodal.rows import Rows

STOPS = 4  # texts of `stop` at most
# what a model that has no column for it takes all the same, since it asks for nothing
NOTHING: dict[str, tuple[Any, ...]] = {
    "temperature": (None, 1),
    "top_p": (None, 1),
    "seed": (None,),
    "max_tokens": (None,),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "tools": (None, []),
    "functions": (None, []),
    "tool_choice": (None, "none", "auto"),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "n": (None, 1),
}
NOTES = frozenset(  # told about the request, for the provider's own books
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
)
OURS = frozenset({"model", "messages", "prompt", "stream", "stream_options", "stop", "max_completion_tokens"})


@dataclass(frozen=True)
class Asked:
    """rows: one row for the model. chat: with messages, not a bare prompt. usage: told at the end of a stream."""

    model: str
    rows: Rows
    chat: bool
    stream: bool = False
    usage: bool = False
    stops: tuple[str, ...] = field(default=())


def model_of(body: Any) -> str:
    """The model's name. Raises InputError."""
    if not isinstance(body, dict):
        raise InputError(f"the body must be a JSON object, not {kind(body)}")
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise InputError("name the model", column="model")
    return name


def asked(body: Mapping[str, Any], speaker: Speaker, *, chat: bool = True) -> Asked:
    """The verdict on a body; raises InputError, with the parameter as its column."""
    name = model_of(body)
    stream = _flag(body, "stream")
    options = _options(body, speaker)
    stops = _stops(body)
    if stops and speaker.takes("stop"):
        options["stop"] = list(stops)
    if chat:
        rows = speaker.heard(conversation(body.get("messages"), "messages"), options)
    else:
        rows = speaker.said(_prompt(body), options)
    return Asked(name, rows, chat, stream, _usage(body, stream=stream), stops)


def _options(body: Mapping[str, Any], speaker: Speaker) -> dict[str, Any]:
    told = {name: value for name, value in body.items() if name not in OURS and name not in NOTES}
    most = body.get("max_completion_tokens")
    if most is not None:
        told["max_tokens"] = most
    options = {}
    for name, value in told.items():
        if speaker.takes(name) and name != "n":
            if value is not None:
                _bounded(name, value)
                options[name] = value
        elif name not in NOTHING:
            near = nearest(name, [*NOTHING, *OURS])
            raise InputError(f"there is no such parameter{f'; did you mean {near}?' if near else ''}", column=name)
        elif value is not False and (value is True or value not in NOTHING[name]):
            raise InputError("this model does not take it; leave it out", column=name)
    return options


_BOUNDS: dict[str, Callable[[float], bool]] = {
    "max_tokens": lambda value: value >= 1,
    "temperature": lambda value: 0 <= value <= 2,
    "top_p": lambda value: 0 < value <= 1,
}
_WORDS = {"max_tokens": "an integer from 1 on", "temperature": "a number from 0 to 2", "top_p": "a number in (0, 1]"}


def _bounded(name: str, value: Any) -> None:
    fits = _BOUNDS.get(name)
    if fits is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise InputError(f"it must be {_WORDS[name]}", column=name)


def _prompt(body: Mapping[str, Any]) -> str:
    told = body.get("prompt")
    if isinstance(told, list) and len(told) == 1:
        told = told[0]
    if not isinstance(told, str):
        raise InputError("one text is needed", column="prompt")
    return told


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    told = body.get("stop")
    if told is None:
        return ()
    stops = [told] if isinstance(told, str) else told
    good = isinstance(stops, list) and len(stops) <= STOPS and all(isinstance(each, str) and each for each in stops)
    if not good:
        raise InputError(f"it must be a text, or up to {STOPS} texts, none of them empty", column="stop")
    return tuple(stops)


def _usage(body: Mapping[str, Any], *, stream: bool) -> bool:
    told = body.get("stream_options")
    if told is None:
        return False
    if not stream:
        raise InputError("it needs stream: true", column="stream_options")
    if not isinstance(told, dict) or set(told) - {"include_usage", "include_obfuscation"}:
        raise InputError('it must be {"include_usage": true}', column="stream_options")
    return _flag(told, "include_usage", "stream_options.include_usage")


def _flag(body: Mapping[str, Any], name: str, place: str | None = None) -> bool:
    told = body.get(name)
    if told is not None and not isinstance(told, bool):
        raise InputError(f"it must be true or false, not {kind(told)}", column=place or name)
    return bool(told)
