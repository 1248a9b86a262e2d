"""What the tests of running jobs share: a folder with a model, data and a bimodal.toml; processes; a receiver."""

from __future__ import annotations

import http.server
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "bimodal"]
MODEL = '''
"""A model that needs no library, so that its process is there at once."""
import time
from pathlib import Path
from typing import TypedDict


class Row(TypedDict):
    n: float


class Doubled:
    """Twice the number; slow as long as the file `slow` is there."""

    def predict(self, rows: Row):
        while (Path(__file__).parent / "slow").exists():
            time.sleep(0.02)
        return rows["n"] * 2
'''


class Desk:
    """A folder with a bimodal.toml."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        (folder / "model.py").write_text(MODEL)
        self.write(text)

    def write(self, text: str) -> None:
        (self.folder / "bimodal.toml").write_text('[models.doubled]\npath = "model.py:Doubled"\n' + text)

    def rows(self, name: str, numbers: Iterator[int] | range | list[int]) -> Path:
        """A CSV file with an id and a number a row."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("id,n\n" + "".join(f"{n},{n}\n" for n in numbers))
        return path

    def mark(self, name: str) -> Path:
        path = self.folder / name
        path.touch()
        return path

    def start(self, *words: object, **variables: str) -> subprocess.Popen[str]:
        """`bimodal …` in the folder, in a group of its own."""
        return subprocess.Popen(
            [*COMMAND, *map(str, words)],
            cwd=self.folder,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def command(self, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **variables)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def told(self, *words: object) -> list[dict[str, Any]]:
        """What `bimodal … --json` prints, a value a line."""
        done = self.command(*words, "--json")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def sql(self, statement: str, *values: Any, file: str = "shop.db") -> list[Any]:
        with closing(sqlite3.connect(self.folder / file)) as database, database:
            return database.execute(statement, values).fetchall()

    def state(self, statement: str) -> list[Any]:
        """Asked of the state itself, past everything that is tested; nothing where its tables are not there yet."""
        try:
            return self.sql(statement, file=".bimodal/state.db")
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []


def until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for it; an AssertionError where it does not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to that in time")


def children(process: int) -> list[int]:
    """The process ids of all below a process."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for each in task.read_text().split():
            found += [int(each), *children(int(each))]
    return found


def gone(process: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    os.kill(process.pid, number)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class Receiver:
    """A real HTTP server that keeps what it is sent. answers: the statuses that it gives, the last one again."""

    def __init__(self, answers: list[int]) -> None:
        self.taken: list[tuple[Mapping[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.taken.append((dict(self.headers), body))
                status = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Nothing of it is printed."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(*answers: int) -> Iterator[Receiver]:
    receiver = Receiver(list(answers) or [200])
    try:
        yield receiver
    finally:
        receiver.close()
