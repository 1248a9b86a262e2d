"""Speaker: how a model's columns take a conversation and give text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bimodal.errors import InputError
from bimodal.field import listed
from bimodal.rows import Rows
from bimodal.runtimes.collected import is_joined
from bimodal.signature import Signature, require

MESSAGES = "messages"
PROMPTS = ("text_input", "prompt", "text", "input")  # names under which a model takes one text


@dataclass(frozen=True)
class Speaker:
    """messages: whether it takes a conversation. prompt: the column that takes one text. text: the output of what it
    says. The other columns are options.
    """

    signature: Signature
    messages: bool
    prompt: str | None
    text: str

    @classmethod
    def of(cls, signature: Signature) -> Speaker | None:
        """None where the model takes no text, or gives none."""
        if not signature.named:
            return None
        texts = [each.name for each in signature.outputs if is_joined(each)]
        fields = {each.name: each for each in signature.inputs}
        messages = MESSAGES in fields and fields[MESSAGES].nested
        plain = [name for name, each in fields.items() if each.type == "string" and not each.nested and not each.shape]
        known = [name for name in PROMPTS if name in plain]
        prompt = next(iter(known or plain), None)
        if not texts or not (messages or prompt):
            return None
        return cls(signature, messages, prompt, "text" if "text" in texts else texts[0])

    def takes(self, option: str) -> bool:
        return option not in (MESSAGES, self.prompt) and any(each.name == option for each in self.signature.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.signature.outputs)

    def said(self, text: str, options: dict[str, Any]) -> Rows:
        """The row of one text. Raises InputError."""
        if self.prompt is not None:
            return self._row({self.prompt: text}, options)
        return self._row({MESSAGES: [{"role": "user", "content": text}]}, options)

    def heard(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> Rows:
        """The row of a conversation; a model without messages gets the one that it has. Raises InputError."""
        if self.messages:
            return self._row({MESSAGES: messages}, options)
        if len(messages) > 1 or messages[0]["role"] != "user":
            raise InputError(
                "this model takes one text, and no conversation: send one message of the user", column=MESSAGES
            )
        assert self.prompt is not None, "a speaker takes messages or a text"
        return self._row({self.prompt: messages[0]["content"]}, options)

    def _row(self, said: dict[str, Any], options: dict[str, Any]) -> Rows:
        for name in options:
            if not self.takes(name):
                names = [each.name for each in self.signature.inputs if self.takes(each.name)]
                hint = f"it takes {listed(names)}" if names else "it takes none"
                raise InputError(f"the model takes no parameter {name!r}; {hint}", column=name)
        rows, _, problems = self.signature.check([{**options, **said}])
        require([replace(problem, row=None) for problem in problems])
        return rows
