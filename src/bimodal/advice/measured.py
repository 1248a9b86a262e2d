"""Measured: what the model does on this machine, in every way it can be asked."""

from __future__ import annotations

from dataclasses import dataclass

from bimodal.advice.figure import Figure, derived

BUSY = 0.01  # share of refused requests above which a load is too much


@dataclass(frozen=True)
class Load:
    """One closed loop over HTTP on one worker process: so many connections, each with one request under way.

    rate: answers a second. cores: processor seconds that the server took in a second. per_core: answers for each of
    them, which is what the server gives where neither the load nor a neighbour takes its core. quantiles: pairs of
    share and seconds, of all rounds. refused: share of requests that got no 2xx.
    """

    connections: int
    rate: Figure
    cores: Figure
    per_core: Figure
    p50: Figure
    p99: Figure
    refused: float
    answers: int
    quantiles: tuple[tuple[float, float], ...]

    def keeps(self, latency: float | None) -> bool:
        """Whether it was answered within the wanted p99, and not refused."""
        return self.refused <= BUSY and (latency is None or self.p99.number <= latency)


@dataclass(frozen=True)
class Loads:
    """The loads of one route, from one connection up. start: until the server answers; memory: of the worker and its
    children, in bytes.
    """

    loads: tuple[Load, ...]
    cores: int
    start: Figure | None = None
    memory: Figure | None = None

    @property
    def alone(self) -> Load:
        return self.loads[0]

    @property
    def saturated(self) -> Load:
        """The one of several connections with the most answers; the one with the most for a core might be luck."""
        return max(self.loads[1:] or self.loads, key=lambda load: load.rate.number)

    @property
    def full(self) -> Figure:
        """What a whole machine gives at saturation, requests/s."""
        best = self.saturated.per_core
        how = f"{best.number:,.0f} for each second of a core, on {self.cores} cores (equal shares assumed)"
        return derived(best.number * self.cores, "requests/s", how)

    def within(self, latency: float | None) -> tuple[Load, Figure] | None:
        """The largest load that keeps the wanted p99, and what a whole machine gives with it; None: not even one."""
        kept = [load for load in self.loads if load.keeps(latency)]
        if not kept:
            return None
        if self.saturated in kept:
            return self.saturated, self.full
        best = max(kept, key=lambda load: load.rate.number)
        workers = self.cores / max(1.0, best.cores.number)
        how = f"{best.rate.number:,.0f} of one worker, {workers:g} workers on {self.cores} cores (equal shares assumed)"
        return best, derived(best.rate.number * workers, "requests/s", how)


@dataclass(frozen=True)
class Bulk:
    """The batch path: rows/s of a machine, seconds of a run's start, bytes at the peak, workers that were at work."""

    rate: Figure
    start: Figure
    memory: Figure
    workers: int
    runtime: str


@dataclass(frozen=True)
class Measured:
    """cores: of this machine, as this process may use them. lookup: of one key in a prediction store."""

    cores: int
    runtime: str
    one_row: Figure
    one_row_p99: Figure
    bulk: Bulk
    live: Loads
    lookup: Loads
