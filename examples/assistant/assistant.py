"""An assistant that knows a handful of answers: it looks for the nearest question, and says its answer word by word.

In the place of `answers` stands what writes the text: a language model, a search, another service.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

UNKNOWN = "I do not know that. Ask me about opening hours, deliveries, returns or gift cards."
PAUSE = 0.01  # seconds a word: so that it can be seen coming


class Assistant:
    """`chat` is all that a model needs to be talked to."""

    streams = 16  # conversations side by side

    def load(self) -> None:
        text = (Path(__file__).parent / "answers.txt").read_text("utf-8")
        pairs = [entry.split("\n", 1) for entry in text.strip().split("\n\n")]
        self.answers = [(words(question), answer.replace("\n", " ")) for question, answer in pairs]

    def chat(self, messages: list[dict[str, str]], max_tokens: int = 200) -> Iterator[Any]:
        said = self.answer(messages[-1]["content"]).split(" ")
        try:
            for word in said[:max_tokens]:
                time.sleep(PAUSE)
                yield word + " "
            reason = "stop" if len(said) <= max_tokens else "length"
            yield {"finish_reason": reason, "completion_tokens": min(len(said), max_tokens)}
        finally:
            print("a conversation's answer has ended", flush=True)  # also where its reader has left

    def answer(self, question: str) -> str:
        asked = words(question)
        known, answer = max(self.answers, key=lambda pair: len(pair[0] & asked))
        return answer if known & asked else f"You asked: {question} — {UNKNOWN}"


def words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 3}
