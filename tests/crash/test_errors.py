"""Promises 21 and 22: an error of the system is told in one sentence, and what is done stays done."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.crash.conftest import Scene
from tests.crash.harness import Bench, calls_of, told
from tests.crash.places import ALL, FILES, SINGLE

SOAK = pytest.mark.soak
OLD = b"what stood there before\n"
FAULTS: dict[str, dict[str, Any]] = {
    "EIO": {"fault": "fail", "error": errno.EIO},
    "ENOSPC": {"fault": "fail", "error": errno.ENOSPC},
    "EINTR": {"fault": "fail", "error": errno.EINTR},
    "short": {"fault": "short"},
}
HARMLESS = ("EINTR", "short")  # to what we write ourselves; SQLite takes an interrupted fsync for a failed one


def honest(bench: Bench, name: str, at: int, *, persistent: bool) -> bool:
    """A run with an error at a call: right, or refused in a sentence with the earlier output as it was; False where it
    has no such call.
    """
    bench.fresh()
    more = ("--overwrite",) if bench.earlier else ()
    ended = bench.run(*more, at=at, persistent=persistent, **FAULTS[name])
    fired = bool(bench.zygote.orders["fired"])
    new = bench.whole_or_none()
    if ended.code == 0 and name in HARMLESS:
        bench.check()
    elif ended.code == 0:  # what could not be tidied up is by the same command again
        assert new
        bench.finish(*more)
    else:
        assert ended.code == 1, ended
        assert name not in HARMLESS or bench.place not in FILES.values(), ended.told
        assert ended.told.startswith("error: "), ended.told
        assert len(ended.told.splitlines()) == 1, ended.told
        bench.finish(*more)
    assert fired or new
    return fired


@pytest.mark.parametrize("points", [1, pytest.param(None, marks=SOAK)], ids=["some", "all"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ALL)
def test_an_error_at_every_call(name: str, fault: str, points: int | None, scene: Scene) -> None:
    """Once, and from then on. The short form takes another call for each fault."""
    bench, fired = scene.bench(ALL[name]), 0
    if name in SINGLE:
        bench.earlier = {ALL[name].stem: OLD}
    chosen = calls_of(bench, None)
    if points is not None:
        chosen = iter([1 + bench.calls * (1 + [*FAULTS].index(fault)) // 6])
    for at in chosen:
        hit = sum(honest(bench, fault, at, persistent=persistent) for persistent in (False, True))
        fired += hit
        if not hit:
            break
    told(f"{name}: {fired} times {fault}")
    assert fired


@pytest.mark.parametrize("name", ALL)
def test_a_full_disk_that_is_given_more_room(name: str, scene: Scene) -> None:
    """A disk that takes in a third of the output, then two thirds, then all: it goes on where it stopped."""
    bench = scene.bench(ALL[name])
    bench.fresh()
    assert bench.run().code == 0
    whole = sum(each.stat().st_size for each in bench.folder.rglob("*") if each.is_file())
    bench.fresh()
    for share in (1 / 3, 2 / 3):
        ended = bench.run(budget=int(whole * share))
        if name == "duckdb" and ended.code == 0:  # the rows are in its log; what did not fit was tidying up
            break
        assert ended.code == 1, ended
        assert "full" in ended.told or "space" in ended.told, ended.told
        assert len(ended.told.splitlines()) == 1, ended.told
        assert not bench.whole_or_none()
    bench.finish()
