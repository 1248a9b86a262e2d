"""Lock: a work folder belongs to one process at a time; the lock ends with the process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bimodal.errors import OutputHeld, SinkError

POLLED = 0.1  # seconds between two tries
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EBADF)


@dataclass
class Holder:
    """Who holds an output: for the message to the second one."""

    process: int = 0
    host: str = ""
    since: str = ""

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


class Lock:
    """A lock (flock) on a folder, which is made for it. Linux and macOS.

    The folder is taken away when its work is done, and somebody else may have waited for it: who has the lock sees to
    it that the folder is still the one at the path. name: of what the folder stands for, in messages.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._name = name
        self._number: int | None = None

    @property
    def held(self) -> bool:
        return self._number is not None

    def take(self, wait: float, told: Callable[[str], None]) -> None:
        """Try for so many seconds; then OutputHeld. told: called once where somebody else holds it. Raises OSError
        where the folder cannot be made.
        """
        try:
            self._take(wait, told)
        except KeyboardInterrupt:
            self._try()  # a folder that was just made is ours then, and taken away with the rest
            raise

    def _take(self, wait: float, told: Callable[[str], None]) -> None:
        until, waiting = time.monotonic() + wait, False
        while not self._try():
            if time.monotonic() >= until:
                raise OutputHeld(
                    f"{self._name} is being written by {self._holder()}; wait until it ends, or end it there, and run "
                    "the same command again"
                )
            if not waiting:
                told(f"{self._name} is being written by {self._holder()}; waiting up to {wait:.0f} s for it")
                waiting = True
            time.sleep(POLLED)
        self._sign()

    def free(self) -> None:
        """Let go. The folder stays."""
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def _try(self) -> bool:
        try:
            self.folder.mkdir(exist_ok=True)
        except FileExistsError:  # it was taken away while it was looked at
            if self.folder.exists():
                raise
            return False
        try:
            number = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # it was taken away in this moment: make it again
            return False
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._there(number):
                self._number, number = number, -1
        except BlockingIOError:
            pass  # somebody else has it: the caller asks again, or says who
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise SinkError(
                f"{self._name} cannot be written: the file system there has no locks (flock), so two runs could not be "
                "kept apart; write to a local disk and copy the result"
            ) from error
        finally:
            if number >= 0:
                os.close(number)
        return self._number is not None

    @property
    def stands(self) -> bool:
        """Whether this process has it, and the folder is still there."""
        return self._number is not None and self._there(self._number)

    def _there(self, number: int) -> bool:
        """Whether the folder is still the one at the path."""
        mine = os.fstat(number)
        try:
            there = self.folder.stat()
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def _sign(self) -> None:
        """Say who has it, for the message to others; nothing depends on it."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        mine = Holder(os.getpid(), socket.gethostname(), since)
        (self.folder / "holder").write_bytes(msgspec.json.encode(mine))

    def _holder(self) -> str:
        try:
            return str(msgspec.json.decode((self.folder / "holder").read_bytes(), type=Holder))
        except (OSError, msgspec.DecodeError):  # in the moment before it has signed
            return "another process"
