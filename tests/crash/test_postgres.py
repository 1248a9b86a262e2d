"""Promises 19, 20 and 24 with PostgreSQL: the client is killed, or its connection cut, at any message that it sends."""

from __future__ import annotations

import random
import time

import psycopg
import pytest

from tests.crash.conftest import Scene
from tests.crash.harness import KILLS, TRIALS, Bench, calls_of, disturb, told
from tests.crash.places import PostgresPlace

SOAK = pytest.mark.soak
SENT = ("send",)


@pytest.fixture
def bench(scene: Scene, postgres_url: str) -> Bench:
    found = scene.bench(PostgresPlace(postgres_url))
    found.fresh()
    assert found.run(kinds=SENT).code == 0
    found.calls = found.zygote.orders["count"]
    assert found.calls > 50
    return found


@pytest.mark.parametrize("points", [5, pytest.param(None, marks=SOAK)], ids=["some", "all"])
def test_a_kill_at_every_message(points: int | None, bench: Bench) -> None:
    kills = 0
    for at in calls_of(bench, points):
        faults = KILLS if points is None else (KILLS[at % 3],)
        fired = 0
        for fault in faults:
            bench.fresh()
            ended = bench.run(at=at, fault=fault, kinds=SENT)
            fired += bench.zygote.orders["fired"]
            assert ended.killed or not bench.zygote.orders["fired"], ended
            bench.whole_or_none()
            bench.finish()
        if not fired:
            break
        kills += fired
    told(f"postgres: {kills} kills at {bench.calls} messages")
    assert kills >= (points or 50)


@pytest.mark.parametrize("points", [6, pytest.param(None, marks=SOAK)], ids=["some", "all"])
def test_a_connection_that_is_cut_after_any_message(points: int | None, bench: Bench) -> None:
    """The message arrives, its answer does not: whether the COMMIT happened is not known."""
    cut = 0
    for at in calls_of(bench, points):
        bench.fresh()
        ended = bench.run(at=at, fault="cut", kinds=SENT)
        if not bench.zygote.orders["fired"]:
            break
        bench.whole_or_none()
        if ended.code:
            assert ended.code == 1, ended
            assert ended.told.startswith("error: "), ended.told
            assert len(ended.told.splitlines()) == 1, ended.told
            bench.finish()
        bench.check()
        cut += 1
    told(f"postgres: {cut} connections cut")
    assert cut >= (points or 50)


@pytest.mark.parametrize("trials", [3, pytest.param(TRIALS, marks=SOAK)])
def test_kills_at_random(trials: int, bench: Bench) -> None:
    chance, killed = random.Random("postgres"), 0
    for _ in range(trials):
        bench.fresh()
        killed += disturb(bench, chance, kinds=SENT)
        while chance.random() < 1 / 3:
            killed += disturb(bench, chance, kinds=SENT)
        bench.finish()
    told(f"postgres: {trials} trials with {killed} kills")
    assert killed >= trials / 4


@pytest.mark.parametrize("trials", [2, pytest.param(500, marks=SOAK)])
def test_a_backend_that_is_ended_by_the_server(trials: int, bench: Bench, postgres_url: str) -> None:
    chance, ended_early = random.Random("backend"), 0
    for _ in range(trials):
        bench.fresh()
        running = bench.start()
        time.sleep(chance.uniform(0, bench.seconds))
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            found = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchone()
        ended_early += bool(found and found[0])
        ended = running.wait()
        bench.whole_or_none()
        if ended.code:
            assert ended.told.startswith("error: "), ended.told
            bench.finish()
        bench.check()
    assert ended_early or trials < 100
