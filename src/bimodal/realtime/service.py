"""What stands behind every wire: it finds the model, takes the work, answers each batch, and keeps the ledger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any
from urllib.parse import quote

from bimodal.errors import BimodalError, ModelFailed, ModelNotFound, UsageError
from bimodal.field import listed, nearest
from bimodal.model import Model
from bimodal.realtime.admission import TARGET
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Batch, Batcher, Key, Work
from bimodal.realtime.exchange import Request, Respond, Response
from bimodal.realtime.failure import failure, status
from bimodal.realtime.limits import Limits
from bimodal.realtime.metrics import Ledger, Metrics
from bimodal.rows import Rows

log = logging.getLogger("bimodal.realtime")


class Served:
    """One model as the wires see it."""

    def __init__(
        self,
        model: Model,
        limits: Limits,
        ledger: Ledger,
        *,
        outputs: Sequence[str] | None = None,
        threshold: float | None = None,
        target: float | None = None,
    ) -> None:
        self.model = model
        self.signature = model.signature
        self.limits = limits
        self.ledger = ledger
        self.outputs = model.resolve_outputs(outputs)
        self.threshold = threshold
        model.check_threshold(threshold)
        self.key: Key = (self.outputs, threshold)
        self.ragged = any(-1 in each.shape for each in model.signature.inputs)
        self.batcher = Batcher(model, self._settle, target=target or TARGET, most=limits.rows)
        self._identity = (b"x-model", f"{quote(model.name)}/{model.version}".encode("ascii"))
        ledger.watch(lambda: self.batcher.in_flight)

    def choose(self, outputs: Sequence[str] | None, threshold: float | None) -> Key:
        """What is asked of the model; raises UsageError."""
        if outputs is None and threshold is None:
            return self.key
        names = self.outputs if outputs is None else self.model.resolve_outputs(outputs)
        self.model.check_threshold(threshold)
        return (names, self.threshold if threshold is None else threshold)

    def lane(self, key: Key, rows: Rows) -> Key:
        """Rows of a model that takes any width share a call only with rows of the same width."""
        if not self.ragged:
            return key
        return (*key, *[size for each in rows for size in rows.array(each).shape[1:]])

    def refuse(self, route: str, request: Request, respond: Respond, error: BaseException) -> None:
        """Tell the caller why there is no answer, and count it."""
        self.ledger.refused(route, status(error), error.code if isinstance(error, BimodalError) else "internal")
        respond(failure(error, request.headers))

    def _settle(self, batch: Batch) -> None:
        """Answer the works of a batch. All bodies are made before the first is sent, so that the time is known."""
        start = monotonic()
        answer = Answer(batch.answer, batch.given)
        bodies: list[tuple[Work, bytes]] = []
        at = 0
        for work in batch.works:
            stop = at + work.count
            if not work.settled:
                try:
                    bodies.append((work, work.door.encode(work, answer, at, stop)))
                except ModelFailed:
                    self._encode_alone(work, answer.part(at, stop), bodies)
            at = stop
        self._send(batch, bodies, monotonic() - start)

    def _encode_alone(self, work: Work, answer: Answer, bodies: list[tuple[Work, bytes]]) -> None:
        """Some row of the batch has no answer that can be told: find out whether it is this work's."""
        try:
            bodies.append((work, work.door.encode(work, answer, 0, work.count)))
        except ModelFailed as error:
            work.settled = True
            work.door.fail(work, error)

    def _send(self, batch: Batch, bodies: list[tuple[Work, bytes]], encoding: float) -> None:
        if not bodies:
            return
        parse = sum([work.parse for work, _ in bodies]) / len(bodies)
        queue = batch.began - sum([work.queued for work, _ in bodies]) / len(bodies)
        headers = (self._identity, timing(parse, queue, batch.seconds, encoding))
        for work, body in bodies:
            work.settled = True
            if not batch.inline:
                wait = batch.began - work.queued
                headers = (self._identity, timing(work.parse, wait, batch.seconds, encoding))
            try:
                work.respond(Response(200, body, work.door.content_type, headers))
            except Exception:
                log.exception("an answer could not be sent")
        self.ledger.answered(batch, bodies, parse, queue, encoding)


def timing(parse: float, queue: float, predict: float, encode: float) -> tuple[bytes, bytes]:
    """The Server-Timing header: where the milliseconds went.

    For requests of one loop turn they are those of the batch: the mean of parsing and waiting, one call, the encoding
    of all answers.
    """
    return (
        b"server-timing",
        b"parse;dur=%.3f, queue;dur=%.3f, predict;dur=%.3f, encode;dur=%.3f"
        % (parse * 1e3, queue * 1e3, predict * 1e3, encode * 1e3),
    )


class Service:
    """All models of a worker, found by name and version."""

    def __init__(
        self,
        models: Sequence[Model],
        limits: Limits,
        metrics: Metrics,
        *,
        outputs: Sequence[str] | None = None,
        threshold: float | None = None,
        target: float | None = None,
        defaults: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """defaults: of models that have outputs and a threshold of their own, by name."""
        self.limits = limits
        self.metrics = metrics
        self.draining = False
        self.served: dict[str, Served] = {}
        for model in models:
            if model.name in self.served:
                raise UsageError(f"two models are called {model.name!r}; serve one of them under another name")
            chosen = (defaults or {}).get(model.name, {"outputs": outputs, "threshold": threshold})
            self.served[model.name] = Served(model, limits, metrics.ledger(model.name), **chosen, target=target)

    @property
    def first(self) -> Served:
        return next(iter(self.served.values()))

    @property
    def ready(self) -> bool:
        return not self.draining

    def find(self, name: str, version: str | None = None) -> Served:
        """The model; raises ModelNotFound naming the nearest."""
        served = self.served.get(name)
        if served is None:
            near = nearest(name, list(self.served))
            hint = f"did you mean {near!r}?" if near else f"served are {listed(list(self.served))}"
            raise ModelNotFound(f"no model of that name is served; {hint}")
        if version is not None and version != served.model.version:
            raise ModelNotFound(f"the model {served.model.name!r} is served in version {served.model.version} only")
        return served

    async def close(self) -> None:
        """Finish what was taken, refuse what comes, end the models."""
        self.draining = True
        await asyncio.gather(*[served.batcher.stop() for served in self.served.values()])
        for served in self.served.values():
            await asyncio.to_thread(served.model.close)
