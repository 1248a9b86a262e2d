"""History: which batch runs there were on this machine, a small file each; `bimodal runs` reads it.

It tells people; nothing is resumed from it. A folder that cannot be written costs a note, never the run.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bimodal.batch.databases.address import spoken
from bimodal.errors import NotFound

KEPT = 1000  # runs; older ones are forgotten
EVERY = 2.0  # seconds between two notes of how far a run has come
PROC = Path("/proc")


def state_folder() -> Path:
    """Where what is known between commands is kept: BIMODAL_STATE, else the user's state folder (XDG)."""
    named = os.environ.get("BIMODAL_STATE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "bimodal"


@dataclass(frozen=True)
class Entry:
    """A run as it is known. told: its report so far, with `status`: running, interrupted, failed, or the report's."""

    told: Mapping[str, Any]

    @property
    def run(self) -> str:
        return str(self.told["run"])

    @property
    def status(self) -> str:
        status = str(self.told["status"])
        return "interrupted" if status == "running" and not _alive(self.told) else status


class History:
    """The runs of this machine's user."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or state_folder() / "runs"
        self.problem: str | None = None  # why nothing is written
        self.noted = False
        self._next = 0.0

    def note(self, told: Mapping[str, Any], *, now: bool = True) -> None:
        """Write what is known of a run (`run`: its id). now=False: only if the last time is a while ago."""
        if self.problem or not (now or time.monotonic() >= self._next):
            return
        self._next = time.monotonic() + EVERY
        path = self.folder / f"{told['run']}.json"
        try:
            data = msgspec.json.format(msgspec.json.encode({**told, **_self()}), indent=2) + b"\n"
            if not path.exists():
                self._make_room()
            self._replace(path, data)
            self.noted = True
        except OSError as error:
            self.problem = f"this run will not stand in `bimodal runs`: {self.folder}: {error.strerror or error}"
        except UnicodeEncodeError:  # the working folder's own name
            self.problem = "this run will not stand in `bimodal runs`: the name of this folder is not UTF-8"

    def _replace(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _make_room(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        files = sorted(self.folder.glob("*.json"), key=_age)
        for old in files[: max(0, len(files) - KEPT + 1)]:
            old.unlink(missing_ok=True)

    def list(self) -> list[Entry]:
        """All runs, the latest first."""
        found = [entry for path in self.folder.glob("*.json") if (entry := _read(path)) is not None]
        return sorted(found, key=lambda entry: str(entry.told.get("started", "")), reverse=True)

    def find(self, named: str) -> Entry:
        """The run of this id (or its beginning), or the latest that wrote this output. Raises NotFound."""
        runs = self.list()
        if "://" in named:
            named = spoken(named)
        found = [entry for entry in runs if entry.run == named or _same_place(entry.told, named)]
        if found:
            return next((entry for entry in found if entry.status != "already complete"), found[0])
        begin = [entry for entry in runs if entry.run.startswith(named)]
        if len(begin) == 1:
            return begin[0]
        many = f"{len(begin)} runs begin with {named!r}" if begin else f"there is no run {named!r}"
        raise NotFound(f"{many}; `bimodal runs list` has them all")


def _same_place(told: Mapping[str, Any], named: str) -> bool:
    """Whether the run wrote there. A file's name is one of the folder in which the command was given."""
    output = told.get("output")
    if named in (told.get("given") or ()):
        return True
    if not isinstance(output, str) or "://" in output:
        return output == named
    return os.path.abspath(os.path.join(str(told.get("folder", "")), output)) == os.path.abspath(named)


def _age(path: Path) -> float:
    """When it was written; 0 if another process has just taken it away."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> Entry | None:
    """A run's file; None for one that vanished or that is none of ours."""
    try:
        told = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return Entry(told) if isinstance(told, dict) and "run" in told and "status" in told else None


def _self() -> dict[str, Any]:
    process = os.getpid()
    return {"process": process, "born": _born(process), "host": socket.gethostname(), "folder": os.getcwd()}


def _alive(told: Mapping[str, Any]) -> bool:
    """Whether the process that wrote this still runs (another machine's is taken to)."""
    if told.get("host") != socket.gethostname():
        return True
    born = _born(int(told.get("process", 0)))
    return born is not None and born == told.get("born")


def _born(process: int) -> int | None:
    """When a process was started, in ticks since the machine was (a number is given again, this is not); None: it is
    gone. Elsewhere than on Linux, 0 while it runs.
    """
    try:
        return int((PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        if PROC.is_dir() and (PROC / "self").exists():
            return None
    try:
        os.kill(process, 0)
    except OSError:
        return None
    return 0
