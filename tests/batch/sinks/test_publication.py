"""Publication: one step, that may be repeated; nothing that stands there is lost, nothing is left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bimodal.batch.journal import Journal
from bimodal.batch.marks import Beside, Mark
from bimodal.batch.sinks import durable, folder, journalled
from bimodal.batch.sinks.contract import Sink
from bimodal.errors import OutputExists, PlanChanged, SinkError
from tests.batch.sinks.runs import KINDS, PLAN, SCHEMA, beside, chunk, go, mark, opened, pictures, report, result, work

pytestmark = pytest.mark.usefixtures("unsynced")
BOTH = ["csv", "parquet/"]


def completed(place: Path, kind: str, *, overwrite: bool = False) -> Sink:
    """A sink of which only the publication is missing."""
    sink = opened(place, kind, overwrite=overwrite)
    sink.hold(0, lambda told: None)
    sink.start(PLAN, "run 2")
    sink.settle(SCHEMA, {})
    sink.append(mark(1), sink.encode(chunk(1)), beside(1))
    sink.complete()
    return sink


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_at_the_outputs_name_before_and_nothing_beside_it_after(kind: str, tmp_path: Path) -> None:
    name = f"out.{kind.rstrip('/')}"
    for step, place in pictures(tmp_path, kind):
        assert (place / name).exists() is (step == "published")
    left = sorted(each.name for each in (tmp_path / "live").iterdir())
    assert left == [name, f"{name}.rejects.jsonl", f"{name}.run.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_published_output_is_known_again_until_it_is_changed(kind: str, tmp_path: Path) -> None:
    go(opened(tmp_path, kind))
    done = opened(tmp_path, kind).published()
    assert done is not None
    assert done.plan == PLAN
    assert done.end == mark(5).cursor
    assert done.report["rejects"] == f"{tmp_path}/out.{kind.rstrip('/')}.rejects.jsonl"
    assert go(opened(tmp_path, kind)) is None
    out = tmp_path / f"out.{kind.rstrip('/')}"
    victim = sorted(out.iterdir())[1] if out.is_dir() else out
    victim.write_bytes(victim.read_bytes() + b"\n")
    assert opened(tmp_path, kind).published() is None


@pytest.mark.parametrize("kind", BOTH)
def test_a_moved_copy_keeps_its_record(kind: str, tmp_path: Path) -> None:
    go(opened(tmp_path, kind))
    (tmp_path / "other").mkdir()
    for each in [each for each in tmp_path.iterdir() if each.name.startswith("out.")]:
        shutil.move(each, tmp_path / "other" / each.name)
    assert opened(tmp_path / "other", kind).published() is not None


@pytest.mark.parametrize("kind", BOTH)
def test_an_output_that_appeared_meanwhile_is_left_alone_and_the_work_kept(kind: str, tmp_path: Path) -> None:
    sink = completed(tmp_path, kind)
    out = tmp_path / f"out.{kind.rstrip('/')}"
    if kind.endswith("/"):
        out.mkdir()
        (out / "mine").write_text("mine")
    else:
        out.write_text("mine")
    with pytest.raises(OutputExists, match="appeared"):
        sink.publish(report())
    sink.release()
    assert (out / "mine" if out.is_dir() else out).read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == [work(tmp_path, kind).name, out.name]
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    begun = go(opened(tmp_path, kind))
    assert begun is not None
    assert begun.complete


def test_a_file_that_appears_in_the_very_last_moment_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look and the rename."""
    sink = completed(tmp_path, "csv")
    (tmp_path / "out.csv").write_text("mine")
    monkeypatch.setattr(sink, "exists", lambda: False)
    with pytest.raises(OutputExists, match="appeared"):
        sink.publish(report())
    assert (tmp_path / "out.csv").read_text() == "mine"
    sink.release()


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("kind", BOTH)
def test_an_old_output_stays_until_the_new_one_takes_its_place(
    kind: str, exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(folder, "exchange", lambda one, other: False)
    go(opened(tmp_path, kind))
    before = result(tmp_path, kind)
    sink = completed(tmp_path, kind, overwrite=True)
    assert result(tmp_path, kind) == before
    sink.publish(report())
    sink.release()
    after = result(tmp_path, kind)
    assert after != before
    assert set(after) - {"", "rejects"} <= {"part-00001.parquet"}
    assert not work(tmp_path, kind).exists()


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path: Path) -> None:
    go(opened(tmp_path, "parquet/"))
    (tmp_path / "out.parquet" / "thesis.tex").write_text("mine")
    sink = opened(tmp_path, "parquet/", overwrite=True)
    with pytest.raises(OutputExists, match=r"thesis\.tex"):
        sink.check()
    with pytest.raises(OutputExists, match=r"thesis\.tex"):
        sink.hold(0, lambda told: None)
    assert not work(tmp_path, "parquet/").exists()


def test_an_empty_folder_is_written_into(tmp_path: Path) -> None:
    (tmp_path / "out.parquet").mkdir()
    sink = opened(tmp_path, "parquet")
    assert not sink.exists()
    go(sink)
    assert len(list((tmp_path / "out.parquet").iterdir())) == 5


class Killed(BaseException):
    """In place of a kill, where a test stops a publication at one of its calls."""


CALLS = [
    (os, "link"), (os, "replace"), (os, "rename"), (os, "rmdir"), (Path, "unlink"), (shutil, "rmtree"),
    (durable, "sync_folder"), (journalled, "sync_folder"), (journalled, "write_record"), (journalled, "link_over"),
]  # fmt: skip


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_a_publication_that_ends_at_any_of_its_calls_is_repeated(
    kind: str, overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    completed(tmp_path / "whole", kind).publish(report())
    whole, stops = result(tmp_path / "whole", kind), 0
    for before in (True, False):
        for count in range(1, 40):
            place = tmp_path / f"{before} {count}"
            place.mkdir()
            if overwrite:
                go(opened(place, kind), chunks=2)
            sink = completed(place, kind, overwrite=overwrite)
            with monkeypatch.context() as patch:
                _stop_at(patch, count, before=before)
                try:
                    sink.publish(report())
                except Killed:
                    stops += 1
            _forget(sink)
            begun = go(opened(place, kind, overwrite=overwrite))
            assert begun is None or begun.complete
            assert result(place, kind) == whole
            assert [each.name for each in place.iterdir() if each.name.endswith(".bimodal")] == []
    assert stops >= 20


def _stop_at(patch: pytest.MonkeyPatch, count: int, *, before: bool) -> None:
    """Let the so many-th call raise, before or after it does its work."""
    left = [count]

    def stopped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and before:
                raise Killed
            done = real(*words, **named)
            if left[0] == 0:
                raise Killed
            return done

        return call

    for where, name in CALLS:
        patch.setattr(where, name, stopped(getattr(where, name)))


def _forget(sink: Sink) -> None:
    """What the end of a process does: nothing but to let go of the lock."""
    sink._lock.free()  # type: ignore[attr-defined]  # that is the point


def test_rejects_can_be_shown_without_publishing(tmp_path: Path) -> None:
    sink = completed(tmp_path, "csv")
    assert sink.show_rejects() == sink.show_rejects() == f"{tmp_path}/out.csv.rejects.jsonl"
    assert list(sink.rejects()) == [beside(1).rejects]
    assert list(sink.scored()) == [beside(1).scored]
    assert (tmp_path / "out.csv.rejects.jsonl").read_bytes() == beside(1).rejects
    assert not (tmp_path / "out.csv").exists()
    sink.publish(report())
    sink.release()
    assert (tmp_path / "out.csv.rejects.jsonl").read_bytes() == beside(1).rejects
    assert (tmp_path / "out.csv.rejects.jsonl").stat().st_nlink == 1


def test_rejects_of_an_earlier_run_are_taken_away(tmp_path: Path) -> None:
    (tmp_path / "out.csv.rejects.jsonl").write_text("old")
    sink = opened(tmp_path, "csv")
    sink.hold(0, lambda told: None)
    sink.start(PLAN, "run")
    sink.settle(SCHEMA, {})
    sink.append(Mark(0, {}, 4, 4, 0), sink.encode(chunk(0)), Beside())
    sink.complete()
    assert sink.publish(report())["rejects"] is None
    sink.release()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.csv", "out.csv.run.json"]


def test_a_run_that_did_nothing_leaves_nothing(tmp_path: Path) -> None:
    sink = opened(tmp_path, "csv")
    sink.check(SCHEMA)
    sink.hold(0, lambda told: None)
    sink.start(PLAN, "run")
    sink.settle(SCHEMA, {})
    sink.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", BOTH)
def test_a_dropped_run_leaves_nothing(kind: str, tmp_path: Path) -> None:
    place = dict(pictures(tmp_path, kind))["chunk 3"]
    sink = opened(place, kind)
    sink.hold(0, lambda told: None)
    sink.drop()
    assert sink.begun() is None
    sink.release()
    assert list(place.iterdir()) == []


def test_a_refused_run_keeps_the_work_of_the_one_before(tmp_path: Path) -> None:
    place = dict(pictures(tmp_path, "csv"))["chunk 3"]
    sink = opened(place, "csv")
    sink.hold(0, lambda told: None)
    assert sink.begun() is not None
    sink.release()
    begun = opened(place, "csv").begun()
    assert begun is not None
    assert begun.last == mark(3)


def test_another_versions_journal_is_refused_and_kept(tmp_path: Path) -> None:
    place = dict(pictures(tmp_path, "csv"))["chunk 3"]
    journal = work(place, "csv") / "journal"
    other = Journal(journal)
    other.begin({"journal": 99})
    other.close()
    sink = opened(place, "csv")
    sink.hold(0, lambda told: None)
    with pytest.raises(PlanChanged, match="another version"):
        sink.begun()
    sink.release()
    assert journal.exists()


def test_a_full_disk_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = opened(tmp_path, "csv")
    sink.hold(0, lambda told: None)
    sink.start(PLAN, "run")
    sink.settle(SCHEMA, {})
    sink.append(mark(0), sink.encode(chunk(0)), beside(0))
    real = os.pwrite

    def full(file: int, data: memoryview, at: int) -> int:
        if len(data) < 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[:30], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(SinkError) as caught:
            sink.append(mark(1), sink.encode(chunk(1)), beside(1))
    assert str(caught.value) == (
        f"{tmp_path}/out.csv cannot be written: the disk is full; the first 4 rows stay done, and the same command "
        "goes on from there once there is room"
    )
    with pytest.raises(SinkError, match="any more"):
        sink.append(mark(1), sink.encode(chunk(1)), beside(1))
    sink.release()
    go(opened(tmp_path, "csv"))
    (tmp_path / "whole").mkdir()
    go(opened(tmp_path / "whole", "csv"))
    assert result(tmp_path, "csv") == result(tmp_path / "whole", "csv")


def test_a_failed_fsync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journalled, "SYNCED", 0.0)
    sink = opened(tmp_path, "csv")
    sink.hold(0, lambda told: None)
    sink.start(PLAN, "run")
    sink.settle(SCHEMA, {})
    calls: list[int] = []
    table = sink.encode(chunk(0))

    def many() -> None:
        for number in range(1000):
            sink.append(Mark(number, {}, 4, 4, 0), table, Beside())

    def broken(file: int) -> None:
        calls.append(file)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(SinkError, match="the disk reports an error; the first"):
            many()
        assert len(calls) == 1
        with pytest.raises(SinkError, match="any more"):
            sink.complete()
        sink.release()
        assert len(calls) == 1
    begun = opened(tmp_path, "csv").begun()
    assert begun is not None
    assert begun.last is not None


def test_the_record_is_whole(tmp_path: Path) -> None:
    go(opened(tmp_path, "parquet/"))
    told = json.loads((tmp_path / "out.parquet.run.json").read_text())
    sizes = {each.name: each.stat().st_size for each in (tmp_path / "out.parquet").iterdir()}
    assert told["output_file"]["files"] == len(sizes)
    assert told["output_file"]["size"] == sum(sizes.values())
    assert {**told, "output_file": 0, "rejects": 0, "end": 0} == {**report(), "output_file": 0, "rejects": 0, "end": 0}


@pytest.mark.parametrize("place", ["nowhere/out.csv", "out.csv/", "out.csv"])
def test_a_place_that_cannot_be_is_told(place: str, tmp_path: Path) -> None:
    if place == "out.csv/":
        (tmp_path / "out.csv").write_text("a file")
    kind, where = place.removeprefix("nowhere/out.").removeprefix("out."), tmp_path / place.rpartition("/out")[0]
    sink = opened(where if "nowhere" in place else tmp_path, kind)
    if place == "out.csv":
        (tmp_path / "out.csv").mkdir()
    for step in (sink.check, lambda: sink.hold(0, lambda told: None)):
        with pytest.raises(SinkError, match="cannot be written"):
            step()
    assert len(list(tmp_path.iterdir())) == (0 if "nowhere" in place else 1)
