"""Models whose answers come in pieces, for all tests of streams: each leaves a note where it ends."""

from __future__ import annotations

import time
from pathlib import Path

TALK = """
import asyncio, ctypes, os, time
from pathlib import Path

NOTES = Path(__file__).parent


class Talk:
    inputs = {"prompt": str, "count": int}
    outputs = {"text": str, "step": int}
    streams = 3

    def predict(self, row):
        step = -1
        try:
            for step in range(row["count"]):
                if row["prompt"] == "fail" and step == 2:
                    raise ValueError("the secret is 4711")
                if row["prompt"] == "die" and step == 2:
                    ctypes.string_at(0)
                if row["prompt"] == "strange":
                    yield {"text": 7}
                if row["prompt"] == "slow":
                    time.sleep(0.02)
                while row["prompt"] == "stuck" and step == 1 and not (NOTES / "free").exists():
                    time.sleep(0.01)
                (NOTES / row["prompt"]).write_text(str(step))
                text = "x" * 100_000 if row["prompt"] == "wide" else f"{row['prompt']} {step};"
                yield {"text": text, "step": step}
        finally:
            (NOTES / f"{row['prompt']}.closed").write_text(str(step))


class Later:
    inputs = {"prompt": str}

    async def predict(self, row):
        try:
            for word in row["prompt"].split():
                await asyncio.sleep(0)
                yield word
        finally:
            await asyncio.sleep(0)
            (NOTES / "later.closed").write_text(word)


class Chat:
    def chat(self, messages, max_tokens: int = 16, **options):
        said = messages[-1]["content"]
        if said == "options":
            yield str(sorted(options))
            return
        if said == "die":
            ctypes.string_at(0)
        if said == "fail":
            raise ValueError("the secret is 4711")
        words = [f"{word} " for word in said.split()]
        for word in words[:max_tokens]:
            yield word
        ended = "stop" if len(words) <= max_tokens else "length"
        yield {"finish_reason": ended, "prompt_tokens": len(messages), "completion_tokens": len(words[:max_tokens])}
"""


def note(folder: Path, name: str, within: float = 60.0) -> int:
    """What a model wrote when its generator was closed, or amid its answer."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        told = (folder / name).read_text() if (folder / name).exists() else ""
        if told:  # it may be writing it anew at this moment
            return int(told)
        time.sleep(0.01)
    raise AssertionError(f"no {name} within {within} s")
