"""Template: a commented bimodal.toml to start from, for one model."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCHEMA = ".bimodal/schema.json"  # beside the file: where editors find what its keys mean
DATA = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".arrow", ".feather")
INPUT = "batch_input.csv"

TEXT = """\
#:schema ./{schema}
# Models, a server and jobs: `bimodal config verify` checks this file, `bimodal up` runs what it says.
# Paths are taken from this file's folder. Passwords stand elsewhere: env:NAME or file:PATH.

[server]
# Each key is an option of `bimodal serve`; an option or a variable such as BIMODAL_PORT counts more.
# host = "127.0.0.1"
# port = 8000
# workers = 1

[models.{name}]
path = {path}
{loading}{takes}# outputs = ["prediction", "probability"]    # what is answered when a request names none

[jobs.nightly]
model = "{name}"
input = {input}    # a file, a pattern, a folder/, or an address such as "sqlite:///shop.db#customers"
output = {output}    # {{date}} and the like may stand in paths: "predictions/{{date}}.parquet"
schedule = "0 2 * * *"    # minute, hour, day, month, weekday; or: every = "15 min"
timezone = "UTC"    # such as "Europe/Vienna"
# max_rejects = "1%"    # rows that may be refused; more, and nothing is published
# retries = 2    # each goes on where the last attempt stopped
# timeout = "2 h"

# [[jobs.nightly.notify]]
# on = ["failure", "late"]
# command = ["echo", "the nightly job failed"]

# The job's result, answered by key: POST /models/{name}/lookup
# [models.{name}.store]
# job = "nightly"
# key = "id"    # the column that tells a row
# max_age = "2 days"
"""


@dataclass(frozen=True)
class Subject:
    """What the file is written for. path: of the model, as it shall stand there. takes: its features in words."""

    name: str
    path: str
    takes: Sequence[str] = ()
    code: Sequence[str] = ()
    sample: str | None = None
    features: Sequence[str] | None = None


def template(subject: Subject, data: str | None = None) -> str:
    """The text of the file. data: the input of the job, where one is known."""
    source = (data or INPUT).replace("{", "{{").replace("}", "}}")  # one brace would begin a placeholder
    loading = {"code": subject.code, "sample": subject.sample, "features": subject.features}
    return TEXT.format(
        schema=SCHEMA,
        name=called(subject.name),
        path=spelled(subject.path),
        loading="".join(f"{key} = {_value(value)}\n" for key, value in loading.items() if value),
        takes=_comment(subject.takes),
        input=spelled(source),
        output=spelled(f"predicted_output{Path(source).suffix if Path(source).suffix in DATA else '.csv'}"),
    )


def called(name: str) -> str:
    """A name that may stand in URLs and tables."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-") or "model"


def spelled(text: str) -> str:
    """A text of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: str | Sequence[str]) -> str:
    return spelled(value) if isinstance(value, str) else f"[{', '.join(spelled(each) for each in value)}]"


def _comment(takes: Sequence[str]) -> str:
    """What the model takes, in lines of a comment."""
    if not takes:
        return ""
    words = " ".join(" ".join(takes).split())
    plain = "".join(letter if letter.isprintable() else "?" for letter in words)
    return "\n".join(textwrap.wrap(f"takes: {plain}", 110, initial_indent="# ", subsequent_indent="#   ")) + "\n"


def likely(folder: Path) -> str | None:
    """The file of a folder that a job may read: batch_input.…, or the only file of rows."""
    found = sorted(each.name for each in folder.iterdir() if each.suffix in DATA and each.is_file())
    rows = [each for each in found if not each.startswith(("predict", "."))]
    named = [each for each in rows if each.startswith("batch_input.")]
    if named:
        return named[0]
    return rows[0] if len(rows) == 1 else None
