"""Verification: a compiled form is made and proven in a process of its own, while the native model already answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bimodal.errors import NotCompiled
from bimodal.location import Location
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.process import Report


@dataclass(frozen=True)
class Compiled:
    """What compiling a model found: the report, and the folder with the forms that passed."""

    report: Any
    folder: Path

    def open(self, name: str) -> Runtime:
        """One of the runtimes that passed; raises NotCompiled or ParityFailed telling why there is none."""
        raise NotCompiled("this model has no compiled form yet")

    def told(self, name: str) -> Report:
        """What loading the native model told, with the measured costs of the runtime."""
        raise NotCompiled("this model has no compiled form yet")


def known(location: Location) -> Compiled | None:
    """What an earlier verification found, where nothing has changed since."""
    return None


def prove(location: Location, cancel: threading.Event | None = None) -> Compiled:
    """Compile and compare now, unless another process just did."""
    raise NotCompiled("this model has no compiled form yet")


class Verification:
    """One `prove` in a thread; `done` gets what it found, there. Where it cannot be done, the model stays native."""

    def __init__(self, location: Location, done: Callable[[Compiled], None]) -> None:
        self._cancelled = threading.Event()
        self._location, self._done = location, done
        self._thread = threading.Thread(target=self._run, name="bimodal-verify", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join()

    def cancel(self) -> None:
        self._cancelled.set()

    def _run(self) -> None:
        return
