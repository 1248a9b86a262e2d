"""`bimodal predict`: predict every row of a data set."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Annotated

import pyarrow as pa
import typer

from bimodal import settings
from bimodal.batch import run
from bimodal.batch.sinks.outputs import STANDARD_OUTPUT
from bimodal.cli.options import (
    NA,
    Code,
    Decimal,
    Drift,
    Encoding,
    Features,
    Header,
    Json,
    ModelPath,
    Outputs,
    Query,
    Rename,
    Runtime,
    Sample,
    Separator,
    Target,
    Threshold,
    Trust,
    option,
    renames,
    split,
)

SETTINGS = settings.table(settings.PREDICT)


def predict(
    model: ModelPath,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="A file, a glob, a folder, a URL (s3://, a database's with #table), or - for standard input.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PLACE",
            help="Where the predictions go: a file (its ending decides the format), a folder/, a URL; - prints.",
        ),
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", help="Columns of the input to keep: auto, all, none, or a,b.")
    ] = "auto",
    proba: Annotated[bool, typer.Option("--proba", help="The probability of each class too.")] = False,
    outputs: Outputs = None,
    threshold: Threshold = None,
    features: Features = None,
    rename: Rename = None,
    target: Target = None,
    query: Query = None,
    into: Annotated[
        str | None, typer.Option("--into", metavar="TABLE", help="The table to write, where -o is a database.")
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="What happens to the table: create, append, replace or upsert (with --key).")
    ] = "create",
    key: Annotated[
        str | None, typer.Option("--key", metavar="A,B", help="The columns that tell a row, for --mode upsert.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw the progress of an interrupted run away and start anew.")
    ] = False,
    max_rejects: Annotated[str | None, option(SETTINGS["max_rejects"])] = None,
    na: NA = None,
    separator: Separator = None,
    decimal: Decimal = None,
    encoding: Encoding = None,
    header: Header = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Threads or processes that predict [measured].")
    ] = None,
    memory: Annotated[int | None, option(SETTINGS["memory"])] = None,
    ahead: Annotated[int | None, option(SETTINGS["ahead"])] = None,
    call_rows: Annotated[int | None, option(SETTINGS["call_rows"])] = None,
    timeout: Annotated[float | None, option(SETTINGS["timeout"])] = None,
    code: Code = None,
    trust: Trust = None,
    sample: Sample = None,
    runtime: Runtime = None,
    allow_drift: Drift = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Json = False,
) -> None:
    """Predict every row of a data set and save the result; interrupted, the same command goes on where it stopped.

    \b
    Examples:
        bimodal predict my_model.pkl batch_input.csv -o predicted_output.csv
        bimodal predict my_model.pkl 'parts/*.parquet' -o scored.parquet --proba
        bimodal predict my_model.pkl 'sqlite:///shop.db#customers' -o 'sqlite:///shop.db#scores'
        bimodal predict my_model.pkl customers.csv --keep id,city -o - | head
        tail -f events.jsonl | bimodal predict my_model.pkl - -o -
        bimodal predict my_model.pkl batch_input.csv            the first ten rows
    """
    leave_pandas_out()
    if output in STANDARD_OUTPUT:
        output = "-"
    run.predict_file(
        model,
        inputs[0] if len(inputs) == 1 else inputs,
        output,
        keep=keep if keep in ("auto", "all", "none") else split(keep) or (),
        proba=proba,
        outputs=split(outputs),
        threshold=threshold,
        features=split(features),
        rename=renames(rename),
        target=target,
        query=query,
        into=into,
        mode=mode,
        key=split(key) or (),
        overwrite=overwrite,
        fresh=fresh,
        max_rejects=max_rejects,
        na=na,
        separator=separator,
        decimal=decimal,
        encoding=encoding,
        header=header,
        workers=workers,
        memory=memory,
        ahead=ahead,
        call_rows=call_rows,
        timeout=timeout,
        code=code or (),
        trust=trust or (),
        sample=sample,
        runtime=runtime,
        allow_drift=allow_drift,
        dry_run=dry_run,
        progress="quiet" if quiet else "json" if as_json else "auto",
    )


class NoPandas(MetaPathFinder):
    """Says that pandas is not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out here", name=fullname)


def leave_pandas_out() -> None:
    """pyarrow imports pandas with its first array, where it is installed, only to know whether it was given a frame:
    a quarter of a second. This command gives it none, so it is told that there is no pandas.
    """
    if "pandas" in sys.modules:
        return
    finder = NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
