"""What stands behind every wire: it finds the model, takes the work, answers each batch, and keeps the ledger."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from bimodal.errors import BimodalError, ModelFailed, NoRepository, UsageError
from bimodal.model import Model
from bimodal.realtime.admission import TARGET
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Batch, Batcher, Key, Work
from bimodal.realtime.exchange import Request, Respond, Response
from bimodal.realtime.failure import Headers, failure, status
from bimodal.realtime.ledger import Ledger
from bimodal.realtime.limits import Limits
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.note import Note, Stages
from bimodal.realtime.shelf import Shelf
from bimodal.realtime.states import NO_REPOSITORY, READY, STATISTICS, TAKEN, check_load, check_unload, entry
from bimodal.realtime.streaming import Pieces, Streams
from bimodal.rows import Rows
from bimodal.runtimes.process import ProcessRuntime
from bimodal.settings import CONTROLS

log = logging.getLogger("bimodal.realtime")

Record = Callable[[Batch, Sequence[tuple[Work, bytes]]], None]
T = TypeVar("T")
_, EXPLICIT, _ = CONTROLS
NAMED = 10  # models that are not there, told by name
_TIMING = b"parse;dur=%.3f, check;dur=%.3f, queue;dur=%.3f, predict;dur=%.3f, encode;dur=%.3f"
_LOOK = 0.1  # seconds between two looks whether the answers in pieces are over


class Control(Protocol):
    """What a worker's service asks of the process that leads all workers."""

    settled: bool  # whether all models that should be there are
    absent: Sequence[str]  # names of those that are not

    @property
    def loading(self) -> bool:
        """Whether some model is about to be there."""

    async def ask(self, verb: str, name: str) -> None:
        """Have it done in all workers. Raises what keeps it from being done."""

    def entries(self, served: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
        """What there is in the repository, in the words of `Service.index`. served: names and versions."""


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
        self.recorder: Record | None = None  # told of each batch when its answers are out; it must not wait
        self._identity = (b"x-model", f"{quote(model.name)}/{quote(model.version)}".encode("ascii"))
        self.versions: tuple[str, ...] = (model.version,)  # that are served of its name, this one among them
        self._doors: dict[Callable[[Served], Any], Any] = {}
        self._held = 0
        self._free = asyncio.Event()
        self._free.set()
        self.streams = Streams(model, self.batcher, ledger, limits, self.hold)
        if isinstance(model.runtime, ProcessRuntime):
            model.runtime.answer_bytes = limits.body_bytes
            model.runtime.label = model.name
            model.runtime.died = ledger.crashed
        self._unwatch = ledger.watch(lambda: self.batcher.in_flight + self.streams.open)
        self._unwatch_streams = ledger.watch_streams(lambda: self.streams.open)

    @property
    def available(self) -> bool:
        """Whether a request would be answered soon: where the model runs in a process, that or the next one lives."""
        runtime = self.model.runtime
        return not isinstance(runtime, ProcessRuntime) or runtime.available

    def door(self, kind: Callable[[Served], T]) -> T:
        """What `kind` makes of this, made once: for wires that look models up by name at each call."""
        if kind not in self._doors:
            self._doors[kind] = kind(self)
        made: T = self._doors[kind]
        return made

    def hold(self) -> Callable[[], None]:
        """Keep this answering until the function that is returned is called: for callers who go on asking it, though
        another may have taken its place meanwhile (a stream).
        """
        self._held += 1
        self._free.clear()
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._held -= 1
                if not self._held:
                    self._free.set()

        return end

    async def retire(self) -> None:
        """Finish what was taken, for those who hold it also what they still ask, then close the model."""
        await self._free.wait()
        while self.streams.open:  # noqa: ASYNC110 - an answer in pieces takes seconds; nobody waits for this
            await asyncio.sleep(_LOOK)
        await self.close()

    async def close(self) -> None:
        """Finish what was taken, refuse what comes, end the model."""
        await self.streams.stop()
        await self.batcher.stop()
        self._unwatch()
        self._unwatch_streams()
        await asyncio.to_thread(self.model.close)

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

    def stream(self, rows: Rows, key: Key, deadline: float, *, whole: bool = False) -> Pieces:
        """The answer in pieces, as `streaming.py` says: of a model that streams, else one piece. deadline: of the first
        piece, on the monotonic clock; whole: of all, for who tells nothing before the end. Iterate it to its end, or
        close it. Raises InputError, Overloaded, Unavailable.
        """
        return self.streams.begin(rows, self.lane(key, rows), deadline, whole=whole)

    def refuse(self, route: str, request: Request, respond: Respond, error: BaseException) -> None:
        """Tell the caller why there is no answer, and count it."""
        code = error.code if isinstance(error, BimodalError) else "internal"
        self.ledger.refused(route, status(error), code, monotonic() - request.received)
        response = failure(error, request.headers)
        response.note = Note(self.model.name, self.model.version, code)
        respond(response)

    def _settle(self, batch: Batch) -> None:
        """Answer the works of a batch. All bodies are made before the first is sent, so that the time is known."""
        start = monotonic()
        answer = Answer(batch.answer, batch.given, single=1 < len(batch.works) == batch.given.count)
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
        first = bodies[0][0]
        parse, queued = first.parse, first.queued
        if len(bodies) > 1:
            parse = sum([work.parse for work, _ in bodies]) / len(bodies)
            queued = sum([work.queued for work, _ in bodies]) / len(bodies)
        queue = max(0.0, batch.began - batch.check - queued)
        headers, note = self._told((parse, batch.check, queue, batch.seconds, encoding))
        self.ledger.answers(batch, bodies)
        for work, body in bodies:
            work.settled = True
            if not batch.inline:
                headers, note = self._told((work.parse, batch.check, batch.waited(work), batch.seconds, encoding))
            try:
                work.respond(Response(200, body, work.door.content_type, headers, note))
            except Exception:
                log.exception("an answer could not be sent")
        self.ledger.answered(batch, bodies, parse, queue, encoding)
        if self.recorder is not None:
            self.recorder(batch, bodies)

    def _told(self, stages: Stages) -> tuple[Headers, Note]:
        """What goes with an answer: its headers, and what is noted of it."""
        timed = timing(stages)
        return (self._identity, timed), Note(self.model.name, self.model.version, "", stages, timed[1])


def timing(stages: Stages) -> tuple[bytes, bytes]:
    """The Server-Timing header: where the milliseconds went.

    For requests of one loop turn they are those of the batch: the mean of parsing and waiting, one check, one call, the
    encoding of all answers.
    """
    parse, check, queue, predict, encode = stages
    return b"server-timing", _TIMING % (parse * 1e3, check * 1e3, queue * 1e3, predict * 1e3, encode * 1e3)


class Service:
    """All models of a worker, found by name and version. They may come and go: see `shelf.py`."""

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
        repository: str | None = None,
        record: Callable[[Model], Record | None] | None = None,
    ) -> None:
        """defaults: of models that have outputs and a threshold of their own, by name. repository: how that of the
        server is controlled (`settings.CONTROLS`), where it has one: several models may have one name, in different
        versions. record: gives the recorder of each model, None for those that have none.
        """
        self.limits = limits
        self.metrics = metrics
        self.draining = False
        self.leaving: set[Callable[[], None]] = set()  # told when the server begins to drain: calls that are held open
        self.shelf = Shelf()
        self.control: Control | None = None
        self.loads = repository == EXPLICIT  # whether callers may load and unload
        self.insecure = False  # whether other machines reach the server, and nothing is asked of them
        self.retiring: set[asyncio.Task[None]] = set()
        self._given = {"outputs": outputs, "threshold": threshold}
        self._target, self._defaults = target, defaults or {}
        self._record = record
        twice = [name for name, times in Counter(each.name for each in models).items() if times > 1]
        if twice and repository is None:
            raise UsageError(f"two models are called {twice[0]!r}; serve one of them under another name")
        self.shelf.change([self.made(model) for model in models])

    def made(self, model: Model) -> Served:
        """What a model is served as, before anybody finds it. Raises UsageError for a name that cannot be."""
        if model.name == STATISTICS:
            raise UsageError(TAKEN)
        chosen = self._defaults.get(model.name, self._given)
        served = Served(model, self.limits, self.metrics.ledger(model.name), **chosen, target=self._target)
        if self._record is not None:
            served.recorder = self._record(model)
        return served

    @property
    def served(self) -> Mapping[str, Served]:
        """The default version of each model, by name; those that came first stand first."""
        return self.shelf.defaults

    @property
    def first(self) -> Served | None:
        """The model of `/predict`."""
        return next(iter(self.shelf.defaults.values()), None)

    @property
    def taking(self) -> bool:
        """Whether requests are taken."""
        return not self.draining

    @property
    def ready(self) -> bool:
        """Whether requests are taken, and all models that should be there are, each with a process that lives."""
        return self.taking and (self.control is None or self.control.settled) and not self.lifeless

    @property
    def lifeless(self) -> list[str]:
        """Names of models whose process died and that no other takes over from."""
        return [each.model.name for each in self.shelf if not each.available]

    @property
    def loading(self) -> bool:
        """Whether some model is about to be there."""
        return self.control is not None and self.control.loading

    def lack(self) -> dict[str, Any]:
        """What keeps it from being ready, for who asks: the models that are not there, a few of them by name, and where
        the reasons are.
        """
        absent = () if self.control is None or not self.taking else self.control.absent
        if not absent:
            lifeless = self.lifeless
            return {"models": lifeless[:NAMED], "reasons": "their processes are being replaced"} if lifeless else {}
        more = {"more": len(absent) - NAMED} if len(absent) > NAMED else {}
        return {"models": list(absent[:NAMED]), **more, "reasons": "POST /v2/repository/index"}

    def find(self, name: str, version: str | None = None) -> Served:
        """The model in this version, or of this alias, or in its default version. Raises ModelNotFound naming the
        nearest.
        """
        return self.shelf.find(name, version)

    # -- the repository ---------------------------------------------------------------------------------------------

    def index(self, ready: bool | None = None) -> list[dict[str, str]]:
        """Each version of each model with its `state` (READY, LOADING, UNLOADING, UNAVAILABLE) and, where it is not
        READY, the `reason`. ready: those that are READY alone.
        """
        served = [(each.model.name, each.model.version) for each in self.shelf]
        entries = _ready(served) if self.control is None else self.control.entries(served)
        return [each for each in entries if not ready or each["state"] == READY]

    async def load(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Serve a model of the repository as it is there now, in all workers. What has not changed is left alone; where
        something cannot be loaded all stays as it was. Raises NotFound, UsageError, and what keeps it from loading.
        """
        check_load(name, parameters or {})
        await self._controlled().ask("load", name)

    async def unload(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Serve a model no longer, in all workers. Raises NotFound, UsageError."""
        check_unload(parameters or {})
        await self._controlled().ask("unload", name)

    def _controlled(self) -> Control:
        if self.control is None:
            raise NoRepository(NO_REPOSITORY)
        return self.control

    # -- coming and going -------------------------------------------------------------------------------------------

    def retire(self, served: Served) -> asyncio.Task[None]:
        """One that nobody finds any more ends when it has answered what it took."""
        task = asyncio.get_running_loop().create_task(served.retire())
        self.retiring.add(task)
        task.add_done_callback(self.retiring.discard)
        return task

    def drain(self) -> None:
        """The server will end: it is ready no more, and those whose calls are held open are told. What comes is still
        answered.
        """
        self.draining = True
        for each in list(self.leaving):
            each()

    async def close(self) -> None:
        """Finish what was taken, refuse what comes, end the models."""
        self.drain()
        await asyncio.gather(*self.retiring, *[served.close() for served in self.shelf])


def _ready(served: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [entry(name, version, READY) for name, version in served]
