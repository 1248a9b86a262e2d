"""Zygote: a process that has imported everything and forks a `bimodal` for each line that it is told.

A thousand trials would otherwise spend their time on a thousand imports. What the fork runs is the command's own entry,
as `python -m bimodal` does. Its first run tells which modules it came to load; from then on they are here already. No
thread runs before the fork.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from bimodal.__main__ import entry


def child(told: dict[str, Any], modules: Path) -> NoReturn:
    """The command in its folder, what it prints in two files."""
    os.setsid()
    os.chdir(told["folder"])
    if not modules.exists():
        atexit.register(lambda: modules.write_text("\n".join(sys.modules)))
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(told[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.argv = ["bimodal", *told["words"]]
    entry()


def learn(modules: Path) -> None:
    """Import what a first run came to import."""
    for name in modules.read_text().splitlines():
        with contextlib.suppress(ImportError):  # a name that only stood for something
            importlib.import_module(name)


def main(modules: Path) -> None:
    """Lines in: a command to start, or a process to wait for. Lines out: its number, or how it ended."""
    learned = False
    for line in sys.stdin:
        told = json.loads(line)
        if "wait" in told:
            _, status = os.waitpid(told["wait"], 0)
            if not learned and modules.exists():
                learn(modules)
                learned = True
            print(os.waitstatus_to_exitcode(status), flush=True)
        else:
            process = os.fork()
            if not process:
                child(told, modules)
            print(process, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
