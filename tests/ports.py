"""Ports for the servers of the tests."""

from __future__ import annotations

import random
import socket

CHOICE = range(10_000, 32_000)  # below those that the system gives to callers, of whom many come while a server starts
_chance = random.SystemRandom()  # whatever seeds a test has set: other processes choose too
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on at this moment; another one each time."""
    while True:
        port = _chance.choice(CHOICE)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
