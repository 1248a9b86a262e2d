"""What a server keeps that it should have let go: python -m tests.fire.leaks --minutes 10

Mixed traffic (predictions, Open Inference, gRPC, errors, callers that leave, streams, refusals) while models are
reloaded; memory, open files and threads of the worker are looked at, and told as a slope from the first third on.
`--leaking` serves a model that keeps something of each call: what cannot see that proves nothing.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hpack import Encoder

from bimodal.realtime.http2 import frames
from bimodal.realtime.http2.frames import PREFACE, frame
from tests.fire.slow import children

SOUND = """
import numpy as np

class Twice:
    outputs = {"prediction": float}

    def predict(self, rows):
        return {"prediction": np.asarray(rows)[:, 0] * 2}
"""
LEAK = """
import sys

if "bimodal.realtime.worker" in sys.orig_argv:
    from bimodal.realtime import batcher

    kept, submit = [], batcher.Batcher.submit

    def leaking(self, work):
        kept.append(bytearray({size}))
        return submit(self, work)

    batcher.Batcher.submit = leaking
"""
SLOPE = 1.0  # MiB an hour
HEAD = "POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: %s\r\n"
JSON = "application/json"


def post(path: str, body: bytes, kind: str = JSON, *fields: str) -> bytes:
    told = [HEAD % (path, kind), *[f"{each}\r\n" for each in fields], f"content-length: {len(body)}\r\n\r\n"]
    return "".join(told).encode() + body


INFER = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [2.0]}]}'
CHUNKED = (HEAD % ("/predict", "application/x-ndjson") + "transfer-encoding: chunked\r\n\r\n").encode()
GOOD = (  # whole requests, and how many answers they bring
    (post("/predict", b'{"input": [[2.0]]}'), 1),
    (post("/predict", b'{"rows": [{"x": 2.0}, {"x": 3.0}]}') * 4, 4),
    (post("/predict", b"x\n1\n2\n", "text/csv"), 1),
    (post("/predict", b'{"x": 1.0}\n{"x": 2.0}\n', "application/x-ndjson", "connection: close"), 0),
    (post("/v2/models/m/infer", INFER), 1),
    (post("/predict", b'{"input": [["a"]]}'), 1),
    (post("/predict", b'{"input": '), 1),
    (post("/no/such/route", b"{}"), 1),
    (post("/models/none/predict", b"{}"), 1),
    (post("/predict", b"x", "image/png"), 1),
    (b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 1),
    (b"GET /health/ready HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 1),
)
BROKEN = (  # what a caller says before it leaves
    b"",
    b"POST /pre",
    post("/predict", b'{"input": [[2.0]]}'),
    post("/predict", b'{"input": [[2.0]]}')[:-4],
    CHUNKED + b'b\r\n{"x": 1.0}\n\r\n',
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"a" * 40_000,
    post("/predict", b"", JSON, "expect: 100-continue").replace(b"length: 0", b"length: 99999999"),
    PREFACE + frame(frames.SETTINGS, 0, 0, b"") + frame(frames.HEADERS, 4, 1, b"\x83\x86\x44\x01/"),
)


def call(number: int) -> bytes:
    """A gRPC call, ServerLive, on its stream."""
    block = Encoder().encode(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/inference.GRPCInferenceService/ServerLive"),
            (":authority", "127.0.0.1"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-number", str(number)),
        ],
        huffman=False,
    )
    return frame(frames.HEADERS, frames.END_HEADERS, number, bytes(block)) + frame(frames.DATA, 1, number, b"\0" * 5)


@dataclass
class Seen:
    """One look at the worker."""

    seconds: float
    memory: int
    files: int
    threads: int


@dataclass
class Figures:
    """looks: at the worker. requests: that were sent, reloads: that were made."""

    looks: list[Seen] = field(default_factory=list)
    requests: int = 0
    reloads: int = 0

    @property
    def settled(self) -> list[Seen]:
        """After the first third."""
        return self.looks[len(self.looks) // 3 :]

    @property
    def slope(self) -> float:
        """MiB an hour, of the medians of tenths: one look more or less does not turn it."""
        parts = np.array_split(np.arange(len(self.settled)), 10)
        points = [
            (
                np.median([self.settled[each].seconds for each in part]),
                np.median([self.settled[each].memory for each in part]),
            )
            for part in parts
            if len(part)
        ]
        seconds, memory = np.array(points).T
        return float(np.polyfit(seconds, memory, 1)[0]) * 3600 / 2**20

    @property
    def kept(self) -> float:
        """Bytes a request, from the first look after the first third to the last."""
        share = len(self.settled) / len(self.looks)
        first, last = ([each.memory for each in part] for part in (self.settled[:5], self.settled[-5:]))
        return float(np.median(last) - np.median(first)) / max(1.0, self.requests * share)

    def told(self) -> str:
        first, last = self.settled[0], self.settled[-1]
        return (
            f"{self.requests} requests, {self.reloads} reloads in {last.seconds:.0f} s: memory "
            f"{first.memory / 2**20:.1f} MiB after a third, {last.memory / 2**20:.1f} at the end; slope "
            f"{self.slope:.2f} MiB/h (goal {SLOPE:g}), "
            f"{self.kept:.2f} bytes a request; files {first.files} and {last.files}, threads {first.threads} and "
            f"{last.threads}"
        )


def look(pid: int, begun: float) -> Seen:
    place = Path(f"/proc/{pid}")
    memory = int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    files, threads = len(os.listdir(place / "fd")), len(os.listdir(place / "task"))
    return Seen(time.monotonic() - begun, memory, files, threads)


class Mixed:
    """A caller that does all of it in turn, on connections of its own."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._port = port

    def turn(self) -> None:
        """All of it once."""
        self._good()
        self._calls()
        for each in BROKEN:
            with self._connected() as mine:
                mine.sendall(each)
            self.sent += 1

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=30)

    def _good(self) -> None:
        for raw, answers in GOOD:
            with self._connected() as mine:
                for _ in range(5 if answers else 1):
                    mine.sendall(raw)
                    _read(mine, answers)
                    self.sent += max(1, answers)

    def _calls(self) -> None:
        with self._connected() as mine:
            mine.sendall(PREFACE + frame(frames.SETTINGS, 0, 0, b""))
            mine.sendall(b"".join(call(number) for number in range(1, 21, 2)))
            ended = 0
            told = b""
            while ended < 10:
                told += mine.recv(65536)
                ended, told = _ended(told, ended)
            mine.sendall(frame(frames.RST_STREAM, 0, 19, b"\0\0\0\x08"))
            self.sent += 10


def _ended(told: bytes, ended: int) -> tuple[int, bytes]:
    """How many streams have ended by now, and the frame that is not whole."""
    while len(told) >= frames.HEAD_BYTES and len(told) >= frames.HEAD_BYTES + int.from_bytes(told[:3], "big"):
        ended += told[3] == frames.HEADERS and bool(told[4] & frames.END_STREAM)
        told = told[frames.HEAD_BYTES + int.from_bytes(told[:3], "big") :]
    return ended, told


def _read(mine: socket.socket, answers: int) -> None:
    """So many answers; to the end where there are none to be counted."""
    told = b""
    while not answers or told.count(b"HTTP/1.1 ") < answers or not _whole(told):
        data = mine.recv(65536)
        if not data:
            return
        told += data


def _whole(told: bytes) -> bool:
    """Whether the last answer has come to its end."""
    head, _, body = told[told.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(body or length == b"0") and (not length or len(body) >= int(length))


def put(folder: Path) -> None:
    """The model, in its place in one step, another one by its digest."""
    place = folder / "m"
    place.mkdir(exist_ok=True)
    new = place / "model.py.new"
    new.write_text(f"# {time.time_ns()}\n{SOUND}")
    new.rename(place / "model.py")


def run(minutes: float, *, reloads: int = 20, leaking: int = 0, callers: int = 2) -> Figures:
    """All of it against `bimodal serve` in a process of its own. leaking: bytes that it keeps of each request."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "models")
        folder.mkdir()
        put(folder)
        environment = dict(os.environ)
        if leaking:
            Path(place, "sitecustomize.py").write_text(LEAK.format(size=leaking))
            environment["PYTHONPATH"] = os.pathsep.join([place, environment.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "bimodal", "serve", str(folder)]
        options = ["--port", "0", "--features", "x", "--workers", "1"]
        with subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().rsplit(b":", 1)[1])
            try:
                return _measured(port, children(server.pid)[0], folder, minutes * 60, reloads, callers)
            finally:
                server.terminate()


def _measured(port: int, worker: int, folder: Path, seconds: float, reloads: int, callers: int) -> Figures:
    figures, begun = Figures(), time.monotonic()
    mixed = [Mixed(port) for _ in range(callers)]
    over = threading.Event()
    threads = [threading.Thread(target=_keep_on, args=(each, over)) for each in mixed]
    for each in threads:
        each.start()
    try:
        while time.monotonic() - begun < seconds:
            time.sleep(min(1.0, seconds / 60))
            figures.looks.append(look(worker, begun))
            if figures.reloads < reloads * (time.monotonic() - begun) / seconds:
                put(folder)
                with socket.create_connection(("127.0.0.1", port), timeout=120) as mine:
                    mine.sendall(post("/v2/repository/models/m/load", b"{}"))
                    assert b" 200 " in mine.recv(65536)[:15]
                figures.reloads += 1
    finally:
        over.set()
        for each in threads:
            each.join()
    figures.requests = sum(each.sent for each in mixed)
    return figures


def _keep_on(mixed: Mixed, over: threading.Event) -> None:
    while not over.is_set():
        mixed.turn()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--leaking", type=int, default=0, help="bytes that the server keeps of each request")
    told = parser.parse_args(arguments)
    print(run(told.minutes, reloads=told.reloads, leaking=told.leaking).told())


if __name__ == "__main__":
    main()
