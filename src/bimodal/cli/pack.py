"""`bimodal pack`: a saved model as a package."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bimodal import package
from bimodal.cli import duration
from bimodal.cli.options import Code, Features, Json, ModelPath, Runtime, Trust, split
from bimodal.compile.report import Report
from bimodal.package import Package
from bimodal.packing import pack as write

Destination = Annotated[
    str | None, typer.Option("--output", "-o", metavar="DIR", help="The package's folder [MODEL's name and .bimodal].")
]
Golden = Annotated[
    str | None,
    typer.Option("--sample", metavar="FILE", help="Rows like the ones to come: compared, and kept as golden rows."),
]
Name = Annotated[str | None, typer.Option("--name", help="The model's name [its file's].")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a package that stands there.")]


def pack(
    model: ModelPath,
    output: Destination = None,
    sample: Golden = None,
    code: Code = None,
    trust: Trust = None,
    features: Features = None,
    name: Name = None,
    runtime: Runtime = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a package: a model with its code, proof and digests.

    A package serves and predicts without the library that trained the model, where a compiled form passed. Damaged
    files are refused, and so are answers that changed under another version of a library.

    \b
    Examples:
        bimodal pack my_model.pkl --sample batch_input.csv      writes my_model.bimodal
        bimodal pack my_model.pkl --code train.py -o churn/     with the user's own classes
        bimodal serve my_model.bimodal
        bimodal predict my_model.bimodal batch_input.csv
        bimodal verify my_model.bimodal
    """
    destination = output or package.default(model)
    made = write(
        model, destination, sample=sample, code=code or (), trust=trust or (), features=split(features), name=name,
        overwrite=overwrite, runtime=runtime,
    )  # fmt: skip
    kept = package.open(made)
    if as_json:
        print(msgspec.json.encode({"package": str(made), **facts(kept)}).decode())
    else:
        show(kept, destination)


def facts(kept: Package) -> dict[str, Any]:
    """What is told of a package, as plain values."""
    report = kept.report
    return {
        "name": kept.name,
        "version": kept.digest[:12],
        "digest": kept.digest,
        "files": len(kept.manifest.files),
        "bytes": kept.size,
        "golden": 0 if kept.golden is None else kept.golden.rows.count,
        "versions": kept.manifest.versions,
        "realtime": kept.chosen(),
        "batch": kept.chosen(bulk=True),
        "runtimes": [] if report is None else report.table(),
        "reason": kept.why_native,
    }


def show(kept: Package, destination: str) -> None:
    console = Console(highlight=False)
    told = facts(kept)
    libraries = ", ".join(f"{name} {version}" for name, version in kept.manifest.versions.items())
    console.print(
        f"[bold]{kept.name}[/] version {told['version']}, {kept.manifest.format} ({libraries})", soft_wrap=True
    )
    if kept.report is not None:
        console.print(_table(kept.report))
    console.print(f"  real time  {told['realtime']}")
    console.print(f"  batch      {told['batch']}")
    if told["reason"]:
        console.print(
            f"  it needs {kept.manifest.format} where it runs: {told['reason']}", markup=False, soft_wrap=True
        )
    golden = f"{told['golden']} golden rows" if told["golden"] else "no golden rows (give some with --sample FILE)"
    console.print(f"{destination}: {told['files']} files, {_size(kept.size)}, {golden}", markup=False, soft_wrap=True)


def _table(report: Report) -> Table:
    table = Table()
    for heading in ("runtime", "equal", "rows", "labels off", "off by", "1 row", "of 4,096"):
        table.add_column(heading, justify="left" if heading in ("runtime", "equal") else "right")
    for line in report.table():
        equal = "" if line["runtime"] == "native" else "yes" if line["passed"] else "no"
        counts = ["" if line.get(name) is None else f"{line[name]:,}" for name in ("rows", "labels")]
        largest = "" if line.get("absolute") is None else f"{line['absolute']:.2g}"
        spans = [line[f"seconds_{count}"] for count in (1, 4096)]
        times = ["" if each is None else duration.shown(each) for each in spans]
        table.add_row(line["runtime"], equal, *counts, largest, *times)
    return table


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
