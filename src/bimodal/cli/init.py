"""`bimodal init`: something to start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from bimodal.cli.options import Code, Features, Sample, split
from bimodal.config.places import file_of
from bimodal.config.reading import NAME
from bimodal.config.schema import schema
from bimodal.config.template import DATA, INPUT, SCHEMA, Subject, likely, template
from bimodal.errors import ModelError, OutputExists, SinkError, UsageError
from bimodal.formats import LOOKED_AT, PACKED, recognise
from bimodal.model import load
from bimodal.package import is_package

OTHERS = (*PACKED, *DATA)  # files that are no model, whatever they begin with

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
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="The saved model [the one of this folder]; with --python the file to write."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help=f"The file to write [{NAME}].")
    ] = None,
    code: Code = None,
    sample: Sample = None,
    features: Features = None,
    python: Annotated[bool, typer.Option("--python", help="Write a model class in Python instead.")] = False,
) -> None:
    """Write a bimodal.toml for a model, or a model class in Python, to start from.

    \b
    Examples:
        bimodal init my_model.pkl
        bimodal up
        bimodal init --python
        bimodal serve model.py:Model
    """
    if python:
        write_python(output or source or "model.py")
        return
    path = Path(output or NAME)
    if path.exists():
        raise OutputExists(f"{path} exists already; name another file: bimodal init MODEL -o FILE")
    model = source or only_model(Path())
    rows = rows_for(model, path.absolute().parent)
    text = template(subject(model, path, code or (), sample, split(features)), rows)
    write_schema(path.absolute().parent / SCHEMA)
    write(path, text)
    told = "" if path.name == NAME else f" {path}"
    edit = "" if rows is not None else f"; write into its input line what the job reads (there is no {INPUT} here)"
    print(f"wrote {path}{edit}; check it, then run its server and its job:\n  bimodal config verify{told}")
    print(f"  bimodal up{f' --config {path}' if told else ''}")


def write_python(file: str) -> None:
    path = Path(file)
    if path.exists():
        raise OutputExists(f"{file} exists already; name another file: bimodal init --python FILE")
    write(path, PYTHON.format(file=file))
    print(f"wrote {file}; try it:\n  bimodal serve {file}:Model\n  bimodal inspect {file}:Model")


def write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror}") from error


def write_schema(path: Path) -> None:
    """What editors know the file by. Its folder is the state's, which nobody else may read."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{path.parent} cannot be made: {error.strerror}") from error
    write(path, msgspec.json.format(msgspec.json.encode(schema())).decode())


def only_model(folder: Path) -> str:
    """The model of a folder that holds just one; UsageError says what to type otherwise."""
    places = [each for each in sorted(folder.iterdir())[:LOOKED_AT] if not each.name.startswith(".")]
    found = [str(each) for each in places if each.suffix not in OTHERS and is_model(each)]
    if len(found) != 1:
        there = f"there are {', '.join(found[:5])}" if found else "there is none in this folder"
        raise UsageError(
            f"name the model ({there}): bimodal init my_model.pkl; or write one in Python: bimodal init --python"
        )
    return found[0]


def is_model(path: Path) -> bool:
    try:
        return is_package(str(path)) or bool(recognise(str(path)))
    except ModelError:
        return False


def subject(
    model: str, file: Path, code: Sequence[str], sample: str | None, features: tuple[str, ...] | None
) -> Subject:
    """The model, loaded once to see that it can be, and what it takes."""
    with load(model, code=code, sample=sample, features=features, runtime="native") as loaded:
        takes = [f"{each.name} ({each.type})," for each in loaded.signature.inputs]
        name = loaded.name
    folder = file.absolute().parent
    return Subject(
        name,
        beside(model, folder),
        [*takes[:-1], *(each.removesuffix(",") for each in takes[-1:])],
        [beside(each, folder) for each in code],
        None if sample is None else beside(sample, folder),
        features,
    )


def rows_for(model: str, folder: Path) -> str | None:
    """A file that the job may read: in the folder, else beside the model."""
    file = file_of(model)
    found = likely(folder)
    if found is not None or file is None:
        return found
    home = Path(file).absolute().parent
    found = likely(home)
    return None if found is None else beside(str(home / found), folder)


def beside(place: str, folder: Path) -> str:
    """A place as it is called from the file's folder."""
    if file_of(place) is None:
        return place
    path = Path(place).absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
