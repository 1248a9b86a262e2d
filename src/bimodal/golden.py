"""Golden rows: inputs with the answers that a model gave to them when it was packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bimodal.errors import BimodalError, ModelCrashed, ModelFailed
from bimodal.rows import Array, Rows
from bimodal.runtimes import wire

MOST = 256
# What another build of the same arithmetic may change by rounding, as a share of an answer's size or, for small ones,
# of the usual size in its column.
ROUNDING = {"float64": 1e-9, "float32": 1e-5, "float16": 1e-2}
Run = Callable[[Rows, Sequence[str]], Rows]


@dataclass(frozen=True)
class Golden:
    """rows: the inputs. answers: every output of the model for each of them, in the same order."""

    rows: Rows
    answers: Rows

    @classmethod
    def ask(cls, run: Run, rows: Rows, outputs: Sequence[str]) -> Golden:
        """Spread over the rows given, at most MOST of them; those that the model fails on are left out."""
        chosen = rows.take(np.unique(np.linspace(0, rows.count - 1, min(rows.count, MOST)).astype(np.intp)))
        try:
            return cls(chosen, run(chosen, outputs))
        except (ModelFailed, ModelCrashed):
            return cls._one_by_one(run, chosen, outputs)

    @classmethod
    def _one_by_one(cls, run: Run, rows: Rows, outputs: Sequence[str]) -> Golden:
        good = [place for place in range(rows.count) if _answers(run, rows.slice(place, place + 1), outputs)]
        if not good:
            run(rows.slice(0, 1), outputs)  # says why
        chosen = rows.take(np.array(good, np.intp))
        return cls(chosen, run(chosen, outputs))

    def write(self, path: Path) -> None:
        """One file: the inputs, then the answers, as messages of `runtimes/wire.py`. The same rows, the same bytes."""
        path.write_bytes(b"".join(b"".join(wire.encode({}, part)) for part in (self.rows, self.answers)))

    @classmethod
    def read(cls, path: Path) -> Golden:
        """What `write` wrote; the bytes must be known to be the same. Raises BimodalError where they make no rows."""
        data = memoryview(path.read_bytes())
        try:
            rows, rest = _message(data)
            answers, rest = _message(rest)
        except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
            raise BimodalError(f"{path} holds no golden rows ({type(error).__name__})") from error
        if len(rest) or rows.count != answers.count:
            raise BimodalError(f"{path} holds no golden rows")
        return cls(rows, answers)

    def changed(self, run: Run) -> NDArray[np.intp]:
        """The places of the rows to which `run` gives another answer now. A row that it fails on is one of them.

        Another answer is another label, or a number that differs by more than rounding.
        """
        try:
            answers = run(self.rows, list(self.answers))
        except (ModelFailed, ModelCrashed):
            return np.arange(self.rows.count)
        if answers.count != self.answers.count:
            return np.arange(self.rows.count)
        other = np.zeros(self.rows.count, bool)
        for name in self.answers:
            other |= differing(self.answers.array(name), answers.array(name))
        return np.flatnonzero(other)


def _answers(run: Run, rows: Rows, outputs: Sequence[str]) -> bool:
    try:
        run(rows, outputs)
    except (ModelFailed, ModelCrashed):
        return False
    return True


def _message(data: memoryview) -> tuple[Rows, memoryview]:
    """The first message's Rows, and what comes after it."""
    head, body = wire.PREFIX.unpack(data[: wire.PREFIX.size])
    start = wire.PREFIX.size + head
    end = start + body
    rows = wire.decode_rows(wire.decode_header(data[wire.PREFIX.size : start]), data[start:end])
    if rows is None or end > len(data):
        raise ValueError("no rows")
    return rows, data[end:]


def differing(then: Array, now: Array) -> NDArray[np.bool_]:
    """Which rows of an output changed by more than rounding (bool [rows]); both [rows, …]."""
    if then.shape != now.shape:
        return np.ones(len(then), bool)
    if then.dtype.kind != "f" or now.dtype.kind != "f":
        other: Any = ~_equal(then, now)
    else:
        sizes = np.where(np.isfinite(then), np.abs(then), 0.0).astype(np.float64)
        allowed = ROUNDING.get(then.dtype.name, 0.0) * np.maximum(sizes, np.median(sizes))
        with np.errstate(invalid="ignore"):  # infinity less infinity
            near = np.abs(then.astype(np.float64) - now) <= allowed
        other = ~(near | (then == now) | (np.isnan(then) & np.isnan(now)))
    rows: NDArray[np.bool_] = np.asarray(other, bool).reshape(len(then), -1)
    return np.asarray(rows.any(axis=1))


def _equal(then: Array, now: Array) -> NDArray[np.bool_]:
    """Elementwise; a null is equal to a null."""
    pairs = zip(then.ravel().tolist(), now.ravel().tolist(), strict=True)
    # a NaN is not equal to itself
    same = [mine == theirs or (mine != mine and theirs != theirs) for mine, theirs in pairs]
    return np.array(same, bool).reshape(then.shape)
