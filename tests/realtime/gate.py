"""An app with all that Bimodal serves, behind its guard, on a socket; and keys of all kinds."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import uvloop

from bimodal import keys
from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener
from bimodal.realtime.wiring import Wired, wire
from tests.models import CASES
from tests.realtime.shelf import onnx
from tests.realtime.wire import PATIENCE

TOML = """
[models.inline]
path = "inline.pkl"

[jobs.nightly]
model = "inline"
input = "rows.csv"
output = "out.csv"
"""
DAY = 86_400.0


@dataclass
class Clock:
    """The time of a guard, which tests set."""

    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Gate:
    """A running server. file: of its keys; known: a key of each kind, by name."""

    port: int
    wired: Wired
    listener: Listener
    loop: asyncio.AbstractEventLoop
    file: Path
    known: dict[str, str] = field(default_factory=dict)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run on the server's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def look(self) -> None:
        """What the sweep does once a second."""
        self.loop.call_soon_threadsafe(self.wired.guard.look)
        self.do(asyncio.sleep(0))


def made(file: Path) -> dict[str, str]:
    """A live key of each scope and of all, one that has ended, and one that was revoked."""
    known = {scope: keys.add(file, scope, [scope]) for scope in keys.SCOPES}
    known["all"] = keys.add(file, "all", keys.SCOPES)
    known["ended"] = keys.add(file, "ended", keys.SCOPES, expires=1e-6)
    known["revoked"] = keys.add(file, "revoked", keys.SCOPES)
    keys.revoke(file, "revoked")
    return known


def spec(folder: Path, **guard: Any) -> dict[str, Any]:
    """A server with jobs, a repository, lookups, chat, and routes of a platform."""
    (folder / "repository").mkdir()
    (folder / "bimodal.toml").write_text(TOML)
    joblib.dump(CASES["logistic"].model, folder / "inline.pkl")
    table = {"job": "nightly", "key": "id"}
    return {
        "extensions": ["bimodal.jobs.routes:extend"],
        "config": str(folder / "bimodal.toml"),
        "upload_limit": 1000,
        "repository": {"path": str(folder / "repository"), "control": "explicit", "versions": 2, "loading": {}},
        "stores": {"inline": {"table": table, "folder": str(folder / "predictions")}},
        "routes": {"predict": "/platform/predict", "health": "/platform/health"},
        "guard": {"routes": {"predict": "/platform/predict", "health": "/platform/health"}, **guard},
    }


@contextmanager
def opened(folder: Path, **guard: Any) -> Iterator[Gate]:
    """guard: what the guard is told beside the file of keys (`keys=None` for none)."""
    file = folder / "keys.json"
    known = made(file)
    told = spec(folder, **{"keys": str(file), **guard})
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> tuple[Wired, Listener]:
        wired = wire([onnx()], Limits(), cors=guard.get("cors", ()), spec=told)
        listener = Listener(wired.app, Limits(), wired.methods, wired.guard)
        await listener.start(listening)
        return wired, listener

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        wired, listener = asyncio.run_coroutine_threadsafe(begin(), loop).result(PATIENCE)
        gate = Gate(listening.getsockname()[1], wired, listener, loop, file, known)
        try:
            yield gate
        finally:
            gate.do(listener.close())
            gate.do(wired.close())
            gate.do(asyncio.sleep(0.2))  # callers who watched have left by then
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE)
            loop.close()
