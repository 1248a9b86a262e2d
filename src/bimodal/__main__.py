"""`bimodal`, and `python -m bimodal`: the process around a command."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import NoReturn

from bimodal import hangup

INTERRUPTED = 130


def entry() -> NoReturn:
    """Run the command and leave with its exit code.

    A command has cleaned up when it gets here; what is registered for the end is run, and the process leaves at once:
    threads of Arrow that still read ahead would otherwise abort it. Ctrl-C while the libraries load is told like any
    other.
    """
    hangup.remember(sys.argv[1:])
    try:
        from bimodal.cli import main  # loads most of what there is to load

        code = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):  # its reader left, or it was closed for that reason
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
