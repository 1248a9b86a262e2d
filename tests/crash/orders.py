"""Orders: what the shim does in the processes that load it, as a file that both sides map."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path

KINDS = (
    "write", "sync", "datasync", "rename", "unlink", "link", "truncate", "create", "mkdir", "rmdir", "allocate", "send",
)  # fmt: skip
FAULTS = ("count", "before", "after", "half", "fail", "short", "cut", "signal")
CHANGES = tuple(kind for kind in KINDS if kind != "send")
NUMBERS = ("armed", "count", "fired", "at", "fault", "error", "persistent", "kinds", "budget", "record")
TEXT = 1024


class Orders:
    """The control block of `shim.c`. Written before a process is let go; the counters are read after it ended."""

    def __init__(self, path: Path) -> None:
        self._places = {name: 8 * place for place, name in enumerate(NUMBERS)}
        size = 8 * len(NUMBERS) + 2 * TEXT
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(file, size)
        self._block = mmap.mmap(file, size)
        os.close(file)

    def __getitem__(self, name: str) -> int:
        value: int = struct.unpack_from("=q", self._block, self._places[name])[0]
        return value

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("=q", self._block, self._places[name], value)

    def _text(self, place: int, value: str) -> None:
        start = 8 * len(NUMBERS) + place * TEXT
        self._block[start : start + TEXT] = value.encode().ljust(TEXT, b"\0")

    def give(
        self,
        folder: Path,
        *,
        at: int = 0,
        fault: str = "count",
        error: int = errno.EIO,
        persistent: bool = False,
        kinds: Sequence[str] = CHANGES,
        budget: int = -1,
        log: Path | None = None,
    ) -> None:
        """Fault `fault` at the `at`-th call of these kinds in the folder (0: none), once or from then on.

        error: the errno of `fail`, the number of `signal`. budget: how many bytes the folder's files may have.
        """
        self["armed"] = 0
        self["count"], self["fired"], self["at"], self["fault"] = 0, 0, at, FAULTS.index(fault)
        self["error"], self["persistent"], self["budget"] = error, int(persistent), budget
        self["kinds"] = sum(1 << KINDS.index(kind) for kind in kinds)
        self["record"] = int(log is not None)
        self._text(0, str(folder))
        self._text(1, str(log or ""))
        self["armed"] = 1

    def rest(self) -> None:
        """Do nothing from now on."""
        self["armed"] = 0
