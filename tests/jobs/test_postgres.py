"""The job store in PostgreSQL: a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from bimodal.errors import SinkError, Unavailable, UsageError
from bimodal.jobs.opening import open_store
from bimodal.jobs.postgres import PostgresStore
from bimodal.jobs.store import JobStore
from tests.jobs.contract import TTL, StoreContract, T, claimed, queued

NUMBERS = count()


@pytest.fixture
def url(postgres_server: str) -> Iterator[str]:
    """A database of its own."""
    name = f"jobs{next(NUMBERS)}"
    admin = f"host={postgres_server} user=postgres dbname=postgres"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield f"postgresql://postgres@{quote(postgres_server, safe='')}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def cut(url: str) -> None:
    """End all other connections to the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


class TestPostgres(StoreContract):
    @pytest.fixture
    def place(self, url: str) -> str:
        return url

    @pytest.fixture
    def opened(self, place: str) -> Iterator[Callable[[], JobStore]]:
        made: list[JobStore] = []

        def opening() -> JobStore:
            made.append(PostgresStore(place))
            return made[-1]

        yield opening
        for each in made:
            each.close()


def test_a_lost_connection_is_opened_again(url: str) -> None:
    store = PostgresStore(url)
    store.ask(queued("a"))
    cut(url)
    run = claimed(store)
    cut(url)
    assert store.find("a") == run
    cut(url)
    assert store.finish(run, "succeeded", T).status == "succeeded"
    store.close()


def test_a_connection_that_is_lost_in_a_transaction_leaves_nothing_of_it(url: str) -> None:
    store = PostgresStore(url)

    def half() -> None:
        with store.writing() as do:
            do("INSERT INTO bimodal_jobs_marks (job, until, spec) VALUES (?, ?, ?)", "nightly", T, "")
            cut(url)
            do("SELECT 1")

    with pytest.raises(Unavailable, match="cannot be reached"):
        half()
    assert store.marks() == {}
    assert store.ask(queued("a"))[1]
    assert store.claim("ann", T, TTL) is not None
    store.close()


def test_a_writer_that_hangs_is_told_of(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = "BEGIN; SET LOCAL lock_timeout = '50ms'; SELECT pg_advisory_xact_lock(7)"
    monkeypatch.setattr("bimodal.jobs.postgres.BEGIN", begin)
    store, other = PostgresStore(url), PostgresStore(url)
    with store.writing(), pytest.raises(Unavailable, match="locked"):
        other.ask(queued("a"))
    assert other.ask(queued("a"))[1]
    store.close()
    other.close()


def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    with pytest.raises(Unavailable, match=r"postgresql://127\.0\.0\.1:1/x cannot be reached") as told:
        PostgresStore("postgresql://ann:sesame@127.0.0.1:1/x")
    assert "sesame" not in str(told.value)


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(UsageError, match="cannot be read") as told:
        PostgresStore("postgresql://ann:ses%ame@[host/x")
    assert "ame" not in str(told.value).replace("name", "")


def test_a_user_who_may_not_write_is_told(url: str) -> None:
    PostgresStore(url).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    store = PostgresStore(url.replace("postgres@", "reader@"))
    assert store.runs() == []
    with pytest.raises(SinkError, match="permission denied"):
        store.ask(queued("a"))
    store.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY reader")
        connection.execute("DROP ROLE reader")


def test_the_url_and_its_password_by_reference(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_URL", url)
    (tmp_path / "url").write_text(url + "\n")
    (tmp_path / "password").write_text("sesame\n")
    places = ("env:JOBS_URL", f"file:{tmp_path}/url", url.replace("@", ":env:JOBS_URL@"))
    for place in (*places, f"{url}?password=file:{tmp_path}/password"):
        store = open_store(place, tmp_path)
        assert store.runs() == []
        store.close()
    for wrong in ("env:NO_SUCH", "file:/no/such", url.replace("@", ":env:NO_SUCH@")):
        with pytest.raises(UsageError, match=r"NO_SUCH|/no/such"):
            open_store(wrong, tmp_path)


def test_the_store_brings_nothing_heavy() -> None:
    code = (
        "import sys, bimodal.jobs.postgres\nprint(sorted({'numpy', 'pyarrow', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
