"""MariaDB, a real one: types both ways, modes, and every row once however the writer or the server is killed."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bimodal.batch.databases import sink
from tests.batch.databases.contract_sink import SinkContract
from tests.batch.databases.contract_source import SourceContract
from tests.batch.databases.mariadb import Proxy, Server, die_at, expected, served, write
from tests.batch.databases.place import Place
from tests.batch.databases.zygote import Zygote

FORKS = multiprocessing.get_context("forkserver")
OLD = [(-1, "old", 0.5), (3, "old", 0.5)]
MODES = {
    "create": [],
    "append": OLD,
    "replace": OLD,
    "upsert": OLD,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    FORKS.set_forkserver_preload(["tests.batch.databases.mariadb"])
    with served() as running:
        yield running


class MariaDBPlace(Place):
    """The server's database, emptied."""

    double = "DOUBLE"
    sign = "☃"

    def __init__(self, server: Server) -> None:
        self.url, self._server = server.address(), server
        server.ask("DROP DATABASE shop")
        server.ask()

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._server.connected() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def do(self, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        with self._server.connected() as cursor:
            for row in rows:
                cursor.execute(statement, row or None)

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"


class TestSource(SourceContract):
    @pytest.fixture
    def place(self, server: Server) -> MariaDBPlace:
        return MariaDBPlace(server)


class TestSink(SinkContract):
    @pytest.fixture
    def place(self, server: Server) -> MariaDBPlace:
        return MariaDBPlace(server)

    @pytest.mark.soak  # a server's connections take their time; below it dies at some of them
    @pytest.mark.parametrize("mode", MODES)
    def test_killed_before_each_of_its_acts(self, place: Place, zygote: Zygote, mode: str, tmp_path: Path) -> None:
        super().test_killed_before_each_of_its_acts(place, zygote, mode, tmp_path)


def made(server: Server, mode: str) -> None:
    """A target as the mode wants it, and nothing of an earlier run."""
    for (name,) in server.ask("SHOW TABLES"):
        server.ask(f"DROP TABLE `{name}`")
    if MODES[mode]:
        server.ask(
            "CREATE TABLE scores (id INT PRIMARY KEY, word VARCHAR(60) CHARACTER SET utf8mb4, score DOUBLE)",
            "INSERT INTO scores VALUES (-1, 'old', 0.5), (3, 'old', 0.5)" if mode != "append" else
            "INSERT INTO scores VALUES (-1, 'old', 0.5)",
        )  # fmt: skip


def holds(server: Server, mode: str) -> None:
    """The target has what an undisturbed run leaves, and nothing else is left."""
    kept = [OLD[0]] if mode in ("append", "upsert") else []
    assert server.ask("SELECT * FROM scores ORDER BY id") == kept + expected(), mode
    assert {name for (name,) in server.ask("SHOW TABLES")} == {
        "scores", "bimodal_runs", "bimodal_chunks", "bimodal_rejects",
    }  # fmt: skip
    assert server.ask("SELECT COUNT(*) FROM bimodal_chunks") == [(0,)]
    assert server.ask("SELECT status FROM bimodal_runs") == [("published",)]


def key(mode: str) -> tuple[str, ...]:
    return ("id",) if mode == "upsert" else ()


def start(server: Server, mode: str, *death: Any) -> tuple[Any, Any]:
    """A writer in a process of its own. death: at what command of its publication it kills itself."""
    told = FORKS.Value("i", -1)
    words = (server.address("scores"), mode, key(mode), told)
    process = FORKS.Process(target=die_at if death else write, args=(*death, *words))
    process.start()
    return process, told


def dies(server: Server, mode: str, place: int, sent: bool) -> bool:
    """A run that kills itself at a command of its publication (SinkContract kills before acts; here an answer may be
    lost too), and the one that goes on. Whether there was such a command.
    """
    made(server, mode)
    process, _ = start(server, mode, place, sent)
    process.join()
    write(server.address("scores"), mode, key(mode))
    holds(server, mode)
    return bool(process.exitcode != 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_nothing_disturbs(server: Server, mode: str) -> None:
    made(server, mode)
    write(server.address("scores"), mode, key(mode))
    holds(server, mode)
    write(server.address("scores"), mode, key(mode))  # again: nothing is doubled
    holds(server, mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_writer_that_dies_within_its_publication_is_gone_on_with(server: Server, mode: str) -> None:
    chance = random.Random(mode)
    for sent in (False, True):
        assert dies(server, mode, chance.randrange(12, 30), sent)


@pytest.mark.soak
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sent", [False, True])
def test_a_writer_may_die_at_each_command_of_its_publication(server: Server, mode: str, sent: bool) -> None:
    place = 0
    while dies(server, mode, place, sent):
        place += 1
    assert place > 25


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_server_that_is_killed_and_comes_back_is_gone_on_with(server: Server, mode: str) -> None:
    made(server, mode)
    process, told = start(server, mode)
    while told.value < 3:
        assert process.is_alive()
    server.kill()
    server.start()
    process.join()
    write(server.address("scores"), mode, key(mode))
    holds(server, mode)


def cuts(server: Server, mode: str, cut: str, odd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose connection is cut at every other COMMIT."""
    monkeypatch.setattr(sink, "PAUSE", 0.01)
    made(server, mode)
    proxy = Proxy(server, lambda number: cut if number % 2 == odd else None)
    try:
        through = server.address("scores").replace(str(server.socket), str(proxy.socket))
        write(through, mode, key(mode))
    finally:
        proxy.close()
    assert proxy.cuts > 3
    holds(server, mode)


@pytest.mark.parametrize(
    ("mode", "cut"), [("create", "after"), ("append", "late"), ("replace", "before"), ("upsert", "after")]
)
def test_a_commit_of_unknown_fate_happens_once(
    server: Server, mode: str, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts(server, mode, cut, 0, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", ["before", "after", "late"])
def test_every_commit_of_unknown_fate_happens_once(
    server: Server, mode: str, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for odd in (0, 1):
        cuts(server, mode, cut, odd, monkeypatch)
