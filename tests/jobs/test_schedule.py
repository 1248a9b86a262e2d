"""When a job is due. Promise 30 stands here: time zones and clock changes, against a clock watched minute by minute.

The whole of it: `python tasks.py test tests/jobs/test_schedule.py -m soak -s` (two processes, minutes).
"""

from __future__ import annotations

import os
import random
import zoneinfo
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bimodal.config.tables import JobTable
from bimodal.errors import UsageError
from bimodal.jobs.schedule import Schedule
from tests.jobs.oracle import FIRST, LAST, Clock, Fields, due

PATTERNS = """
* * * * *|*/2 * * * *|*/5 * * * *|*/7 * * * *|*/15 * * * *|7-59/10 * * * *|0,30 * * * *|59 * * * *|0 * * * *
30 */2 * * *|0 0 * * *|15 0 * * *|30 0 * * *|59 23 * * *|0 1 * * *|30 1 * * *|0 2 * * *|15 2 * * *|30 2 * * *
45 2 * * *|59 2 * * *|0 3 * * *|1 3 * * *|30 3 * * *|0 4 * * *|*/20 2 * * *|*/10 0-3 * * *|0 */3 * * *
5 1-23/2 * * *|0 0-5,22-23 * * *|30 2 * * SUN|0 0 * * 0|0 0 * * 7|0 12 * * MON-FRI|30 1 * * SAT,SUN
*/30 23 * * FRI|0 0 1 * *|0 0 1 1 *|30 2 25-31 3,10 *|30 2 1-7 * SUN|0 0 31 * *|30 1 29 2 *|0 3 1,15 * WED
15 2 */2 * *|0 0 */2 * SUN|0 6 * OCT-DEC *|30 * * MAR SUN|10 2 8-14 3 *|0 12 30 12 *|*/13 1,2,3 * * *
""".replace("\n", "|")[1:-1].split("|")
FIELDS = [Fields.of(pattern) for pattern in PATTERNS]
ZONES = (
    "Europe/Berlin", "Australia/Lord_Howe", "Antarctica/Troll", "Pacific/Apia", "Pacific/Fakaofo", "Africa/Casablanca",
    "America/Sao_Paulo", "America/St_Johns", "Asia/Gaza", "America/Caracas", "Asia/Pyongyang", "America/Havana",
    "Antarctica/Casey", "America/Scoresbysund", "Asia/Tehran", "Africa/Cairo", "Asia/Kathmandu", "UTC",
)  # fmt: skip
AROUND = 200  # minutes watched on both sides of a change


def schedule(cron: str, zone: str = "UTC") -> Schedule:
    made = Schedule.of(JobTable("m", "i", schedule=cron, timezone=zone))
    assert made is not None
    return made


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]  # year to minute


def compare(zone: str, clock: Clock, changes: Iterable[int]) -> int:
    """Around these changes of a zone (positions in its clock) all patterns are due when the watched clock says so,
    from wherever one asks. The number of due times.
    """
    total = 0
    chance = random.Random(zone)
    schedules = [schedule(pattern, zone) for pattern in PATTERNS]
    for change in changes:
        moment, jump = clock.moments[change] // 60, abs(clock.offsets[change] - clock.offsets[change - 1]) // 60
        start, end = moment - AROUND, moment + jump + AROUND
        first = clock.watched(start, end)
        begin = chance.randrange(moment - jump - 1, moment + jump + 1) * 60 + chance.choice((0, 1, 59.5))
        for pattern, fields, made in zip(PATTERNS, FIELDS, schedules, strict=True):
            expected = [minute * 60.0 for minute in due(fields, first)]
            assert made.between(start * 60 - 1, end * 60 - 1) == expected, (zone, pattern, moment)
            later = next((each for each in expected if each > begin), None)
            found = made.after(begin)
            assert found is not None
            assert found == later or (later is None and found >= end * 60), (zone, pattern, begin)
            total += len(expected)
    return total


def clocks(zones: Iterable[str]) -> dict[Clock, list[str]]:
    """Zones by what their clocks show from 2000 to 2037."""
    same = defaultdict(list)
    for zone in sorted(zones):
        same[Clock.of(zone)].append(zone)
    return same


# -- promise 30 -----------------------------------------------------------------------------------------------------


def test_fifty_different_patterns() -> None:
    assert len(set(PATTERNS)) == 50


@pytest.mark.parametrize("zone", ZONES)
def test_around_changes_of_the_clock(zone: str) -> None:
    """The short form: a sample of zones, and of each a few changes; UTC has none."""
    clock = Clock.of(zone)
    changes = list(range(1, len(clock.moments)))
    chosen = changes if len(changes) < 4 else [*changes[:2], changes[len(changes) // 2], changes[-1]]
    assert (compare(zone, clock, chosen) > 0) == bool(chosen)


@pytest.mark.soak
def test_around_every_change_of_every_zone() -> None:
    """Zones whose clocks show the same from 2000 to 2037 are one."""
    same = clocks(zoneinfo.available_timezones())
    work = [(zones[0], clock, range(1, len(clock.moments))) for clock, zones in same.items()]
    with ProcessPoolExecutor(os.cpu_count()) as crew:
        total = sum(crew.map(compare, *zip(*work, strict=True)))
    changes = sum((len(clock.moments) - 1) * len(zones) for clock, zones in same.items())
    apart = sum(len(clock.moments) - 1 for clock in same)
    zones = sum(map(len, same.values()))
    print(
        f"{zones} zones, {changes} changes ({len(same)} clocks, {apart} changes apart), 50 patterns, {total} due times"
    )
    assert zones > 590
    assert total > 1_000_000


def test_the_watched_clock_is_that_of_the_zone() -> None:
    """The oracle's own reading of the time zone files, against zoneinfo."""
    for zone in ZONES:
        clock, info = Clock.of(zone), zoneinfo.ZoneInfo(zone)
        moments = {*clock.moments, *range(FIRST, LAST, 20 * 86400 + 60)}
        for moment in {each + by for each in moments for by in (-60, 0) if each + by >= FIRST}:
            told = datetime.fromtimestamp(moment, info).utcoffset()
            assert told is not None
            assert clock.shows(moment // 60) * 60 - moment == told.total_seconds()


def against_the_plain_reading(cron: str, day: int) -> None:
    """Five days, minute by minute."""
    first = {minute: minute for minute in range(day * 1440, (day + 5) * 1440)}
    found = schedule(cron).between(day * 86400 - 1, (day + 5) * 86400 - 1)
    assert found == [minute * 60.0 for minute in due(Fields.of(cron), first)]


@pytest.mark.parametrize("cron", ["0 0 1-1/1,* * *", "0 0 1-1/1 * *", "7-7/3 4-4/2 * * MON-MON/2", "0 0 1,* * 1-3/2,*"])
def test_a_range_of_one_value_with_a_step_is_that_value(cron: str) -> None:
    against_the_plain_reading(cron, FIRST // 86400)


@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.data())
def test_any_fields(data: st.DataObject) -> None:
    """Fields made at random, against the plain reading of them."""

    def field(low: int, high: int) -> str:
        def part() -> str:
            first, last = sorted((data.draw(st.integers(low, high)), data.draw(st.integers(low, high))))
            step = data.draw(st.integers(1, 20))
            return data.draw(
                st.sampled_from(["*", f"*/{step}", str(first), f"{first}-{last}", f"{first}-{last}/{step}"])
            )

        return ",".join(part() for _ in range(data.draw(st.integers(1, 2))))

    cron = " ".join((field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)))
    day = data.draw(st.integers(FIRST // 86400, LAST // 86400 - 20))
    against_the_plain_reading(cron, day)


# -- the rule, in examples ------------------------------------------------------------------------------------------


def test_a_skipped_time_is_due_once_at_the_jump() -> None:
    berlin = schedule("30 2 * * *", "Europe/Berlin")
    assert berlin.between(at(2026, 3, 28), at(2026, 3, 30, 3)) == [
        at(2026, 3, 28, 1, 30),
        at(2026, 3, 29, 1, 0),  # 02:00 is followed by 03:00
        at(2026, 3, 30, 0, 30),
    ]
    often = schedule("*/15 * * * *", "Europe/Berlin")
    assert often.between(at(2026, 3, 29, 0, 45), at(2026, 3, 29, 1, 15)) == [at(2026, 3, 29, 1), at(2026, 3, 29, 1, 15)]


def test_a_repeated_time_is_due_once_at_its_first_occurrence() -> None:
    berlin = schedule("30 2 * * *", "Europe/Berlin")
    assert berlin.between(at(2026, 10, 24, 22), at(2026, 10, 25, 22)) == [at(2026, 10, 25, 0, 30)]
    often = schedule("*/30 * * * *", "Europe/Berlin")
    assert often.between(at(2026, 10, 25), at(2026, 10, 25, 2)) == [at(2026, 10, 25, 0, 30), at(2026, 10, 25, 2)]


def test_a_skipped_day_is_due_at_the_jump() -> None:
    """Samoa had no 30 December 2011."""
    noon = schedule("0 12 * * *", "Pacific/Apia")
    assert noon.between(at(2011, 12, 29, 12), at(2011, 12, 31, 0)) == [
        at(2011, 12, 29, 22),
        at(2011, 12, 30, 10),
        at(2011, 12, 30, 22),
    ]


def test_every_counts_from_the_epoch() -> None:
    made = Schedule.of(JobTable("m", "i", every=900))
    assert made is not None
    assert made.between(-900, 1800) == [0, 900, 1800]
    assert made.after(1799.5) == 1800
    assert made.after(1800) == 2700


def test_the_end_of_time() -> None:
    made = schedule("0 0 1 1 *", "Europe/Berlin")
    assert made.after(at(9999, 6, 1)) is None


# -- how it is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("@daily", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 jan *"),
        ("@annually", "0 0 1 1 *"),
        (" 5   4 * * sun ", "5 4 * * 7"),
    ],
)
def test_other_spellings(short: str, long: str) -> None:
    year = at(2026, 1, 1), at(2027, 1, 2)
    assert schedule(short).between(*year) == schedule(long).between(*year) != []


def test_the_last_day_and_the_second_monday() -> None:
    assert schedule("0 0 L * *").between(at(2028, 2, 1), at(2028, 4, 1)) == [at(2028, 2, 29), at(2028, 3, 31)]
    assert schedule("0 0 * * MON#2").between(at(2026, 6, 1), at(2026, 7, 1)) == [at(2026, 6, 8)]
    assert schedule("0 0 * * 5L").between(at(2026, 6, 1), at(2026, 7, 1)) == [at(2026, 6, 26)]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (JobTable("m", "i", schedule="0 2 * *"), "4 fields, not 5"),
        (JobTable("m", "i", schedule="0 0 2 * * *"), "6 fields, not 5"),
        (JobTable("m", "i", schedule=""), "0 fields"),
        (JobTable("m", "i", schedule="60 2 * * *"), "field minute: it takes 0 to 59"),
        (JobTable("m", "i", schedule="0 24 * * *"), "field hour"),
        (JobTable("m", "i", schedule="0 0 0 * *"), "field day-of-month"),
        (JobTable("m", "i", schedule="0 0 * FOO *"), "field month"),
        (JobTable("m", "i", schedule="0 0 * * FRI-MON"), "field day-of-week"),
        (JobTable("m", "i", schedule="*/0 * * * *"), "field minute"),
        (JobTable("m", "i", schedule="0 0 30 2 *"), "never fires"),
        (JobTable("m", "i", schedule="0 0 31 4,6 *"), "never fires"),
        (JobTable("m", "i", schedule="@reboot"), "@daily"),
        (JobTable("m", "i", schedule="0 0 * * *", every=5), "either `schedule` or `every`"),
        (JobTable("m", "i", every=0), "at least 1"),
        (JobTable("m", "i", every=1.5), "whole number"),
        (JobTable("m", "i", every=float("inf")), "whole number"),
        (JobTable("m", "i", every=float("nan")), "whole number"),
        (JobTable("m", "i", schedule="@daily", timezone="Berlin"), "did you mean Europe/Berlin"),
        (JobTable("m", "i", schedule="@daily", timezone="Europe"), "no time zone: write"),
        (JobTable("m", "i", schedule="@daily", timezone="../zone"), "no time zone: write"),
        (JobTable("m", "i", schedule="@daily", timezone=""), "no time zone: write"),
    ],
)
def test_what_is_wrong_is_told(table: JobTable, words: str) -> None:
    with pytest.raises(UsageError) as told:
        Schedule.of(table)
    assert words in str(told.value)


def test_a_job_without_a_schedule() -> None:
    assert Schedule.of(JobTable("m", "i")) is None
