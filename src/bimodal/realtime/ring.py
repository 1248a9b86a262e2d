"""Ring: the live keys of a server, as they stand in a file that may change while it runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bimodal.errors import BimodalError
from bimodal.keys import Key, find, load

log = logging.getLogger("bimodal.realtime")


class Ring:
    """The keys of a file. clock: seconds since 1970. Raises what `keys.load` raises."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._clock = clock
        self._seen = self._taken = self._stamp()
        self.keys = load(self._path)

    def look(self) -> bool:
        """Take the file as it is now; whether that changes anything. A file that is damaged or gone leaves the keys as
        they were, and is told of once, when it has come to rest: it may be amid being written.
        """
        before, self._seen = self._seen, self._stamp()
        if self._seen == self._taken:
            return False
        rests = self._seen == before
        try:
            keys = load(self._path)
        except BimodalError as error:
            if rests:
                self._taken = self._seen
                log.error("the keys stay as they were: %s", error)
            return False
        self._taken = self._seen
        log.info("keys taken anew from %s: %d", self._path, len(keys))
        self.keys = keys
        return True

    def find(self, key: bytes) -> Key | None:
        """The live key that it is."""
        found = find(key, self.keys)
        return found if found is not None and found.live(datetime.fromtimestamp(self._clock(), UTC)) else None

    def _stamp(self) -> tuple[int, ...]:
        """What is another after any change; files are replaced, so their number is."""
        try:
            told = os.stat(self._path)
        except OSError:
            return ()
        return (told.st_mtime_ns, told.st_ino, told.st_size, told.st_mode)
