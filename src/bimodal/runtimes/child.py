"""The process that runs a native model: `python -m bimodal.runtimes.child FD`, started by `runtimes/process.py`
alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from bimodal import formats
from bimodal.errors import BimodalError, ModelCrashed, ModelError, ModelFailed, told
from bimodal.formats import desk, guard
from bimodal.formats.code import imported
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.rows import Rows
from bimodal.runtimes import confine, isolation, memory, wire
from bimodal.runtimes.aside import lowered
from bimodal.runtimes.forking import Forking
from bimodal.runtimes.measuring import measure
from bimodal.runtimes.own import Own
from bimodal.runtimes.relay import fault, relay

log = logging.getLogger("bimodal.model")
REPEATED = 60.0  # seconds in which the same traceback is not told again


def main() -> None:
    # The parent decides when the child ends (it closes the socket); a signal to all processes of a service must not cut
    # a drain short. In a group of its own it may write to a terminal, and reads nothing from there.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTTOU, signal.SIGTTIN):
        signal.signal(number, signal.SIG_IGN)
    confine.confine()
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
    log.addFilter(Once())
    guard.install()  # before any code but ours
    sys.dont_write_bytecode = True  # a model's folder stays as it is: in a package, a file more is damage
    channel = Own(int(sys.argv[1]))
    forking = Forking()
    try:
        _serve(channel, forking)
    except (EOFError, ConnectionError):
        _leave()


def _leave() -> NoReturn:
    """The parent is gone. At once: a library's clean-up at exit has nothing to save here."""
    desk.clear()
    os._exit(0)


def _serve(channel: Own, forking: Forking) -> None:
    """Answer the parent, until it is gone."""
    loaded: Loaded | None = None
    allowed: int | None = None
    while True:
        header, rows = wire.receive(channel)
        if header["op"] == "load":
            loaded, reply = _load(header, channel, forking)
            allowed = header.get("memory")
            if not header.get("mother") or reply.get("hindrance"):
                confine.bound(allowed)
            wire.send(channel, reply)
        elif header["op"] == "fork":
            channel = _fork(channel, forking, allowed)
        elif header["op"] == "status":
            _, status = os.waitpid(header["pid"], 0)
            wire.send(channel, {"status": os.waitstatus_to_exitcode(status)})
        elif header["op"] == "code":
            folders = [Path(each) for each in header["folders"]]
            wire.send(channel, {"code": [[str(folder), str(place)] for folder, place in imported(folders)]})
        elif header["op"] == "streams" and loaded is not None:
            _, (control,), _, _ = socket.recv_fds(channel, 1, 1)
            threading.Thread(target=relay, args=(Own(control), loaded.runtime), daemon=True).start()
        elif loaded is not None and rows is not None:
            _tell(channel, *_run(loaded, rows, header["outputs"], allowed))


def _fork(channel: Own, forking: Forking, allowed: int | None) -> Own:
    """Where the process goes on: on its own channel, or, as the new one, on the one that came with the question."""
    _, (given,), _, _ = socket.recv_fds(channel, 1, 1)
    pid = forking.fork()  # it has none of the connections that are its mother's own
    if not pid:
        confine.bound(allowed)
        return Own(given)
    os.close(given)
    wire.send(channel, {"pid": pid})
    return channel


class Once(logging.Filter):
    """Lets a traceback through once a minute: a batch that is split until the guilty row stands alone repeats it."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info or record.exc_info[2] is None:
            return True
        trace = record.exc_info[2]
        while trace.tb_next is not None:
            trace = trace.tb_next
        place = (record.exc_info[0], trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        before, now = self._told.get(place), time.monotonic()
        if before is not None and now - before < REPEATED:
            return False
        self._told[place] = now
        return True


def _load(header: dict[str, Any], channel: Own, forking: Forking) -> tuple[Loaded | None, dict[str, Any]]:
    source = replace(Source.retold(header["source"]), trying=Trying(channel))
    try:
        loaded = _loaded(formats.named(header["format"]), source, aside=bool(header.get("aside")))
        costs = _costs(loaded, source)
    except BimodalError as error:
        return None, {"error": told(error)}
    except Exception as error:  # a library's own: a reason says more than a process that ended
        log.exception("the model cannot be loaded")
        reason = f"{source.path} cannot be loaded ({type(error).__name__}); it is damaged, or of another version"
        return None, {"error": told(ModelError(reason))}
    return loaded, {
        "signature": loaded.signature.told(),
        "versions": loaded.versions,
        "warnings": loaded.warnings,
        "facts": {**loaded.facts, **guard.told()},
        "costs": list(costs.items()),
        "streams": loaded.runtime.streams,
        "compiles": loaded.lower is not None or loaded.to_onnx is not None,
        "hindrance": forking.hindrance(),
        "holds": memory.held(os.getpid()),
        "device": forking.device(),
    }


def _loaded(kind: Format, source: Source, *, aside: bool) -> Loaded:
    """aside: others are being answered. What then cannot be loaded in a thread of its own is tried the usual way."""
    if aside:
        with contextlib.suppress(Exception):
            return lowered(lambda: kind.load(source))
    return kind.load(source)


class Trying:
    """Tells the parent, once, that the model is called with made-up rows from now on: what comes is not the loading."""

    def __init__(self, channel: Own) -> None:
        self._channel = channel
        self._told = False

    def __call__(self) -> None:
        if not self._told:
            self._told = True
            try:
                wire.send(self._channel, {"trying": True})
            except ConnectionError:  # else it would be told as the library's
                _leave()


def _costs(loaded: Loaded, source: Source) -> dict[int, float]:
    """What calls cost, on made-up rows: a model that refuses them is asked no further, and nothing is wrong."""
    if loaded.signature.open or loaded.runtime.streams or not source.may_try():
        return {}
    log.disabled = True
    try:
        return measure(loaded.runtime, loaded.signature)
    except ModelFailed:
        return {}
    finally:
        log.disabled = False


def _run(loaded: Loaded, rows: Rows, outputs: list[str], allowed: int | None) -> tuple[dict[str, Any], Rows | None]:
    try:
        return {}, loaded.runtime.run(rows, outputs)
    except Exception as error:
        if allowed is not None and isinstance(error.__cause__ or error, MemoryError):
            return {"error": told(ModelCrashed(f"the process that ran the model {isolation.greedy(allowed)}"))}, None
        return fault(error), None


def _tell(channel: Own, reply: dict[str, Any], rows: Rows | None) -> None:
    try:
        wire.send(channel, reply, rows)
    except UnicodeEncodeError:
        wire.send(channel, fault(ModelFailed("the model gave text that is no valid Unicode")))


if __name__ == "__main__":
    main()
