"""Templates: {date} and friends in the paths and queries of a job, filled in for a run's due time.

What is put in is made of dates and of the names of jobs and runs alone, never of data, and of characters that neither
SQL nor a path gives a meaning to (letters, digits, and what a format of the file's author has): a query cannot be
changed by it. Everything else of a query is the author's own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from bimodal.errors import UsageError

FORMATS = {
    "date": "%Y-%m-%d",
    "due": "%Y-%m-%dT%H:%M:%S",
    "yesterday": "%Y-%m-%d",
    "tomorrow": "%Y-%m-%d",
    "year": "%Y",
    "month": "%Y-%m",
    "week": "%G-W%V",
    "hour": "%H",
}
"""The moments, each with how it is written without a format of its own (as of strftime)."""

NAMES = ("run", "job")
SHIFTS = {"yesterday": -1, "tomorrow": 1}  # days
DIRECTIVES = "aAbBdHIjmMpSuUVwWyYGZz%"
PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
PLAIN = re.compile(r"[\w.-]+")


def check(text: str) -> None:
    """Raise UsageError for a field that there is not, naming the nearest, and for a brace without its other."""
    for part, field in _parts(text):
        if part in ("{", "}"):
            raise UsageError(
                f"a brace stands alone in {text!r}; one that is meant as it is is written twice: {part * 2}"
            )
        if field is not None:
            _known(field)


def render(text: str, due: float, zone: str, *, run: str, job: str) -> str:
    """The text of a run. due: its due time, in seconds since the epoch (UTC). zone: the job's; the dates are of its
    clock. Raises UsageError.
    """
    check(text)
    moment = datetime.fromtimestamp(due, ZoneInfo(zone))
    names = {"run": run, "job": job}

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]  # a brace that was written twice
        name, _, form = found[1].partition(":")
        if name in NAMES:
            return _plain(name, names[name])
        return _shifted(moment, SHIFTS.get(name, 0)).strftime(form or FORMATS[name])

    return PART.sub(value, text)


def differs(text: str) -> bool:
    """Whether each run's text is another one: it holds a date or the run's id."""
    return any(field is not None and field.partition(":")[0] != "job" for _, field in _parts(text))


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    """What stands in braces, and braces."""
    for found in PART.finditer(text):
        yield found[0], found[1]


def _known(field: str) -> None:
    """Raise UsageError where there is no such field, or no such format."""
    name, mark, form = field.partition(":")
    if name not in FORMATS and name not in NAMES:
        near = difflib.get_close_matches(name, [*FORMATS, *NAMES], 1)
        meant = f"did you mean {{{near[0]}}}?" if near else f"there are {', '.join([*FORMATS, *NAMES])}"
        raise UsageError(f"there is no {{{field}}}; {meant} (a brace that is meant as it is is written twice)")
    if mark and name in NAMES:
        raise UsageError(f"{{{field}}}: {name} is no time, so it takes no format: {{{name}}}")
    if mark and not form:
        raise UsageError(f"{{{field}}} has no format behind its colon; write it like {{{name}:%Y/%m/%d}}")
    for found in re.finditer(r"%(.?)", form):
        if found[1] not in DIRECTIVES or not found[1]:
            raise UsageError(f"{{{field}}}: there is no %{found[1]}; write it like {{{name}:%Y/%m/%d}}")
    if "'" in form or '"' in form or ";" in form or "\\" in form:
        raise UsageError(f"{{{field}}}: quotes, semicolons and backslashes do not belong in the format of a date")


def _shifted(moment: datetime, days: int) -> datetime:
    """The same time of day some days later: a day of a clock that jumps is not 24 hours long."""
    return moment + timedelta(days=days)  # of an aware datetime, this is the wall clock's


def _plain(name: str, value: str) -> str:
    """A job's or run's name, if it holds nothing that SQL or a path gives a meaning to."""
    if not PLAIN.fullmatch(value) or value in (".", ".."):
        raise UsageError(f"the {name} {value!r} cannot stand in a path or query: letters, digits, '.', '-' and '_' can")
    return value
