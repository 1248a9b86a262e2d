"""Servers under comparison: each a command, pinned to one core, watched, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO
from urllib.request import Request, urlopen

from httpx import HTTPError

SERVER_CORE = 0
LOAD_CORE = 1
PEERS = Path(__file__).parent / "peers"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # one core: more threads would only fight for it

NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port} reuseport; default_type application/json;
    location / {{ return 200 '{{"status":"live"}}'; }}
  }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A running server and the address it answers on. pid: of its first process, 0 where it is not known."""

    name: str
    url: str
    pid: int = 0


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def pinned(command: Sequence[str], core: int) -> list[str]:
    """The command on one core, as far as the system can."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(core), *command] if taskset else list(command)


def answer(url: str, body: bytes | None = None) -> bytes:
    """One request, its answer; errors of the connection and of the server are raised."""
    with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=30) as response:
        return bytes(response.read())


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    url: str,
    *,
    body: bytes | None = None,
    environment: Mapping[str, str] = ONE_THREAD,
    patience: float = 60,
    watch: Callable[[str], object] | None = None,
) -> Iterator[Server]:
    """The server, from its first answer to the end of the block. watch: raises until it answers, in place of `body`."""
    with TemporaryFile() as log, started(command, environment, log) as process:
        _wait_for(process, watch or partial(answer, body=body), url, log, patience)
        yield Server(name, url, process.pid)


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str] = ONE_THREAD, log: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on the servers' core, to the end of the block."""
    process = subprocess.Popen(
        pinned(command, SERVER_CORE),
        env={**os.environ, **environment},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _stop(process)


@contextmanager
def bimodal(
    name: str, model: Path, path: str = "/predict", body: bytes | None = None, runtime: str = "auto"
) -> Iterator[Server]:
    """`bimodal serve` with one worker. A compiled runtime is proven before, once."""
    if runtime == "exact":
        command = [sys.executable, "-m", "bimodal", "inspect", str(model), "--runtime", runtime]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    command = [sys.executable, "-m", "bimodal", "serve", str(model), "--port", str(port), "--workers", "1"]
    command += ["--runtime", runtime]
    with running(name, command, f"http://127.0.0.1:{port}{path}", body=body) as server:
        yield server


@contextmanager
def flask(script: str, model: Path, body: bytes) -> Iterator[Server]:
    """A first user's script, started as its last line starts it: Flask's own development server, threaded."""
    port = free_port()
    environment = {**ONE_THREAD, "MODEL": str(model), "PORT": str(port)}
    command = [sys.executable, str(PEERS / f"{script}.py")]
    with running("Flask", command, f"http://127.0.0.1:{port}/predict", body=body, environment=environment) as server:
        yield server


@contextmanager
def gunicorn(script: str, model: Path, body: bytes) -> Iterator[Server]:
    """The same script behind gunicorn: one worker with eight threads, connections kept alive."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", "1", "--threads", "8", "--keep-alive", "60"]
    command += ["--bind", f"127.0.0.1:{port}", "--chdir", str(PEERS), "--log-level", "error", f"{script}:app"]
    environment = {**ONE_THREAD, "MODEL": str(model)}
    url = f"http://127.0.0.1:{port}/predict"
    with running("Flask on gunicorn", command, url, body=body, environment=environment) as server:
        yield server


@contextmanager
def nginx() -> Iterator[Server]:
    """nginx with one worker, answering a fixed body."""
    port = free_port()
    with TemporaryDirectory() as folder:
        settings = Path(folder, "nginx.conf")
        settings.write_text(NGINX.format(folder=folder, port=port))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        with running("nginx", [program, "-c", str(settings)], f"http://127.0.0.1:{port}/") as server:
            yield server


def _wait_for(
    process: subprocess.Popen[bytes], ask: Callable[[str], object], url: str, log: IO[bytes], patience: float
) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        try:
            ask(url)
        except (OSError, HTTPError):  # those of urllib are OSErrors
            time.sleep(0.05)
        else:
            return
    log.seek(0)
    raise SystemExit(f"{' '.join(map(str, process.args))}: no answer at {url}\n{log.read().decode(errors='replace')}")  # type: ignore[arg-type] # we gave a list


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind
