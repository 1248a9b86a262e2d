"""One attempt of a run, in a process of its own: python -m bimodal.jobs.child FD, started by `attempt.py` alone.

It is told its Task over the socket, and tells there what it settles, how far it is, and how it ended. It asks before
it publishes, and waits for the answer: a worker that has lost its lease never gives it. SIGTERM ends it as Ctrl-C
would, resumably.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from bimodal.errors import (
    BimodalError,
    InputError,
    PlanChanged,
    SinkError,
    SourceChanged,
    TooManyRejects,
    UsageError,
    WrongFormat,
    told,
)
from bimodal.formats.library import library
from bimodal.jobs import priority
from bimodal.jobs.task import Channel, Task

log = logging.getLogger("bimodal.jobs")
FINAL = (UsageError, PlanChanged, TooManyRejects, InputError, WrongFormat)


class Parent:
    """The worker, as its child sees it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def tell(self, event: str, **values: Any) -> None:
        self._channel.send({"event": event, **values})

    def ask(self, event: str, **values: Any) -> None:
        """Tell, and wait until it is allowed to go on."""
        self.tell(event, **values)
        if self._channel.receive() is None:
            raise KeyboardInterrupt  # the worker is gone

    def settle(self, parameters: Mapping[str, Any]) -> None:
        self.ask("settle", parameters=dict(parameters))

    def guard(self) -> None:
        self.ask("guard")


def main(number: int) -> int:
    """The whole life of the child; the result is its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end = socket.socket(fileno=number)
    os.set_inheritable(number, False)
    channel = Channel(end)
    parent = Parent(channel)
    try:
        line = channel.receive()
        if line is None:
            return 1
        task = msgspec.json.decode(line, type=Task)
        priority.die_with(task.parent)
        give_way = {"idle": priority.idle, "low": priority.low}.get(task.table.priority)
        if give_way is not None:
            give_way()
        return attempt(task, parent)
    except KeyboardInterrupt:
        return _stopped(parent)


def attempt(task: Task, parent: Parent) -> int:
    """Try the run, and tell how it ended."""
    sys.path.extend(entry for entry in task.path if entry not in sys.path)
    os.chdir(task.folder)
    try:
        trial = library("bimodal.jobs.trial")  # with Arrow and NumPy, once this process has its priority
        ended = trial.Trial(task, parent).run()
    except KeyboardInterrupt:
        raise
    except BimodalError as error:
        log.warning("%s", error)
        return _failed(parent, told(error), final=is_final(error))
    except Exception as error:
        log.exception("the attempt failed")
        values = told(BimodalError(f"an unexpected error ({type(error).__name__}); its trace stands in the run's log"))
        return _failed(parent, values, final=False)
    parent.tell("done", **ended)
    return 0


def is_final(error: BimodalError) -> bool:
    """Whether another attempt would end the same way. A sink that names a column says that the table, its index or a
    value does not fit; files and tables that are not there, connections and full disks may be mended meanwhile.
    """
    if isinstance(error, SinkError):
        return error.column is not None
    return isinstance(error, FINAL) and not isinstance(error, SourceChanged)


def _failed(parent: Parent, error: Mapping[str, Any], *, final: bool) -> int:
    parent.tell("failed", error=dict(error), final=final)
    return 1


def _stopped(parent: Parent) -> int:
    try:
        parent.tell("stopped")
    except OSError:
        return 1  # nobody is there to be told
    return 130


if __name__ == "__main__":
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(stream=sys.stderr, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s")
    status = main(int(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # at once: a library's clean-up at exit has nothing to save here
