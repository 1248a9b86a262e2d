"""Cache: compiled models and their reports in the user's private folder, so that a model is verified once a machine."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bimodal.compile.place import place, version
from bimodal.compile.process import TIMEOUT, compiled
from bimodal.compile.report import FILE, FILES, Report, plain, read
from bimodal.errors import BimodalError
from bimodal.formats.contract import Source
from bimodal.runtimes.isolation import APART, Isolation

if TYPE_CHECKING:
    import pyarrow as pa  # a server does without it

try:
    import fcntl
except ImportError:  # Windows: two processes may then verify the same model side by side, and the last one's word stays
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("bimodal")
MOST = 200  # entries
LARGEST = 10**9  # bytes of all entries
ANOTHER_TRY = 86_400.0  # seconds after which a crash or a time limit is no longer taken for granted
LOOK = 0.05
ASKED = 2  # the way in which signatures are read: one that was read in another way is read anew
SEAL = "report.sha256"
UNFINISHED = 3600.0  # seconds after which a folder that was never published is nobody's


def root(environment: Mapping[str, str] = os.environ) -> Path:
    """$BIMODAL_CACHE, else `bimodal` in the user's cache folder."""
    if environment.get("BIMODAL_CACHE"):
        return Path(environment["BIMODAL_CACHE"])
    base = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bimodal"


def key(digest: str, kind: str, source: Source, wanted: str = "auto") -> str:
    """What a report is found by: the model's bytes, and all that decides how it is loaded and what is tried. A copy has
    the report of what it is a copy of.
    """
    code = [[name, _digest(Path(name))] for name in source.code if name != source.home]
    told = msgspec.to_builtins([ASKED, digest, kind, source.sample, source.features, code, wanted], enc_hook=plain)
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


def _digest(path: Path) -> str:
    """Over a file, or the Python files of a folder with their names."""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for each in files:
        with contextlib.suppress(OSError):
            whole.update(f"{each.relative_to(path)}\0{hashlib.sha256(each.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


class Cache:
    """Entries are folders, each published in one rename. Usable by several processes at once.

    A folder that another user owns or can write to is left alone, with a warning: nothing is found, and what is
    compiled stays in a folder of this process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._usable: bool | None = None
        self._own: str | None = None

    def find(self, name: str) -> tuple[Report, Path] | None:
        """The report under this key and the folder of its files, if all that it depends on is as it was."""
        if not self.usable:
            return None
        folder = self.folder / name
        try:
            read(folder / FILE, _sealed(folder))
            report = Report.load(folder)
            for each in report.candidates:
                if each.passed:
                    read(folder / FILES[each.name], each.digest)
        except BimodalError:  # none, or a damaged one: it is made anew
            return None
        if not valid(report, folder):
            return None
        with contextlib.suppress(OSError):
            os.utime(folder)  # the entries that are used stay
        return report, folder

    def compiled(
        self,
        name: str,
        kind: str,
        source: Source,
        *,
        sample: pa.Table | None = None,
        wanted: str = "auto",
        cancel: threading.Event | None = None,
        timeout: float = TIMEOUT,
        isolation: Isolation = APART,
    ) -> tuple[Report, Path]:
        """What `find` finds, else what `process.compiled` makes of the model, published. Where another process is at
        it, its result is waited for. Raises what loading the model raises.
        """
        cancel = cancel or threading.Event()
        with self.lock(name, cancel):
            found = self.find(name)
            if found is not None:
                return found
            folder = self.workspace()
            how: dict[str, Any] = {"wanted": wanted, "cancel": cancel, "timeout": timeout, "isolation": isolation}
            report = compiled(kind, source, folder, sample=sample, **how)
            if cancel.is_set():
                return report, folder
            return report, self.publish(name, folder)

    @contextlib.contextmanager
    def lock(self, name: str, cancel: threading.Event | None = None) -> Iterator[None]:
        """Held by one process (and thread) at a time; it falls with its holder. Not waited for any longer once `cancel`
        is set.
        """
        if not self.usable or fcntl is None:
            yield
            return
        locks = self.folder / "locks"
        locks.mkdir(mode=0o700, exist_ok=True)
        with (locks / name[:2]).open("wb") as file:  # a few hundred files at most; unlike keys rarely meet
            while not _held(file.fileno()) and not (cancel is not None and cancel.is_set()):
                time.sleep(LOOK)
            yield

    def workspace(self) -> Path:
        """A new private folder, to be published."""
        return Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder if self.usable else self._private()))

    def publish(self, name: str, folder: Path) -> Path:
        """Put a finished folder under its key, in the place of what stood there; where it stands now."""
        if not self.usable:
            return folder
        target = self.folder / name
        if target.exists():
            aside = Path(tempfile.mkdtemp(prefix=".old-", dir=self.folder))
            target.replace(aside / name)
            shutil.rmtree(aside, ignore_errors=True)
        (folder / SEAL).write_text(hashlib.sha256((folder / FILE).read_bytes()).hexdigest())
        folder.replace(target)
        self._prune(keep=name)
        return target

    @property
    def usable(self) -> bool:
        if self._usable is None:
            fault = _fault(self.folder)
            if fault:
                log.warning("the cache of compiled models %s is not used: %s", self.folder, fault)
            self._usable = fault is None
        return self._usable

    def _private(self) -> str:
        if self._own is None:
            self._own = tempfile.mkdtemp(prefix="bimodal-")
            weakref.finalize(self, shutil.rmtree, self._own, ignore_errors=True)
        return self._own

    def _prune(self, keep: str) -> None:
        """Take out what was used longest ago, beyond the bounds, and what was never finished."""
        now = time.time()
        size = count = 0
        for used, folder in sorted(self._entries(), reverse=True):
            if folder.name.startswith("."):
                if now - used > UNFINISHED:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            count += 1
            size += sum(each.stat().st_size for each in folder.iterdir())
            if (count > MOST or size > LARGEST) and folder.name != keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _entries(self) -> list[tuple[float, Path]]:
        folders = [each for each in self.folder.iterdir() if each.is_dir() and each.name != "locks"]
        return [(each.stat().st_mtime, each) for each in folders]


def valid(report: Report, folder: Path) -> bool:
    """Whether all that the report depends on is as it was. No library is imported for it."""
    if not report.settled and time.time() - (folder / FILE).stat().st_mtime > ANOTHER_TRY:
        return False
    return report.place == place() and all(version(name) == known for name, known in report.dists.items())


def _sealed(folder: Path) -> str:
    """The digest of the report, as it was when it was published."""
    try:
        return (folder / SEAL).read_text("ascii")
    except (OSError, ValueError):
        return ""


def _held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fault(folder: Path) -> str | None:
    """Why the folder cannot be trusted, after it was made where it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        return f"it cannot be made ({error.strerror})"
    if not stat.S_ISDIR(found.st_mode):
        return "it is no folder of its own"
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        return "it belongs to another user"
    if os.name == "posix" and found.st_mode & 0o022:
        return "other users can write to it; take that right away: chmod 700"
    if not os.access(folder, os.W_OK):
        return "it cannot be written to"
    return None
