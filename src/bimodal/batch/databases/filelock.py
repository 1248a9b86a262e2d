"""FileLock: a table in a database file belongs to one run at a time. The lock ends with the process.

It is a folder beside the file (`.shop.db.customers.bimodal`), not the file itself: a database's own locks last for a
transaction, and to open its file past it would undo them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from bimodal.batch.databases.contract import TableName
from bimodal.batch.lock import Lock
from bimodal.batch.sinks.durable import writable

LONGEST = 120  # of a table's name within the folder's; a longer one is told apart by its digest


class FileLock(Lock):
    """The lock on one table."""

    def __init__(self, path: Path, target: TableName) -> None:
        real = path.resolve()
        super().__init__(real.parent / f".{real.name}.{_short(str(target).lower())}.bimodal", f"{path}#{target}")

    def attempt(self) -> str | None:
        """Take it; or the one that has it, in words."""
        if not self._try():
            return self._holder()
        self._sign()
        return None

    def leave(self) -> None:
        """Let go of it, and take the folder away."""
        if self.held:
            with contextlib.suppress(OSError):  # an empty folder that nobody holds is in nobody's way
                (self.folder / "holder").unlink(missing_ok=True)
                self.folder.rmdir()
            self.free()


def hold(path: Path, target: TableName) -> Callable[[], None] | str:
    """Try to take the lock: how to give it back, or who has it."""
    lock = FileLock(path, target)
    with writable(lock.folder.name):
        other = lock.attempt()
    return lock.leave if other is None else other


def _short(name: str) -> str:
    text = quote(name, safe=" ")
    return text if len(text) <= LONGEST else text[:80] + hashlib.sha256(name.encode()).hexdigest()[:32]
