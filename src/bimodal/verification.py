"""Verification: a compiled form is made and proven in a process of its own, while the native model already answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bimodal.compile.report import Report
from bimodal.errors import BimodalError, NotCompiled
from bimodal.formats.library import library
from bimodal.location import Location
from bimodal.runtimes import aside, process
from bimodal.runtimes.contract import Runtime

if TYPE_CHECKING:
    from bimodal.compile.cache import Cache

log = logging.getLogger("bimodal")


@dataclass(frozen=True)
class Compiled:
    """What compiling a model found: the report, and the folder with the forms that passed."""

    report: Report
    folder: Path

    def open(self, wanted: str, *, bulk: bool = False) -> tuple[Runtime, process.Report]:
        """The runtime for `wanted` (auto, exact, onnx, …), and what loading the model would have told, with that
        runtime's costs. Raises NotCompiled or ParityFailed telling why there is none.
        """
        name = self.report.chosen(wanted, bulk=bulk)
        report = self.report
        told = process.Report(
            report.told(), report.versions, report.warnings, report.facts, report.costs.get(name, {}), compiles=True
        )
        return report.open(self.folder, name), told


def _shelf(location: Location) -> tuple[Cache, str]:
    """The cache of compiled models, and the key of this one there."""
    from bimodal.compile import cache as caches  # a package, which brings its compiled form along, does without

    key = caches.key(location.digest, location.kind.name, location.source, location.runtime)
    return _cache(caches.Cache, caches.root()), key


@cache
def _cache(kind: type[Cache], root: Path) -> Cache:
    return kind(root)


def known(location: Location) -> Compiled | None:
    """What packing, or an earlier verification, found, where nothing has changed since."""
    if location.package is not None:
        report, folder = location.package.report, location.package.compiled
        return None if report is None or folder is None else Compiled(report, folder)
    shelf, key = _shelf(location)
    found = shelf.find(key)
    return None if found is None else Compiled(*found)


def prove(location: Location, cancel: threading.Event | None = None) -> Compiled:
    """Compile and compare now, unless it was done already or another process is at it. Raises what loading raises, and
    NotCompiled where a package's form would have to be another than the one that was packed.
    """
    if location.package is not None:
        raise NotCompiled(f"the package holds no compiled form: {location.package.why_native}; pack the model again")
    shelf, key = _shelf(location)
    kind, source, sample = location.kind.name, location.source, _rows(location.sample)
    how: dict[str, Any] = {"wanted": location.runtime, "cancel": cancel, "isolation": location.isolation}
    return Compiled(*shelf.compiled(key, kind, source, sample=sample, **how))


def _rows(sample: Any) -> Any:
    """The user's sample as an Arrow table."""
    if sample is None:
        return None
    # it brings Arrow along, which a server does without where there is no sample
    return library("bimodal.sample").table(sample)


class Verification:
    """One `prove` in a thread; `done` gets what it found, there. Where it cannot be done, the model stays native."""

    def __init__(self, location: Location, done: Callable[[Compiled], None]) -> None:
        self._cancelled = threading.Event()
        self._location, self._done = location, done
        self._aside = aside.wanted()
        self._thread = threading.Thread(target=self._run, name="bimodal-verify", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join()

    def cancel(self) -> None:
        """End it; what it had found by then is not used."""
        self._cancelled.set()

    def _run(self) -> None:
        try:
            with aside.aside(self._aside):
                found = prove(self._location, self._cancelled)
        except BimodalError as error:
            if not self._cancelled.is_set():
                log.warning("%s stays native: %s", self._location.name, error)
            return
        if not self._cancelled.is_set():
            self._done(found)
