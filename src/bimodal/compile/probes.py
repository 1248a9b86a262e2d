"""Probes: rows made from the model itself, on which its compiled forms are compared with it.

Every probe is a row that the signature takes. Values that are given one column at a time stand in rows that are
otherwise ordinary, and in rows whose other columns stand on thresholds too, so that deep nodes of trees are reached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.field import FLOATS, INTEGERS, Field
from bimodal.rows import Array, Column, Dictionary, Rows
from bimodal.signature import Signature

MOST = 20_000  # rows in all
CELLS = 4_000_000  # numbers in all: a wide model gets fewer rows
WIDEST = 2_000  # numbers of one vector or image that are changed one at a time; beyond it, so many of them by lot
BASES = 200  # ordinary rows in which single values are changed
Edges = Mapping[tuple[str, int | None], Array]
Columns = list[Array]  # for each Slot, its values [rows]

UNKNOWN = "\x00unknown"
ORDINARY = (0.0, -0.0, 1.0, -1.0, 0.1, 0.5, 2.0, -7.25, 100.0)
LARGE = (2.0**24 + 1, 2.0**53, 2.0**53 + 2, -(2.0**53) - 2, 1e16, -1e30)
TINY = (5e-324, -5e-324, 2.2250738585072014e-308, 1e-45, -1.1754943508222875e-38, 1e-35, -1e-35, 1.0000000180025095e-35)
LIMITS = (1.7976931348623157e308, 3.4028234663852886e38)
INTEGER = (0, 1, -1, 2, 7, 100, -100, 2**24 + 1, 2**31, 2**53 + 1, -(2**53) - 1)
WORDS = ("", " ", "é", "nan", "None", "0")


@dataclass(frozen=True)
class Slot:
    """One number or text of a row: a plain column, or one place of a vector (of an image: counted flat)."""

    field: Field
    place: int | None = None


@dataclass(frozen=True)
class Group:
    """Probes of one kind."""

    name: str
    rows: Rows


@dataclass(frozen=True)
class Probes:
    """typical: ordinary rows, which say how large the answers usually are. wanted: how many probes there would be
    without the bound; where it is larger than `count`, they were drawn by lot."""

    groups: tuple[Group, ...]
    typical: Rows
    wanted: int
    seed: int

    @property
    def rows(self) -> Rows:
        return Rows.concat([each.rows for each in self.groups])

    @property
    def count(self) -> int:
        return sum(each.rows.count for each in self.groups)

    def counts(self) -> dict[str, int]:
        return {each.name: each.rows.count for each in self.groups}

    def group_of(self, place: int) -> str:
        """The group of the probe at this place among `rows`."""
        for each in self.groups:
            if place < each.rows.count:
                return each.name
            place -= each.rows.count
        raise IndexError(place)

    def with_group(self, name: str, rows: Rows) -> Probes:
        return replace(self, groups=(*self.groups, Group(name, rows)), wanted=self.wanted + rows.count)


def make(signature: Signature, edges: Edges, sample: Rows | None = None, *, seed: int = 0, most: int = MOST) -> Probes:
    """Probes for a model: at most `most` rows, the same for the same arguments. sample: rows of the user's.

    edges: by input and place, the values near which the answer may change. Raises NotCompiled for a model whose rows
    cannot be made up (it does not say their width).
    """
    return _Maker(signature, edges, sample, seed, most).probes()


def slots(signature: Signature) -> tuple[Slot, ...]:
    """The numbers and texts of a row, in order."""
    found: list[Slot] = []
    for each in signature.inputs:
        if any(size < 0 for size in each.shape):
            raise NotCompiled(f"the length of {each.name!r} is not known, so that no rows can be made up")
        if each.shape:
            single = replace(each, shape=(), example=None)
            found += [Slot(single, place) for place in range(math.prod(each.shape))]
        else:
            found.append(Slot(each))
    return tuple(found)


def split(signature: Signature, rows: Rows) -> Columns:
    """Rows as one array for each Slot."""
    columns: Columns = []
    for each in signature.inputs:
        values = rows.array(each.name)
        if each.shape:
            columns += list(values.reshape(rows.count, -1).T)
        else:
            columns.append(values)
    return columns


def joined(signature: Signature, columns: Sequence[Array]) -> Rows:
    """The inverse of `split`."""
    made: dict[str, Column] = {}
    at, count = 0, len(columns[0])
    for each in signature.inputs:
        if each.shape:
            size = math.prod(each.shape)
            block = np.empty((count, size), each.dtype)
            for place in range(size):
                block[:, place] = columns[at + place]
            made[each.name] = block.reshape(count, *each.shape)
            at += size
        else:
            made[each.name] = columns[at]
            at += 1
    return Rows(made, count)


def encoded(rows: Rows) -> Rows:
    """The same with every text column as a Dictionary, all rows sharing its values."""
    return Rows({name: _encoded(column) for name, column in rows.items()}, rows.count)


def _encoded(column: Column) -> Column:
    if isinstance(column, Dictionary) or column.dtype != object or column.ndim > 1:
        return column
    if not all(value is None or isinstance(value, str) for value in column):
        return column
    return Dictionary.encode(column)


# -- values of one column ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """What is tried in one Slot, each an array of the column's type. known: categories, one that is not known, nulls,
    ordinary numbers. extreme: the limits of the type. edges: the model's own thresholds. typical: ordinary values."""

    known: Array
    extreme: Array
    edges: Array
    typical: Array

    @classmethod
    def of(cls, each: Field, edges: Array, seen: Array, random: np.random.Generator) -> Pool:
        known, extreme = _values(each)
        good = taken(each, np.asarray(edges, np.float64)) if each.type in (*FLOATS, *INTEGERS) else np.empty(0)
        return cls(_array(each, known), _array(each, extreme), good, _typical(each, known, good, seen, random))

    def around(self, each: Field, places: Array, steps: Array) -> Array:
        """Values at a small step from the thresholds at these places; see `neighbour`."""
        return _clipped(each, neighbour(self.edges[places], steps))


STEPS = 17


def neighbour(values: Array, steps: Array) -> Array:
    """Each float64 value moved: 0: not at all; 1 to 8: one to four units in the last place up or down; 9: to the
    nearest float32; 10 to 13: to one or two float32 beside it; 14 to 16: half-way between float32 neighbours (which
    round to even), and beside that."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        moved = values.copy()
        for step in range(1, 9):
            here = steps == step
            direction = np.inf if step % 2 else -np.inf
            for _ in range((step + 1) // 2):
                moved[here] = np.nextafter(moved[here], direction)
        up = np.nextafter(single, np.float32(np.inf))
        down = np.nextafter(single, np.float32(-np.inf))
        for step, other in ((9, single), (10, up), (11, down)):
            moved = np.where(steps == step, other.astype(np.float64), moved)
        moved = np.where(steps == 12, np.nextafter(up, np.float32(np.inf)).astype(np.float64), moved)
        moved = np.where(steps == 13, np.nextafter(down, np.float32(-np.inf)).astype(np.float64), moved)
        middle = (single.astype(np.float64) + up) / 2
        moved = np.where(steps == 14, middle, moved)
        moved = np.where(steps == 15, np.nextafter(middle, np.inf), moved)
        return np.where(steps == 16, (single.astype(np.float64) + down) / 2, moved)


def taken(each: Field, values: Array) -> Array:
    """Those of the numbers that the field takes."""
    values = values[~np.isnan(values)]
    if each.type in INTEGERS:
        limits = np.iinfo(each.type)
        values = values[(np.abs(values) < 2.0**53) & (values >= limits.min) & (values <= limits.max)]
    else:
        values = (
            values[np.isinf(values) if not each.finite else np.zeros(len(values), bool)].tolist()
            + values[np.isfinite(values) & (np.abs(values) <= each.bound)].tolist()
        )
    good = np.unique(np.asarray(values, np.float64))
    return good if not each.closed else good[np.isin(good, list(each.known))]


def _clipped(each: Field, values: Array) -> Array:
    """Numbers as the column holds them, moved back where the field does not take them."""
    if each.type in INTEGERS:
        limits = np.iinfo(each.type)
        bounded = np.clip(np.floor(values), max(limits.min, -(2**53)), min(limits.max, 2**53))
        return bounded.astype(each.dtype)
    bound = min(each.bound, float(np.finfo(each.type).max))
    kept = values if not each.finite else np.nan_to_num(values, posinf=bound, neginf=-bound)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(kept), np.clip(kept, -bound, bound), kept).astype(each.dtype)


def _array(each: Field, values: Sequence[Any]) -> Array:
    if each.dtype == object:
        column = np.empty(len(values), object)
        column[:] = list(values)
        return column
    return np.array(list(values), each.dtype)


def _values(each: Field) -> tuple[list[Any], list[Any]]:
    """What is tried in every column of this type whatever the model: within the ordinary, and beyond it."""
    null = [None if each.dtype == object else np.datetime64("NaT") if each.type == "timestamp" else math.nan]
    nulls = null if each.nullable else []
    shown = [] if each.example is None or isinstance(each.example, list) else [each.example]
    known = [*(each.categories or ()), *nulls, *(value for value in shown if _fits(each, value))]
    if each.closed:
        return known, []
    if each.type in FLOATS:
        numbers, beyond = _numbers(each)
        return [*(value for value in known if _fits(each, value)), *numbers], beyond
    if each.type in INTEGERS:
        limits = np.iinfo(each.type)
        whole = [value for value in (*INTEGER, limits.max // 3) if limits.min <= value <= limits.max]
        return [*known, *whole], [limits.min, limits.max]
    if each.type == "bool":
        return [*nulls, False, True], []
    if each.type == "string":
        return [*known, *_slips(each), *WORDS, UNKNOWN], []
    if each.type == "timestamp":
        return [np.datetime64(0, "us"), np.datetime64("2024-02-29T12:30:00", "us"), *nulls], []
    strange = [UNKNOWN if any(isinstance(value, str) for value in known) else -1.25e9] if each.categories else []
    return [*known, *strange], []


def _fits(each: Field, value: Any) -> bool:
    _, problem = each.judge(value)
    return problem is None


def _numbers(each: Field) -> tuple[list[float], list[float]]:
    def good(values: Sequence[float]) -> list[float]:
        return [value for value in values if abs(value) <= each.bound]

    bound = min(each.bound, float(np.finfo(each.type).max))
    endless = [] if each.finite else [math.inf, -math.inf]
    limits = [sign * value for value in (bound, *good(LIMITS)) for sign in (1, -1)]
    return good((*ORDINARY, *TINY)), [*good(LARGE), *limits, *endless]


def _slips(each: Field) -> list[str]:
    """Texts that are nearly a category."""
    first = next((value for value in each.categories or () if isinstance(value, str) and value), None)
    return [] if first is None else [first + " ", first.upper(), first.lower(), first[:-1]]


def _typical(each: Field, known: Sequence[Any], edges: Array, seen: Array, random: np.random.Generator) -> Array:
    """Ordinary values: the sample's; else what lies between the thresholds; else around the example."""
    if len(seen) >= 20 or each.closed or each.type not in (*FLOATS, *INTEGERS):
        return seen if len(seen) >= 20 or not len(known) else np.concatenate([seen, _array(each, known)])
    if each.categories:
        return np.concatenate([seen, _array(each, list(each.categories))])
    finite = edges[np.isfinite(edges)]
    if len(finite) > 1:
        low, high = np.quantile(finite, [0.01, 0.99])
        made = random.uniform(low - (high - low) * 0.2, high + (high - low) * 0.2, 100)
    else:
        middle = float(np.mean(np.asarray(seen, np.float64))) if len(seen) else 0.0
        made = random.normal(middle if math.isfinite(middle) else 0.0, abs(middle) / 2 + 1, 100)
    return np.concatenate([seen, _clipped(each, made)])


# -- rows --------------------------------------------------------------------------------------------------------------


class _Maker:
    """Makes the groups one after another, each within its share of the rows."""

    def __init__(self, signature: Signature, edges: Edges, sample: Rows | None, seed: int, most: int) -> None:
        self.signature = signature
        self.slots = slots(signature)
        self.random = np.random.default_rng(seed)
        self.seed, self.most = seed, most
        self.sample = sample if sample is not None and sample.count else None
        base = signature.example_rows()
        shown = base if self.sample is None else Rows.concat([_plain(base), _plain(self.sample[:BASES])])
        self.bases = split(signature, shown)
        self.pools = [
            Pool.of(each.field, edges.get((each.field.name, each.place), np.empty(0)), seen, self.random)
            for each, seen in zip(self.slots, self.bases, strict=True)
        ]
        self.wanted = 0

    def probes(self) -> Probes:
        most = self.most
        typical = self._typical(BASES)
        groups = [
            ("example", self._of_bases(1)),
            ("sample", self._sampled(most // 8)),
            ("columns of the sample mixed", self._typical(most // 20) if self.sample is not None else None),
            ("one value", self._singles(most // 5)),
            ("missing", self._missing(most // 20)),
            ("one threshold", self._thresholds(most // 4)),
        ]
        made = [Group(name, joined(self.signature, columns)) for name, columns in groups if columns is not None]
        left = max(most - sum(each.rows.count for each in made), 2)
        mixtures = (("several thresholds and values", left - left // 6, 0.0), ("several extremes", left // 6, 0.4))
        made += [Group(name, joined(self.signature, self._mixed(count, wild))) for name, count, wild in mixtures]
        self.wanted += left
        kept = tuple(each for each in made if each.rows.count)
        return Probes(kept, joined(self.signature, typical), self.wanted, self.seed)

    def _of_bases(self, count: int) -> Columns:
        self.wanted += count
        return [column[:count] for column in self.bases]

    def _sampled(self, most: int) -> Columns | None:
        if self.sample is None:
            return None
        self.wanted += self.sample.count
        places = self.random.permutation(self.sample.count)[:most]
        return split(self.signature, _plain(self.sample.take(np.sort(places))))

    def _typical(self, count: int) -> Columns:
        return [self.random.choice(pool.typical, count) if len(pool.typical) else base[:1].repeat(count)
                for pool, base in zip(self.pools, self.bases, strict=True)]  # fmt: skip

    def _drawn(self, count: int) -> Columns:
        """Rows in which one value is changed: half of them ordinary, half with all columns on thresholds."""
        ordinary, mixed = self._typical(count), self._mixed(count, 0.0)
        which = self.random.random(count) < 0.5
        return [np.where(which, one, other) for one, other in zip(ordinary, mixed, strict=True)]

    def _singles(self, most: int) -> Columns:
        """Every value of every column, each in a row that is otherwise ordinary."""
        given = [(place, value) for place, pool in enumerate(self.pools) for value in (pool.known, pool.extreme)]
        places = np.concatenate([np.full(len(values), place) for place, values in given])
        self.wanted += len(places)
        kept = self._lot(len(places), most)
        columns = self._typical(len(kept))
        starts = np.cumsum([0, *(len(values) for _, values in given)])
        for (place, values), start in zip(given, starts, strict=False):
            here = np.flatnonzero((kept >= start) & (kept < start + len(values)))
            columns[place][here] = values[kept[here] - start]
        return columns

    def _thresholds(self, most: int) -> Columns:
        """Every threshold and its neighbours."""
        counts = [len(pool.edges) * STEPS for pool in self.pools]
        starts = np.cumsum([0, *counts])
        self.wanted += int(starts[-1])
        kept = self._lot(int(starts[-1]), most)
        columns = self._drawn(len(kept))
        for place, (pool, each) in enumerate(zip(self.pools, self.slots, strict=True)):
            here = np.flatnonzero((kept >= starts[place]) & (kept < starts[place + 1]))
            local = kept[here] - starts[place]
            if len(here):
                columns[place][here] = pool.around(each.field, local // STEPS, local % STEPS)
        return columns

    def _missing(self, most: int) -> Columns | None:
        """Nulls everywhere at once, everywhere but in one column, and by lot."""
        able = [place for place, each in enumerate(self.slots) if each.field.nullable]
        if not able:
            return None
        chosen = able if len(able) <= most // 4 else list(self.random.choice(able, most // 4, replace=False))
        count = 1 + len(chosen) + min(200, most // 2)
        self.wanted += 1 + len(able) + 200
        columns = self._typical(count)
        holes = self.random.random((count, len(able))) < 0.5
        holes[: 1 + len(chosen)] = True
        for row, place in enumerate(chosen, 1):
            holes[row, able.index(place)] = False
        for at, place in enumerate(able):
            columns[place][holes[:, at]] = _null(self.slots[place].field)
        return columns

    def _mixed(self, count: int, wild: float) -> Columns:
        """Each column by lot from its thresholds, its known values, ordinary ones; `wild`: the share of extremes."""
        return [self._lots(pool, each.field, count, wild) for pool, each in zip(self.pools, self.slots, strict=True)]

    def _lots(self, pool: Pool, each: Field, count: int, wild: float) -> Array:
        random = self.random
        column = random.choice(pool.typical, count) if len(pool.typical) else random.choice(pool.known, count)
        kind = random.random(count)
        if len(pool.edges):
            here = kind < 0.65
            places = random.integers(0, len(pool.edges), here.sum())
            column[here] = pool.around(each, places, random.integers(0, STEPS, here.sum()))
        if len(pool.known):
            here = kind > 0.9
            column[here] = random.choice(pool.known, here.sum())
        if wild and len(pool.extreme):
            here = random.random(count) < wild
            column[here] = random.choice(pool.extreme, here.sum())
        return column

    def _lot(self, count: int, most: int) -> Array:
        """All places, or `most` of them by lot."""
        if count <= most:
            return np.arange(count)
        return np.sort(self.random.choice(count, most, replace=False))


def _null(each: Field) -> Any:
    return None if each.dtype == object else np.datetime64("NaT", "us") if each.type == "timestamp" else math.nan


def _plain(rows: Rows) -> Rows:
    """The same with texts as plain arrays."""
    return Rows({name: rows.array(name) for name in rows}, rows.count)
