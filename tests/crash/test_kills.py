"""Promises 19 and 20: a run is killed at any call, or any moment, and the same command ends with the same bytes."""

from __future__ import annotations

import random

import pytest

from tests.crash.conftest import Scene
from tests.crash.disk import Disk, Node, all_done, read_log, replay
from tests.crash.harness import KILLS, TRIALS, Bench, calls_of, disturb, told
from tests.crash.places import ALL, FILES

SOAK = pytest.mark.soak
OLD = b"what stood there before\n"


def sweep(bench: Bench, points: int | None, *more: str) -> int:
    """Kills at calls of a run: at all of them before, in the middle and after, or at some points in one of these ways;
    how many there were.
    """
    kills = 0
    for at in calls_of(bench, points):
        faults = KILLS if points is None else (KILLS[at % 3],)
        fired = sum(kill_at(bench, at, fault, *more) for fault in faults)
        if not fired and points is None:
            break
        kills += fired
    return kills


def kill_at(bench: Bench, at: int, fault: str, *more: str) -> bool:
    """Kill a run at a call, and run it again; False where it has no such call."""
    bench.fresh()
    ended = bench.run(*more, at=at, fault=fault)
    fired = bool(bench.zygote.orders["fired"])
    assert ended.killed or not fired or fault == "half", ended
    assert ended.killed or ended.code == 0, ended.told
    bench.whole_or_none()
    bench.finish(*more)
    return fired


@pytest.mark.parametrize("name", ALL)
def test_nothing_changes_unseen(name: str, scene: Scene) -> None:
    """The proofs see every change of a file: their log alone tells what stands in the folder."""
    bench = scene.bench(ALL[name])
    bench.fresh()
    disk, log = Disk(bench.folder), scene.home / f"log-{name}"
    assert bench.run(log=log).code == 0
    replay(disk, read_log(log))
    told = {path: node.data for path, node in all_done(disk).items() if not node.folder}
    assert told == {str(each): each.read_bytes() for each in bench.folder.rglob("*") if each.is_file()}
    assert isinstance(disk.nodes[0], Node)


@pytest.mark.parametrize("points", [6, pytest.param(None, marks=SOAK)], ids=["some", "all"])
@pytest.mark.parametrize("name", ALL)
def test_a_kill_at_every_call(name: str, points: int | None, scene: Scene) -> None:
    bench = scene.bench(ALL[name])
    kills = sweep(bench, points)
    told(f"{name}: {kills} kills at {bench.calls} calls")
    assert kills >= (points or bench.calls) / 2


@pytest.mark.parametrize("points", [3, pytest.param(None, marks=SOAK)], ids=["some", "all"])
@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_an_earlier_output_stands_until_the_new_one_does(name: str, points: int | None, scene: Scene) -> None:
    bench = scene.bench(FILES[name])
    bench.earlier = {FILES[name].stem: OLD}
    assert sweep(bench, points, "--overwrite") >= (points or bench.calls) / 2


@pytest.mark.parametrize("trials", [3, pytest.param(TRIALS, marks=SOAK)])
@pytest.mark.parametrize("name", ALL)
def test_kills_at_random(name: str, trials: int, scene: Scene) -> None:
    """Half of them at a moment, half at a call; one resume in three is killed too, and that one's, and so on."""
    bench, chance = scene.bench(ALL[name]), random.Random(name)
    killed = 0
    for _ in range(trials):
        bench.fresh()
        killed += disturb(bench, chance)
        while chance.random() < 1 / 3:
            killed += disturb(bench, chance)
        bench.finish()
    told(f"{name}: {trials} trials with {killed} kills")
    assert killed >= trials / 4
