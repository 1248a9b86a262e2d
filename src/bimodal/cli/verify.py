"""`bimodal verify`: the same rows through every door of a model, compared."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bimodal.agreement import ROWS, SHOWN, Agreement, Door
from bimodal.agreement import verify as compare
from bimodal.cli.options import Code, Features, Json, ModelPath, Trust, split
from bimodal.errors import UsageError
from bimodal.replay import Replay
from bimodal.spread import BITS, CLOSE32, CLOSE64, ROUNDING

DIFFERENT = 1
Compared = Annotated[str | None, typer.Option("--sample", metavar="FILE", help="The rows [a package's golden rows].")]
Named = Annotated[str | None, typer.Argument(metavar="FILE", help="The rows, as --sample names them.")]
Most = Annotated[
    int | None,
    typer.Option("--rows", metavar="N", min=1, help=f"Rows of the sample, at most [{ROWS}], or of the log [all]."),
]
Logged = Annotated[
    str | None, typer.Option("--log", metavar="FOLDER", help="A prediction log: are its answers still given?")
]
MEANING = {
    BITS: "the same bits",
    ROUNDING: "the same labels; numbers within what the library itself gives, or a billionth",
    CLOSE64: "the same labels; numbers within a billionth",
    CLOSE32: "the same labels; numbers within a hundred-thousandth",
}


def verify(
    model: ModelPath,
    file: Named = None,
    sample: Compared = None,
    log: Logged = None,
    rows: Most = None,
    code: Code = None,
    trust: Trust = None,
    features: Features = None,
    as_json: Json = False,
) -> None:
    """Compare the answers of a model through all doors.

    The same rows go through the library that trained the model, every compiled runtime, batch, HTTP, gRPC and our own
    client over gRPC. Leaves with 0 where all answers agree, else with 1 and a table of differences. A package brings
    its own rows along.

    \b
    Examples:
        bimodal verify my_model.pkl --sample batch_input.csv
        bimodal verify my_model.bimodal
        bimodal verify my_model.bimodal --sample last_week.parquet --rows 10000
        bimodal verify my_model.bimodal --log predictions/          what was answered live: the same now?
    """
    if file is not None and sample is not None:
        raise UsageError("the rows are named twice; give them as --sample FILE, or without the option")
    if log is not None and (sample or file):
        raise UsageError("the rows come from a sample or from a log; name one")
    found: Agreement | Replay
    if log is None:
        found = compare(
            model, sample=sample or file, rows=rows, code=code or (), features=split(features), trust=trust or ()
        )
    else:
        found = compare(model, log=log, rows=rows, code=code or (), features=split(features), trust=trust or ())
    if as_json:
        print(msgspec.json.encode({"equal": found.equal, "found": found}, enc_hook=str).decode())
    elif isinstance(found, Replay):
        show_replay(found)
    else:
        show(found)
    if not found.equal:
        raise typer.Exit(DIFFERENT)


def show(found: Agreement) -> None:
    console = Console(highlight=False)
    refused = f" ({found.refused:,} more are refused by the signature)" if found.refused else ""
    console.print(f"[bold]{found.name}[/] version {found.version}, {found.rows:,} rows{refused}")
    console.print(_doors(found.doors))
    for rule in dict.fromkeys(door.rule for door in found.doors if door.skipped is None):
        console.print(f"{rule}: {MEANING[rule]}", markup=False)
    for note in found.notes:
        console.print(note, markup=False, soft_wrap=True)
    if found.equal:
        console.print("equal")
        return
    console.print(_differences(found))
    more = f", the first {SHOWN} are shown" if found.total > SHOWN else ""
    console.print(f"[bold]different[/]: {found.total:,} answers{more}")


def _doors(doors: tuple[Door, ...]) -> Table:
    table = Table()
    for heading in ("door", "runtime", "equal is", "rows", "different", "off by"):
        table.add_column(heading, justify="left" if heading in ("door", "runtime", "equal is") else "right")
    for door in doors:
        if door.skipped is not None:
            table.add_row(door.name, door.runtime, f"not tried: {door.skipped}", "", "", "")
        else:
            largest = f"{door.largest:.2g}" if door.largest else ""
            table.add_row(door.name, door.runtime, door.rule, f"{door.rows:,}", f"{door.differing:,}", largest)
    return table


def _differences(found: Agreement) -> Table:
    table = Table()
    for heading in ("row", "output", "door", "native", "other"):
        table.add_column(heading, justify="right" if heading == "row" else "left", overflow="fold")
    for each in found.differences:
        table.add_row(f"{each.row:,}", each.output, each.door, repr(each.native), repr(each.other))
    return table


def show_replay(found: Replay) -> None:
    console = Console(highlight=False)
    console.print(
        f"[bold]{found.name}[/] version {found.version}, {found.rows:,} rows of {found.requests:,} logged requests"
    )
    table = Table()
    for heading in ("door", "rows", "different"):
        table.add_column(heading, justify="left" if heading == "door" else "right")
    for door in found.doors:
        table.add_row(door.name, f"{door.rows:,}", f"{door.differing:,}")
    console.print(table)
    for rule in found.rules:
        console.print(f"{rule}: {MEANING[rule]}", markup=False)
    for note in found.notes:
        console.print(note, markup=False, soft_wrap=True)
    if found.equal:
        console.print("equal to what was answered")
        return
    console.print(_changes(found))
    more = f", the first {SHOWN} are shown" if found.total > SHOWN else ""
    console.print(f"[bold]different[/]: {found.changed:,} rows, {found.total:,} answers{more}")


def _changes(found: Replay) -> Table:
    table = Table()
    for heading in ("row", "request", "its row", "column", "door", "logged", "now"):
        table.add_column(heading, justify="right" if heading in ("row", "its row") else "left", overflow="fold")
    for each in found.differences:
        table.add_row(
            f"{each.row:,}", each.request, f"{each.place}", each.column, each.door, repr(each.logged), repr(each.now)
        )
    return table
