"""`bimodal runs`: the batch runs of this machine, and their reports."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bimodal.batch.history import Entry, History
from bimodal.batch.report import rows
from bimodal.cli.options import Json

runs = typer.Typer(help="The batch runs of this machine, and their reports.", no_args_is_help=True)


@runs.command("list")
def list_runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the latest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List the runs, the latest first."""
    found = History().list()[:limit]
    if as_json:
        for entry in found:
            print(msgspec.json.encode(told(entry)).decode())
        return
    if not found:
        print("no batch run yet; `bimodal predict` makes one")
        return
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in ("run", "status", "started (UTC)", "rows"):
        table.add_column(name, no_wrap=True)
    table.add_column("output", overflow="fold")
    for entry in found:
        known = entry.told
        started = str(known["started"])[:19].replace("T", " ")
        table.add_row(entry.run, entry.status, started, f"{int(known['read']):,}", str(known["output"] or "-"))
    console = Console(file=sys.stdout)
    if not console.is_terminal:  # a program reads it, a line a run
        console.width = max(console.width, max(len(str(entry.told["output"])) for entry in found) + 100)
    console.print(table)


@runs.command("show")
def show(
    run: Annotated[str, typer.Argument(metavar="RUN|OUTPUT", help="The run's id, or where it wrote.")],
    as_json: Json = False,
) -> None:
    """Show one run: what went in, what came out, how long it took."""
    entry = History().find(run)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(told(entry)), indent=2).decode())
        return
    for name, value in lines(entry):
        print(f"{name:<10} {value}")


def told(entry: Entry) -> dict[str, Any]:
    return {**entry.told, "status": entry.status}


def lines(entry: Entry) -> list[tuple[str, str]]:
    """What a person wants to know of a run, in lines."""
    known = entry.told
    stages = known.get("stages") or {}
    found = [
        ("run", entry.run),
        ("status", entry.status),
        ("model", f"{known['model']} {known['version']}, {known['runtime']}"),
        ("input", ", ".join(known["input"])),
        ("output", str(known["output"] or "-")),
        ("started", f"{known['started']} on {known['host']}, process {known['process']}"),
        ("rows", ", ".join(f"{int(known[name]):,} {name}" for name in ("read", "predicted", "rejected"))),
        (
            "time",
            f"{float(known['seconds']):.1f} s ({', '.join(f'{name} {spent:.1f}' for name, spent in stages.items())})",
        ),
        ("memory", f"{int(known['memory']) / 1e6:.0f} MB at most, {known['workers']} at work"),
    ]
    if known.get("resumed"):
        found.append(("resumed", f"{rows(int(known['resumed']))} were done before an interruption"))
    if known.get("rejects"):
        found.append(("rejects", str(known["rejects"])))
    if known.get("error"):
        found.append(("error", str(known["error"])))
    found += [("quality" if not at else "", line) for at, line in enumerate(known.get("quality_lines") or ())]
    return [*found, *(("note", note) for note in known.get("notes") or ())]
