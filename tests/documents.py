"""The code of the documents, run as a reader would run it: block after block, in one folder.

What a fence says decides what happens to its block:

python    runs; the blocks of a document share their names. One whose first line is `# file NAME` is saved under that
          name instead. A ```text block right below holds what it prints.
console   each line that begins with `$ ` runs in bash and must succeed; the lines below it are what it prints, which is
          not compared where there are none. A command that ends with ` &` is a server, stopped at the document's end.
toml      is saved, where its first line is `# file NAME`.
others    (sh, json, text) are for reading only.

`...` in an expected output stands for any text. Ports that a document names are replaced by free ones.
"""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"(?<=--port )\d+|(?<=localhost:)\d+|(?<=127\.0\.0\.1:)\d+")
FILE = re.compile(r"# file (\S+)\n")
PATIENCE = 60  # seconds that a server may take until it listens


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line in the document, the ```text right below it."""

    language: str
    text: str
    line: int
    printed: str | None = None


@dataclass(frozen=True)
class Command:
    """One `$ ` line of a console block (with the lines that its backslashes join), and what stands below it."""

    line: str
    printed: str


@dataclass
class Reader:
    """Runs a document's blocks in order, in its own folder."""

    folder: Path
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "document"})
    ports: dict[str, str] = field(default_factory=dict)
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, block: Block) -> None:
        """Do what the block's language says."""
        text = PORT.sub(self._port, block.text)
        if block.language == "console":
            for command in commands(text):
                self._command(command, block.line)
        elif block.language == "python":
            self._python(text, block)
        elif block.language == "toml" and (saved := FILE.match(text)):
            (self.folder / saved.group(1)).write_text(text[saved.end() :])

    def stop(self) -> None:
        """Stop the servers that were started."""
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait(timeout=60)

    def _port(self, named: re.Match[str]) -> str:
        return self.ports.setdefault(named.group(), str(free_port()))

    def _python(self, text: str, block: Block) -> None:
        saved = FILE.match(text)
        if saved:
            (self.folder / saved.group(1)).write_text(text[saved.end() :])
            return
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(text, f"<line {block.line}>", "exec"), self.names)
        if block.printed is not None:
            compare(block.printed, printed.getvalue(), block.line)

    def _command(self, command: Command, line: int) -> None:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }
        if command.line.endswith(" &"):
            self._start(command.line.removesuffix(" &"), environment)
            return
        done = subprocess.run(
            ["bash", "-c", command.line],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"line {line}: {command.line}\nended with {done.returncode}:\n{done.stdout}"
        if command.printed:
            compare(command.printed, done.stdout, line)

    def _start(self, line: str, environment: dict[str, str]) -> None:
        port = PORT.search(line)
        assert port, f"a server in a document names its port: {line}"
        self.servers.append(
            subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self.folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        wait_for(int(port.group()), self.servers[-1])


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """A reader in a folder, its servers stopped at the end."""
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.stop()


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a document, each with the ```text that follows it with nothing but blank lines between."""
    fences = list(FENCE.finditer(text))
    found = []
    for number, fence in enumerate(fences):
        below = fences[number + 1] if number + 1 < len(fences) else None
        adjacent = below is not None and below[1] == "text" and not text[fence.end() : below.start()].strip()
        printed = below[2] if below is not None and adjacent else None
        found.append(Block(fence[1], fence[2], text.count("\n", 0, fence.start()) + 1, printed))
    return found


def commands(text: str) -> list[Command]:
    """The commands of a console block."""
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        taken = 1
        while lines[taken - 1].endswith("\\"):
            taken += 1
        found.append(Command("\n".join(lines[:taken]), "\n".join(lines[taken:])))
    return found


def compare(expected: str, printed: str, line: int) -> None:
    """What was printed is what the document says, `...` standing for anything."""
    pattern = re.escape(_trimmed(expected)).replace(r"\.\.\.", ".*?")
    assert re.fullmatch(pattern, _trimmed(printed), re.DOTALL), (
        f"line {line}: the document says\n{expected}\nbut this was printed\n{printed}"
    )


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Until the server takes connections."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(
        f"nobody listens on port {port}; the server {'runs' if server.poll() is None else 'has ended'}"
    )
