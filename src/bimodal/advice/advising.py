"""`advise`: which mode fits, measured on the user's own model, on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from bimodal.advice.bulk import Batch
from bimodal.advice.choice import Choice, choose
from bimodal.advice.curves import Curves
from bimodal.advice.figure import Figure, measured
from bimodal.advice.live import measure as measure_live
from bimodal.advice.lookup import Shelf
from bimodal.advice.material import Material
from bimodal.advice.measured import Measured
from bimodal.advice.modes import Mode, modes
from bimodal.advice.needs import Needs
from bimodal.batch.bounds import LARGE
from bimodal.batch.crew import processors
from bimodal.errors import UsageError
from bimodal.model import Model, load

BUDGET = 80.0  # seconds of all measurements: with what they take longer on a busy machine, two minutes
LEAST = 3.0
PROOF = 0.3  # share of the budget within which a compiled form must be proven
ONE_ROW, LIVE = 0.05, 0.5  # shares of the budget; batch gets what is left
CALLS = 100_000
KEYS = 100_000  # of the prediction store that is measured, where nothing is said of keys


@dataclass(frozen=True)
class Advice:
    """What `advise` found. rows: where the measured rows come from. notes: what else should be known. seconds: that it
    took. choice.name: the recommended mode, or None. told(): plain values under stable names.
    """

    name: str
    version: str
    format: str
    rows: str
    needs: Needs
    measured: Measured
    modes: tuple[Mode, ...]
    choice: Choice
    curves: Curves
    notes: tuple[str, ...]
    seconds: float

    def told(self) -> dict[str, Any]:
        """Plain values for JSON: the same names in every version."""
        found, live = self.measured, self.measured.live
        return {
            "model": {"name": self.name, "version": self.version, "format": self.format},
            "machine": {"cores": found.cores},
            "rows": self.rows,
            "needs": {name: _plain(value) for name, value in self.needs.told().items()},
            "measured": {
                "runtime": {"real_time": found.runtime, "batch": found.bulk.runtime},
                "one_row": {"p50": _plain(found.one_row), "p99": _plain(found.one_row_p99)},
                "batch": {**asdict(found.bulk)},
                "live": {
                    "start": _plain(live.start),
                    "memory": _plain(live.memory),
                    "machine": _plain(live.full),
                    "loads": [asdict(load) for load in live.loads],
                },
                "lookup": {
                    "machine": _plain(found.lookup.full),
                    "loads": [asdict(load) for load in found.lookup.loads],
                },
            },
            "modes": [{**asdict(mode), "meets": mode.meets} for mode in self.modes],
            "recommended": self.choice.name,
            "reason": self.choice.reason,
            "break_even": {"requests_per_day": self.curves.break_even, "told": self.curves.told},
            "curves": {"requests_per_day": self.curves.requests, "month": self.curves.months},
            "notes": self.notes,
            "seconds": self.seconds,
        }


def advise(
    model: Any,
    *,
    sample: Any = None,
    requests_per_day: float | None = None,
    rows: int | None = None,
    keys: int | None = None,
    latency: float | None = None,
    freshness: float | None = None,
    price_per_hour: float | None = None,
    peak_factor: float | None = None,
    code: str | Path | Sequence[str | Path] = (),
    trust: str | Sequence[str] = (),
    features: Sequence[str] | None = None,
    runtime: str | None = None,
    budget: float = BUDGET,
    tell: Callable[[str], None] | None = None,
) -> Advice:
    """Measure the model here, and say which mode fits what is needed: real time, batch or both.

    model: what `load` takes. sample: a file, frame, table or records like the rows to come; without one, a package's
    golden rows or rows made from the signature are used. requests_per_day: live answers. rows: of one batch. keys: how
    many the live answers are about. latency: wanted p99, seconds. freshness: how old an answer may be, seconds.
    price_per_hour: of a machine like this one. peak_factor: the busiest time's rate over the mean (3). What is not said
    and is needed is assumed, and marked so. budget: seconds of all measurements, about. tell: gets the progress.

    Raises what `load` raises, InputError (the sample does not fit), UsageError.
    """
    began = time.monotonic()
    needs = Needs.read(
        processors(),
        requests_per_day=requests_per_day,
        rows=rows,
        keys=keys,
        latency=latency,
        freshness=freshness,
        price_per_hour=price_per_hour,
        peak_factor=peak_factor,
    )
    if budget < LEAST:
        raise UsageError(f"--budget {budget:g}: measuring takes {LEAST:g} seconds at least")
    say = tell or (lambda text: None)
    with ExitStack() as stack:
        say("loading the model")
        mine, notes = _ready(model, stack, PROOF * budget, say, sample=sample, code=code, features=features,
                             runtime=runtime, trust=trust)  # fmt: skip
        material = Material.of(mine, sample)
        if material.refused:
            notes.append(f"{material.refused:,} rows of the sample are refused by the model's signature")
        found = _measure(mine, material, needs, budget - (time.monotonic() - began), stack, say)
    each = modes(needs, found)
    return Advice(
        mine.name, mine.version, mine.format, material.origin, needs, found, each, choose(each),
        Curves.of(needs, found), tuple(notes), round(time.monotonic() - began, 1),
    )  # fmt: skip


def _ready(
    given: Any, stack: ExitStack, seconds: float, say: Callable[[str], None], **loading: Any
) -> tuple[Model, list[str]]:
    """The model as it would serve: with its compiled form, if that is proven in time, else without."""
    mine = given if isinstance(given, Model) else stack.enter_context(load(given, **loading))
    until = time.monotonic() + seconds
    if mine.verifying:
        say("proving a compiled form")
    while mine.verifying and time.monotonic() < until:
        time.sleep(0.02)
    if not mine.verifying:
        return mine, []
    native = stack.enter_context(Model.open(replace(mine.location, runtime="native")))
    if not isinstance(given, Model):
        mine.close()  # its proof would take the processor from what is measured
    late = f"a compiled form was not proven within {seconds:.0f} s, so the native library was measured"
    return native, [f"{late}; `bimodal inspect` proves it, and what it finds is kept"]


def _measure(
    model: Model, material: Material, needs: Needs, seconds: float, stack: ExitStack, say: Callable[[str], None]
) -> Measured:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bimodal-advise-")))
    until = time.monotonic() + seconds
    say("one row in this process")
    one, one_p99 = _one_row(model, material, max(seconds, LEAST) * ONE_ROW)
    bodies = material.bodies(model)
    outputs = model.resolve_outputs(None)
    keys = KEYS if needs.keys is None else int(needs.keys.number)
    shelf = Shelf.fill(model, keys, _results(model, material, outputs), outputs, folder)
    live, lookup = measure_live(model, bodies, shelf, max(seconds, LEAST) * LIVE, say)
    alone = needs.known is not None and needs.known.number < LARGE
    bulk = Batch(model, material, folder, alone, say).measure(max(until - time.monotonic(), LEAST / 2))
    return Measured(processors(), model.runtime.name, one, one_p99, bulk, live, lookup)


def _one_row(model: Model, material: Material, seconds: float) -> tuple[Figure, Figure]:
    """Calls with a row each, different ones in turn."""
    outputs = model.resolve_outputs(None)
    rows = [material.rows.slice(at, at + 1) for at in range(min(material.rows.count, 256))]
    model.run(rows[0], outputs)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while not times or (time.perf_counter() < until and len(times) < CALLS):
        started = time.perf_counter()
        model.run(rows[len(times) % len(rows)], outputs)
        times.append(time.perf_counter() - started)
    listed, how = sorted(times), f"{len(times):,} calls of one row in this process"
    middle = measured([listed[len(listed) // 2]], "s", how)
    return middle, measured([listed[min(int(0.99 * len(listed)), len(listed) - 1)]], "s", how)


def _results(model: Model, material: Material, outputs: Sequence[str]) -> list[bytes]:
    """What a prediction store keeps of some rows: their outputs as JSON without the braces."""
    few = model.run(material.rows.slice(0, min(material.rows.count, 64)), outputs)
    lists = [few.array(name).tolist() for name in outputs]
    records = [dict(zip(outputs, values, strict=True)) for values in zip(*lists, strict=True)]
    return [msgspec.json.encode(record)[1:-1] for record in records]


def _plain(value: Figure | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)
