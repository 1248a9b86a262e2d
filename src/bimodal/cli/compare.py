"""`bimodal compare`: the same rows through two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bimodal.batch.rejects import Allowed
from bimodal.batch.report import rows as counted_rows
from bimodal.cli.options import (
    NA,
    Code,
    Decimal,
    Encoding,
    Features,
    Header,
    Json,
    Outputs,
    Query,
    Rename,
    Runtime,
    Separator,
    Target,
    Threshold,
    Trust,
    renames,
    split,
)
from bimodal.comparison import Comparison
from bimodal.comparison import compare as compared
from bimodal.comparison.comparing import TOLERANCE
from bimodal.comparison.result import Qualities
from bimodal.comparison.segments import Segment
from bimodal.comparison.shift import Shift
from bimodal.errors import UsageError

MORE = 1
LINES = 10  # of a table
ROWS = 5  # changed rows that are shown
FIGURES = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "log_loss": "log loss",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "bias": "bias",
}
STEPS = {"mean": "mean", "mean_absolute": "mean size", "p90": "p90", "largest": "largest", "ks": "KS", "psi": "PSI"}


def compare(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The model that is in use.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The one that may take its place.")],
    data: Annotated[list[str], typer.Argument(metavar="DATA…", help="Rows to predict with both, as for predict.")],
    by: Annotated[
        str | None, typer.Option("--by", metavar="COLUMN", help="Count the changed rows by the values of this column.")
    ] = None,
    target: Target = None,
    max_changed: Annotated[
        str | None, typer.Option("--max-changed", metavar="N|P%", help="Leave with 1 where more rows changed.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="A file for all changed rows.")
    ] = None,
    keep: Annotated[str, typer.Option("--keep", help="Columns of the input in that file: all, none, or a,b.")] = "all",
    proba: Annotated[bool, typer.Option("--proba", help="The numbers of both models in that file too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    outputs: Outputs = None,
    threshold: Threshold = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="By how much of its size a predicted number may move unchanged.")
    ] = TOLERANCE,
    rows: Annotated[
        int | None, typer.Option("--rows", metavar="N", min=1, help="Compare a sample of so many rows.")
    ] = None,
    features: Features = None,
    rename: Rename = None,
    na: NA = None,
    query: Query = None,
    separator: Separator = None,
    decimal: Decimal = None,
    encoding: Encoding = None,
    header: Header = None,
    code: Code = None,
    trust: Trust = None,
    runtime: Runtime = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Predict the same rows with two models, and tell what changes.

    \b
    Examples:
        bimodal compare old.pkl new.pkl last_week.parquet
        bimodal compare old.pkl new.pkl labelled.csv --target churned --by country
        bimodal compare old.pkl new.pkl last_week.parquet --max-changed 1% -o changed.csv
    """
    allowed = None if max_changed is None else limit(max_changed)
    found = compared(
        old,
        new,
        data[0] if len(data) == 1 else data,
        by=by,
        target=target,
        threshold=threshold,
        outputs=split(outputs),
        proba=proba,
        features=split(features),
        rename=renames(rename),
        rows=rows,
        tolerance=tolerance,
        output=output,
        keep=keep if keep in ("all", "none") else split(keep) or (),
        overwrite=overwrite,
        na=na,
        query=query,
        code=code or (),
        trust=trust or (),
        runtime=runtime,
        separator=separator,
        decimal=decimal,
        encoding=encoding,
        header=header,
        progress="quiet" if quiet or as_json else "auto",
    )
    within = allowed is None or found.within(allowed)
    if as_json:
        print(msgspec.json.encode({"within": within, **found.told()}, enc_hook=str).decode())
    else:
        show(found)
    if not within:
        if not as_json:
            print(f"more than --max-changed {max_changed} changed")
        raise typer.Exit(MORE)


def limit(told: str) -> Allowed:
    """How many rows may change."""
    try:
        return Allowed.read(told)
    except UsageError:
        raise UsageError(f"--max-changed {told!r}: write a number of rows such as 10, or a share like 1%") from None


def show(found: Comparison) -> None:
    """The comparison as tables."""
    console = Console(highlight=False)
    for word, model in (("old", found.old), ("new", found.new)):
        console.print(f"{word}  [bold]{model.name}[/] version {model.version}, {model.runtime}")
    refused = found.rows - found.compared
    more = f"; {refused:,} refused" if refused else ""
    what = "labels" if found.kind == "labels" else "predictions"
    console.print(f"[bold]{found.changed:,} of {found.compared:,} {what} changed ({percent(found.share)})[/]{more}")
    for each in found.refused[:LINES]:
        column = f", column {each.column!r}" if each.column is not None else ""
        by = "both models" if each.by == "both" else f"the {each.by} one"
        console.print(f"refused by {by}: {counted_rows(each.rows)}{column}: {each.reason}", markup=False)
    for note in found.notes:
        console.print(note, markup=False)
    for table in (moves(found), shifts(found.shifts), quality(found.quality), segments(found), changed(found)):
        if table is not None:
            console.print(table)
    if found.quality is not None:
        tell_quality(console, found.quality)
    if found.output is not None:
        console.print(f"all changed rows are in {found.output}", markup=False, soft_wrap=True)


def moves(found: Comparison) -> Table | None:
    """From which label to which the rows went."""
    gone = [each for each in found.moves if each.old != each.new]
    if not gone:
        return None
    table = titled("labels that changed", ("old", "new"), ("rows",))
    for each in gone[:LINES]:
        table.add_row(each.old, each.new, f"{each.rows:,}")
    if len(gone) > LINES:
        table.add_row(f"{len(gone) - LINES:,} other pairs", "", f"{sum(each.rows for each in gone[LINES:]):,}")
    return table


def shifts(found: Sequence[Shift]) -> Table | None:
    """How far the numbers moved: one of them from top to bottom, several side by side."""
    there = [each for each in found if each.rows]
    if not there:
        return None
    if len(there) == 1:
        (only,) = there
        table = titled(f"shift of {only.name}", ("",), ("new less old",))
        for name, title in {**STEPS, "old": "mean of old", "new": "mean of new"}.items():
            table.add_row(title, figure(getattr(only, name)))
        return table
    table = titled("shift, new less old", ("",), tuple(STEPS.values()))
    for each in there[:LINES]:
        table.add_row(each.name, *(figure(getattr(each, name)) for name in STEPS))
    return table


def quality(found: Qualities | None) -> Table | None:
    """Both models' figures side by side."""
    if found is None:
        return None
    old, new = found.old.told(), found.new.told()
    table = titled(f"against {old['target']}", ("",), ("old", "new", "change"))
    for name, title in FIGURES.items():
        one, other = old.get(name), new.get(name)
        if one is not None or other is not None:
            step = f"{other - one:+.4g}" if one is not None and other is not None else ""
            table.add_row(title, figure(one), figure(other), step)
    return table if table.row_count else None


def tell_quality(console: Console, found: Qualities) -> None:
    old = found.old.told()
    if found.better is not None and found.worse is not None:
        verb = "right" if old["kind"] == "labels" else "nearer"
        only = f"only the new model is {verb} in {found.better:,} rows, only the old one in {found.worse:,}"
        console.print(f"{only}, of {old.get('rows', 0):,} labelled", soft_wrap=True)
    notes = [
        (word, note) for word, each in (("old", found.old), ("new", found.new)) for note in told_notes(each.told())
    ]
    for note in dict.fromkeys(note for _, note in notes):
        both = len({word for word, each in notes if each == note}) == 2
        word = "" if both else f"{next(word for word, each in notes if each == note)}: "
        console.print(f"{word}{note}", markup=False, soft_wrap=True)


def told_notes(told: dict[str, Any]) -> list[str]:
    """The notes of a model's quality, of each target."""
    return [note for each in told.get("targets", [told]) for note in each["notes"]]


def segments(found: Comparison) -> Table | None:
    """Where the rows changed, the most first; the others in one line."""
    if found.by is None or not found.segments:
        return None
    table = titled(f"by {found.by}", (found.by,), ("rows", "changed", "share", "shift"))
    for each in found.segments[:LINES]:
        table.add_row(each.value, *counted(each))
    rest = found.segments[LINES:]
    if rest:
        together = Segment("", sum(each.rows for each in rest), sum(each.changed for each in rest), None)
        table.add_row(f"{len(rest):,} others", *counted(together))
    return table


def counted(segment: Segment) -> tuple[str, ...]:
    return f"{segment.rows:,}", f"{segment.changed:,}", percent(segment.share), figure(segment.shift)


def changed(found: Comparison) -> Table | None:
    """The first changed rows."""
    if not found.first:
        return None
    table = titled("first changed rows", (), ("row",))
    for heading in ("source", "old", "new"):
        table.add_column(heading, overflow="fold")
    for each in found.first[:ROWS]:
        table.add_row(f"{each.row:,}", each.source, figure(each.old), figure(each.new))
    return table


def titled(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """A table with columns of text, then of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def figure(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    return f"{share:.2%}" if 0 < share < 0.1 else f"{share:.1%}"
