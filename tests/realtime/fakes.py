"""A model whose every call a test controls: its answers, its times, its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

import numpy as np

from bimodal.errors import ModelFailed
from bimodal.field import Field
from bimodal.model import Model
from bimodal.realtime.batcher import RANK, Batch, Batcher, Work
from bimodal.realtime.gather import vectors
from bimodal.rows import Rows
from bimodal.signature import Signature

SIGNATURE = Signature((Field("x", "float64", (1,)),), (Field("prediction", "float64"),), named=False)

GATHER = vectors(SIGNATURE.inputs[0])


class Fake:
    """Answers ten times the value of a row. `calls` has the values of each call.

    inline: on the loop. hold: calls wait until it is set. bad: values on which the model fails, with `error`.
    """

    name = "fake"
    version = "1"
    format = "fake"
    signature = SIGNATURE
    runtime_name = "fake"
    streams = 0
    spared = False

    def __init__(self, *, inline: bool = True, costs: dict[int, float] | None = None) -> None:
        self.inline = inline
        self.runtime: object = self
        self.costs = costs or {1: 1e-4, 64: 1e-4}
        self.calls: list[list[float]] = []
        self.keys: list[tuple[Sequence[str], float | None]] = []
        self.bad: set[float] = set()
        self.error: Callable[[], Exception] = lambda: ModelFailed("the model raised ValueError on these rows")
        self.hold: asyncio.Event | None = None
        self.lose = 0  # rows left out of every answer

    def run(self, rows: Rows, outputs: Sequence[str] = ("prediction",), *, threshold: float | None = None) -> Rows:
        values = rows.array("x")[:, 0]
        self.calls.append(values.tolist())
        self.keys.append((outputs, threshold))
        if self.bad & set(values.tolist()):
            raise self.error()
        return Rows({"prediction": np.asarray(values * 10)[: len(values) - self.lose]})

    async def run_async(
        self,
        rows: Rows,
        outputs: Sequence[str] = ("prediction",),
        *,
        threshold: float | None = None,
        aside: bool = False,
    ) -> Rows:
        if self.hold is not None:
            await self.hold.wait()
        return self.run(rows, outputs, threshold=threshold)

    @property
    def model(self) -> Model:
        return cast(Model, self)


class Window:
    """A Door that keeps what each request was answered: a list of values, or the error."""

    route = "predict"
    content_type = b"application/json"

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def work(
        self,
        name: str,
        *values: float,
        deadline: float = 1e12,
        key: tuple[Any, ...] | None = None,
        rank: int = RANK,
        queued: float | None = None,
    ) -> Work:
        rows = [[value] for value in values]
        key = key or (("prediction",), None)
        queued = monotonic() if queued is None else queued
        return Work(self, name, None, GATHER, rows, len(rows), key, deadline, queued, rank=rank)

    def encode(self, work: Work, answer: Any, start: int, stop: int) -> bytes:
        return b""

    def recheck(self, work: Work) -> Rows:
        rows, _, problems = SIGNATURE.check(work.values)
        if problems:
            raise ValueError(str(problems[0]))
        return rows

    def fail(self, work: Work, error: BaseException) -> None:
        assert work.request not in self.answers
        self.answers[work.request] = error

    def settle(self, batch: Batch) -> None:
        at = 0
        for work in batch.works:
            if not work.settled:
                assert work.request not in self.answers
                work.settled = True
                self.answers[work.request] = batch.answer.array("prediction")[at : at + work.count].tolist()
            at += work.count


def batcher(fake: Fake, window: Window, **options: Any) -> Batcher:
    return Batcher(fake.model, window.settle, **options)
