"""`bimodal predict`: predict every row of a data set."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bimodal import settings
from bimodal.batch import run
from bimodal.cli.options import (
    Code,
    Drift,
    Features,
    Json,
    ModelPath,
    Outputs,
    Runtime,
    Sample,
    Threshold,
    option,
    split,
)
from bimodal.errors import UsageError
from bimodal.model import load

SETTINGS = settings.table(settings.PREDICT)


def predict(
    model: ModelPath,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT…", help="A file, a glob, a folder, or - for standard input.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where the predictions go; the ending decides the format; - prints."
        ),
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", help="Columns of the input to keep: auto, all, none, or a,b.")
    ] = "auto",
    proba: Annotated[bool, typer.Option("--proba", help="The probability of each class too.")] = False,
    outputs: Outputs = None,
    threshold: Threshold = None,
    features: Features = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="COLUMN=FEATURE", help="A column that has another name here."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="COLUMN", help="A column that is never a feature.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    max_rejects: Annotated[str | None, option(SETTINGS["max_rejects"])] = None,
    na: Annotated[Any, option(SETTINGS["na"])] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="What separates the columns of a CSV file.")
    ] = None,
    decimal: Annotated[str | None, typer.Option("--decimal", help="The decimal mark of a CSV file: . or ,")] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="The encoding of a CSV file, such as latin-1.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes that predict [measured].")] = None,
    memory: Annotated[int | None, option(SETTINGS["memory"])] = None,
    code: Code = None,
    sample: Sample = None,
    runtime: Runtime = None,
    allow_drift: Drift = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Json = False,
) -> None:
    """Predict every row of a data set and save the result.

    \b
    Examples:
        bimodal predict my_model.pkl batch_input.csv -o predicted_output.csv
        bimodal predict my_model.pkl 'parts/*.parquet' -o scored.parquet --proba
        bimodal predict my_model.pkl customers.csv --keep id,city -o - | head
        tail -f events.jsonl | bimodal predict my_model.pkl - -o -
        bimodal predict my_model.pkl batch_input.csv            the first ten rows
    """
    loading: dict[str, Any] = {"code": code or (), "sample": sample, "runtime": runtime, "allow_drift": allow_drift}
    with load(model, **loading, background=False) as loaded:
        run.predict_file(
            loaded,
            inputs[0] if len(inputs) == 1 else inputs,
            output,
            keep=keep if keep in ("auto", "all", "none") else split(keep) or (),
            proba=proba,
            outputs=split(outputs),
            threshold=threshold,
            features=split(features),
            rename=renames(rename or []),
            target=target,
            overwrite=overwrite,
            max_rejects=max_rejects,
            na=na,
            separator=separator,
            decimal=decimal,
            encoding=encoding,
            workers=workers,
            memory=memory,
            dry_run=dry_run,
            progress="quiet" if quiet else "json" if as_json else "auto",
        )


def renames(pairs: list[str]) -> dict[str, str]:
    """COLUMN=FEATURE pairs as a mapping."""
    told = {}
    for pair in pairs:
        column, sign, feature = pair.partition("=")
        if not (column and sign and feature):
            raise UsageError(f"--rename {pair!r}: write it as COLUMN=FEATURE")
        told[column] = feature
    return told
