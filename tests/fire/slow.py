"""Callers that are slow on purpose, many at once: python -m tests.fire.slow --sockets 2000

Each of KINDS keeps a connection open as cheaply as it can: it says nothing, drips a head, a body or a frame, or does
not read what it asked for. What is told: how long after its last sign of progress each was cut, what a good caller
beside them saw, and what memory they cost the server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from struct import pack

from hpack import Encoder

from bimodal.realtime.http2 import frames
from bimodal.realtime.http2.frames import PREFACE, frame
from tests.fire.load import Load, Outcome

MODEL = """
import numpy as np

class Twice:
    outputs = {"prediction": float}

    def predict(self, rows):
        return {"prediction": np.asarray(rows)[:, 0] * 2}
"""
BODY = b'{"input": [[2.0]]}'
BLOCK = Encoder().encode(
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/predict"),
        (":authority", "127.0.0.1"),
        ("content-type", "application/json"),
    ],
    huffman=False,
)
POST = b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: %b\r\n"
HELLO = PREFACE + frame(frames.SETTINGS, 0, 0, b"")
SHUT = PREFACE + frame(frames.SETTINGS, 0, 0, pack(">HI", frames.INITIAL_WINDOW_SIZE, 0))  # takes no DATA
UNREADING = 20  # callers who do not read: what they ask for at once is work that others wait for
LEAVES = 5.0  # seconds that a server reads on after its last word


@dataclass(frozen=True)
class Kind:
    """One way of being slow. timeout: the limit that ends it. first: what is sent at once; drip: sent again and again
    after it, a byte at a time.
    """

    name: str
    timeout: str
    first: bytes = b""
    drip: bytes = b""
    reads: bool = True


def _opened(flags: int, hello: bytes = HELLO) -> bytes:
    return hello + frame(frames.HEADERS, flags, 1, bytes(BLOCK))


def _data(content: bytes, flags: int = 0) -> bytes:
    return frame(frames.DATA, flags, 1, content)


HEAD_ENDS = frames.END_HEADERS
KINDS = (
    Kind("idle", "idle"),
    Kind("head", "header", b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ", b"a"),
    Kind("body", "body", POST % b"application/json" + b"content-length: 100000\r\n\r\n", b" "),
    Kind("chunks", "body", POST % b"application/json" + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    Kind("lines", "body", POST % b"application/x-ndjson" + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    Kind("unread", "idle", b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 400, reads=False),
    Kind("h2 preface", "header", PREFACE[:10], b""),
    Kind("h2 idle", "idle", HELLO),
    Kind("h2 frame", "header", HELLO + frame(frames.HEADERS, HEAD_ENDS, 1, b"a" * 1000)[:9], b"a"),
    Kind("h2 continued", "header", HELLO + frame(frames.HEADERS, 0, 1, b"\x00"), frame(frames.CONTINUATION, 0, 1, b"")),
    Kind("h2 data", "body", _opened(HEAD_ENDS), _data(b" ")),
    Kind("h2 unread", "idle", _opened(HEAD_ENDS, SHUT) + _data(BODY, frames.END_STREAM)),
)
NAMES = tuple(each.name for each in KINDS)


@dataclass
class Slow:
    """What became of one caller. cut: seconds until the server had its last word, nan where it had none."""

    kind: Kind
    delay: float = 0.0  # until it connects
    cut: float = float("nan")


@dataclass
class Figures:
    """alone, beside: what the good caller saw. rss: bytes that the server grew by at most. cuts: by kind."""

    limits: dict[str, float]
    cuts: dict[str, list[float]] = field(default_factory=dict)
    alone: Outcome | None = None
    beside: Outcome | None = None
    rss: int = 0

    def late(self, within: float) -> dict[str, tuple[float, float]]:
        """Kinds of which some were not cut in time: the earliest and the latest."""
        found = {}
        for kind in KINDS:
            times, due = self.cuts.get(kind.name, []), self.limits[kind.timeout]
            if times and not all(due - 0.1 <= each <= due + within for each in times):
                found[kind.name] = (min(times), max(times))
        return found

    def told(self) -> str:
        lines = []
        for kind in KINDS:
            times = self.cuts.get(kind.name, [])
            if times:
                due = self.limits[kind.timeout]
                lines.append(
                    f"{kind.name:14} {len(times):5} cut after {min(times):6.2f} to {max(times):6.2f} s ({due:g})"
                )
        if self.alone is not None and self.beside is not None:
            p99 = [each.p(99, 200) * 1e3 for each in (self.alone, self.beside)]
            lines.append(
                f"good caller: p99 {p99[0]:.1f} ms alone, {p99[1]:.1f} ms beside them "
                f"({p99[1] / p99[0]:.1f} times; goal 2), answers {dict(self.beside.statuses)}"
            )
        lines.append(f"memory of the server: {self.rss / 2**20:.1f} MiB more at most (goal 64)")
        return "\n".join(lines)


async def be_slow(port: int, slow: Slow, every: float, most: float) -> None:
    """Connect, keep on as its kind does, and note when the server ends it."""
    loop, kind = asyncio.get_running_loop(), slow.kind
    await asyncio.sleep(slow.delay)
    with socket.socket() as mine:
        mine.setblocking(False)
        if not kind.reads:
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        begun = time.monotonic()  # before the server can know of it: no cut is too soon for the wait in between
        await loop.sock_connect(mine, ("127.0.0.1", port))
        try:
            await asyncio.wait_for(_talk(loop, mine, kind, every), most)
        except TimeoutError:
            return  # it was never cut
        except OSError:
            pass  # cut without a word
        slow.cut = time.monotonic() - begun


async def _talk(loop: asyncio.AbstractEventLoop, mine: socket.socket, kind: Kind, every: float) -> None:
    """Until the server closes."""
    sending = asyncio.create_task(_send(loop, mine, kind, every))
    try:
        if not kind.reads:  # the end is seen by what sending and the system say
            await _broken(mine)
            return
        told = b""
        while data := await loop.sock_recv(mine, 65536):
            told += data
            if is_answered(told, kind):
                break
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def is_answered(told: bytes, kind: Kind) -> bool:
    """Whether the server has answered: the last word about a request, whatever becomes of the connection."""
    if told.startswith(b"HTTP/"):
        return b" 408 " in told[:20]
    while len(told) >= frames.HEAD_BYTES:
        size, said = int.from_bytes(told[:3], "big"), told[3]
        if said in (frames.RST_STREAM, frames.GOAWAY) or (said == frames.HEADERS and kind.timeout == "body"):
            return True
        told = told[frames.HEAD_BYTES + size :]
    return False


async def _broken(mine: socket.socket) -> None:
    """Wait until the system knows that the server has broken it off."""
    while True:
        state = mine.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state != 1:  # no longer ESTABLISHED
            return
        await asyncio.sleep(0.05)


async def _send(loop: asyncio.AbstractEventLoop, mine: socket.socket, kind: Kind, every: float) -> None:
    await loop.sock_sendall(mine, kind.first)
    while kind.drip:
        await asyncio.sleep(every)
        await loop.sock_sendall(mine, kind.drip)


def memory(pids: Sequence[int]) -> int:
    """Resident bytes of processes."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * os.sysconf("SC_PAGE_SIZE")


async def watch(pids: Callable[[], Sequence[int]], seen: list[int]) -> None:
    """Note the memory four times a second."""
    while True:
        seen.append(memory(pids()))
        await asyncio.sleep(0.25)


async def crowd(
    port: int, pids: Callable[[], Sequence[int]], kinds: Sequence[Kind], sockets: int, limits: dict[str, float]
) -> Figures:
    """All of them at once. limits: idle, header, body, in seconds."""
    figures = Figures(limits)
    every, most = min(1.0, min(limits.values()) / 4), max(limits.values()) + LEAVES + 60
    callers = [Slow(kinds[number % len(kinds)]) for number in range(sockets)]
    for each in [each for each in callers if not each.kind.reads][UNREADING:]:
        each.kind = kinds[0]
    seen, delays = [memory(pids())], count()
    watching = asyncio.create_task(watch(pids, seen))
    try:
        for each in callers:
            each.delay = next(delays) / 1000
        await asyncio.gather(*[be_slow(port, each, every, most) for each in callers])
    finally:
        watching.cancel()
    for each in callers:
        figures.cuts.setdefault(each.kind.name, []).append(each.cut)
    figures.rss = max(seen) - seen[0]
    return figures


def run(sockets: int, limits: dict[str, float], kinds: Sequence[Kind] = KINDS, rate: float = 50.0) -> Figures:
    """All of it against `bimodal serve` in a process of its own, with a good caller beside."""
    with tempfile.TemporaryDirectory() as place:
        Path(place, "model.py").write_text(MODEL)
        options = [f"--{name}-timeout={seconds:g}s" for name, seconds in limits.items()]
        command = [
            sys.executable,
            "-m",
            "bimodal",
            "serve",
            f"{place}/model.py:Twice",
            "--port",
            "0",
            "--features",
            "x",
        ]
        with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().rsplit(b":", 1)[1])
            try:
                return _measured(port, server.pid, sockets, limits, kinds, rate)
            finally:
                server.terminate()


def _measured(
    port: int, pid: int, sockets: int, limits: dict[str, float], kinds: Sequence[Kind], rate: float
) -> Figures:
    url, lasts = f"http://127.0.0.1:{port}/predict", max(limits.values()) + 2
    alone = Load(url, rate, lasts / 2, [BODY]).run()
    with Load(url, rate, lasts, [BODY]).begin() as running:
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(running.finish)
            figures = asyncio.run(crowd(port, lambda: children(pid), kinds, sockets, limits))
        figures.beside = beside.result()
    figures.alone = alone
    return figures


def children(pid: int) -> list[int]:
    """The processes that it started: of a server, its workers."""
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    others = [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return sorted({int(each) for each in (*told, *others)})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=2000)
    for name, seconds in (("idle", 60.0), ("header", 10.0), ("body", 30.0)):
        parser.add_argument(f"--{name}", type=float, default=seconds, help="seconds")
    told = parser.parse_args(arguments)
    print(run(told.sockets, {name: getattr(told, name) for name in ("idle", "header", "body")}).told())


if __name__ == "__main__":
    main()
