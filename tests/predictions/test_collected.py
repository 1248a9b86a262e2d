"""What is collected for the next run: once a key, bounded, and never lost between two runs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bimodal.predictions import collected
from bimodal.predictions.collected import Collector, as_rows, clear, take


def keys(lines: list[collected.Line]) -> list[int | str]:
    return sorted((line.key for line in lines), key=str)


def test_a_run_takes_what_was_collected_once(tmp_path: Path) -> None:
    collector = Collector(tmp_path, 0)
    collector.add(1, "miss")
    collector.add("two", "changed", {"age": 3}, 77)
    collector.flush()
    lines = take(tmp_path, "r1")
    assert [(line.key, line.reason, line.row) for line in lines] == [(1, "miss", None), ("two", "changed", {"age": 3})]
    assert as_rows(lines) == [("two", {"age": 3})]
    clear(tmp_path, "r1")
    assert take(tmp_path, "r2") == []


def test_an_attempt_that_comes_again_finds_the_same(tmp_path: Path) -> None:
    collector = Collector(tmp_path, 0)
    collector.add(1, "miss")
    collector.flush()
    first = take(tmp_path, "r1")
    collector.add(2, "miss")
    collector.flush()
    assert take(tmp_path, "r1") == first
    clear(tmp_path, "r1")
    assert keys(take(tmp_path, "r2")) == [2]


def test_what_a_failed_run_took_goes_to_the_next(tmp_path: Path) -> None:
    collector = Collector(tmp_path, 0)
    collector.add(1, "miss")
    collector.flush()
    take(tmp_path, "failed")
    collector.add(2, "miss")
    collector.flush()
    assert keys(take(tmp_path, "r2")) == [1, 2]


def test_a_run_that_was_killed_while_it_took_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for worker in range(3):
        collector = Collector(tmp_path, worker)
        collector.add(worker, "miss")
        collector.flush()
    rename, count = Path.rename, 0
    for dies in range(5):

        def killed(self: Path, target: Path, dies: int = dies) -> Path:
            nonlocal count
            count += 1
            if count > dies:
                raise KeyboardInterrupt
            return rename(self, target)

        count = 0
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", killed)
            try:
                take(tmp_path, f"r{dies}")
            except KeyboardInterrupt:
                continue
    assert keys(take(tmp_path, "end")) == [0, 1, 2]


def test_a_key_is_written_once_and_again_after_it_was_taken(tmp_path: Path) -> None:
    collector = Collector(tmp_path, 0)
    for _ in range(5):
        collector.add(1, "miss")
    assert collector.waiting == 1
    collector.flush()
    take(tmp_path, "r1")
    collector.add(2, "miss")
    collector.flush()
    collector.add(1, "miss")
    collector.flush()
    clear(tmp_path, "r1")
    assert keys(take(tmp_path, "r2")) == [1, 2]


def test_the_latest_row_of_a_key_counts(tmp_path: Path) -> None:
    collector = Collector(tmp_path, 0)
    collector.add(1, "miss")
    collector.add(1, "changed", {"age": 1}, 11)
    collector.add(1, "changed", {"age": 1}, 11)
    collector.add(1, "changed", {"age": 2}, 12)
    collector.add(1, "miss")
    assert collector.waiting == 3
    collector.flush()
    (line,) = take(tmp_path, "r1")
    assert line.row == {"age": 2}


def test_it_is_bounded(tmp_path: Path) -> None:
    few = Collector(tmp_path, 0, keys=3)
    small = Collector(tmp_path, 1, size=200)
    narrow = Collector(tmp_path, 2, row=100)
    for key in range(10):
        few.add(key, "miss")
        small.add(key, "miss")
    narrow.add(1, "changed", {"text": "x" * 200}, 5)
    for each in (few, small, narrow):
        each.flush()
    assert few.dropped == 7
    assert 0 < small.dropped < 10
    assert os.path.getsize(small._path) <= 210
    assert [line.row for line in take(tmp_path, "r1") if line.reason == "changed"] == [None]


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path: Path) -> None:
    collector = Collector(tmp_path, 0)
    collector.add(1, "miss")
    collector.flush()
    with open(collector._path, "ab") as file:
        file.write(b'{"key":2,"rea')
    assert keys(take(tmp_path, "r1")) == [1]


def test_a_folder_that_cannot_be_written_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "collected").write_text("in the way")
    collector = Collector(tmp_path, 0)
    collector.add(1, "miss")
    collector.flush()
    assert (collector.dropped, collector.waiting) == (1, 0)
    assert "could not be written" in caplog.text


def test_nothing_is_lost_between_writers_and_a_taker(tmp_path: Path) -> None:
    def write(worker: int) -> None:
        collector = Collector(tmp_path, worker)
        for number in range(150):
            collector.add(worker * 1000 + number, "miss")
            collector.flush()

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for each in threads:
        each.start()
    found: list[int | str] = []
    for number in range(40):
        found += keys(take(tmp_path, f"r{number}"))
        clear(tmp_path, f"r{number}")
    for each in threads:
        each.join()
    found += keys(take(tmp_path, "end"))
    assert sorted(set(map(int, found))) == [worker * 1000 + number for worker in range(3) for number in range(150)]
