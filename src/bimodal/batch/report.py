"""Report: what a run did, for people and for programs; it is the run record `OUTPUT.run.json` too."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stages:
    """Seconds spent: reading and parsing, predicting (summed over the workers), writing."""

    read: float = 0.0
    predict: float = 0.0
    write: float = 0.0


@dataclass(frozen=True)
class Report:
    """One run: its counts, times and provenance.

    status: complete, already complete, dry run, preview, stopped (the reader of standard output left). run: its id.
    read: rows of the input; each of them was predicted or rejected. resumed: how many of them before an interruption.
    quality: how good the predictions are, where a target was named. bytes: size of the input, where it is known.
    memory: the largest sum of what the run's processes held, in bytes. seconds: of this execution. rejects: where the
    refused rows are. expected: what a dry run found. notes: what was recognised, in sentences.
    """

    status: str
    model: str
    version: str
    digest: str
    runtime: str
    input: tuple[str, ...]
    output: str | None
    read: int = 0
    predicted: int = 0
    rejected: int = 0
    resumed: int = 0
    chunks: int = 0
    columns: tuple[str, ...] = ()
    seconds: float = 0.0
    stages: Stages = field(default_factory=Stages)
    workers: int = 1
    memory: int = 0
    bytes: int | None = None
    rejects: str | None = None
    notes: tuple[str, ...] = ()
    started: str = ""
    host: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    run: str = ""
    quality: dict[str, Any] | None = None
    quality_lines: tuple[str, ...] = ()
    expected: dict[str, Any] | None = None

    @property
    def rate(self) -> float:
        """Rows a second, of those that this execution did."""
        return max(self.read - self.resumed, 0) / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        if self.status == "already complete" and self.plan.get("mode") in ("append", "upsert"):
            verb = "were added to" if self.plan["mode"] == "append" else "were written to"
            return (
                f"{rows(self.predicted)} of the same model and input {verb} {self.output} by an earlier run; nothing "
                "was done"
            )
        if self.status == "already complete":
            return f"{self.output} is already complete ({rows(self.predicted)}, same model and input); nothing was done"
        if self.status == "dry run":
            return "this was a dry run; nothing was written"
        parts = [f"{rows(self.predicted)} predicted"]
        if self.rejected:
            parts.append(f"{self.rejected:,} rejected" + (f" ({self.rejects})" if self.rejects else ""))
        place = f" to {self.output}" if self.output and self.output != "-" else ""
        rate = f"{self.rate:,.0f} rows/s" if self.rate >= 1 else ""
        memory = f"{self.memory / 1e6:.0f} MB at most" if self.memory else ""
        beside = ", ".join(filter(None, (rate, memory)))
        first = f"{', '.join(parts)}{place} in {self.seconds:.1f} s" + (f" ({beside})" if beside else "")
        return "\n".join([first, *self.quality_lines])

    def told(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "rate": round(self.rate, 1)}


def sized(size: float) -> str:
    """Bytes, in the unit that shows them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
