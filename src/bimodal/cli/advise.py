"""`bimodal advise`: which mode fits, measured on the user's own model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bimodal.advice import page
from bimodal.advice.advising import BUDGET, Advice
from bimodal.advice.advising import advise as measure
from bimodal.advice.shown import MARKS, asked, cells, lines
from bimodal.cli.options import Code, Features, Json, ModelPath, Runtime, Trust, split
from bimodal.errors import UsageError
from bimodal.settings import seconds

UNMET = 1
UNITS = {"h": 3600.0, "d": 86_400.0}


def _time(text: str) -> float:
    """Seconds of 500ms, 10s, 15min, 2h, 1d."""
    word = text.strip().lower()
    try:
        return float(word[:-1]) * UNITS[word[-1:]] if word[-1:] in UNITS else seconds(word)
    except ValueError:
        raise UsageError(f"{text!r} is no time; write it like 500ms, 10s, 15min, 2h or 1d") from None


Measured = Annotated[str | None, typer.Option("--sample", metavar="FILE", help="Rows like the ones to come.")]
Requests = Annotated[float | None, typer.Option("--requests-per-day", metavar="N", help="Live answers a day.")]
Rows = Annotated[int | None, typer.Option("--rows", metavar="N", help="Rows of one batch.")]
Keys = Annotated[int | None, typer.Option("--keys", metavar="N", help="How many keys the live answers are about.")]
Latency = Annotated[
    float | None, typer.Option("--latency", metavar="TIME", parser=_time, help="Wanted p99 of a live answer.")
]
Freshness = Annotated[
    float | None, typer.Option("--freshness", metavar="TIME", parser=_time, help="How old an answer may be.")
]
Price = Annotated[
    float | None, typer.Option("--price-per-hour", metavar="PRICE", help="Of a machine like this one [0.05 a core].")
]
Peak = Annotated[float | None, typer.Option("--peak-factor", metavar="N", help="The busiest time over the mean [3].")]
Budget = Annotated[
    float, typer.Option("--budget", metavar="SECONDS", show_default=False, help=f"For measuring [{BUDGET:g}].")
]
Page = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="A page with plots, in HTML.")]


def advise(
    model: ModelPath,
    sample: Measured = None,
    requests_per_day: Requests = None,
    rows: Rows = None,
    keys: Keys = None,
    latency: Latency = None,
    freshness: Freshness = None,
    price_per_hour: Price = None,
    peak_factor: Peak = None,
    output: Page = None,
    budget: Budget = BUDGET,
    code: Code = None,
    trust: Trust = None,
    features: Features = None,
    runtime: Runtime = None,
    as_json: Json = False,
) -> None:
    """Say which mode fits: real time, batch or both.

    The model is measured on this machine, with one row, in bulk, live over HTTP and by lookup; from what is needed
    follow machines and costs. Leaves with 0 where a mode meets all that is asked, else with 1.

    \b
    Examples:
        bimodal advise my_model.pkl --sample batch_input.csv --requests-per-day 100000
        bimodal advise my_model.pkl --sample batch_input.csv --rows 1000000 --freshness 1d
        bimodal advise my_model.pkl --requests-per-day 2e6 --keys 500000 --latency 50ms --freshness 1d -o advice.html
    """
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o {output}: the page is an HTML file, so its name ends in .html")
    found = measure(
        model,
        sample=sample,
        requests_per_day=requests_per_day,
        rows=rows,
        keys=keys,
        latency=latency,
        freshness=freshness,
        price_per_hour=price_per_hour,
        peak_factor=peak_factor,
        code=code or (),
        trust=trust or (),
        features=split(features),
        runtime=runtime,
        budget=budget,
        tell=lambda text: print(f"{text} …", file=sys.stderr, flush=True),
    )
    if output is not None:
        page.write(found, output)
    if as_json:
        print(msgspec.json.encode(found.told()).decode())
    else:
        show(found, output)
    if found.choice.name is None:
        raise typer.Exit(UNMET)


def show(found: Advice, output: Path | None) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{found.name}[/] version {found.version}, measured with {found.rows}", soft_wrap=True)
    for line in lines(found):
        console.print(line, markup=False, soft_wrap=True)
    table = Table()
    for heading in ("", *(mode.name for mode in found.modes)):
        table.add_column(heading, justify="left" if not heading else "right")
    for heading, *values in cells(found.modes):
        table.add_row(heading, *values)
    console.print(table)
    console.print(f"marks: {', '.join(f'{mark} {word}' for word, mark in MARKS.items() if mark)}; others derived")
    console.print(f"asked: {asked(found.needs)}", soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    named = f"[bold]{found.choice.name}[/]. " if found.choice.name else ""
    console.print(f"{named}{found.choice.reason}", soft_wrap=True)
    if output is not None:
        console.print(f"{output} has the plots", soft_wrap=True)
