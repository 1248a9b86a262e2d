"""Options that several commands share, made from the table of settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bimodal.errors import UsageError
from bimodal.settings import PREDICT, RUNTIME, Setting, names, table

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="The saved model: a file, a folder, or file.py:Class.")]
Code = Annotated[
    list[str] | None,
    typer.Option(
        "--code", metavar="FILE|DIR", help="Python code that the saved model needs; may be given several times."
    ),
]
Trust = Annotated[
    str | None,
    typer.Option("--trust", metavar="MODULE.NAME,…", help="What the saved model may call beyond what models need."),
]
Sample = Annotated[
    str | None,
    typer.Option("--sample", metavar="FILE", help="Rows like the ones to come, for what the model cannot say."),
]
Features = Annotated[
    str | None, typer.Option("--features", metavar="A,B", help="The feature columns, in the order of the training.")
]
Outputs = Annotated[
    str | None, typer.Option("--outputs", metavar="A,B", help="What to predict: prediction, probability, …")
]
Threshold = Annotated[
    float | None, typer.Option("--threshold", help="Probability from which on the second of two classes is predicted.")
]
Rename = Annotated[
    list[str] | None, typer.Option("--rename", metavar="COLUMN=FEATURE", help="A column that has another name here.")
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="COLUMN", help="The column with the truth: measures how good the predictions are."
    ),
]
Query = Annotated[
    str | None, typer.Option("--query", metavar="SQL", help="What to read from a database, instead of a table.")
]
Separator = Annotated[str | None, typer.Option("--separator", help="What separates the columns of a CSV file.")]
Decimal = Annotated[str | None, typer.Option("--decimal", help="The decimal mark of a CSV file: . or ,")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="The encoding of a CSV file, such as latin-1.")]
Header = Annotated[
    str | None,
    typer.Option("--header", metavar="present|absent", help="Whether a CSV file's first row names the columns."),
]
Json = Annotated[bool, typer.Option("--json", help="Print for machines.")]


def split(text: str | None) -> tuple[str, ...] | None:
    """A list of names, or None where none was given."""
    return None if text is None else names(text)


def renames(pairs: list[str] | None) -> dict[str, str]:
    """COLUMN=FEATURE pairs as a mapping."""
    told = {}
    for pair in pairs or []:
        column, sign, feature = pair.partition("=")
        if not (column and sign and feature):
            raise UsageError(f"--rename {pair!r}: write it as COLUMN=FEATURE")
        told[column] = feature
    return told


def reader(setting: Setting) -> Callable[[str], Any]:
    """The function that reads the setting's text; what cannot be read, or is of no use, is told with the option's
    name, or the variable's.
    """

    def read(text: str) -> Any:
        try:
            return setting.judge(text)
        except UsageError as error:
            is_given = os.environ.get(setting.variable) != text  # else Typer has it from there
            raise UsageError(f"{setting.flag if is_given else setting.variable}: {error}") from None

    read.__name__ = setting.read.__name__
    return read


def option(setting: Setting) -> Any:
    """The command line's option for a setting; left out, the environment and the default count."""
    shown = "" if setting.default in (None, ()) else f" [{setting.default}]"
    return typer.Option(
        setting.flag,
        parser=reader(setting),
        help=f"{setting.help}{shown}",
        metavar=setting.read.__name__.upper(),
        envvar=setting.variable,
        show_envvar=False,
    )


Runtime = Annotated[str | None, option(RUNTIME)]
NA = Annotated[Any, option(table(PREDICT)["na"])]
Drift = Annotated[
    bool,
    typer.Option("--allow-drift", help="Accept that a package answers otherwise under the libraries installed here."),
]
