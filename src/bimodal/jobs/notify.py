"""Notices: who is told how a run ended, by a signed webhook or a command; at least once, and never twice if it can be
helped.

A notice is a file in the state folder: written before the end of the run is noted, released after it, delivered by a
thread, and kept with what became of it. So a crash at any point delivers it later. What fails is told in the log and
in the file; a run never fails of it.

A receiver verifies a webhook with the secret that both know:

    stamp, given = (part.partition("=")[2] for part in header.split(","))       # Bimodal-Signature: t=…,v1=…
    right = hmac.new(secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    fine = hmac.compare_digest(right, given) and abs(time.time() - int(stamp)) < 300
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import http.client
import logging
import os
import queue
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bimodal.config.tables import JobTable, NotifyTable
from bimodal.errors import NotFound, UsageError
from bimodal.jobs.store import JobRun, JobStore, Status

log = logging.getLogger("bimodal.jobs")

PAUSES = (1.0, 5.0)  # seconds before the second and the third try
KEPT = 1000  # notices that are remembered
REJECTS = "too_many_rejects"
TOLD = (
    "status",
    "read",
    "predicted",
    "rejected",
    "resumed",
    "output",
    "rejects",
    "seconds",
    "model",
    "version",
    "digest",
)


class Notice(msgspec.Struct, frozen=True):
    """One message to one receiver. place: of the receiver among the job's. state: prepared (the run's end is not noted
    yet), ready, delivered, failed.
    """

    job: str
    run: str
    event: str
    place: int
    due: float | None
    state: str = "prepared"
    tries: int = 0
    problem: str | None = None
    body: dict[str, Any] = {}


class Undelivered(Exception):
    """The receiver did not take it; the reason, without a secret."""


class Notices:
    """The notices of one state folder. jobs: the tables that say who is told. pauses: seconds between the tries."""

    def __init__(self, home: Path, jobs: Mapping[str, JobTable], *, pauses: tuple[float, ...] = PAUSES) -> None:
        self._folder, self._jobs, self._pauses = home / "notices", jobs, pauses
        self._waiting: queue.Queue[Path] = queue.Queue()
        self._thread: threading.Thread | None = None

    def prepare(self, run: JobRun, status: Status, *, code: str = "") -> None:
        """Note who is to be told, before the run's end is noted."""
        for place, event in self._receivers(run.job, status, code):
            self._write(self._path(run, event, place), Notice(run.job, run.id, event, place, run.due))

    def release(self, run: JobRun) -> None:
        """The run's end is noted: deliver what was prepared for it, if it ended so."""
        for path in self._of(run.id):
            self._release(path, run)

    def late(self, run: JobRun) -> None:
        """Tell that the run should have ended by now."""
        for place, each in enumerate(self._listed(run.job)):
            if "late" in each.on:
                path = self._path(run, "late", place)
                self._write(path, Notice(run.job, run.id, "late", place, run.due, "ready", body=_body(run, "late")))
                self._deliver_soon(path)

    def recover(self, store: JobStore) -> None:
        """Deliver what an earlier process left. Raises the store's errors."""
        for path in sorted(self._folder.glob("*.json")):
            notice = _read(path)
            if notice is None or notice.state in ("delivered", "failed"):
                continue
            if notice.state == "ready":
                self._deliver_soon(path)
                continue
            try:
                run = store.find(notice.run)
            except NotFound:
                path.unlink(missing_ok=True)
                continue
            if run.over:
                self._release(path, run)

    def of(self, run: str) -> list[Notice]:
        """What is known of the messages about a run."""
        return [notice for path in self._of(run) if (notice := _read(path)) is not None]

    def join(self, seconds: float) -> None:
        """Wait until everything is delivered or given up, for at most so long."""
        until = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.02)

    # -- files -----------------------------------------------------------------------------------------------------

    def _listed(self, job: str) -> tuple[NotifyTable, ...]:
        """Those that the job names; an upload names nobody."""
        return self._jobs[job].notify if job in self._jobs else ()

    def _receivers(self, job: str, status: Status, code: str) -> Iterator[tuple[int, str]]:
        """Place and event of each that is to be told."""
        events = {"succeeded": ["success"], "failed": ["rejects", "failure"] if code == REJECTS else ["failure"]}
        for place, each in enumerate(self._listed(job)):
            found = [event for event in events.get(status, []) if event in each.on]
            if found:
                yield place, found[0]

    def _path(self, run: JobRun, event: str, place: int) -> Path:
        return self._folder / f"{os.path.basename(run.id)}.{event}.{place}.json"

    def _of(self, run: str) -> list[Path]:
        return sorted(self._folder.glob(f"{os.path.basename(run)}.*.json"))

    def _write(self, path: Path, notice: Notice) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(notice))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:  # who is told matters less than what is done
            log.error("a notice of run %s cannot be kept: %s", notice.run, error.strerror or error)

    def _release(self, path: Path, run: JobRun) -> None:
        notice = _read(path)
        if notice is None or notice.state != "prepared":
            return
        fits = {"success": "succeeded", "failure": "failed", "rejects": "failed"}
        if fits.get(notice.event) != run.status:
            path.unlink(missing_ok=True)
            return
        self._write(path, msgspec.structs.replace(notice, state="ready", body=_body(run, notice.event)))
        self._deliver_soon(path)

    # -- delivering ------------------------------------------------------------------------------------------------

    def _deliver_soon(self, path: Path) -> None:
        self._waiting.put(path)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="bimodal-notices", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            path = self._waiting.get()
            try:
                with _alone(path) as mine:
                    if mine:
                        self._deliver(path)
                self._make_room()
            except OSError as error:
                log.error("a notice cannot be read: %s", error.strerror or error)
            finally:
                self._waiting.task_done()

    def _deliver(self, path: Path) -> None:
        notice = _read(path)
        if notice is None or notice.state != "ready":
            return
        receivers = self._listed(notice.job)
        if notice.place >= len(receivers):
            self._write(path, msgspec.structs.replace(notice, state="failed", problem="nobody is to be told any more"))
            return
        receiver, problem = receivers[notice.place], ""
        for tries in range(1, len(self._pauses) + 2):
            try:
                deliver(receiver, notice, self._folder.parent.parent)
            except Undelivered as error:
                problem = str(error)
                log.warning("job %s, run %s: %s is not told: %s", notice.job, notice.run, _named(receiver), problem)
            else:
                self._write(path, msgspec.structs.replace(notice, state="delivered", tries=tries))
                return
            if tries <= len(self._pauses):
                time.sleep(self._pauses[tries - 1])
        self._write(path, msgspec.structs.replace(notice, state="failed", tries=tries, problem=problem))

    def _make_room(self) -> None:
        """Forget the oldest of those that are settled."""
        paths = sorted(self._folder.glob("*.json"), key=_age)
        for path in paths[: max(0, len(paths) - KEPT)]:
            notice = _read(path)
            if notice is not None and notice.state in ("delivered", "failed"):
                path.unlink(missing_ok=True)


def deliver(receiver: NotifyTable, notice: Notice, folder: Path | None = None) -> None:
    """Tell the receiver. folder: that of bimodal.toml, in which a command is called. Raises Undelivered."""
    body = msgspec.json.encode(notice.body)
    try:
        if receiver.url is not None:
            _post(receiver, body)
        else:
            _call(receiver, notice, body, folder)
    except UsageError as error:
        raise Undelivered(str(error)) from error


def _post(receiver: NotifyTable, body: bytes) -> None:
    url = urlsplit(referred(str(receiver.url)))
    if url.scheme not in ("http", "https") or url.hostname is None:
        raise Undelivered("its address is no http:// or https:// URL")
    headers = {"Content-Type": "application/json", "User-Agent": "bimodal"}
    if receiver.secret is not None:
        headers["Bimodal-Signature"] = signature(referred(receiver.secret).encode(), body, int(time.time()))
    if url.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            url.hostname, url.port, timeout=receiver.timeout, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=receiver.timeout)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    with contextlib.closing(connection):
        try:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise Undelivered(reason or type(error).__name__) from None
    if not 200 <= status < 300:
        more = "; redirects are not followed" if 300 <= status < 400 else ""
        raise Undelivered(f"it answered {status}{more}")


def _call(receiver: NotifyTable, notice: Notice, body: bytes, folder: Path | None) -> None:
    told = {"JOB": notice.job, "RUN": notice.run, "EVENT": notice.event, "STATUS": notice.body.get("status")}
    told |= {"ERROR": notice.body.get("error"), "DUE": notice.due}
    environment = {
        **os.environ,
        **{f"BIMODAL_{name}": "" if each is None else str(each) for name, each in told.items()},
    }
    try:
        done = subprocess.run(  # the words of the user's own file, no shell
            receiver.command,
            input=body,
            cwd=folder,
            env=environment,
            timeout=receiver.timeout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Undelivered(f"it took longer than {receiver.timeout:g} s") from None
    except OSError as error:
        raise Undelivered(error.strerror or type(error).__name__) from None
    if done.returncode:
        raise Undelivered(f"it ended with exit status {done.returncode}")


def signature(secret: bytes, body: bytes, stamp: int) -> str:
    """The header's value. stamp: seconds since the epoch."""
    digest = hmac.new(secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def referred(text: str) -> str:
    """What env:NAME or file:PATH stands for; any other text is itself. Raises UsageError, without the value."""
    kind, mark, place = text.partition(":")
    if not mark or kind not in ("env", "file") or place.startswith("//"):
        return text
    try:
        value = os.environ.get(place, "") if kind == "env" else Path(place).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        value = ""
    if not value:
        raise UsageError(f"nothing stands in {text}")
    return value


def _named(receiver: NotifyTable) -> str:
    """The receiver, without what may be a secret."""
    return "the webhook" if receiver.url is not None else f"the command {receiver.command[0]}"


def _body(run: JobRun, event: str) -> dict[str, Any]:
    """What a receiver is told."""
    told = asdict(replace(run, parameters={}, progress={}))
    names = ("job", "slot", "status", "due", "created", "started", "ended", "attempt", "error")
    report = {name: run.report[name] for name in TOLD if name in run.report}
    return {"event": event, "run": run.id, **{name: told[name] for name in names}, "report": report}


def _read(path: Path) -> Notice | None:
    """None for one that has just been taken away."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Notice)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no other process delivers this notice in this moment."""
    lock = path.with_suffix(".lock")
    with lock.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        lock.unlink(missing_ok=True)


__all__ = ["Notice", "Notices", "Undelivered", "deliver", "referred", "signature"]
