"""Packing a model that answers in pieces."""

from __future__ import annotations

from pathlib import Path

import bimodal

ECHO = """
class Echo:
    inputs = {"prompt": str}
    outputs = {"text": str}

    def predict(self, row):
        yield row["prompt"]
        yield "!"
"""


def test_it_is_asked_nothing_and_answers_from_the_package(tmp_path: Path) -> None:
    """An answer in pieces may take minutes, and be drawn: made-up questions prove nothing."""
    file = tmp_path / "echo.py"
    file.write_text(ECHO)
    packed = bimodal.pack(f"{file}:Echo", tmp_path / "echo.bimodal")
    assert not list(Path(packed).rglob("*golden*"))
    with bimodal.load(packed) as model:
        answer = model.predict([{"prompt": "well met"}])
    assert answer[0]["text"] == "well met!"
