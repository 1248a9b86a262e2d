"""The job store in a SQLite file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bimodal.errors import SinkError, SourceError, Unavailable
from bimodal.jobs.sqlite import SqliteStore
from bimodal.jobs.store import JobStore
from tests.jobs.contract import StoreContract, T, queued


class TestSqlite(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/state/state.db"

    @pytest.fixture
    def opened(self, place: str) -> Iterator[Callable[[], JobStore]]:
        made: list[JobStore] = []

        def opening() -> JobStore:
            made.append(SqliteStore(place.removeprefix("sqlite:///")))
            return made[-1]

        yield opening
        for each in made:
            each.close()


def test_file_and_folder_are_the_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(tmp_path / ".bimodal" / "state.db")
        store.ask(queued("a"))
    finally:
        os.umask(before)
    store.close()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / ".bimodal").iterdir()}
    assert modes["state.db"] == 0o600
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / ".bimodal").stat().st_mode) == 0o700


def test_a_store_that_is_locked_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", wait=0.05)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match=r"locked for 0\.05 s"):
            store.ask(queued("a"))
        other.execute("ROLLBACK")
    assert store.ask(queued("a"))[1]
    store.close()


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"customer,churn\n" * 100)
    with pytest.raises(SourceError, match="no state of jobs"):
        SqliteStore(path)
    assert path.read_bytes() == b"customer,churn\n" * 100


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE bimodal_jobs_schema SET version = 99")
    with pytest.raises(SourceError, match="later version"):
        SqliteStore(path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be kept"):
        SqliteStore(tmp_path / "file" / "state.db")


def test_a_forked_process_uses_a_connection_of_its_own(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    store.ask(queued("a"))
    child = os.fork()
    if child == 0:
        store.cancel("a", T)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert store.find("a").status == "cancelled"
    store.close()


def test_a_file_that_was_removed_is_made_anew_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(tmp_path / "state" / "state.db")
    store.ask(queued("a"))
    shutil.rmtree(tmp_path / "state")
    assert store.runs() == []
    store.ask(queued("a"))
    assert len(store.runs()) == 1
    assert [record.message for record in caplog.records if "was removed or replaced" in record.message] != []
    assert len(caplog.records) == 1
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    store.close()
