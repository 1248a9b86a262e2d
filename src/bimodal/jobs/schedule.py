"""Schedule: when a job is due. Five fields of cron in a time zone, or a fixed interval.

The rule for clock changes: a wall-clock time is due when the zone's clock first shows it or a later one. So a time that
is skipped by a jump is due once, at the jump; one that is repeated is due once, at its first occurrence. cronsim (by
Pēteris Caune) reads the fields and finds the wall-clock times; it is given times without a zone, so that its own rules
for clock changes, which differ with the fields, do not come in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from math import inf
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from bimodal.config.tables import JobTable
from bimodal.errors import UsageError

SHORT = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31 or L (the last)",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 (0 and 7 are Sunday) or SUN to SAT",
}
ONE = re.compile(r"\b(\w+)-\1/\d+\b")  # a range of one value, with a step: cronsim 2.8 reads 5-5/2 as 5/2
NEAR = 0.75  # how like a time zone's name a slip is
ANY = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall-clock time; from here on any schedule fires within 50 years or never


@dataclass(frozen=True)
class Schedule:
    """cron: five fields, with `zone`; or every: seconds, whose multiples since the epoch (UTC) are due, so that all
    machines agree.
    """

    cron: str | None = None
    zone: ZoneInfo | None = None
    every: int | None = None

    @classmethod
    def of(cls, job: JobTable) -> Schedule | None:
        """The job's schedule, None where it has none. Raises UsageError for one that cannot be understood or that
        never fires.
        """
        if job.schedule is not None and job.every is not None:
            raise UsageError("a job has either `schedule` or `every`: remove one of them")
        if job.every is not None:
            return cls(every=_interval(job.every))
        if job.schedule is None:
            return None
        return cls(cron=_fields(job.schedule), zone=_zone(job.timezone))

    @property
    def spec(self) -> str:
        """What tells this schedule from another: a job whose spec changed begins anew."""
        return f"every {self.every}" if self.every is not None else f"{self.cron} {self.zone}"

    def after(self, t: float) -> float | None:
        """The first due time after t, None where there is none before the year 10000."""
        return next(self.times(t), None)

    def between(self, a: float, b: float) -> list[float]:
        """The due times in (a, b], in order."""
        return list(takewhile(lambda due: due <= b, self.times(a)))

    def times(self, t: float) -> Iterator[float]:
        """All due times after t, in order."""
        return self._multiples(t, self.every) if self.every is not None else self._walls(t)

    def _multiples(self, t: float, every: int) -> Iterator[float]:
        number = int(t // every)
        while True:
            number += 1
            yield float(number * every)

    def _walls(self, t: float) -> Iterator[float]:
        assert self.cron is not None
        assert self.zone is not None
        try:
            times = CronSim(self.cron, _wall(t, self.zone))
            for wall in times:
                due = _first(wall, self.zone)
                if due > t:
                    yield due
                    t = due
                    times.dt = max(wall, _wall(due, self.zone))  # past all that a jump has skipped
        except OverflowError:
            return


def _wall(t: float, zone: ZoneInfo) -> datetime:
    """What the zone's clock shows at t."""
    return datetime.fromtimestamp(t, zone).replace(tzinfo=None, fold=0)


def _first(wall: datetime, zone: ZoneInfo) -> float:
    """When the zone's clock first shows `wall` or a later time."""
    early, late = (wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    assert early is not None
    assert late is not None
    shown = wall.replace(tzinfo=UTC).timestamp()
    if early >= late:
        return shown - early.total_seconds()
    before, after = int(shown - late.total_seconds()), int(shown - early.total_seconds())
    while after - before > 1:  # the jump is at the first second whose wall time is not before `wall`
        middle = (before + after) // 2
        before, after = (before, middle) if _wall(middle, zone) >= wall else (middle, after)
    return float(after)


def _interval(every: float) -> int:
    if not 1 <= every < inf or every != int(every):
        raise UsageError(f"`every` is a whole number of seconds, at least 1, not {every:g}")
    return int(every)


def _fields(text: str) -> str:
    """The five fields, one space between. Raises UsageError."""
    given = text.strip()
    if given.startswith("@"):
        return _short(given)
    parts = given.upper().split()
    if len(parts) != 5:
        raise UsageError(
            f"the schedule {text!r} has {len(parts)} fields, not 5: minute, hour, day of month, month, day of week; "
            '"0 2 * * *" is daily at 02:00'
        )
    cron = " ".join(ONE.sub(r"\1", each) for each in parts)
    try:
        next(CronSim(cron, ANY))
    except (CronSimError, StopIteration) as error:
        raise UsageError(_wrong(text, parts, str(error).removeprefix("Bad "))) from None
    return cron


def _short(given: str) -> str:
    if given.lower() in SHORT:
        return SHORT[given.lower()]
    raise UsageError(f'{given!r} is no schedule: there are {", ".join(SHORT)}, or five fields such as "0 2 * * *"')


def _wrong(text: str, parts: list[str], field: str) -> str:
    """field: the one that cannot be read; where a month of all days could hold it, there is just no such day."""
    if not field or (field == "day-of-month" and _reads([*parts[:3], "*", parts[4]])):
        return f"the schedule {text!r} never fires: none of its months has such a day"
    return (
        f"the schedule {text!r} is wrong in its field {field}: it takes {FIELDS.get(field, 'a number')}, lists (1,15), "
        "ranges upwards (1-5) and steps (*/10)"
    )


def _reads(parts: list[str]) -> bool:
    try:
        CronSim(" ".join(parts), ANY)
    except CronSimError:
        return False
    return True


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # not found is a KeyError; a folder of zones, or a path, the others
        known = sorted(available_timezones())
    ends = {each.rpartition("/")[2].lower(): each for each in known}
    near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR) or [
        ends[each] for each in difflib.get_close_matches(name.lower(), ends, n=1, cutoff=NEAR)
    ]
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise UsageError(f"{name!r} is no time zone{meant}: write its IANA name, such as Europe/Berlin or UTC")
