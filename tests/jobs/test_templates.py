"""Dates and names in paths and queries, in the job's time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.errors import UsageError
from bimodal.jobs import templates

DUE = datetime(2026, 3, 29, 0, 30, tzinfo=UTC).timestamp()


def rendered(text: str, zone: str = "UTC", due: float = DUE) -> str:
    return templates.render(text, due, zone, run="r1", job="nightly")


@pytest.mark.parametrize(
    ("text", "zone", "right"),
    [
        ("in/{date}.csv", "UTC", "in/2026-03-29.csv"),
        ("{due:%Y/%m/%d}", "UTC", "2026/03/29"),
        ("{yesterday} {tomorrow}", "UTC", "2026-03-28 2026-03-30"),
        ("{year} {month} {hour} {week}", "UTC", "2026 2026-03 00 2026-W13"),
        ("{run}-{job}", "UTC", "r1-nightly"),
        ("{{date}} {{}}", "UTC", "{date} {}"),
        ("{date} {hour}", "America/New_York", "2026-03-28 20"),
        ("{date} {hour}", "Asia/Kathmandu", "2026-03-29 06"),
        ("{due}", "Europe/Berlin", "2026-03-29T01:30:00"),
        ("no field", "UTC", "no field"),
    ],
)
def test_a_field_is_the_due_time_on_the_clock_of_the_zone(text: str, zone: str, right: str) -> None:
    assert rendered(text, zone) == right


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{dat}", "did you mean {date}?"),
        ("{nothing_like_it}", "there are"),
        ("{date", "stands alone"),
        ("a}b", "stands alone"),
        ("{}", "there is no {}"),
        ("{run:%Y}", "takes no format"),
        ("{due:}", "no format behind its colon"),
        ("{due:%Q}", "there is no %Q"),
        ("{due:%}", "there is no %"),
        ("{due:';--}", "do not belong"),
    ],
)
def test_what_is_no_field_is_told_with_the_nearest(text: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        templates.check(text)
    assert told in str(error.value)


def test_a_name_with_a_meaning_to_sql_or_a_path_is_refused() -> None:
    for name in ("a'b", "a/b", "..", "a b", "a;b"):
        with pytest.raises(UsageError):
            templates.render("{job}", DUE, "UTC", run="r1", job=name)


def test_only_what_differs_between_runs_tells_them_apart() -> None:
    assert [templates.differs(text) for text in ("a/{run}.csv", "a/{due:%d}", "a/{job}", "a", "{{run}}")] == [
        True, True, False, False, False,
    ]  # fmt: skip


@given(st.integers(0, 4_000_000_000), st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "America/Sao_Paulo"]))
def test_yesterday_and_tomorrow_are_days_of_the_calendar(due: int, zone: str) -> None:
    day = datetime.fromtimestamp(due, ZoneInfo(zone)).date()
    right = [day - timedelta(days=1), day, day + timedelta(days=1)]
    assert rendered("{yesterday} {date} {tomorrow}", zone, due) == " ".join(map(str, right))


@given(st.text(alphabet="ab{}"))
def test_text_without_fields_comes_back_as_it_is(text: str) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert rendered(doubled) == text
