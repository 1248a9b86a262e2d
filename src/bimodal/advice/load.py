"""The load: a process of its own that keeps connections busy with requests, and times every answer.

    python -m bimodal.advice.load

It reads orders from standard input, a line of JSON each, and answers each with a line. The loop is closed: a connection
sends its next request when the answer is there, so a slow server is asked less often. It imports nothing but the
standard library, so that it starts at once, and takes little time of the machine it measures: the requests are made
before, and of an answer only the status and the length are looked at.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from array import array
from pathlib import Path
from typing import Any

WARM = 0.15  # of the seconds: before what is counted
SHARES = (*(place / 100 for place in range(1, 100)), 0.995, 0.999)
PATIENCE = 5.0  # seconds without any answer after which the server is given up


def main() -> None:
    """One order after the other, until standard input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        try:
            told = press(order)
        except OSError as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)  # noqa: T201 - the answer to the order


def press(order: dict[str, Any]) -> dict[str, Any]:
    """Keep `connections` busy at `address` for `seconds`; the requests are those of `method`, `path` and `bodies`.

    The answer: seconds counted, answers (2xx), others, broken connections, the latencies' quantiles (seconds), and the
    processor seconds that the processes `watched` took with all their children.
    """
    requests = [_request(order, body.encode()) for body in order["bodies"]] or [_request(order, b"")]
    loop = _Loop(tuple(order["address"]), requests, int(order["connections"]))
    try:
        loop.run(order["seconds"] * WARM)
        loop.forget()
        used, started = processor(order["watched"]), time.perf_counter()
        loop.run(order["seconds"])
        seconds, used = time.perf_counter() - started, processor(order["watched"]) - used
    finally:
        loop.close()
    times = sorted(loop.times)
    return {
        "seconds": seconds,
        "answered": len(times),
        "refused": loop.refused,
        "broken": loop.broken,
        "processor": used,
        "quantiles": [times[min(int(share * len(times)), len(times) - 1)] for share in SHARES] if times else [],
    }


def _request(order: dict[str, Any], body: bytes) -> bytes:
    head = f"{order['method']} {order['path']} HTTP/1.1\r\nhost: localhost\r\n"
    told = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
    return f"{head}{told}\r\n".encode() + body


class _Loop:
    """So many connections, each with one request under way."""

    def __init__(self, address: tuple[str, int], requests: list[bytes], connections: int) -> None:
        self.times, self.refused, self.broken = array("d"), 0, 0
        self._requests, self._turn = requests, 0
        self._selector = selectors.DefaultSelector()
        self._open: dict[int, _Connection] = {}
        for _ in range(connections):
            each = _Connection(address)
            self._open[each.fileno] = each
            self._selector.register(each.socket, selectors.EVENT_READ, each)

    def run(self, seconds: float) -> None:
        """Until the time is over; what is under way then is waited for by the next `run`, or dropped."""
        clock, until = time.perf_counter, time.perf_counter() + seconds
        for each in self._open.values():
            if not each.waiting:
                self._send(each)
        heard = clock()
        while (now := clock()) < until:
            ready = self._selector.select(0.1)
            if ready:
                heard = now
            elif now - heard > PATIENCE:
                raise TimeoutError("the server answers nothing")
            for key, _ in ready:
                each = key.data
                status = each.read()
                if status is None:
                    continue
                if status == 200:
                    self.times.append(clock() - each.sent)
                elif status:
                    self.refused += 1
                else:
                    self._drop(each)
                    continue
                self._send(each)

    def forget(self) -> None:
        """What was counted so far only warmed up."""
        del self.times[:]
        self.refused = self.broken = 0

    def close(self) -> None:
        for each in self._open.values():
            each.socket.close()
        self._selector.close()

    def _send(self, each: _Connection) -> None:
        self._turn = (self._turn + 1) % len(self._requests)
        each.send(self._requests[self._turn])

    def _drop(self, each: _Connection) -> None:
        self.broken += 1
        self._selector.unregister(each.socket)
        del self._open[each.fileno]
        each.socket.close()
        if not self._open:
            raise ConnectionError("the server closed every connection")


class _Connection:
    """A connection that is kept open."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fileno, self.sent, self.waiting = self.socket.fileno(), 0.0, False
        self._read = b""

    def send(self, request: bytes) -> None:
        self.sent, self.waiting = time.perf_counter(), True
        self.socket.sendall(request)

    def read(self) -> int | None:
        """The status of a whole answer; None while more of it is to come; 0 where the connection has ended."""
        try:
            data = self.socket.recv(65536)
        except OSError:
            return 0
        if not data:
            return 0
        self._read = data = self._read + data if self._read else data
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) - end - 4 < _length(data, end):
            return None
        self._read, self.waiting = b"", False
        return int(data[9:12])


def _length(data: bytes, end: int) -> int:
    at = data.find(b"ontent-", 0, end)
    while at >= 0:
        if data[at + 7 : at + 14].lower() == b"length:":
            return int(data[at + 14 : data.find(b"\r", at)])
        at = data.find(b"ontent-", at + 7, end)
    return 0


def processor(watched: list[int]) -> float:
    """Processor seconds that the processes and all that they started have taken (Linux; elsewhere 0)."""
    return sum(_taken(each) for each in watched)


def _taken(process: int) -> float:
    folder = Path("/proc", str(process))
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        tasks = [each / "children" for each in (folder / "task").iterdir()]
        children = [int(word) for each in tasks for word in each.read_text().split()]
    except (OSError, ValueError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(_taken(each) for each in children)


if __name__ == "__main__":
    main()
