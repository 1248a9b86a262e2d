"""The page: all that was found, with plots, in one file that asks nobody for anything and holds no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from pathlib import Path

from bimodal.advice.advising import Advice
from bimodal.advice.figure import Figure
from bimodal.advice.modes import BATCH, BOTH, REAL_TIME
from bimodal.advice.plots import Axis, Point, Series, plot
from bimodal.advice.shown import HEADINGS, asked, duration, lines, money, shown
from bimodal.errors import SinkError

KINDS = {REAL_TIME: "one", BATCH: "two", BOTH: "three"}


def write(found: Advice, place: Path) -> None:
    """Raises SinkError where the file cannot be written."""
    try:
        place.write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{place} cannot be written: {error.strerror}") from error


def page(found: Advice) -> str:
    """A whole document. Its policy allows its own style by the digest, and nothing else."""
    style = files("bimodal.advice").joinpath("page.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    title = f"{escape(found.name)}: real time, batch or both"
    return "\n".join([
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
        f"<title>{title}</title><style>{style}</style></head><body><main>",
        f"<h1>{title}</h1>",
        *(f"<section>{each}</section>" for each in _sections(found)),
        "</main></body></html>\n",
    ])  # fmt: skip


def _sections(found: Advice) -> Iterator[str]:
    name = found.choice.name or "no mode"
    yield (
        f'<p class="big" id="recommended">{escape(name)}</p><p id="reason">{escape(found.choice.reason)}</p>'
        f'<p class="quiet">Asked: {escape(asked(found.needs))}.</p>'
        + "".join(f'<p class="quiet">{escape(note)}</p>' for note in found.notes)
    )
    yield f"<h2>Modes</h2>{_table(found)}<p class='quiet'>ᵐ measured here, ᵃ assumed, ᵍ given; the others follow.</p>"
    yield f"<h2>Cost a month</h2>{_costs(found)}<p id='break-even'>{escape(found.curves.told)}.</p>"
    yield f"<h2>Latency of live answers</h2>{_latency(found)}"
    yield f"<h2>Throughput of a machine, and the cost of a million answers at full use</h2>{_throughput(found)}"
    told = "".join(f"<tr><td class='how'>{escape(each)}</td></tr>" for each in lines(found))
    version = f"version {escape(found.version)}, measured with {escape(found.rows)} in {found.seconds:g} s"
    yield f"<h2>Measured</h2><table id='measured'>{told}</table><p class='quiet'>{version}</p>"


def _table(found: Advice) -> str:
    kinds = [" class='chosen'" if mode.name == found.choice.name else "" for mode in found.modes]
    heads = "".join(f"<th{kind}>{mode.name}</th>" for mode, kind in zip(found.modes, kinds, strict=True))
    body = "".join(
        f"<tr><th>{heading}</th>"
        + "".join(_cell(getattr(mode, name), f"{mode.name} {name}", kind)
                  for mode, kind in zip(found.modes, kinds, strict=True))
        + "</tr>"
        for heading, name in HEADINGS.items()
    )  # fmt: skip
    meets = "".join(
        f"<td{kind}>{'yes' if mode.meets else 'no'}<small>{escape('; '.join(mode.misses))}</small></td>"
        for mode, kind in zip(found.modes, kinds, strict=True)
    )
    return (
        f"<table id='modes'><thead><tr><th></th>{heads}</tr></thead><tbody>{body}"
        f"<tr><th>meets all that is asked</th>{meets}</tr></tbody></table>"
    )


def _cell(figure: Figure, name: str, kind: str) -> str:
    exact = "" if figure.value is None else repr(figure.value)
    said = f"{figure.origin}: {figure.how}" if figure.value is not None else figure.how
    told = f'<data id="{name.replace(" ", "-")}" value="{exact}">{shown(figure)}</data>'
    return f"<td{kind}>{told}<small>{escape(said)}</small></td>"


def _costs(found: Advice) -> str:
    curves = found.curves
    series = [
        Series(name, KINDS[name], [(x, y) for x, y in zip(curves.requests, months, strict=True) if y is not None])
        for name, months in curves.months.items()
        if any(y is not None for y in months)
    ]
    costs = [y for each in series for _, y in each.points]
    across = Axis("requests a day", curves.requests[0], curves.requests[-1], _count)
    here = None if curves.break_even is None else (curves.break_even, f"{curves.break_even:,.0f} a day")
    return plot("cost a month by requests a day", across, Axis.over("a month", costs, _price), series, here)


def _latency(found: Advice) -> str:
    live = found.measured.live
    loads = {live.alone.connections: live.alone, live.saturated.connections: live.saturated}
    series = [
        Series(f"{count} connection{'s' if count > 1 else ''}, {shown(load.rate)}", kind,
               [(seconds, share) for share, seconds in load.quantiles])
        for (count, load), kind in zip(loads.items(), ("one", "two"), strict=False)
    ]  # fmt: skip
    times = [seconds for each in series for seconds, _ in each.points]
    up = Axis("share of answers", 0.0, 1.0, lambda share: f"{share:.0%}", log=False)
    wanted = found.needs.latency
    mark = None if wanted is None else (wanted.number, f"wanted p99: {duration(wanted.number)}")
    across = Axis.over("time until the answer", times if mark is None else [*times, mark[0]], duration)
    return plot("latency of live answers", across, up, series, mark)


def _throughput(found: Advice) -> str:
    here, hour = found.measured, found.needs.price.number
    rates = [
        ("live, one connection a worker", "one", here.live.alone.rate.number * here.cores),
        ("live, saturated", "one", here.live.full.number),
        ("lookup", "three", here.lookup.full.number),
        ("batch", "two", here.bulk.rate.number),
    ]
    points: list[tuple[str, str, Point]] = [
        (name, kind, (rate, hour / 3600 / rate * 1e6)) for name, kind, rate in rates
    ]
    series = [
        Series(
            mode, kind, [point for _, of, point in points if of == kind], [name for name, of, _ in points if of == kind]
        )
        for mode, kind in (("real time", "one"), ("batch", "two"), ("lookup", "three"))
    ]
    across = Axis.over("answers a second", [point[0] for _, _, point in points], _count)
    return plot("throughput and cost", across, Axis.over("a million", [p[1] for _, _, p in points], _price), series)


def _price(value: float) -> str:
    return _count(value) if value >= 1 else money(value)


def _count(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
