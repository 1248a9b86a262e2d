"""Lines of the log: when, how grave, which process, which part, what.

2026-11-22T13:05:11.123Z WARNING worker 1[4242] bimodal.realtime: …
"""

from __future__ import annotations

import logging
import os
import time

TOLD = ("bimodal.repository", "bimodal.tls", "bimodal.server")  # what comes and goes, and is no fault


class Lines(logging.Formatter):
    """who: the process, as operators know it."""

    converter = staticmethod(time.gmtime)

    def __init__(self, who: str) -> None:
        place = f"{who}[{os.getpid()}]"
        super().__init__(
            f"%(asctime)s.%(msecs)03dZ %(levelname)s {place} %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
        )


def begin(who: str) -> None:
    """Log to standard error, from now on as `who`; other handlers that are there already stay as they are."""
    logging.basicConfig()
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(Lines(who))
    for name in TOLD:
        logging.getLogger(name).setLevel(logging.INFO)
