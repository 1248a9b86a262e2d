"""Promise 23: a power cut leaves no mark without its rows, whatever of the unsynced reached the disk."""

from __future__ import annotations

import errno

import pytest

from tests.crash.conftest import Scene
from tests.crash.disk import Call, Disk, Node, read_log, replay, restore, states
from tests.crash.harness import Bench, calls_of, told
from tests.crash.places import SURE

SOAK = pytest.mark.soak


def cuts(bench: Bench, points: int | None, drawn: int) -> int:
    """Power cuts after calls of a run, in all states that may be left, each resumed; how many."""
    calls, disk = logged(bench)
    chosen, count = set(range(1, len(calls) + 1)), 0
    if points is not None:
        chosen = {*calls_of(bench, points)}
    for place, call in enumerate(calls, 1):
        disk.do(call)
        if place in chosen:
            for name, left in states(disk, place, drawn):
                resumed(bench, name, left)
                count += 1
    lasting(bench, disk)
    return count


def logged(bench: Bench) -> tuple[list[Call], Disk]:
    """A run that nothing disturbs: its calls, and the disk before them."""
    bench.fresh()
    log = bench.home / "log"
    log.unlink(missing_ok=True)
    disk = Disk(bench.folder)
    assert bench.run(log=log).code == 0
    return read_log(log), disk


def resumed(bench: Bench, name: str, left: dict[str, Node]) -> None:
    """A reader finds nothing or the whole output after the cut, and the same command ends well."""
    restore(left, bench.folder)
    bench.whole_or_none()
    ended = bench.run()
    assert ended.code == 0, f"after a power cut ({name}): {ended.told}"
    bench.check()


def lasting(bench: Bench, disk: Disk) -> None:
    """What a run that ended well has published is there whatever happens."""
    for name, left in states(disk, 0, 20):
        restore(left, bench.folder)
        assert bench.whole_or_none(), f"published, and gone after a power cut ({name})"
    resumed(bench, name, left)


@pytest.mark.parametrize(("points", "drawn"), [(2, 1), pytest.param(None, 4, marks=SOAK)], ids=["some", "all"])
@pytest.mark.parametrize("name", SURE)
def test_a_power_cut_after_any_call(name: str, points: int | None, drawn: int, scene: Scene) -> None:
    count = cuts(scene.bench(SURE[name]), points, drawn)
    told(f"{name}: {count} states after a power cut")
    assert count >= 5 * (points or 20)


@pytest.mark.parametrize("points", [1, pytest.param(None, marks=SOAK)], ids=["some", "all"])
@pytest.mark.parametrize("name", SURE)
def test_what_a_resume_publishes_lasts(name: str, points: int | None, scene: Scene) -> None:
    """A run is killed between a step and its fsync; the resume must not take the step for durable."""
    bench, log = scene.bench(SURE[name]), scene.home / "log"
    late = None if points is None else {bench.calls - 4 - place for place in range(points)}
    for at in calls_of(bench, None):
        if late is not None and at not in late:
            if at > max(late):
                return
            continue
        bench.fresh()
        log.unlink(missing_ok=True)
        disk = Disk(bench.folder)
        bench.run(at=at, fault="after", log=log)
        if not bench.zygote.orders["fired"]:
            return
        assert bench.run(log=log).code == 0
        replay(disk, read_log(log))
        lasting(bench, disk)


@pytest.mark.parametrize("limit", [1, pytest.param(1000, marks=SOAK)])
@pytest.mark.parametrize("name", SURE)
def test_a_failed_fsync_is_never_believed(name: str, limit: int, scene: Scene) -> None:
    """Its data is gone though it can still be read, and no later fsync tells: a power cut after the resume shows."""
    bench = scene.bench(SURE[name])
    for at in range(1, limit + 1):
        bench.fresh()
        log = bench.home / "log"
        log.unlink(missing_ok=True)
        disk = Disk(bench.folder)
        first = bench.run(at=at, fault="fail", error=errno.EIO, kinds=("sync", "datasync"), log=log)
        if not bench.zygote.orders["fired"]:
            assert at > 3
            return
        if first.code:
            assert first.code == 1
            assert first.told.startswith("error: "), first.told
            assert len(first.told.splitlines()) == 1
            assert bench.run(log=log).code == 0
        calls = read_log(log)
        replay(disk, calls)
        assert any(call.error for call in calls)
        lasting(bench, disk)
