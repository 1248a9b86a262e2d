"""The HTTP of jobs: start, watch, cancel, fetch. An extension of the server's workers; what runs them is elsewhere.

POST enters a run in the job store and answers 202; a worker (of `bimodal up`, here or on another machine) takes it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from bimodal.config import Config, read
from bimodal.errors import BimodalError, Conflict, MalformedInput, MethodNotAllowed, NotFound, UsageError
from bimodal.jobs import adhoc, wording
from bimodal.jobs.downloads import Download
from bimodal.jobs.metrics import JobMetrics
from bimodal.jobs.running import Jobs, Listed
from bimodal.jobs.store import JobRun, new_id
from bimodal.jobs.uploads import Upload, suffix_of
from bimodal.realtime.app import Cancel, Handler, Streamer
from bimodal.realtime.exchange import Intake, Request, Respond, Response, Writer
from bimodal.realtime.extension import Extension
from bimodal.realtime.failure import failure
from bimodal.realtime.service import Served

KEY = b"idempotency-key"
KEYS = re.compile(rb"[\x21-\x7e]{1,128}")
RUN = re.compile(r"/runs/(?P<run>[0-9a-f]{4,32})(?:/(?P<part>result|rejects|cancel))?")
MOST = 200  # runs of one list

Work = Callable[[Request], Awaitable[Response]]


def extend(extension: Extension) -> None:
    """Add the routes, the metrics and the description. spec["config"]: the path of bimodal.toml."""
    config = read(Path(extension.spec["config"]))
    desk = Desk(Jobs(config), int(extension.spec["upload_limit"]))
    numbers = JobMetrics(desk.jobs)
    extension.texts.append(numbers.text)
    extension.routes["GET", "/jobs"] = answered(desk.all)
    for name in config.jobs:
        for method, path, work in (
            ("GET", f"/jobs/{name}", desk.one(name)),
            ("GET", f"/jobs/{name}/runs", desk.runs(name)),
            ("POST", f"/jobs/{name}/runs", desk.start(name)),
        ):
            extension.routes[method, path] = answered(work)
    for name in extension.service.served:
        if name in config.models:
            extension.routes["GET", f"/models/{name}/runs"] = answered(desk.runs(adhoc.name_of(name)))
            extension.streams[f"/models/{name}/runs"] = desk.upload(extension.service.served[name])
    extension.prefixes["GET", "/jobs/"] = extension.prefixes["POST", "/jobs/"] = answered(desk.unknown)
    extension.prefixes["GET", "/runs/"] = answered(desk.run)
    extension.prefixes["POST", "/runs/"] = answered(desk.cancel)
    extension.stream_prefixes["GET", "/runs/"] = desk.download
    extension.paths |= described(config, list(extension.service.served))

    async def close() -> None:
        await asyncio.to_thread(desk.jobs.close)

    extension.closes.append(close)


def answered(work: Work) -> Handler:
    """The handler of a route whose work waits for the store."""

    def handle(request: Request, respond: Respond) -> Cancel | None:
        async def answer() -> None:
            try:
                response = await work(request)
            except Exception as error:  # told to the caller; what is unknown also to the log
                response = failure(error, request.headers)
            respond(response)

        return asyncio.get_running_loop().create_task(answer()).cancel  # type: ignore[return-value]

    return handle


class Desk:
    """What the routes do. most: bytes of an upload."""

    def __init__(self, jobs: Jobs, most: int) -> None:
        self.jobs, self._most = jobs, most

    @property
    def config(self) -> Config:
        return self.jobs.config

    async def all(self, request: Request) -> Response:
        return _json([listed(each, self.config) for each in await asyncio.to_thread(self.jobs.all)])

    def one(self, name: str) -> Work:
        async def work(request: Request) -> Response:
            return _json(
                listed(next(each for each in await asyncio.to_thread(self.jobs.all) if each.name == name), self.config)
            )

        return work

    def runs(self, name: str) -> Work:
        async def work(request: Request) -> Response:
            return _json(
                [told(each, self.config) for each in await asyncio.to_thread(self._latest, name, _limit(request))]
            )

        return work

    def _latest(self, name: str, limit: int) -> list[JobRun]:
        return self.jobs.store.runs(name, limit=limit)

    def start(self, name: str) -> Work:
        async def work(request: Request) -> Response:
            key, date = _key(request), _date(request)
            if key is not None and date is not None:
                raise UsageError("a date tells which run is meant; send it without an Idempotency-Key")
            options: dict[str, Any] = {"date": date, "key": key, "now": key is None and date is None, "wait": False}
            return _entered(await asyncio.to_thread(lambda: self.jobs.run(name, **options)), self.config)

        return work

    async def unknown(self, request: Request) -> Response:
        """A path below /jobs/ that is no route: most often the name is wrong."""
        name = unquote(request.path.split("/")[2])
        if name not in self.config.jobs:
            raise NotFound(f"there is no job {name[:40]!r}; there are: {', '.join(self.config.jobs) or 'none'}")
        if request.path.rstrip("/").count("/") == 2:
            raise MethodNotAllowed(f"/jobs/{name} takes GET; POST /jobs/{name}/runs starts a run")
        raise NotFound(f"no such route; there are /jobs/{name} and /jobs/{name}/runs")

    def upload(self, served: Served) -> Streamer:
        model = served.model.name

        def take(request: Request, writer: Writer) -> Intake | None:
            try:
                options, suffix, key = adhoc.options_of(_query(request)), suffix_of(request.headers), _key(request)
                adhoc.check(options, served.model)
            except BimodalError as error:
                writer.start(failure(error, request.headers))
                writer.end()
                return None
            run = new_id()
            folder = adhoc.folder_of(self.config, run)

            async def taken(path: Path) -> Response:
                return await asyncio.to_thread(self._enter, model, run, folder, options, key)

            return Upload(request, writer, folder / f"input{suffix}", self._most, taken)

        return take

    def _enter(self, model: str, run: str, folder: Path, options: adhoc.Options, key: str | None) -> Response:
        """Enter the run of an upload; one that was sent under the same key before is the one that counts."""
        (folder / adhoc.OPTIONS).write_bytes(msgspec.json.encode(options))
        now = self.jobs.clock()
        slot = f"run:{run}" if key is None else f"key:{key}"
        entered, new = self.jobs.store.ask(JobRun(run, adhoc.name_of(model), slot, "queued", now, now))
        if not new:
            adhoc.remove(folder)
        return _entered(entered, self.config)

    async def run(self, request: Request) -> Response:
        run, part = _parts(request.path)
        if part is not None:
            raise NotFound("no such route; a run has /result and /rejects to GET, and /cancel to POST")
        return _json(told(await asyncio.to_thread(self.jobs.show, run), self.config))

    async def cancel(self, request: Request) -> Response:
        run, part = _parts(request.path)
        if part != "cancel":
            raise NotFound("no such route; a run is cancelled by POST /runs/{id}/cancel")
        found = await asyncio.to_thread(self.jobs.show, run)
        return _json(told(await asyncio.to_thread(self.jobs.cancel, found.id), self.config))

    def download(self, request: Request, writer: Writer) -> Intake | None:
        match = RUN.fullmatch(request.path)
        if match is None or match["part"] not in ("result", "rejects"):
            return None

        async def found() -> Path:
            return await asyncio.to_thread(self._file, match["run"], match["part"])

        return Download(request, writer, found)

    def _file(self, run: str, part: str) -> Path:
        """The file of a run's result, or of its refused rows."""
        found = self.jobs.show(run)
        if part == "rejects":
            place = wording.rejects(found, self.config)
            if not place:
                raise NotFound(f"run {found.id} has no refused rows" if found.over else self._not_yet(found))
            return self._local(place)
        if found.status != "succeeded":
            raise Conflict(self._not_yet(found))
        output = self._local(str(found.report.get("output") or ""))
        if _writer(output) not in (None, found.report.get("run")):
            raise NotFound(f"a later run has replaced the result of run {found.id}")
        return output

    def _not_yet(self, run: JobRun) -> str:
        why = f": {wording.remote(run.error, run, self.config)}" if run.error else ""
        return f"run {run.id} is {run.status}{why}; GET /runs/{run.id} tells how far it is"

    def _local(self, place: str) -> Path:
        path = Path(self.config.folder, place)
        if not place or "://" in place or not path.is_file():
            raise NotFound("the result is no file of this server: it stands where the job's output says")
        return path


def _writer(output: Path) -> str | None:
    """The batch run that wrote a file, by the record beside it; None where there is none to be read."""
    try:
        record = msgspec.json.decode(output.with_name(f"{output.name}.run.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return str(record["run"]) if isinstance(record, dict) and "run" in record else None


def _entered(run: JobRun, config: Config) -> Response:
    """202 and where to look; 200 where the run is over already."""
    headers = ((b"location", f"/runs/{run.id}".encode()),)
    return Response(200 if run.over else 202, msgspec.json.encode(told(run, config)), headers=headers)


def _json(value: Any) -> Response:
    return Response(200, msgspec.json.encode(value))


def _parts(path: str) -> tuple[str, str | None]:
    match = RUN.fullmatch(path)
    if match is None:
        raise NotFound("there is no such run; its id is 16 hexadecimal digits, as POST has answered it")
    return match["run"], match["part"]


def _query(request: Request) -> Mapping[str, str]:
    return dict(parse_qsl(request.query, keep_blank_values=True))


def _limit(request: Request) -> int:
    given = _query(request).get("limit", "20")
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= MOST:
        raise UsageError(f"limit: a number from 1 to {MOST}")
    return int(given)


def _key(request: Request) -> str | None:
    key = request.headers.get(KEY)
    if key is None:
        return None
    if not KEYS.fullmatch(key):
        raise UsageError("Idempotency-Key: 1 to 128 printable characters without spaces")
    return key.decode("ascii")


def _date(request: Request) -> str | None:
    if not request.body.strip():
        return None
    try:
        asked = msgspec.json.decode(request.body, type=Asked)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise MalformedInput(f'the body: {error}; it is empty, or like {{"date": "2026-03-31"}}') from None
    return asked.date


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /jobs/{name}/runs. date: as of `bimodal jobs run --date`."""

    date: str | None = None


# -- what is told ------------------------------------------------------------------------------------------------------

REPORT = ("read", "predicted", "rejected", "resumed", "seconds", "model", "version", "digest", "notes")


def told(run: JobRun, config: Config) -> dict[str, Any]:
    """A run as JSON: times in ISO 8601, UTC; texts without this machine's paths."""
    values: dict[str, Any] = {"id": run.id, "job": run.job, "status": run.status, "attempt": run.attempt}
    for name in ("created", "due", "started", "ended"):
        values[name] = _time(getattr(run, name))
    error = None if run.error is None else wording.remote(run.error, run, config)
    values |= {"error": error, "progress": dict(run.progress)}
    values["report"] = {name: run.report[name] for name in REPORT if name in run.report}
    if "notes" in run.report:
        values["report"]["notes"] = [wording.remote(str(each), run, config) for each in run.report["notes"]]
    links = {"self": f"/runs/{run.id}"}
    if run.status == "succeeded":
        links["result"] = f"/runs/{run.id}/result"
    if wording.rejects(run, config):
        links["rejects"] = f"/runs/{run.id}/rejects"
    if not run.over:
        links["cancel"] = f"/runs/{run.id}/cancel"
    return {**values, "links": links}


def listed(job: Listed, config: Config) -> dict[str, Any]:
    """A job as JSON, without its addresses."""
    table = job.table
    when = table.schedule or (f"every {table.every:g} s" if table.every else None)
    return {
        "name": job.name,
        "model": table.model,
        "schedule": when,
        "timezone": table.timezone,
        "next": _time(job.due),
        "last": told(job.last, config) if job.last else None,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def described(config: Config, models: list[str]) -> dict[str, Any]:
    """The routes for /openapi.json."""

    def operation(summary: str, status: str, **more: Any) -> dict[str, Any]:
        answer = {"description": "As JSON.", "content": {"application/json": {}}}
        error = {"$ref": "#/components/schemas/Error"}
        wrong = {"description": "An error.", "content": {"application/json": {"schema": error}}}
        return {"tags": ["jobs"], "summary": summary, "responses": {status: answer, "default": wrong}, **more}

    run = [{"name": "run", "in": "path", "required": True, "schema": {"type": "string"}}]
    key = [{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}]
    file = {"required": True, "content": {"text/csv": {}, "application/x-ndjson": {}}}
    paths: dict[str, Any] = {"/jobs": {"get": operation("The jobs", "200")}}
    for name in map(quote, config.jobs):
        start = operation(f"Start a run of {name}", "202", parameters=key)
        paths[f"/jobs/{name}"] = {"get": operation(f"The job {name}", "200")}
        paths[f"/jobs/{name}/runs"] = {"get": operation(f"The runs of {name}", "200"), "post": start}
    for name in map(quote, (each for each in models if each in config.models)):
        send = operation(f"Predict a file with {name}", "202", parameters=key, requestBody=file)
        paths[f"/models/{name}/runs"] = {"get": operation(f"The uploads of {name}", "200"), "post": send}
    paths["/runs/{run}"] = {"get": operation("One run", "200", parameters=run)}
    paths["/runs/{run}/cancel"] = {"post": operation("Cancel a run", "200", parameters=run)}
    for part in ("result", "rejects"):
        paths[f"/runs/{{run}}/{part}"] = {"get": operation(f"The {part} of a run, as a file", "200", parameters=run)}
    return paths
