"""Plots: SVG made here, with classes for the colours and nothing else inside, so that a page needs no script for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 880, 330
LEFT, RIGHT, TOP, BOTTOM = 60, 36, 28, 44
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points in order, joined by a line or each with its own label. kind: the class that gives the colour."""

    name: str
    kind: str
    points: Sequence[Point]
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """From low to high, logarithmic or not. told: how a value is written."""

    name: str
    low: float
    high: float
    told: Callable[[float], str]
    log: bool = True

    @classmethod
    def over(cls, name: str, values: Sequence[float], told: Callable[[float], str]) -> Axis:
        """Powers of ten around all values."""
        known = [value for value in values if value > 0] or [1.0]
        low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
        return cls(name, 10.0**low, 10.0 ** max(high, low + 1), told)

    def share(self, value: float) -> float:
        """Where a value stands, from 0 to 1."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        if not self.log:
            return [self.low + (self.high - self.low) * step / 4 for step in range(5)]
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        step = max(1, math.ceil((last - first) / 6))
        return [10.0**power for power in range(first, last + 1, step)]


def plot(title: str, across: Axis, up: Axis, series: Sequence[Series], line: tuple[float, str] | None = None) -> str:
    """An SVG. line: a place across that is marked, with its words."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_grid(across, up),
        *(_drawn(each, across, up) for each in series),
    ]
    if line is not None:
        x = _x(across, line[0])
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        right = x > WIDTH * 0.6
        parts.append(_text(x - 6 if right else x + 6, TOP + 12, "end" if right else "start", line[1]))
    return "".join([*parts, "</svg>", _legend(series)])


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _grid(across: Axis, up: Axis) -> list[str]:
    parts = []
    for value in across.ticks():
        x = _x(across, value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x, HEIGHT - BOTTOM + 16, "middle", across.told(value)))
    for value in up.ticks():
        y = _y(up, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 6, y + 4, "end", up.told(value)))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", across.name))
    return [*parts, _text(4, 12, "start", up.name)]


def _text(x: float, y: float, anchor: str, words: str) -> str:
    return f'<text class="quiet" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _drawn(series: Series, across: Axis, up: Axis) -> str:
    places = [(_x(across, x), _y(up, y)) for x, y in series.points]
    if not series.labels:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        return f'<polyline class="{series.kind}" points="{path}"><title>{escape(series.name)}</title></polyline>'
    parts = []
    for (x, y), words in zip(places, series.labels, strict=True):
        right = x > WIDTH * 0.7
        parts.append(f'<circle class="{series.kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(_text(x - 8 if right else x + 8, y + 4, "end" if right else "start", words))
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    items = "".join(f'<li class="{each.kind}">{escape(each.name)}</li>' for each in series)
    return f'<ul class="legend">{items}</ul>'
