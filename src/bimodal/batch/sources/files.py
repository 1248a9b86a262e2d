"""InputFile: what a source needs of a file, wherever it lies."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from bimodal.batch.sources.stream import COMPRESSIONS, readable
from bimodal.batch.spelling import see_spelling

ENDS = 1 << 16  # bytes at either end that a fingerprint looks at
WHOLE = 1 << 23  # bytes up to which it reads all, so that the time of the last change says nothing


class InputFile(ABC):
    """A file of the input. name: as messages and rejects tell it, unique among the files of a run. size: in bytes.
    stamp: changes with the file, known without opening it. path: where it lies on this machine (None: elsewhere).
    folders: the names of the folders between what the user named and the file.
    """

    name: str
    size: int
    stamp: str
    path: Path | None = None
    folders: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        """A file that was found may be named again by itself."""
        return str(getattr(self, "key", self.name) if self.path is None else self.path)

    @property
    def suffix(self) -> str:
        """The name's ending, in small letters; of a compressed file the one before."""
        return self._plain.suffix.lower()

    @property
    def codec(self) -> str | None:
        """The compression that the name tells."""
        return COMPRESSIONS.get(PurePosixPath(self.name).suffix.lower())

    @property
    def _plain(self) -> PurePosixPath:
        path = PurePosixPath(self.name)
        return path.with_suffix("") if self.codec else path

    @abstractmethod
    def stream(self, offset: int = 0) -> Any:
        """Its bytes from there on, to be read one after another: `read`, `tell`, `close`."""

    @abstractmethod
    def random(self) -> pa.NativeFile:
        """Its bytes, to be read in any order and in any thread."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the content does; opens the file."""


class LocalFile(InputFile):
    """A file of this machine."""

    path: Path

    def __init__(self, path: str | os.PathLike[str], folders: tuple[str, ...] = ()) -> None:
        self.path = Path(path)
        see_spelling(str(self.path))
        self._known: tuple[tuple[int, int, int] | None, str] = (None, "")
        self.name = self.path.name
        self.folders = folders
        with readable(str(self.path)):
            status = self.path.stat()
        self.size = status.st_size
        self.stamp = f"{status.st_size} {status.st_mtime_ns}"

    def stream(self, offset: int = 0) -> Any:
        with readable(str(self.path)):
            file = open(self.path, "rb")  # noqa: SIM115 - the reader closes it
            file.seek(offset)
            return file

    def random(self) -> pa.NativeFile:
        with readable(str(self.path)):
            return pa.OSFile(str(self.path))

    def fingerprint(self) -> str:
        """Of its content; of a large file its size, the time of its last change, and its first and last 64 KiB."""
        with readable(self.name):
            status = self.path.stat()
            if status.st_size <= WHOLE:
                return self._content(status)
            digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns} ".encode())
            with open(self.path, "rb") as file:
                digest.update(file.read(ENDS))
                if status.st_size > 2 * ENDS:
                    file.seek(-ENDS, os.SEEK_END)
                digest.update(file.read(ENDS))
        return digest.hexdigest()

    def _content(self, status: os.stat_result) -> str:
        """The digest of all bytes, read once as long as the file keeps its size and time."""
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
        if self._known[0] != stamp:
            with open(self.path, "rb") as file:
                self._known = stamp, hashlib.file_digest(file, "sha256").hexdigest()
        return self._known[1]


def name_apart(files: Sequence[InputFile], paths: Sequence[str]) -> None:
    """Give files of several folders names that tell them apart: from the folder on that all of them share."""
    if len({file.name for file in files}) == len(files):
        return
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    for file, path in zip(files, paths, strict=True):
        file.name = os.path.relpath(path, shared) if shared else path
