"""Answers in pieces: what the way to the caller costs, against the bare generator.

    python tasks.py bench streaming                three rounds of 20,000 pieces
    python tasks.py bench streaming --pieces 2000 --rounds 1

One model, a generator that yields a word; its pieces are counted in its own process (bare), through `Model.stream` from
another process, and over HTTP as events of `/predict` and as chunks of `/v1/chat/completions`, read from a socket.
The time to the first piece is that from the call to the piece, of answers that take turns; the server is warm.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread

import bimodal

FIRSTS = 200  # answers whose first piece is timed
MODEL = """
class Talk:
    inputs = {"prompt": str, "max_tokens": int}
    outputs = {"text": str}
    streams = 16

    def predict(self, row):
        for _ in range(row["max_tokens"]):
            yield "word "
"""
Ways = dict[str, Callable[[int], Iterator[int]]]  # pieces wanted → how many have come, again and again


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pieces", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with TemporaryDirectory(prefix="bimodal-streaming-") as folder:
        (Path(folder) / "talk.py").write_text(MODEL)
        place = f"{folder}/talk.py:Talk"
        with bimodal.load(place) as model, bimodal.serve(place, port=0) as server:
            ways: Ways = {
                "bare generator": bare,
                "Model.stream": lambda count: counted(model.stream({"prompt": "a", "max_tokens": count})),
                "events of /predict": lambda count: events(server.port, *predict(count)),
                "chat, streamed": lambda count: events(server.port, *chat(count)),
            }
            report(ways, chosen.pieces, chosen.rounds)
            together(server.port, chosen.pieces)


def report(ways: Ways, pieces: int, rounds: int) -> None:
    """Medians over the rounds, in which the ways take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append((first(way), rate(way, pieces)))
    print(f"{'':20} {'first piece, ms':>16} {'pieces/s':>10}")
    for name, figures in found.items():
        print(f"{name:20} {median(a for a, _ in figures) * 1e3:16.3f} {median(b for _, b in figures):10,.0f}")


def first(way: Callable[[int], Iterator[int]]) -> float:
    """Seconds to the first piece."""
    spans = []
    for _ in range(FIRSTS):
        start = time.perf_counter()
        next(iter(way(1)))
        spans.append(time.perf_counter() - start)
    return median(spans)


def rate(way: Callable[[int], Iterator[int]], pieces: int) -> float:
    start = time.perf_counter()
    come = max(way(pieces))
    assert come >= pieces, f"{come} of {pieces} pieces"
    return pieces / (time.perf_counter() - start)


def together(port: int, pieces: int, callers: int = 8) -> None:
    """Several answers at once from one worker."""
    threads = [Thread(target=rate, args=(lambda count: events(port, *chat(count)), pieces)) for _ in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{f'chat, {callers} at once':20} {'':16} {callers * pieces / (time.perf_counter() - start):10,.0f}")


def bare(count: int) -> Iterator[int]:
    names: dict[str, type] = {}
    exec(MODEL, names)
    return counted(names["Talk"]().predict({"prompt": "a", "max_tokens": count}))


def counted(pieces: Iterator[object]) -> Iterator[int]:
    for place, _ in enumerate(pieces, 1):
        yield place


def predict(count: int) -> tuple[bytes, dict[str, object]]:
    return b"/models/Talk/predict", {"input": {"prompt": "a", "max_tokens": count}}


def chat(count: int) -> tuple[bytes, dict[str, object]]:
    messages = [{"role": "user", "content": "a"}]
    return b"/v1/chat/completions", {"model": "Talk", "stream": True, "max_tokens": count, "messages": messages}


def events(port: int, path: bytes, body: dict[str, object]) -> Iterator[int]:
    """How many pieces with a word have come over a connection of its own."""
    told = json.dumps(body).encode()
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nconnection: close\r\n" % path
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(told) + told)
        come, rest = 0, b""
        while data := connection.recv(1 << 16):
            rest += data
            come += rest.count(b'word "')
            if come:
                yield come
            rest = rest[-5:]


if __name__ == "__main__":
    main()
