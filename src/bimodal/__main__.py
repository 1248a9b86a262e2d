"""`bimodal`, and `python -m bimodal`: the process around a command."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

INTERRUPTED = 130


def entry() -> NoReturn:
    """Run the command and leave with its exit code.

    An interrupted command has cleaned up when it gets here; it leaves at once, since threads of Arrow that are still
    at work would otherwise abort the process. Ctrl-C while the libraries load is told like any other.
    """
    try:
        from bimodal.cli import main  # loads most of what there is to load

        code = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    entry()
