"""Lookups: what a job has predicted, answered by key, and predicted live where there is nothing (or nothing right).

Each answer tells its source. `batch`: the stored result. `stale`: a stored one that is older than it should be, or of
another model than the one served, where no row was at hand (or on_stale = "answer"). `live`: predicted now, from the
row that was sent or is in the configured table. `changed`: predicted now, since the row that was sent is not the one
that was scored. All stored results of one answer come from one edition.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from time import monotonic
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from bimodal import predictions
from bimodal.config.tables import StoreTable
from bimodal.errors import BimodalError, InputError, ModelNotFound, NoPrediction, SourceError, Unavailable
from bimodal.field import listed, nearest
from bimodal.predictions.collected import Collector
from bimodal.predictions.contract import LONGEST, Edition, Found, StoreReader
from bimodal.predictions.fingerprint import fingerprint
from bimodal.realtime import gather, openapi
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.errands import Errands
from bimodal.realtime.exchange import JSON, Request, Respond, Response
from bimodal.realtime.exposition import block
from bimodal.realtime.extension import Extension
from bimodal.realtime.failure import failure
from bimodal.realtime.head import SLASH
from bimodal.realtime.layout import LOOKUP, SOURCES
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import choice
from bimodal.realtime.protocols.keys import Asked, Key, Reader, chosen, of_query, typed
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.service import Served
from bimodal.rows import Rows

log = logging.getLogger("bimodal.realtime")

FLUSH = 1.0  # seconds until what was collected is written
ROWS = "bimodal.jobs.rows:open_rows"  # makes what looks for a key's row in a table

Cancel = Callable[[], None]


class Table(Protocol):
    """The rows of keys, from a table. `fetch` blocks, and is called from one thread at a time."""

    def fetch(self, keys: Sequence[Key]) -> Sequence[Mapping[str, Any] | None]: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class Ask:
    """One lookup on its way. sources: of each key, as it will be told. live: the keys to be predicted now, and `rows`
    theirs.
    """

    request: Request
    respond: Respond
    asked: Asked
    deadline: float
    began: float
    path: bool = False
    settled: bool = False
    edition: Edition | None = None
    found: Sequence[Found | None] = ()
    marks: dict[int, int] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    work: Work | None = None
    task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """The caller left."""
        self.settled = True
        if self.work is not None:
            self.work.cancel()
        if self.task is not None:
            self.task.cancel()


class Lookup:
    """The lookups of one model, and a door of its batcher. Made on the event loop's thread."""

    route = LOOKUP
    content_type = JSON

    def __init__(
        self,
        served: Served,
        reader: StoreReader,
        table: StoreTable,
        collector: Collector,
        rows: Table | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> None:
        """outputs: what the job predicts, which answers have before there is an edition."""
        self.served, self.reader, self.table = served, reader, table
        model = served.model
        self._outputs = outputs or served.outputs
        self._begin = len(prefix(model.name))
        self._bodies = Reader(served.signature, served.limits.depth, served.limits.rows)
        self._collector, self._flushing = collector, False
        self._store = None if reader.prompt else Errands(reader.look, "bimodal-store")
        self._rows, self._fetch = rows, None
        if rows is not None:
            self._fetch = Errands(partial(_fetched, rows), "bimodal-rows")
        self._encode = msgspec.json.Encoder(enc_hook=plain).encode
        told = {"model": f"{model.name}/{model.version}", "digest": model.digest, "run": None}
        self._now = {source: self._tail(source, 0, told) for source in ("live", "changed")}
        self._second = 0  # of which `_hit` is, as of the edition
        self._edition: Edition | None = None
        self._hit, self._fresh, self._integers = b"", False, True
        self._find, self._count_hit = reader.find, served.ledger.hit
        self._headers: tuple[tuple[bytes, bytes], ...] = ()

    # -- in ---------------------------------------------------------------------------------------------------------

    def get(self, request: Request, respond: Respond) -> Cancel | None:
        """A key in the path."""
        text = request.path[self._begin :].replace(SLASH, "/")
        if self._store is None and not request.query and self._answer_plainly(text, respond, path=True):
            return None
        try:
            if len(text) > LONGEST:
                raise InputError(f"the key in the path is longer than {LONGEST} characters")
            asked = Asked((text,), outputs=of_query(request.query).outputs)
            return self._take(Ask(request, respond, asked, self._deadline(request), monotonic(), path=True))
        except Exception as error:
            self.served.refuse(self.route, request, respond, error)
            return None

    def post(self, request: Request, respond: Respond) -> Cancel | None:
        """One key or many in the body."""
        began = monotonic()
        try:
            asked = self._bodies.of_body(request.body, request.query)
            if asked.plain and self._store is None and self._answer_plainly(asked.keys[0], respond):
                return None
            return self._take(Ask(request, respond, asked, self._deadline(request), began))
        except Exception as error:
            self.served.refuse(self.route, request, respond, error)
            return None

    def _deadline(self, request: Request) -> float:
        return monotonic() + choice.seconds(request.headers, self.served.limits.deadline)

    def _answer_plainly(self, key: Key, respond: Respond, *, path: bool = False) -> bool:
        """The way of most: a key that is there, and fresh. Whatever is otherwise goes the whole way."""
        if path and self._integers:
            key = _number(key)
        edition, found = self._find(key)
        if found is None or edition is None:
            return False
        now = int(time.time())
        if edition is not self._edition or now != self._second:
            self._renew(edition, now)
        if not self._fresh:
            return False
        respond(Response(200, b"{%b%b" % (found.body, self._hit), JSON, self._headers))
        self._count_hit()
        return True

    def _renew(self, edition: Edition, now: int) -> None:
        """What all answers of this edition have in common, within this second."""
        self._edition, self._second = edition, now
        self._integers = edition.kind == "int"
        self._fresh = not self._stale(edition, now)
        self._hit = self._tail("batch", max(0, now - int(edition.committed)), _told(edition))
        name, _, version = edition.model.rpartition("/")
        self._headers = ((b"x-model", f"{quote(name)}/{quote(version)}".encode("ascii")),)

    def _stale(self, edition: Edition, now: float) -> bool:
        old = self.table.max_age is not None and now - edition.committed > self.table.max_age
        return old or edition.digest != self.served.model.digest

    def _tail(self, source: str, age: int, told: Mapping[str, Any]) -> bytes:
        """The end of an answer's object, behind its outputs."""
        return b"," + self._encode({"source": source, "age": age, **told})[1:]

    # -- looking ----------------------------------------------------------------------------------------------------

    def _take(self, ask: Ask) -> Cancel | None:
        """Look at once where that is prompt and nothing has to be fetched; else beside the loop."""
        if self._store is None:
            edition, found = self._look(ask)
            self._judge(ask, edition, found)
            if not self._missing(ask):
                self._go_on(ask)
                return ask.cancel if ask.work is not None and not ask.work.settled else None
        ask.task = asyncio.get_running_loop().create_task(self._beside(ask))
        return ask.cancel

    def _look(self, ask: Ask) -> tuple[Edition | None, Sequence[Found | None]]:
        keys = typed(ask.asked.keys, self.reader.edition(), path=ask.path)
        return self.reader.look(keys)

    async def _beside(self, ask: Ask) -> None:
        try:
            if self._store is not None:
                edition, found = await self._ask_store(ask)
                self._judge(ask, edition, found)
            rows = await self._fetch_rows(ask)
            if not ask.settled:
                self._go_on(ask, rows)
        except Exception as error:
            self._refuse(ask, error)

    async def _ask_store(self, ask: Ask) -> tuple[Edition | None, Sequence[Found | None]]:
        """From a shared store. Where it cannot be reached, rows that were sent are predicted all the same."""
        assert self._store is not None
        known = self.reader.edition()
        try:
            found = await self._store.ask(typed(ask.asked.keys, known, path=ask.path), ask.deadline)
            if found[0] is not None and (known is None or known.kind != found[0].kind):
                found = await self._store.ask(typed(ask.asked.keys, found[0], path=ask.path), ask.deadline)
        except SourceError as error:
            if len(ask.asked.places) == len(ask.asked.keys):
                return None, [None] * len(ask.asked.keys)
            log.error("the prediction store of %s: %s", self.served.model.name, error)
            raise Unavailable("the prediction store cannot be reached; a key with its row is predicted live") from None
        return found

    def _judge(self, ask: Ask, edition: Edition | None, found: Sequence[Found | None]) -> None:
        """What each answer will be, by what was sent along."""
        asked = ask.asked
        ask.edition, ask.found = edition, found
        if edition is not None:
            chosen(asked.outputs, edition.outputs)
        stale = edition is not None and self._stale(edition, time.time())
        if asked.rows is not None:
            marks = fingerprint(asked.rows, self.served.signature).tolist()
            ask.marks = dict(zip(asked.places, marks, strict=True))
        ask.sources = [self._source(one, ask.marks.get(place), stale) for place, one in enumerate(found)]

    def _source(self, found: Found | None, mark: int | None, stale: bool) -> str:
        """mark: the fingerprint of the row that was sent, if one was."""
        if found is None:
            return "miss" if mark is None else "live"
        if mark is not None and found.fingerprint and found.fingerprint != mark:
            return "changed"
        if not stale:
            return "batch"
        return "live" if mark is not None and self.table.on_stale == "live" else "stale"

    def _missing(self, ask: Ask) -> list[int]:
        """The keys whose rows are worth fetching."""
        if self._fetch is None:
            return []
        wanted = ("miss", "stale") if self.table.on_stale == "live" else ("miss",)
        return [place for place, source in enumerate(ask.sources) if source in wanted]

    async def _fetch_rows(self, ask: Ask) -> dict[int, Rows]:
        """Rows from the table, judged. Trouble with it does not keep what is stored from being answered."""
        places = self._missing(ask)
        if not places or self._fetch is None:
            return {}
        keys = typed(ask.asked.keys, ask.edition, path=ask.path)
        try:
            _, records = await self._fetch.ask([keys[place] for place in places], ask.deadline)
        except BimodalError as error:
            log.error("the rows of %s cannot be fetched: %s", self.served.model.name, error)
            if "miss" in ask.sources:
                raise Unavailable("the table with the rows cannot be asked; send the row with its key") from None
            return {}
        rows = {}
        for place, record in zip(places, records, strict=True):
            if record is not None:
                try:
                    rows[place] = self._bodies.judged([record])
                except InputError as error:
                    log.warning("a row of the table does not fit %s: %s", self.served.model.name, error)
        return rows

    # -- answering --------------------------------------------------------------------------------------------------

    def _go_on(self, ask: Ask, fetched: Mapping[int, Rows] | None = None) -> None:
        """Answer from the store alone, or hand the rest to the model."""
        for place in fetched or ():
            ask.sources[place] = "live"
        self._collect(ask, fetched or {})
        ask.live = [place for place, source in enumerate(ask.sources) if source in self._now]
        if ask.live:
            self._predict(ask, fetched or {})
        elif ask.sources == ["miss"] and not ask.asked.many:
            self._miss(ask)
        else:
            self._finish(ask)

    def _predict(self, ask: Ask, fetched: Mapping[int, Rows]) -> None:
        sent = {place: at for at, place in enumerate(ask.asked.places)}
        parts = [fetched[place] if place in fetched else _row(ask.asked.rows, sent[place]) for place in ask.live]
        rows = Rows.concat(parts) if len(parts) != len(sent) or fetched else _all(ask.asked.rows)
        outputs = ask.asked.outputs
        if outputs is None:
            wanted = self._outputs if ask.edition is None else ask.edition.outputs
            known = {each.name for each in self.served.signature.outputs}
            outputs = wanted if known.issuperset(wanted) else None
        key = self.served.lane(self.served.choose(outputs, None), rows)
        now = monotonic()
        ask.work = Work(
            self,
            ask.request,
            ask.respond,
            gather.ready,
            [rows],
            rows.count,
            key,
            ask.deadline,
            now,
            now - ask.began,
            ask,
        )
        self.served.batcher.submit(ask.work)

    def _miss(self, ask: Ask) -> None:
        self.served.ledger.looked(404, "miss")
        ask.settled = True
        ask.respond(
            failure(
                NoPrediction("there is no result of this key; a key that is sent with its row is predicted live"),
                ask.request.headers,
            )
        )

    def _finish(self, ask: Ask) -> None:
        """All from the store."""
        ask.settled = True
        body = self._told_all(ask, None, 0)
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if ask.edition is not None:
            if ask.edition is not self._edition:
                self._renew(ask.edition, int(time.time()))
            headers = self._headers
        ask.respond(Response(200, body, JSON, headers))
        self.served.ledger.looked(200, *["hit" if each == "batch" else each for each in ask.sources])

    def _refuse(self, ask: Ask, error: Exception) -> None:
        if not ask.settled:
            ask.settled = True
            self.served.refuse(self.route, ask.request, ask.respond, error)

    def _told_all(self, ask: Ask, answer: Answer | None, start: int) -> bytes:
        """The body. answer: of the model, in which the rows of `ask.live` begin at `start`."""
        now = int(time.time())
        wanted = None if ask.edition is None else chosen(ask.asked.outputs, ask.edition.outputs)
        places = {place: start + at for at, place in enumerate(ask.live)}
        told = []
        for place, source in enumerate(ask.sources):
            if place in places and answer is not None:
                values = {name: column[places[place]] for name, column in answer.lists}
                told.append(self._encode(values)[:-1] + self._now[source])
            else:
                told.append(self._stored(ask, ask.found[place], source, wanted, now))
        return b'{"answers":[%b]}' % b",".join(told) if ask.asked.many else told[0]

    def _stored(self, ask: Ask, found: Found | None, source: str, wanted: Sequence[str] | None, now: int) -> bytes:
        edition = ask.edition
        if found is None or edition is None:
            names = ask.asked.outputs or (self._outputs if edition is None else edition.outputs)
            return self._encode({**dict.fromkeys(names), "source": "miss"})
        tail = self._tail(source, max(0, now - int(edition.committed)), _told(edition))
        if wanted is None:
            return b"{%b%b" % (found.body, tail)
        values = msgspec.json.decode(b"{%b}" % found.body, type=dict[str, msgspec.Raw])
        return self._encode({name: values[name] for name in wanted})[:-1] + tail

    # -- as a door of the batcher -----------------------------------------------------------------------------------

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        ask: Ask = work.extra
        body = self._told_all(ask, answer, start)
        ask.settled = True
        self.served.ledger.looked(None, *["hit" if each == "batch" else each for each in ask.sources])
        return body

    def recheck(self, work: Work) -> Rows:
        rows: Rows = work.values[0]  # they were judged before they were submitted
        return rows

    def fail(self, work: Work, error: BaseException) -> None:
        work.extra.settled = True
        self.served.refuse(self.route, work.request, work.respond, error)

    # -- what the next run is told ----------------------------------------------------------------------------------

    def _collect(self, ask: Ask, fetched: Mapping[int, Rows]) -> None:
        new = [place for place, one in enumerate(ask.found) if one is None or ask.sources[place] == "changed"]
        if not new:
            return
        records = None
        keys = typed(ask.asked.keys, ask.edition, path=ask.path)
        for place in new:
            reason = "changed" if ask.sources[place] == "changed" else "miss"
            mark = ask.marks.get(place, 0)
            if mark and records is None:
                records = self._bodies.records(ask.request.body)
            self._collector.add(keys[place], reason, records[place] if mark and records else None, mark)
        if self._collector.waiting and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_later(FLUSH, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._collector.flush()

    async def close(self) -> None:
        self._collector.flush()
        for each in (self._store, self._fetch):
            if each is not None:
                await each.close()
        if self._rows is not None:
            await asyncio.to_thread(self._rows.close)
        await asyncio.to_thread(self.reader.close)


def _told(edition: Edition) -> dict[str, Any]:
    return {"model": edition.model, "digest": edition.digest, "run": edition.run}


def _number(text: Key) -> Key:
    """A key of a path as a number, if it is plainly one."""
    return int(text) if isinstance(text, str) and text.isdecimal() and text.isascii() and len(text) < 19 else text


def _row(rows: Rows | None, at: int) -> Rows:
    return _all(rows).slice(at, at + 1)


def _all(rows: Rows | None) -> Rows:
    assert rows is not None
    return rows


def _fetched(table: Table, keys: list[Key]) -> tuple[None, Sequence[Mapping[str, Any] | None]]:
    """Each key once."""
    different = list(dict.fromkeys(keys))
    found = dict(zip(different, table.fetch(different), strict=True))
    return None, [found[key] for key in keys]


def prefix(name: str) -> str:
    """Where a model's keys begin in a path, as the app sees it."""
    return f"/models/{name}/lookup/"


# -- wiring ------------------------------------------------------------------------------------------------------------


def extend(extension: Extension) -> None:
    """Add the lookups of the models for which the spec has a store. Blocks while shared stores are opened."""
    service, lookups = extension.service, list[Lookup]()
    for name, spec in extension.spec.get("stores", {}).items():
        served = service.served.get(name)
        if served is None:
            near = nearest(name, list(service.served))
            hint = f"did you mean {near!r}?" if near else f"served are {listed(list(service.served))}"
            raise ModelNotFound(f"a prediction store is configured for {name!r}, which is not served; {hint}")
        lookup = _opened(served, spec, extension.worker)
        whole = f"/models/{name}/lookup"
        extension.routes["POST", whole] = lookup.post
        for method in ("GET", "HEAD"):
            extension.prefixes[method, prefix(name)] = lookup.get
        extension.paths |= paths(lookup)
        extension.closes.append(lookup.close)
        lookups.append(lookup)
    if lookups:
        extension.texts.append(partial(_text, extension.metrics, lookups))


def _opened(served: Served, spec: Mapping[str, Any], worker: int) -> Lookup:
    table = StoreTable(**spec["table"])
    rows = None
    if table.rows is not None:
        module, _, function = spec.get("rows", ROWS).partition(":")
        rows = getattr(import_module(module), function)(table.rows, table.key, served.signature)
    collector = Collector(spec["folder"], worker)
    reader = predictions.open_reader(table, spec["folder"])
    return Lookup(served, reader, table, collector, rows, _predicted(served, spec))


def _predicted(served: Served, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The outputs that the store's job predicts."""
    names = served.model.resolve_outputs(spec.get("outputs")) if spec.get("outputs") else served.outputs
    if spec.get("proba"):
        more = [each.name for each in served.signature.outputs if "probability" in each.name]
        names = tuple(dict.fromkeys([*names, *more]))
    return names


def _text(counters: Metrics, lookups: Sequence[Lookup]) -> str:
    """More of /metrics. Counters are of all workers; the edition is the one that this worker reads."""
    names = [each.served.model.name for each in lookups]
    editions = [(each.served.model.name, each.reader.edition()) for each in lookups]
    known = [(name, edition) for name, edition in editions if edition is not None]
    now = time.time()
    looked = [
        ((name, source), counters.total(counters.layout.lookups[name, source])) for name in names for source in SOURCES
    ]
    ages = [((name,), max(0.0, now - edition.committed)) for name, edition in known]
    counts = [((name,), float(edition.count)) for name, edition in known]
    return (
        block("bimodal_lookups_total", looked)
        + block("bimodal_lookup_age_seconds", ages)
        + block("bimodal_lookup_keys", counts)
    )


# -- /openapi.json -----------------------------------------------------------------------------------------------------


def paths(lookup: Lookup) -> dict[str, Any]:
    """What is told of the routes, with examples that can be sent."""
    served, name = lookup.served, lookup.served.model.name
    edition = lookup.reader.edition()
    key: Key = "customer-17" if edition is not None and edition.kind == "text" else 17
    signature = served.signature
    keys: dict[str, Any] = {"type": ["integer", "string"]}
    row = openapi.record(signature)
    example: dict[str, Any] = {"key": key}
    if not signature.open:
        example["row"] = openapi.values(openapi.example(signature))
    one = {"type": "object", "required": ["key"], "properties": {"key": keys, "row": row, "outputs": OUTPUTS}}
    many = {
        "type": "object",
        "required": ["keys"],
        "properties": {
            "keys": {"type": "array", "items": keys, "minItems": 1, "maxItems": served.limits.rows},
            "rows": {"type": "array", "items": {"anyOf": [row, {"type": "null"}]}},
            "outputs": OUTPUTS,
        },
    }
    answer = _answer(lookup)
    several = {"type": "object", "properties": {"answers": {"type": "array", "items": answer}}}
    failures = openapi.failures()
    failures["404"] = {**failures["404"], "description": "No result of this key, and no row to predict from."}
    query = {"name": "outputs", "in": "query", "description": "Names of outputs.", "schema": {"type": "string"}}
    where = {"name": "key", "in": "path", "required": True, "schema": keys, "example": key}
    where["description"] = "Percent-encoded; it may hold slashes."
    done = {"description": "The results, and where each came from."}
    path = f"/models/{quote(name)}/lookup"
    return {
        path: {
            "post": {
                "tags": [name],
                "summary": f"Look up predictions of {name} by key",
                "operationId": f"lookup_{name}",
                "parameters": [query],
                "requestBody": {
                    "required": True,
                    "content": {openapi.JSON: {"schema": {"oneOf": [one, many]}, "example": example}},
                },
                "responses": {
                    "200": {**done, "content": {openapi.JSON: {"schema": {"oneOf": [answer, several]}}}},
                    **failures,
                },
            }
        },
        f"{path}/{{key}}": {
            "get": {
                "tags": [name],
                "summary": f"Look up one prediction of {name}",
                "operationId": f"lookup_{name}_key",
                "parameters": [where, query],
                "responses": {"200": {**done, "content": {openapi.JSON: {"schema": answer}}}, **failures},
            }
        },
    }


OUTPUTS = {"type": "array", "items": {"type": "string"}, "description": "Of those that are stored."}


def _answer(lookup: Lookup) -> dict[str, Any]:
    """JSON Schema of one answer."""
    outputs = {each.name: openapi.schema(each) for each in lookup.served.signature.outputs}
    told = {
        "source": {"enum": ["batch", "live", "stale", "changed", "miss"]},
        "age": {"type": "number", "description": "Seconds since it was committed; 0 where it was predicted now."},
        "model": {"type": "string", "description": "The name and version of the model that predicted it."},
        "digest": {"type": "string", "description": "That model's digest."},
        "run": {"type": ["string", "null"], "description": "The run whose result it is."},
    }
    return {"type": "object", "required": ["source"], "properties": {**outputs, **told}}
