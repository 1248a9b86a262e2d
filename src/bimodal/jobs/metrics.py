"""Metrics of jobs in Prometheus' text format, from the job store.

The text is made by a thread at most every few seconds and given at once, so that a store that is slow, or away, never
delays the server's own metrics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from bimodal.errors import BimodalError
from bimodal.jobs.running import Jobs
from bimodal.jobs.store import OVER, JobRun

log = logging.getLogger("bimodal.jobs")

EVERY = 5.0  # seconds between two looks at the store
LOOKED = 50  # runs of a job that are looked at
GAUGES = {
    "next_due_timestamp_seconds": "When the job is due next.",
    "running": "Runs of the job that are under way.",
    "queued": "Runs of the job that wait.",
    "late": "Runs of the job that are late.",
    "last_success_timestamp_seconds": "When the job's latest successful run ended.",
    "last_duration_seconds": "How long it took.",
    "last_rows_read": "Rows that it read.",
    "last_rows_rejected": "Rows that it refused.",
    "last_failed": "1 if the job's latest run that has ended failed.",
    "failures_in_a_row": "Runs that failed since the latest success.",
}


class JobMetrics:
    """The metrics of all jobs of a configuration."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._text = ""
        self._looked = 0.0
        self._busy = threading.Lock()
        self._refresh()

    def text(self) -> str:
        """What was known at the last look; a new one begins where that is a while ago."""
        if time.monotonic() - self._looked > EVERY and self._busy.acquire(blocking=False):
            threading.Thread(target=self._look, name="bimodal-job-metrics", daemon=True).start()
        return self._text

    def _look(self) -> None:
        try:
            self._refresh()
        finally:
            self._busy.release()

    def _refresh(self) -> None:
        self._looked = time.monotonic()
        try:
            self._text = rendered(dict(self._values()))
        except BimodalError as error:
            log.warning("the metrics of jobs are those of before: %s", error)

    def _values(self) -> Iterator[tuple[tuple[str, str], float]]:
        for each in self._jobs.all():
            if each.due is not None:
                yield ("next_due_timestamp_seconds", each.name), each.due
            for name, value in numbers(self._jobs.store.runs(each.name, limit=LOOKED)).items():
                yield (name, each.name), value


def numbers(runs: list[JobRun]) -> dict[str, float]:
    """What the runs of one job (the latest first) come to."""
    over = [each for each in runs if each.status in OVER and each.status != "skipped"]
    since = next((place for place, each in enumerate(over) if each.status == "succeeded"), len(over))
    values = {
        "running": float(sum(each.status == "running" for each in runs)),
        "queued": float(sum(each.status == "queued" for each in runs)),
        "late": float(sum(each.late and not each.over for each in runs)),
        "failures_in_a_row": float(sum(each.status == "failed" for each in over[:since])),
    }
    if over:
        values["last_failed"] = float(over[0].status == "failed")
    good = over[since] if since < len(over) else None
    if good is not None and good.ended is not None:
        values["last_success_timestamp_seconds"] = good.ended
        values["last_duration_seconds"] = good.ended - (good.started or good.ended)
        values["last_rows_read"] = float(good.report.get("read", 0))
        values["last_rows_rejected"] = float(good.report.get("rejected", 0))
    return values


def rendered(values: dict[tuple[str, str], float]) -> str:
    """Prometheus' text of (gauge, job) → value. The label is `name`: `job` is Prometheus' own, for what it scrapes."""
    lines: list[str] = []
    for gauge, help_text in GAUGES.items():
        found = [(job, value) for (name, job), value in values.items() if name == gauge]
        if found:
            full = f"bimodal_job_{gauge}"
            lines += [f"# HELP {full} {help_text}", f"# TYPE {full} gauge"]
            lines += [f'{full}{{name="{_escaped(job)}"}} {value:.17g}' for job, value in found]
    return "".join(f"{line}\n" for line in lines)


def _escaped(name: str) -> str:
    return name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
