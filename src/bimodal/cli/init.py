"""`bimodal init`: something to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bimodal.errors import OutputExists, UsageError

PYTHON = '''"""A model written in Python: `bimodal serve {file}:Model`, `bimodal predict {file}:Model rows.csv`."""

from typing import TypedDict


class Row(TypedDict):
    amount: float
    country: str


class Model:
    outputs = {{"prediction": bool, "score": float}}

    def load(self):
        """Called once in each process: read weights, open files."""
        self.limits = {{"AT": 500.0, "US": 900.0}}

    def predict(self, rows: Row):
        """rows["amount"] is an array of float64, rows["country"] one of str; as many answers as rows."""
        limit = [self.limits.get(country, 100.0) for country in rows["country"]]
        score = rows["amount"] / limit
        return {{"prediction": score > 1, "score": score}}
'''


def init(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write.")] = "model.py",
    python: Annotated[bool, typer.Option("--python", help="Write a model class in Python.")] = False,
) -> None:
    """Write something to start from.

    \b
    Examples:
        bimodal init --python
        bimodal serve model.py:Model
    """
    if not python:
        raise UsageError("say what to write: bimodal init --python writes a model class")
    path = Path(file)
    if path.exists():
        raise OutputExists(f"{file} exists already; name another file: bimodal init --python FILE")
    path.write_text(PYTHON.format(file=file), encoding="utf-8")
    print(f"wrote {file}; try it:\n  bimodal serve {file}:Model\n  bimodal inspect {file}:Model")
