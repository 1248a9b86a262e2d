"""What is due, found minute by minute: the zone's clock is watched, and each wall-clock minute that it shows or passes
for the first time is compared with the five fields, read here in the plainest way.

The zone's offsets are read from the compiled time zone files by `Clock`, not by zoneinfo, whose rules for skipped and
repeated times the schedule stands on.
"""

from __future__ import annotations

import struct
import zoneinfo
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path

FIRST, LAST = 946_684_800, 2_145_916_800  # 2000 and 2038, in seconds
EPOCH = date(1970, 1, 1)
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
NAMES = dict(zip(MONTHS + WEEKDAYS, (*range(1, 13), *range(7)), strict=True))


# -- five fields ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fields:
    """The values that each field lets through."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both: bool  # a field of days that begins with a star: both have to fit, else either

    @classmethod
    def of(cls, cron: str) -> Fields:
        parts = cron.upper().split()
        sets = [frozenset(_values(part, *bounds)) for part, bounds in zip(parts, BOUNDS, strict=True)]
        both = "*" in (parts[2][0], parts[4][0])
        return cls(sets[0], sets[1], sets[2], sets[3], frozenset(value % 7 for value in sets[4]), both)

    def day(self, number: int) -> bool:
        """Whether the day fits, in days since 1970."""
        day = EPOCH + timedelta(days=number)
        fits = [day.day in self.days, day.isoweekday() % 7 in self.weekdays]
        return day.month in self.months and (all(fits) if self.both else any(fits))

    def minute(self, wall: int) -> bool:
        """Whether a wall-clock minute fits, in minutes since 1970-01-01 00:00 on that clock."""
        return wall % 60 in self.minutes and wall // 60 % 24 in self.hours and _day(self, wall // 1440)


@cache
def _day(fields: Fields, number: int) -> bool:
    return fields.day(number)


def _values(part: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for each in part.split(","):
        span, _, step = each.partition("/")
        first, _, last = span.partition("-")
        start = low if span == "*" else _number(first)
        end = high if span == "*" or (step and not last) else _number(last or first)
        found.update(range(start, end + 1, int(step or 1)))
    return found


def _number(text: str) -> int:
    return NAMES[text] if text in NAMES else int(text)


# -- a zone's clock -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """Offsets from UTC in seconds, each from its moment on, for 2000 to 2037. moments begins with FIRST."""

    moments: tuple[int, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, name: str) -> Clock:
        """Read from the zone's file: its table, and for the years after it the rule at its end."""
        table, rule = _file(name)
        moments, offsets = [FIRST], [_at(table, FIRST)]
        for moment, offset in [*table, *_ruled(rule, table[-1][0])]:
            if FIRST < moment < LAST and offset != offsets[-1]:
                moments.append(moment)
                offsets.append(offset)
        return cls(tuple(moments), tuple(offsets))

    def shows(self, minute: int) -> int:
        """The wall-clock minute that it shows at a minute of UTC."""
        return (minute * 60 + self.offsets[bisect_right(self.moments, minute * 60) - 1]) // 60

    def watched(self, start: int, end: int) -> dict[int, int]:
        """Each wall-clock minute that is shown or passed for the first time in the minutes of UTC [start, end), and at
        which of them. Two days before are watched too, for what was shown then already.
        """
        shown = max(self.shows(minute) for minute in range(start - 2880, start))
        first: dict[int, int] = {}
        for minute in range(start, end):
            wall = self.shows(minute)
            first.update(dict.fromkeys(range(shown + 1, wall + 1), minute))
            shown = max(wall, shown)
        return first


def due(fields: Fields, first: dict[int, int]) -> list[int]:
    """The minutes of UTC at which a minute that fits is shown or passed for the first time."""
    return sorted({minute for wall, minute in first.items() if fields.minute(wall)})


def _at(table: list[tuple[int, int]], moment: int) -> int:
    return [offset for since, offset in table if since <= moment][-1]


def _file(name: str) -> tuple[list[tuple[int, int]], str]:
    """The table of (moment, offset) and the rule for later years, of a file in the format of RFC 9636."""
    data = _bytes(name)
    head = struct.Struct(">4sc15x6L")
    _, _, *counts = head.unpack_from(data)
    utc, std, leaps, times, types, chars = counts
    second = head.size + times * 5 + types * 6 + chars + leaps * 8 + std + utc
    _, _, utc, std, leaps, times, types, chars = head.unpack_from(data, second)
    place = second + head.size
    moments = struct.unpack_from(f">{times}q", data, place)
    kinds = struct.unpack_from(f">{times}B", data, place + 8 * times)
    place += 9 * times
    offsets = [struct.unpack_from(">lBB", data, place + 6 * number)[0] for number in range(types)]
    rule = data[place + 6 * types + chars + 12 * leaps + std + utc :].strip().decode()
    table = [(-(1 << 60), offsets[0])]
    table += [(moment, offsets[kind]) for moment, kind in zip(moments, kinds, strict=True)]
    return table, rule


def _bytes(name: str) -> bytes:
    for folder in zoneinfo.TZPATH:
        if (path := Path(folder, name)).is_file():
            return path.read_bytes()
    return files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


# -- a zone's rule for the years after its table (POSIX TZ) -----------------------------------------------------------


def _ruled(rule: str, after: int) -> list[tuple[int, int]]:
    """The changes that the rule makes after a moment, to the end of 2037."""
    standard, _, rest = _zone(rule)
    if not rest:
        return [(max(after + 1, FIRST + 1), standard)]
    summer, dates = _summer(rest, standard)
    start, end = dates.split(",")
    changes = []
    for year in range(datetime.fromtimestamp(max(after, FIRST), UTC).year, 2039):
        changes.append((_moment(start, year) - standard, summer))
        changes.append((_moment(end, year) - summer, standard))
    return sorted(each for each in changes if each[0] > after)


def _zone(text: str) -> tuple[int, str, str]:
    """A name and its offset (given west of Greenwich): seconds east, the name, what follows."""
    length = text.index(">") + 1 if text.startswith("<") else _letters(text)
    name, rest = text[:length], text[length:]
    stop = next((at for at, char in enumerate(rest) if char not in "+-:0123456789"), len(rest))
    return -_seconds(rest[:stop]) if stop else 0, name, rest[stop:]


def _summer(text: str, standard: int) -> tuple[int, str]:
    length = text.index(">") + 1 if text.startswith("<") else _letters(text)
    offset, dates = text[length:].split(",", 1)
    return (-_seconds(offset) if offset else standard + 3600), dates


def _letters(text: str) -> int:
    return next((at for at, char in enumerate(text) if not char.isalpha()), len(text))


def _seconds(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    parts = [int(part) for part in text.lstrip("+-").split(":")]
    return sign * sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))


def _moment(text: str, year: int) -> int:
    """A date of the rule in a year, in seconds of the wall clock: Mm.w.d, Jn or n, with /time."""
    day, _, time = text.partition("/")
    seconds = _seconds(time) if time else 7200
    if day.startswith("M"):
        month, week, weekday = (int(part) for part in day[1:].split("."))
        days = [date(year, month, 1) + timedelta(days=number) for number in range(31)]
        fits = [each for each in days if each.month == month and each.isoweekday() % 7 == weekday]
        found = fits[-1] if week == 5 else fits[week - 1]
    elif day.startswith("J"):
        found = date(2001, 1, 1) + timedelta(days=int(day[1:]) - 1)  # 29 February is never counted
        found = found.replace(year=year)
    else:
        found = date(year, 1, 1) + timedelta(days=int(day))
    return (found - EPOCH).days * 86400 + seconds
