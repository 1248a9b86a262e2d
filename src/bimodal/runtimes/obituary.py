"""Obituary: a line of the log for each process of a model that died, and what took its place."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("bimodal.model")
MOST, MINUTE = 6, 60.0  # lines in a minute, of one model


class Obituary:
    """Of one model. Those that are too many are counted, and told with the next line."""

    def __init__(self) -> None:
        self._since = -MINUTE
        self._told = self._silent = 0

    def tell(self, label: str, fate: str, how: str) -> None:
        """fate: how it ended. how: what took its place."""
        now = time.monotonic()
        if now - self._since >= MINUTE:
            self._since, self._told = now, 0
        if self._told >= MOST:
            self._silent += 1
            return
        more = f" ({self._silent} more since the last line)" if self._silent else ""
        self._told, self._silent = self._told + 1, 0
        log.warning("%s: its process %s; %s took its place%s", label, fate, how, more)
