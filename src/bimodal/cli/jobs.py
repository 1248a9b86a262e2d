"""`bimodal jobs`: the jobs of bimodal.toml, and their runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from bimodal.cli.options import Json
from bimodal.config import find, read
from bimodal.errors import UsageError
from bimodal.jobs.notify import Notices
from bimodal.jobs.running import Jobs, failure, told
from bimodal.jobs.store import JobRun
from bimodal.jobs.work import TTL

MANY = 100  # runs of a backfill that nobody asks about
SEEN = 10.0  # seconds without a sign of a run's owner that are told

jobs = typer.Typer(help="The jobs of bimodal.toml, and their runs.", no_args_is_help=True)

File = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="The configuration [BIMODAL_CONFIG, ./bimodal.toml].")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The job.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or the beginning of it.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def opened(config: str | None) -> Jobs:
    return Jobs(read(find(config)))


@jobs.command("list")
def list_jobs(config: File = None, as_json: Json = False) -> None:
    """List the jobs: when each is due next, and how its latest run ended."""
    with opened(config) as known:
        found = known.all()
    if as_json:
        for each in found:
            last = None if each.last is None else told(each.last)
            say({"job": each.name, "model": each.table.model, "due": each.due, "last": last})
        return
    if not found:
        print("there is no job yet; write a table [jobs.NAME]")
        return
    rows = [("job", "model", "next due (UTC)", "last run", "ended (UTC)")]
    for each in found:
        status, ended = ("", "") if each.last is None else (each.last.status, at(each.last.ended))
        rows.append((each.name, each.table.model, at(each.due), status, ended))
    columns(rows)


@jobs.command("run")
def run(
    name: Name,
    date: Annotated[str | None, typer.Option("--date", metavar="DAY", help="As if it were that day.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Once for this key, however often it is asked for.")] = None,
    now: Annotated[bool, typer.Option("--now", help="A run of its own, whatever the schedule says.")] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="VALUE", help="Incremental column: the rows whose watermark is above it."),
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Incremental column or files: as if nothing was done yet.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="See it through, or only enter it for a worker.")
    ] = True,
    config: File = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a job. For its latest due time it runs once, however many machines that share the state ask for it.

    \b
    Examples:
        bimodal jobs run nightly                 in cron, on two machines: one runs it, the other waits for it
        bimodal jobs run nightly --date 2026-03-31
        bimodal jobs run nightly --now
    """
    shown = Shown(quiet=quiet, as_json=as_json)
    with opened(config) as known:
        over = known.run(name, date=date, key=key, now=now, since=since, from_start=from_start, wait=wait, told=shown)
    shown.end(over)


@jobs.command("backfill")
def backfill(
    name: Name,
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="The first day.")],
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="The last day.")],
    yes: Annotated[bool, typer.Option("--yes", help=f"More than {MANY} runs, too.")] = False,
    config: File = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a job for days that have passed: each due time in order, or each day; those that succeeded are left out."""
    shown = Shown(quiet=quiet, as_json=as_json)
    with opened(config) as known:
        runs = known.planned(name, first, last)
        if runs > MANY and not yes:
            raise UsageError(f"job {name} has {runs:,} due times from {first} to {last}: --yes runs them all")
        for over in known.backfill(name, first, last, told=shown):
            shown.end(over)


@jobs.command("history")
def history(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The job; all without one.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, the latest first.")] = 20,
    config: File = None,
    as_json: Json = False,
) -> None:
    """List the runs, the latest first."""
    with opened(config) as known:
        found = known.history(name, limit=limit)
    if as_json:
        for each in found:
            say(told(each))
        return
    if not found:
        print("no run yet")
        return
    rows = [("run", "job", "status", "due (UTC)", "ended (UTC)", "rows")]
    for each in found:
        count = f"{int(each.report['predicted']):,}" if "predicted" in each.report else ""
        rows.append((each.id, each.job, each.status, at(each.due), at(each.ended), count))
    columns(rows)
    for each in found:
        if unseen := silence(each, known.clock()):
            print(f"run {each.id}: its owner, {unseen}")


@jobs.command("show")
def show(run: Run, config: File = None, as_json: Json = False) -> None:
    """Show one run: what it was for, how it went, who was told."""
    with opened(config) as known:
        found = known.show(run)
        notices = Notices(known.config.home, known.config.jobs).of(found.id)
    sent = [
        {"event": each.event, "state": each.state, "tries": each.tries, "problem": each.problem} for each in notices
    ]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode({**told(found), "notices": sent}), indent=2).decode())
        return
    for label, value in lines(found, sent, known.clock()):
        print(f"{label:<10} {value}")


@jobs.command("cancel")
def cancel(run: Run, config: File = None, as_json: Json = False) -> None:
    """Have a run end. What it did is kept; nothing is published."""
    with opened(config) as known:
        found = known.cancel(run)
    if as_json:
        say(told(found))
    elif found.over:
        print(f"run {found.id} of {found.job}: {found.status}")
    else:
        print(f"run {found.id} of {found.job} is told to end; {found.owner} has it")


class Shown:
    """Tells on standard error how a run goes, or as events on standard output."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._quiet, self._json, self._shown = quiet, as_json, 0.0
        self._heard = set[str]()  # runs that did something, or were waited for

    def __call__(self, event: str, values: Mapping[str, Any]) -> None:
        self._heard.add(str(values.get("run")))
        if self._json:
            say({"event": event, **values})
        elif not self._quiet and (text := self._text(event, values)):
            print(text, file=sys.stderr, flush=True)

    def _text(self, event: str, values: Mapping[str, Any]) -> str:
        if event in ("note", "waiting", "retry", "lost"):
            return str(values["text"])
        if event == "start":
            again = f", attempt {values['attempt']}" if values["attempt"] > 1 else ""
            return f"run {values['run']} of {values['job']}{again}"
        if event == "progress" and values["rows"]:
            return self._progress(values)
        return ""

    def _progress(self, values: Mapping[str, Any]) -> str:
        """Every few seconds."""
        clock = datetime.now(UTC).timestamp()
        if clock - self._shown < 3.0:
            return ""
        self._shown = clock
        share = values.get("share")
        return counted(int(values["rows"])) + (f", {share:.0%}" if share is not None else "")

    def end(self, run: JobRun) -> None:
        """The result. Raises the error that the run ended with."""
        if self._json:
            say({"event": "run", **told(run)})
        error = failure(run)
        if error is not None and run.over:
            raise error
        if not (self._json or self._quiet):
            print(sentence(run, already=run.id not in self._heard), flush=True)


def sentence(run: JobRun, *, already: bool = False) -> str:
    """How a run ended, or that it waits. already: before it was asked for."""
    if not run.over:
        return f"run {run.id} of {run.job} is {run.status}; a worker (bimodal up) takes it"
    report, done = run.report, f"run {run.id} of {run.job} succeeded"
    if already:
        done += f" already ({at(run.ended)} UTC)"
    if report.get("status") == "nothing new":
        return f"{done}: nothing was new"
    place = f" to {report['output']}" if report.get("output") else ""
    served = f", {int(report['edition']['count']):,} keys to look up" if report.get("edition") else ""
    rejected = f", {int(report['rejected']):,} rejected" if report.get("rejected") else ""
    return f"{done}: {counted(int(report.get('predicted', 0)))} predicted{rejected}{place}{served}"


def counted(rows: int) -> str:
    return f"{rows:,} row{'s' * (rows != 1)}"


def silence(run: JobRun, now: float) -> str:
    """That the owner of a run gave no sign for a while, and when somebody else takes it; empty while all is well."""
    if run.status != "running" or run.lease_until is None or now - (run.lease_until - TTL) < SEEN:
        return ""
    ago, left = now - (run.lease_until - TTL), run.lease_until - now
    then = f"in {left:.0f} s" if left > 0 else "by the next worker (bimodal up, or bimodal jobs run)"
    return f"{run.owner}, was last seen {ago:.0f} s ago; the run is taken over {then}"


def lines(run: JobRun, sent: list[dict[str, Any]], now: float) -> list[tuple[str, str]]:
    """What a person wants to know of a run, in lines."""
    report = run.report
    found = [("run", run.id), ("job", run.job), ("status", run.status), ("for", run.slot), ("due", at(run.due))]
    found += [("started", at(run.started)), ("ended", at(run.ended)), ("attempts", str(run.attempt))]
    if run.owner:
        found.append(("owner", silence(run, now) or run.owner))
    if "read" in report:
        found.append(("rows", ", ".join(f"{int(report[each]):,} {each}" for each in ("read", "predicted", "rejected"))))
        found.append(("output", str(report.get("output") or "-")))
        found.append(("model", f"{report.get('model')} {str(report.get('digest', ''))[:12]}"))
    elif run.progress.get("rows"):
        found.append(("rows", f"{int(run.progress['rows']):,} so far"))
    if "without_key" in report:
        found.append(("left out", f"{counted(int(report['without_key']))} whose key is null"))
    if "edition" in report:
        found.append(("store", f"edition {report['edition']['version']}, {report['edition']['count']:,} keys"))
    if run.error:
        found.append(("error", run.error))
    return [*found, *(("told", f"{each['event']}: {each['state']}") for each in sent)]


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Print them below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def at(moment: float | None) -> str:
    return "" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}"


def say(values: Mapping[str, Any]) -> None:
    print(msgspec.json.encode(values).decode(), flush=True)
