"""What is told in OpenAI's shape: a whole completion, its chunks, errors."""

from __future__ import annotations

import time
import uuid
from typing import Any

from bimodal.chat.asked import Asked
from bimodal.chat.speaker import Speaker
from bimodal.errors import BimodalError
from bimodal.rows import Rows
from bimodal.runtimes.stops import Stops

KINDS = {429: "rate_limit_error", 404: "invalid_request_error"}
INTERNAL = "something went wrong here; the server's log has the reason"


class Reply:
    """One answer as its pieces come: `feed` gives what of each is told, `over` is set where nothing more is needed."""

    def __init__(self, asked: Asked, speaker: Speaker, *, mark: str | None = None, created: int | None = None) -> None:
        """mark, created: what tells it from others, and its time, where they are not new ones."""
        self._asked = asked
        self._text = speaker.text
        self._stops = Stops(asked.stops)
        self._notes: dict[str, Any] = {}
        self._id = ("chatcmpl-" if asked.chat else "cmpl-") + (mark or uuid.uuid4().hex)
        self._created = int(time.time()) if created is None else created

    @property
    def over(self) -> bool:
        return self._stops.found

    def feed(self, piece: Rows) -> str:
        """The text that may be told now."""
        told = ""
        for name in piece:
            value = piece.array(name)[0]
            if name == self._text:
                told = self._stops.feed(value or "")
            elif value is not None:
                self._notes[name] = value.item() if hasattr(value, "item") else value
        return told

    def rest(self) -> str:
        """The text that was held back."""
        return self._stops.rest()

    @property
    def reason(self) -> str:
        return "stop" if self.over else str(self._notes.get("finish_reason") or "stop")

    @property
    def usage(self) -> dict[str, int] | None:
        """Tokens, where the model counts them."""
        there, here = self._notes.get("prompt_tokens"), self._notes.get("completion_tokens")
        if there is None and here is None:
            return None
        there, here = int(there or 0), int(here or 0)
        return {"prompt_tokens": there, "completion_tokens": here, "total_tokens": there + here}

    def whole(self, text: str) -> dict[str, Any]:
        """The completion."""
        if self._asked.chat:
            said: dict[str, Any] = {"message": {"role": "assistant", "content": text, "refusal": None}}
        else:
            said = {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": self.reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage}

    def first(self) -> dict[str, Any] | None:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": ""}, None) if self._asked.chat else None

    def chunk(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text} if self._asked.chat else text, None)

    def last(self) -> list[dict[str, Any]]:
        """The chunks that end it."""
        end = self._chunk({} if self._asked.chat else "", self.reason)
        if not self._asked.usage:
            return [end]
        return [end, {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage}]

    def _chunk(self, said: Any, reason: str | None) -> dict[str, Any]:
        key = "delta" if self._asked.chat else "text"
        choice = {"index": 0, key: said, "logprobs": None, "finish_reason": reason}
        told = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**told, "usage": None} if self._asked.usage else told

    def _head(self, kind: str) -> dict[str, Any]:
        kind = kind if self._asked.chat else "text_completion"
        return {"id": self._id, "object": kind, "created": self._created, "model": self._asked.model}


def fault(error: BaseException, status: int) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    told = error if isinstance(error, BimodalError) else None
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = INTERNAL if told is None else told.message
    column = None if told is None else told.column
    if column and not message.startswith((column, "column ")):
        message = f"{column}: {message}"
    return {"error": {"message": message, "type": kind, "param": column, "code": told.code if told else "internal"}}
