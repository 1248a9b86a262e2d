"""Commands of `bimodal`, run in this process: where what is said matters, not the process around it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from bimodal.cli import main


def run(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code of a command in that folder, and all that it printed."""
    printed = io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.dict(os.environ, environment or {}),
            contextlib.chdir(folder),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            return main(list(arguments)), printed.getvalue()
    finally:
        signal.signal(signal.SIGTERM, before)
