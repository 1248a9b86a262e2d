"""Wording: what a run says to callers that are elsewhere: links instead of paths, a query's words, not options."""

from __future__ import annotations

import re

from bimodal.config import Config
from bimodal.errors import TooManyRejects
from bimodal.jobs import adhoc
from bimodal.jobs.store import JobRun

REJECTS = re.compile(r"(?<=all are in )[^\n]+")
OPTION = re.compile(r"--(?=[a-z])([a-z-]+)")


def rejects(run: JobRun, config: Config) -> str | None:
    """Where a run's refused rows stand. Of one that failed for them its folder tells, or its error."""
    if run.report.get("rejects"):
        return str(run.report["rejects"])
    if run.report.get("code") != TooManyRejects.code:
        return None
    if _sent(run):
        found = sorted(adhoc.folder_of(config, run.id).glob("*.rejects.jsonl"))
        return str(found[0]) if found else None
    told = REJECTS.search(run.error or "")
    return None if told is None else told[0].strip()


def _sent(run: JobRun) -> bool:
    return run.job.startswith(adhoc.BEGIN)


def remote(text: str, run: JobRun, config: Config) -> str:
    """A text of the run without paths of this machine."""
    text = REJECTS.sub(f"/runs/{run.id}/rejects", text)
    for folder in (adhoc.folder_of(config, run.id), config.home, config.folder):
        text = text.replace(f"{folder}/", "")
    return OPTION.sub(lambda found: found[1].replace("-", "_"), text) if _sent(run) else text
