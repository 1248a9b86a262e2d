"""`bimodal inspect`: what a saved model is, takes and gives."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bimodal.cli import duration
from bimodal.cli.options import Code, Drift, Features, Json, ModelPath, Runtime, Sample, Trust, split
from bimodal.compile.report import Report
from bimodal.field import Field, listed
from bimodal.model import Model, load
from bimodal.runtimes import memory


def inspect(
    model: ModelPath,
    code: Code = None,
    trust: Trust = None,
    sample: Sample = None,
    features: Features = None,
    runtime: Runtime = None,
    allow_drift: Drift = False,
    as_json: Json = False,
) -> None:
    """Show what a saved model is, takes and gives.

    \b
    Examples:
        bimodal inspect my_model.pkl
        bimodal inspect my_model.pkl --json
        bimodal inspect my_model.pkl --code train.py
    """
    loading: dict[str, Any] = {"code": code or (), "trust": trust or (), "sample": sample, "features": split(features)}
    with load(model, **loading, runtime=runtime, allow_drift=allow_drift) as loaded:
        loaded.warm_up()
        if as_json:
            print(msgspec.json.format(msgspec.json.encode(facts(loaded), enc_hook=str)).decode())
        else:
            show(loaded)


def facts(model: Model) -> dict[str, Any]:
    """All that is known of a model, as plain values."""
    return {
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "format": model.format,
        "runtime": model.runtime_name,
        "process": model.process,
        "runtimes": model.compiled.report.table() if model.compiled else [],
        "versions": model.versions,
        "warnings": list(model.warnings),
        "facts": model.facts,
        "milliseconds": {str(count): round(seconds * 1000, 3) for count, seconds in model.costs.items()},
        "signature": model.signature.told(),
        "example": model.signature.example(),
    }


def show(model: Model) -> None:
    console = Console(highlight=False)
    libraries = ", ".join(f"{name} {version}" for name, version in model.versions.items())
    console.print(f"[bold]{model.name}[/] version {model.version}")
    console.print(f"  format   {model.format}" + (f" ({libraries})" if libraries else ""))
    console.print(f"  runtime  {model.runtime_name}")
    if (process := model.process) is not None and process["holds"] and process["model_memory"]:
        holds, allowed = memory.told(process["holds"]), memory.told(process["model_memory"])
        console.print(f"  process  holds {holds}, may hold {allowed}; a spare: {process['spare']}", soft_wrap=True)
    console.print(f"  digest   sha256 {model.digest}", soft_wrap=True)
    for count, seconds in model.costs.items():
        console.print(f"  measured {duration.shown(seconds)} for {count} row{'s' if count > 1 else ''}")
    for warning in model.warnings:
        console.print(f"  [yellow]warning[/]  {warning}")
    if model.compiled is not None:
        if console.width >= WIDE:
            console.print(_runtimes(model.compiled.report))
            for each in model.compiled.report.candidates:
                if each.told:
                    console.print(f"  {each.name}: {each.told}", markup=False, soft_wrap=True)
        else:
            print_runtimes(console, model.compiled.report)
    console.print(_fields("takes", model.signature.inputs, by_name=model.signature.named))
    console.print(_fields("gives", model.signature.outputs, by_name=True))
    if model.signature.classes:
        console.print(f"classes: {listed(model.signature.classes, 20)}", markup=False)
    body = {"rows": [model.signature.example()]} if model.signature.named else {"input": model.signature.example()}
    console.print("one request:", msgspec.json.encode(body, enc_hook=str).decode(), markup=False, soft_wrap=True)


HEADINGS = {
    "rows": "rows compared",
    "labels": "labels differ",
    "leaves": "changed leaf",
    "ulp": "ulp",
    "absolute": "largest difference",
}
WIDE = 120  # columns of a terminal that hold the table
MODES = {"live": "real time", "bulk": "batch"}


def _runtimes(report: Report) -> Table:
    """Each runtime that was tried: how it compared with the native one, and its time per row."""
    table = Table(title="runtimes (time per row at 1, 64 and 4,096 rows)", title_justify="left")
    for heading in ("runtime", "serves", *HEADINGS.values(), "1", "64", "4,096"):
        table.add_column(heading)
    for line in report.table():
        serves = ", ".join(MODES[mode] for mode in line["serves"]) or ("" if line["passed"] else "refused")
        compared = [_count(line.get(name)) for name in HEADINGS]
        times = [
            "" if line[f"seconds_{rows}"] is None else duration.shown(line[f"seconds_{rows}"]) for rows in (1, 64, 4096)
        ]
        table.add_row(line["runtime"], serves, *compared, *times)
    return table


def print_runtimes(console: Console, report: Report) -> None:
    """The same on a narrow terminal: a few lines for each runtime."""
    table = _runtimes(report)
    headings = [str(column.header) for column in table.columns]
    reasons = {each.name: each.told for each in report.candidates}
    console.print(table.title)
    for cells in zip(*[column.cells for column in table.columns], strict=True):
        told = [f"{heading} {cell}" for heading, cell in zip(headings[2:], cells[2:], strict=True) if cell]
        console.print(f"  {cells[0]}  {cells[1]}", markup=False)
        for each in (", ".join(told), reasons.get(str(cells[0]))):
            if each:
                console.print(f"    {each}", markup=False, soft_wrap=True)


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2g}"


def _fields(title: str, fields: tuple[Field, ...], *, by_name: bool) -> Table:
    table = Table(title=title + ("" if by_name else " (columns by position)"), title_justify="left")
    for heading in ("name", "type", "shape", "missing values", "known values"):
        table.add_column(heading)
    for each in fields:
        shape = f"[rows, {', '.join(map(str, each.shape))}]" if each.shape else "[rows]"
        known = listed(each.categories) + (" (no others)" if each.closed else "") if each.categories else ""
        table.add_row(each.name, each.type, shape.replace("[", r"\["), "yes" if each.nullable else "no", known)
    return table
