"""Counters as text: Prometheus' format 0.0.4, and OpenMetrics 1.0 for who asks for it.

https://prometheus.io/docs/instrumenting/exposition_formats/, https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bimodal import __version__
from bimodal.realtime.accept import wants
from bimodal.realtime.layout import LOOKUP, NO_WORKER, SECONDS, SIZES, Layout
from bimodal.realtime.measures import BY_NAME, STAGES

PLAIN = b"text/plain; version=0.0.4; charset=utf-8"
OPEN = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
OTHER = "other"  # route and model of what is no prediction
END = "# EOF\n"

_counter = re.compile(r"^# (HELP|TYPE) (\w+)_total ", re.MULTILINE)

Values = Iterable[tuple[Sequence[str], float]]


def wants_open(accept: bytes) -> bool:
    """Whether an Accept header asks for OpenMetrics."""
    return wants(accept, b"application/openmetrics-text")


def opened(text: str) -> str:
    """The same in OpenMetrics: a counter is named there without the end of its samples, and the text has an end."""
    return _counter.sub(r"# \1 \2 ", text) + END


def block(name: str, values: Values) -> str:
    """One metric of `MEASURES`: the values of its labels, in their order, and its own."""
    measure = BY_NAME[name]
    lines = [_line(name, dict(zip(measure.labels, labels, strict=True)), value) for labels, value in values]
    return head(name) + "".join(lines) if lines else ""


def head(name: str) -> str:
    """What stands before the samples of a metric."""
    measure = BY_NAME[name]
    return f"# HELP {name} {measure.help}\n# TYPE {name} {measure.kind}\n"


def rendered(layout: Layout, sums: Sequence[float], info: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """The text of all that is counted in a row. sums: of all rows, by place. info: labels of bimodal_model_info."""
    yield block("bimodal_build_info", [((__version__, platform.python_version()), 1)])
    labels = BY_NAME["bimodal_model_info"].labels
    yield block("bimodal_model_info", [([each[label] for label in labels], 1) for each in info])
    yield block("bimodal_requests_total", _requests(layout, sums))
    yield block("bimodal_rows_total", _each(layout.rows, sums))
    calls = [((model,), sum(sums[place : place + len(SIZES) + 1])) for model, place in layout.batch_rows.items()]
    yield block("bimodal_executions_total", calls)
    sizes: dict[tuple[str, ...], int] = {(model,): place for model, place in layout.batch_rows.items()}
    yield from _histogram("bimodal_batch_rows", sizes, sums, SIZES)
    for stage in STAGES:
        places: dict[tuple[str, ...], int] = {(model,): layout.seconds[model, stage] for model in layout.models}
        yield from _histogram(f"bimodal_{stage}_seconds", places, sums, SECONDS)
    wire = [(("", reason), sums[place]) for reason, place in layout.wire.items() if sums[place]]
    yield block("bimodal_refusals_total", [*_each(layout.refusals, sums), *wire])
    yield block("bimodal_model_crashes_total", _each(layout.crashes, sums))
    yield block("bimodal_requests_in_flight", _each(layout.in_flight, sums))
    yield block("bimodal_streams_open", _each(layout.streams, sums))
    yield from _singles({**layout.gauges, **layout.counts}, sums)


def _requests(layout: Layout, sums: Sequence[float]) -> Iterator[tuple[tuple[str, str, str], float]]:
    for (model, route, status), place in layout.requests.items():
        if sums[place] or (status == 200 and route != LOOKUP):
            yield (model, route, str(status)), sums[place]
    for status, place in layout.others.items():
        number = sums[place] + (sums[layout.wire[NO_WORKER]] if status == 503 else 0)
        if number:
            yield ("", OTHER, str(status)), number


def _each(places: Mapping[Any, int], sums: Sequence[float]) -> list[tuple[tuple[str, ...], float]]:
    return [(key if isinstance(key, tuple) else (key,), sums[place]) for key, place in places.items()]


def _singles(places: Mapping[tuple[str, ...], int], sums: Sequence[float]) -> Iterator[str]:
    for name in dict.fromkeys([key[0] for key in places]):
        yield block(name, [(key[1:], sums[place]) for key, place in places.items() if key[0] == name])


def _histogram(
    name: str, places: Mapping[tuple[str, ...], int], sums: Sequence[float], bounds: Sequence[float]
) -> Iterator[str]:
    if places:
        yield head(name)
    for values, place in places.items():
        labels = dict(zip(BY_NAME[name].labels, values, strict=True))
        total = 0.0
        for bound, count in zip(bounds, sums[place : place + len(bounds)], strict=True):
            total += count
            yield _line(f"{name}_bucket", {**labels, "le": repr(bound)}, total)
        total += sums[place + len(bounds)]
        yield _line(f"{name}_bucket", {**labels, "le": "+Inf"}, total)
        yield _line(f"{name}_sum", labels, sums[place + len(bounds) + 1])
        yield _line(f"{name}_count", labels, total)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join([f'{key}="{_escaped(text)}"' for key, text in labels.items()])
    number = int(value) if float(value).is_integer() else repr(float(value))
    return f"{name}{{{told}}} {number}\n" if told else f"{name} {number}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def table() -> str:
    """The metrics as docs/observability.md lists them."""
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join([f'`{label}`' for label in each.labels])} | {each.help} |"
        for each in BY_NAME.values()
    ]
    return "\n".join(["| metric | kind | labels | |", "| --- | --- | --- | --- |", *rows])
