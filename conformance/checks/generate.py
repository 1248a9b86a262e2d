"""The generate extension, provisional: text in, text out, at once or as Server-Sent Events. The model is `words`."""

from __future__ import annotations

import json
from typing import Any

from conformance.catalogue import MUST, SHOULD, check
from conformance.checks.errors import told_error
from conformance.target import Reply, Target, expect

SOURCE = "Triton, extension_generate.md"
NAME = "generate"
TEXT = "one two three"


def _asked(target: Target, verb: str, value: Any) -> Reply:
    return target.post(f"{target.needs('words').path}/{verb}", value)


@check("generate/answer", MUST, SOURCE, "one JSON object with model_name, model_version, text_output", extension=NAME)
def answer(target: Target) -> None:
    reply = _asked(target, "generate", {"text_input": TEXT})
    told = reply.object()
    expect(told.get("model_name") == "words", "another model_name", reply)
    expect(isinstance(told.get("model_version"), str), "model_version is no string", reply)
    expect(isinstance(told.get("text_output"), str), "text_output is no string", reply)


@check("generate/parameters", MUST, SOURCE, "`parameters` may be there; which ones, is the model's", extension=NAME)
def parameters(target: Target) -> None:
    _asked(target, "generate", {"text_input": TEXT, "parameters": {}}).object()


def _events(reply: Reply) -> list[dict[str, Any]]:
    expect(reply.status == 200, f"the status is {reply.status}", reply)
    kind = reply.headers.get("content-type", "")
    expect(kind.startswith("text/event-stream"), f"the content type is {kind!r}", reply)
    blocks = reply.body.decode().replace("\r\n", "\n").split("\n\n")
    data = ["".join(line[5:].strip() for line in block.split("\n") if line.startswith("data:")) for block in blocks]
    return [json.loads(each) for each in data if each and each != "[DONE]"]


@check("generate/stream", MUST, SOURCE, "generate_stream sends each answer as the data of an event", extension=NAME)
def stream(target: Target) -> None:
    reply = _asked(target, "generate_stream", {"text_input": TEXT})
    events = _events(reply)
    expect(events, "no event", reply)
    texts = [each["text_output"] for each in events if "text_output" in each]
    expect(all(isinstance(each, str) for each in texts) and texts, "no text_output", reply)


@check("generate/same", SHOULD, SOURCE, "the stream's texts, joined, are the text of generate", extension=NAME)
def same(target: Target) -> None:
    reply = _asked(target, "generate_stream", {"text_input": TEXT})
    joined = "".join(each.get("text_output", "") for each in _events(reply))
    told = _asked(target, "generate", {"text_input": TEXT}).object()["text_output"]
    expect(joined == told, f"the stream says {joined!r}, generate {told!r}", reply)


@check("generate/errors", MUST, SOURCE, "a request that cannot begin: an error in JSON, from both", extension=NAME)
def errors(target: Target) -> None:
    for verb in ("generate", "generate_stream"):
        told_error(_asked(target, verb, b"{text"))
        told_error(_asked(target, verb, {}))
    told_error(target.post("/v2/models/no-such-model/generate", {"text_input": TEXT}))
