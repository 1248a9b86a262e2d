"""What a run does at once is bounded and measured, and changes no byte of the result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.tree import DecisionTreeClassifier

import bimodal
from bimodal import predict_file
from bimodal.batch.bounds import COPIES, FULL, LARGE, LARGE_BYTES, Bounds, is_large, quickest_call
from bimodal.batch.crew import Crew, processors
from bimodal.batch.memory import Peak, held
from bimodal.batch.options import Options
from bimodal.batch.progress import Progress
from bimodal.batch.scoring import Scored
from bimodal.batch.sources.contract import Chunk, Source
from bimodal.batch.sources.inputs import open_input
from bimodal.errors import PlanChanged, UsageError
from bimodal.rows import Rows
from tests.batch.places import shop, write

ROWS = 270_000  # five chunks, and large
MB = 1_000_000


class Told(Peak):
    """A memory that holds what a test says."""

    def __init__(self, bytes_held: int) -> None:
        super().__init__()
        self.now, self.fresh = bytes_held, True

    def look(self, *, now: bool = False) -> int:
        return self.now


@pytest.fixture(scope="module")
def proven() -> Iterator[bimodal.Model]:
    """A tree in its exact form: it predicts in this process, on several threads."""
    random = np.random.default_rng(1)
    rows = pd.DataFrame(random.normal(size=(500, 3)).round(2), columns=["a", "b", "c"])
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(rows, rows["a"] + rows["b"] > 0)
    with bimodal.load(tree, runtime="exact", name="tree", background=False) as model:
        yield model


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(2)
    columns = {name: random.normal(size=ROWS).round(3) for name in "abc"}
    path = tmp_path_factory.mktemp("bounds") / "in.parquet"
    pd.DataFrame({"id": np.arange(ROWS), **columns}).to_parquet(path, index=False)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    opened = open_input(write(shop(), tmp_path / "in.parquet"))
    yield opened
    opened.close()


def bounds(model: bimodal.Model, source: Source, bytes_held: int = 0, **options: Any) -> Bounds:
    return Bounds(Options(**options), source, model, Crew(model), Told(bytes_held))


def chunk_of(size: int) -> Scored:
    """A chunk whose columns take so many bytes, once as features and once as the result."""
    table = pa.table({"a": np.zeros(size // 8)})
    nothing = pa.table({})
    return Scored(Chunk(0, "in.csv", 1, table, nothing), table, ())


# -- how many at once -------------------------------------------------------------------------------------------------


def test_a_small_input_has_one_worker_and_a_large_one_all(proven: bimodal.Model, numbers: Path, source: Source) -> None:
    assert bounds(proven, source).workers == 1
    large = open_input(numbers)
    assert bounds(proven, large).workers == min(processors(), 16)
    assert bounds(proven, large, workers=7).threads == 7
    assert bounds(proven, large, workers=7).ahead.limit == 9
    assert bounds(proven, large, workers=7, ahead=3).ahead.limit == 3
    large.close()


def test_what_is_large_is_told_by_rows_or_by_bytes(source: Source) -> None:
    for rows, size, times, large in (
        (LARGE, None, 1, True), (LARGE - 1, 10 * LARGE_BYTES, 1, False), (None, LARGE_BYTES, 1, True),
        (None, LARGE_BYTES, 2, False), (None, None, 1, False),
    ):  # fmt: skip
        source.total_rows, source.total_bytes = rows, size
        assert is_large(source, times) == large


def test_without_a_ceiling_everything_goes_ahead_at_once(proven: bimodal.Model, source: Source) -> None:
    found = bounds(proven, source, 900 * MB, workers=4)
    found.learn(chunk_of(8 * MB), 0)
    assert found.ahead.limit == 6
    assert found.problem is None


def test_a_ceiling_begins_with_one_chunk_and_lets_in_what_has_room(proven: bimodal.Model, source: Source) -> None:
    found = bounds(proven, source, 200 * MB, workers=8, memory=600 * MB)
    assert found.ahead.limit == 1
    found.learn(chunk_of(8 * MB), 10 * MB)
    assert found.measured.chunk == COPIES * 16 * MB + 10 * MB
    assert found.ahead.limit == (FULL * 600 * MB - 200 * MB) // found.measured.chunk == 4


def test_a_ceiling_that_is_passed_already_lets_one_chunk_through(proven: bimodal.Model, source: Source) -> None:
    found = bounds(proven, source, 700 * MB, workers=8, memory=600 * MB)
    found.learn(chunk_of(8 * MB), 0)
    assert found.ahead.limit == 1
    assert found.problem is not None
    assert "700 MB" in found.problem


def test_the_bound_follows_the_memory(proven: bimodal.Model, source: Source) -> None:
    found = bounds(proven, source, 100 * MB, workers=4, memory=1000 * MB)
    found.learn(chunk_of(8 * MB), 0)
    seen = [found.ahead.limit]
    for now in (950, 950, 950, 800, 700, 700, 700, 700, 700):
        found._peak.now = now * MB
        found.keep()
        seen.append(found.ahead.limit)
    assert seen == [6, 5, 4, 3, 3, 4, 5, 6, 6, 6]
    for _ in range(20):
        found._peak.now = 999 * MB
        found.keep()
    assert found.ahead.limit == 1


def test_a_ceiling_keeps_further_processes_away(
    model: bimodal.Model, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bounds(model, source, 200 * MB, workers=8, memory=450 * MB)
    hired: list[int] = []
    monkeypatch.setattr(found._crew, "grow", hired.append)  # the processes are not the point
    found.begin()
    assert hired == []
    found.learn(chunk_of(1 * MB), 0)
    assert hired == [1 + (int(FULL * 450 * MB) - 200 * MB) // (100 * MB)] == [3]


def test_what_is_done_is_told_in_a_sentence(model: bimodal.Model, proven: bimodal.Model, source: Source) -> None:
    assert bounds(proven, source, workers=2).told() == "2 threads, 4 chunks at once, 65,536 rows a call"
    assert bounds(proven, source, workers=1).told() == "one thread, 3 chunks at once, 65,536 rows a call"
    assert bounds(model, source, workers=2).told() == "up to 2 processes, 6 chunks at once, 65,536 rows a call"
    assert bounds(model, source, workers=1, ahead=1).told() == "one process, 1 chunk at once, 65,536 rows a call"
    assert bounds(proven, source, workers=1, call_rows=512).told() == "one thread, 3 chunks at once, 512 rows a call"


def test_the_quicker_of_two_sizes_of_calls_is_taken(proven: bimodal.Model) -> None:
    rows = Rows({name: np.zeros(20_000) for name in "abc"})
    assert quickest_call(proven, rows, ("prediction",)) in (65_536, 8192)


def test_this_process_holds_something() -> None:
    peak = Peak()
    assert peak.look(now=True) == peak.bytes > 10 * MB
    assert held(2**22 + 1) == 0


@pytest.mark.parametrize(("name", "value"), [("workers", 0), ("ahead", 0), ("call_rows", -1)])
def test_none_at_all_is_refused(name: str, value: int, proven: bimodal.Model, numbers: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        predict_file(proven, numbers, tmp_path / "out.csv", **{name: value})  # type: ignore[arg-type]


# -- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_proven_model_gives_the_same_bytes_whatever_is_done_at_once(
    kind: str, proven: bimodal.Model, numbers: Path, tmp_path: Path
) -> None:
    ways: list[dict[str, Any]] = [
        {}, {"workers": 1}, {"workers": 5, "ahead": 2}, {"ahead": 1}, {"call_rows": 777}, {"memory": "150MB"},
        {"memory": "2GB", "workers": 3, "call_rows": 8192},
    ]  # fmt: skip
    found = set()
    for number, way in enumerate(ways):
        report = predict_file(proven, numbers, tmp_path / f"{number}.{kind}", proba=True, **way)
        assert (report.chunks, report.plan["call_rows"]) == (5, 0)
        found.add((tmp_path / f"{number}.{kind}").read_bytes())
    assert len(found) == 1


NEIGHBOURS = """
class Model:
    inputs = {"a": float}
    outputs = {"prediction": int}

    def predict(self, rows):
        return [len(rows["a"])] * len(rows["a"])
"""


@pytest.fixture
def sociable(tmp_path: Path) -> str:
    """A native model that answers how many rows stand in a call."""
    (tmp_path / "sociable.py").write_text(NEIGHBOURS)
    return f"{tmp_path / 'sociable.py'}:Model"


def test_a_native_model_sees_the_same_neighbours_whatever_is_done_at_once(
    sociable: str, numbers: Path, tmp_path: Path
) -> None:
    ways: list[dict[str, Any]] = [{"workers": 1}, {"workers": 2, "ahead": 2}, {"memory": "150MB"}]
    found = set()
    with bimodal.load(sociable) as model:
        for number, way in enumerate(ways):
            predict_file(model, numbers, tmp_path / f"{number}.csv", keep="none", **way)
            found.add((tmp_path / f"{number}.csv").read_bytes())
    (answer,) = found
    assert answer.splitlines()[1:] == [b"65536"] * (4 * 65_536) + [b"7856"] * 7856


def test_the_rows_of_a_call_of_a_native_model_are_part_of_the_plan(sociable: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n" + "1\n" * 10)
    with bimodal.load(sociable) as model:
        report = predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv", call_rows=4)
        assert report.plan["call_rows"] == 4
        assert (tmp_path / "out.csv").read_text().split() == ["prediction", *"4444444422"]
        other = predict_file(model, tmp_path / "in.csv", tmp_path / "other.csv", call_rows=5)
        assert other.plan["key"] != report.plan["key"]


def test_a_run_is_not_gone_on_with_by_calls_of_another_size(sociable: str, tmp_path: Path) -> None:
    for part in "ab":
        (tmp_path / f"{part}.csv").write_text("a\n" + "1\n" * 10)

    class Stopped(Progress):
        def update(self, read: int, rejected: int, done: int) -> None:
            raise KeyboardInterrupt

    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with bimodal.load(sociable) as model:
        with pytest.raises(KeyboardInterrupt):
            predict_file(model, files, tmp_path / "out.csv", call_rows=4, progress=Stopped())
        with pytest.raises(PlanChanged, match=r"--call-rows \(was 4\)"):
            predict_file(model, files, tmp_path / "out.csv", call_rows=5)
        report = predict_file(model, files, tmp_path / "out.csv", call_rows=4, workers=2)
    assert (report.resumed, report.read) == (10, 20)
