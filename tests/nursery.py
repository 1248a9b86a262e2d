"""Nursery: a process that has imported the libraries and forks the processes of models for the tests.

The import of scikit-learn takes a processor for more than a second; the thousand models that tests load, here and in
the commands that they run, would spend half an hour on it. What the fork runs is what
`python -P -m bimodal.runtimes.child` runs, with the environment, the folder and the standard error of whoever asks; it
ends as any other, and its end is told. A process that is wanted with another PYTHONPATH, or in a way that is not known
here, is started as ever, and so is everything else. A test that is about the start itself, or about what a process
inherits, asks for the fixture `started_anew`; the tests of crashes do without the nursery altogether.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve()
HOOK = HERE.with_name("forking")  # in the PYTHONPATH of what is to ask
NAMED = "BIMODAL_NURSERY"
MODULES = ("bimodal.runtimes.child", "bimodal.compile.child")
IMPORTED = (
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.tree",
    "skl2onnx",
    "bimodal.formats.sklearn",
    *MODULES,
)
SAME = ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONHASHSEED")  # a process with others is no copy of this one
LENGTH = 1 << 18  # bytes of the longest request
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextmanager
def nursery(*modules: str) -> Iterator[dict[str, str]]:
    """Its process, and the environment of those who are to ask it. In the end it kills what is left of its own.
    modules: that it imports beyond its own.
    """
    with tempfile.TemporaryDirectory(prefix="bm") as folder:  # short: a socket's name is bounded
        paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONPATH": os.pathsep.join(paths), NAMED: f"{folder}/nursery"}
        command = [sys.executable, "-P", str(HERE), environment[NAMED], *modules]
        own = {**os.environ, **ONE_THREAD, "PYTHONPATH": environment["PYTHONPATH"]}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own, cwd="/")
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            yield environment


# -- the process -------------------------------------------------------------------------------------------------------


class Nursery:
    """Answers each request with the number of a new process (0: start it yourself), and later with how that ended.
    It imports when the first comes: many runs of tests load no model."""

    def __init__(self, place: str, modules: Sequence[str]) -> None:
        self._imported = (*IMPORTED, *modules)
        self._ready = False
        self._selector = selectors.DefaultSelector()
        self._parents: dict[int, socket.socket] = {}  # who asked for a process, by its number
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(place)
        self._door.listen(128)
        self._bell, bell = os.pipe()  # rings when a process has ended
        os.set_blocking(bell, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until standard input ends."""
        for file in (self._door, self._bell, sys.stdin):
            self._selector.register(file, selectors.EVENT_READ)
        print("open", flush=True)
        while True:
            ready = [key.fileobj for key, _ in self._selector.select()]
            if sys.stdin in ready:
                break
            if self._bell in ready:
                os.read(self._bell, 4096)
                self._bury(os.WNOHANG)
            if self._door in ready:
                parent, _ = self._door.accept()
                self._bear(parent)
        for pid in self._parents:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._bury(0)

    def _bear(self, parent: socket.socket) -> None:
        request, fds, _, _ = socket.recv_fds(parent, LENGTH, 2)
        if not request:  # whoever asked is gone
            parent.close()
            return
        told = json.loads(request)
        if any(told["environment"].get(name) != os.environ.get(name) for name in SAME):
            parent.send(b"0")
            parent.close()
        else:
            self._prepare()
            pid = os.fork()
            if not pid:
                self._door.close()
                parent.close()
                for other in self._parents.values():
                    other.close()
                live(told, *fds)
            self._parents[pid] = parent
            with contextlib.suppress(BrokenPipeError):
                parent.send(str(pid).encode())
        for fd in fds:
            os.close(fd)

    def _prepare(self) -> None:
        if self._ready:
            return
        for name in self._imported:
            if importlib.util.find_spec(name.partition(".")[0]) is not None:  # in other environments some are absent
                importlib.import_module(name)
        for name in MODULES:
            del sys.modules[name]  # it runs as `__main__`
        gc.collect()
        gc.freeze()
        self._ready = True

    def _bury(self, waiting: int) -> None:
        while self._parents:
            pid, status = os.waitpid(-1, waiting)
            if not pid:
                return
            with self._parents.pop(pid) as parent, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                parent.send(str(os.waitstatus_to_exitcode(status)).encode())


def live(told: dict[str, Any], fd: int, errors: int) -> NoReturn:
    """What `python -P -m` does, and how it ends."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, errors), (2, errors)):
        os.dup2(file, number)
    os.close(errors)
    os.environ.clear()
    os.environ.update(told["environment"])
    os.chdir(told["folder"])
    time.tzset()
    sys.modules["numpy"].random.seed()  # as a process of its own has it; `random` sees to that itself
    module = told["words"][3]
    sys.argv = [module, str(fd)]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:  # the interpreter's own last word on it
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    Nursery(sys.argv[1], sys.argv[2:]).run()
