"""Causal models of Hugging Face: text in pieces, and conversations where the tokenizer has a template for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bimodal.field import Field
from bimodal.formats.yielded import ANSWER, MAY_BE_LEFT_OUT, MESSAGES, OPTIONS
from bimodal.runtimes.generating import Generating
from bimodal.signature import Signature

ENDINGS = ("ForCausalLM", "LMHeadModel")  # of the classes' names
LONGEST = 10**6  # tokens: a tokenizer that names more than that names no limit


def is_causal(kinds: list[Any]) -> bool:
    return any(str(kind).endswith(ENDINGS) for kind in kinds)


def runtime(torch: Any, transformers: Any, tokenizer: Any, model: Any) -> tuple[Generating, Signature, dict[str, Any]]:
    """The runtime, what it takes and gives, and what to tell of it."""
    template = getattr(tokenizer, "chat_template", None) is not None
    signature = Signature(inputs(template=template), ANSWER)
    places = getattr(model.config, "max_position_embeddings", None)
    limits = [each for each in (tokenizer.model_max_length, places) if each is not None and 0 < each <= LONGEST]
    room = min(limits, default=None)
    facts = {"architecture": type(model).__name__, "kind": "text generation", "tokens": room, "template": template}
    return Generating(torch, transformers, tokenizer, model, room, signature), signature, facts


def inputs(*, template: bool) -> tuple[Field, ...]:
    """What a model that generates text takes: one text, or a conversation where it has a template for them."""
    text = Field("text", "string", example="Once upon a time")
    if not template:
        return (text, *OPTIONS)
    return (replace(text, **MAY_BE_LEFT_OUT), replace(MESSAGES, example=None, **MAY_BE_LEFT_OUT), *OPTIONS)
