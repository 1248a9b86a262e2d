"""Real servers for the shared stores, one of each a session."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
import redis

from tests.ports import free_port

pytest.register_assert_rewrite("tests.predictions.contract")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """redis-server (Debian: apt-get install redis-server), which keeps nothing on the disk."""
    port = free_port()
    program = shutil.which("redis-server") or "/usr/bin/redis-server"
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            for _ in range(1200):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
