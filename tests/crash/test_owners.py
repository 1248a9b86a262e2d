"""Promises 26, 28 and 29, and the signals: who interrupts may go on, two do not write one output, nothing is mixed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.conftest import Scene
from tests.crash.harness import Bench, Running, calls_of, rows, save_model, save_parts, told
from tests.crash.places import FILES

SOAK = pytest.mark.soak


@pytest.fixture
def bench(scene: Scene) -> Bench:
    found = scene.bench(FILES["csv"])
    found.fresh()
    return found


def half(bench: Bench) -> int:
    """A call in the middle of a run."""
    return bench.calls // 2


def killed(bench: Bench) -> None:
    """A run that was killed in the middle."""
    bench.fresh()
    assert bench.run(at=half(bench), fault="before").killed


@pytest.mark.parametrize("points", [4, pytest.param(None, marks=SOAK)], ids=["some", "all"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_says_that_it_goes_on(number: int, points: int | None, bench: Bench) -> None:
    """But for the moment of the lock, and the one between the first mark and its being counted."""
    stopped, silent, loud = 0, 0, [word for word in bench.words if word != "-q"]
    for at in calls_of(bench, points):
        bench.fresh()
        ended = bench.run(words=loud, at=at, fault="signal", error=number)
        if not bench.zygote.orders["fired"]:
            break
        if ended.code:
            assert ended.code == 130, ended
            assert "Traceback" not in ended.told
            silent += any(bench.folder.iterdir()) and "same command" not in ended.told
            stopped += 1
        bench.whole_or_none()
        bench.finish()
    told(f"signal {number}: stopped {stopped} times")
    assert stopped >= (points or 20) / 2
    assert silent <= 2


def another_model(scene: Scene) -> list[str]:
    model = save_model(scene.home / "other.pkl", turned=True)
    return ["predict", str(model), str(scene.parts), *scene.words[2:], *FILES["csv"].words]


def another_input(scene: Scene) -> list[str]:
    parts = scene.home / "other"
    if not parts.exists():
        save_parts(parts, rows().assign(b=0.25))
    return ["predict", str(scene.model), str(parts), *scene.words[2:], *FILES["csv"].words]


def another_option(scene: Scene) -> list[str]:
    return ["predict", *scene.words, "--proba", *FILES["csv"].words]


@pytest.mark.parametrize(
    ("other", "named"),
    [(another_model, "model"), (another_input, "input"), (another_option, "outputs")],
    ids=["model", "input", "option"],
)
def test_a_changed_plan_is_refused_by_name(
    other: Callable[[Scene], list[str]], named: str, scene: Scene, bench: Bench
) -> None:
    killed(bench)
    refused = bench.run(words=other(scene))
    assert refused.code == 2, refused
    assert named in refused.told
    assert "--fresh" in refused.told
    bench.finish()
    killed(bench)
    assert bench.run("--fresh", words=other(scene)).code == 0
    assert bench.place.published(bench.folder) != bench.marked


def test_an_input_that_changed_in_place_is_refused(scene: Scene) -> None:
    """The same command, whose file is another one now."""
    parts = save_parts(scene.home / "moving")
    bench = Bench(scene.zygote, FILES["csv"], [scene.words[0], str(parts), *scene.words[2:]], scene.home)
    killed(bench)
    last = parts / "part-11.parquet"
    before = last.read_bytes(), last.stat()
    last.write_bytes((parts / "part-10.parquet").read_bytes())
    refused = bench.run()
    assert refused.code == 2, refused
    assert "input" in refused.told
    last.write_bytes(before[0])


def test_the_second_is_told_who_writes_and_finds_it_done(bench: Bench) -> None:
    first, second = two(bench)
    second.until_told(f"process {first.process}")
    first.send(signal.SIGCONT)
    assert first.wait().code == 0
    ended = second.wait()
    assert ended.code == 0, ended
    bench.check()


def test_the_second_takes_over_from_one_that_dies(bench: Bench) -> None:
    first, second = two(bench)
    second.until_told(f"process {first.process}")
    first.send(signal.SIGKILL)
    assert first.wait().killed
    assert second.wait().code == 0
    bench.check()


@pytest.mark.soak
def test_a_stopped_owner_that_goes_on_does_no_harm(bench: Bench) -> None:
    """The lock is its as long as it lives: the second waits, gives up, and says so; then the first goes on."""
    first, second = two(bench)
    ended = second.wait()
    assert ended.code == 1, ended
    assert f"process {first.process}" in ended.told
    assert 25 < ended.seconds < 45
    first.send(signal.SIGCONT)
    assert first.wait().code == 0
    bench.check()


def two(bench: Bench) -> tuple[Running, Running]:
    """A run that stands still in the middle, and a second of the same command."""
    first = bench.start(at=half(bench), fault="signal", error=signal.SIGSTOP)
    first.until_stopped()
    bench.zygote.orders.rest()
    words = [word for word in bench.words if word != "-q"]
    return first, bench.zygote.start(words, bench.folder)


@pytest.mark.soak
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_resume_is_cheap(share: float, scene: Scene, tmp_path: Path) -> None:
    """Of three million rows in CSV: work goes on within 2 s, and what was done stays done."""
    frame = rows(300_000, bad=())
    one = frame.to_csv(index=False)
    data = tmp_path / "large.csv"
    with open(data, "w") as file:
        file.write(one)
        for _ in range(9):
            file.write(one.partition("\n")[2])
    bench = Bench(scene.zygote, FILES["csv"], [str(scene.model), str(data), *scene.words[2:]], scene.home)
    whole = (bench.folder / "out.csv").stat().st_size
    bench.fresh()
    body = bench.folder / ".out.csv.bimodal" / "data"
    running = bench.start()
    while not body.exists() or body.stat().st_size < share * whole:
        time.sleep(0.005)
    running.send(signal.SIGKILL)
    assert running.wait().killed
    done = body.stat().st_size
    since = time.monotonic()
    again = bench.start()
    while body.exists() and body.stat().st_size <= done:
        time.sleep(0.005)
    ready = time.monotonic() - since
    ended = again.wait()
    assert ended.code == 0
    bench.check()
    told(f"killed at {share:.0%}: writes again after {ready:.2f} s; {ended.seconds:.2f} s of {bench.seconds:.2f} s")
    assert ready < 2
