"""Progress tells the truth: what is done, of how much, how fast, how long it still takes."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bimodal
from bimodal import predict_file
from bimodal.batch import progress
from bimodal.batch.progress import Bar, Events, Lines, Pace, Progress, chosen
from bimodal.errors import SinkError, UsageError
from tests.batch.places import COMMAND, command, shop, write

ROWS = 200_000


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event for every chunk."""
    monkeypatch.setattr(progress, "OFTEN", 0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four chunks."""
    frame = pd.concat([shop(1000)] * (ROWS // 1000), ignore_index=True)
    frame.loc[100_000, "spent"] = None
    return write(frame, tmp_path_factory.mktemp("progress") / "in.csv")


def events(model: Any, *words: Any, **options: Any) -> list[dict[str, Any]]:
    """What a run tells programs, until it ends or fails."""
    stream = io.StringIO()
    try:
        predict_file(model, *words, progress=Events(stream), **options)
    finally:
        told = [json.loads(line) for line in stream.getvalue().splitlines()]
    return told


# -- events -----------------------------------------------------------------------------------------------------------


def test_events_come_in_order_with_totals(model: bimodal.Model, source: Path, often: None, tmp_path: Path) -> None:
    told = events(model, source, tmp_path / "out.parquet")
    names = [each["name"] for each in told if each["event"] == "stage"]
    assert names == ["opening the input", "taking the output", "predicting", "making it durable", "publishing"]
    kinds = [each["event"] for each in told if each["event"] not in ("note", "stage")]
    assert kinds == ["begin", "progress", "progress", "progress", "progress", "report"]
    size = source.stat().st_size
    (begin,) = [each for each in told if each["event"] == "begin"]
    assert begin == {"event": "begin", "total_rows": None, "total_bytes": size, "rows": 0}
    steps = [each for each in told if each["event"] == "progress"]
    assert [each["rows"] for each in steps] == [65_536, 131_072, 196_608, ROWS]
    assert [each["rejected"] for each in steps] == [0, 0, 0, 0]
    assert steps[-1]["bytes"] == size == steps[-1]["total_bytes"]
    report = told[-1]
    assert (report["status"], report["read"], report["predicted"]) == ("complete", ROWS, ROWS)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow"])
def test_the_share_grows_to_one_and_the_time_left_is_a_number(
    kind: str, model: bimodal.Model, often: None, tmp_path: Path
) -> None:
    frame = pd.concat([shop(1000)] * 100, ignore_index=True)
    told = events(model, write(frame, tmp_path / f"in.{kind}"), tmp_path / "out.parquet")
    steps = [each for each in told if each["event"] == "progress"]
    shares = [each["share"] for each in steps]
    assert len(shares) == 2
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert 0.5 < shares[0] < 0.8
    assert all(math.isfinite(each["left"]) and each["left"] >= 0 for each in steps)
    assert steps[-1]["left"] == 0
    assert all(each["rate"] > 0 for each in steps)


def test_a_run_that_goes_on_counts_from_where_it_was(
    model: bimodal.Model, source: Path, often: None, tmp_path: Path
) -> None:
    class Stopped(Progress):
        def update(self, read: int, rejected: int, done: int) -> None:
            if read > 100_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(model, source, tmp_path / "out.csv", progress=Stopped())
    told = events(model, source, tmp_path / "out.csv")
    (begin,) = [each for each in told if each["event"] == "begin"]
    assert begin["rows"] == 131_072
    steps = [each for each in told if each["event"] == "progress"]
    assert [each["rows"] for each in steps] == [196_608, ROWS]
    assert 0.9 < steps[0]["share"] < 1
    assert any("131,072 rows are done already" in each.get("text", "") for each in told)
    report = told[-1]
    assert (report["read"], report["resumed"]) == (ROWS, 131_072)
    assert report["rate"] == pytest.approx((ROWS - 131_072) / report["seconds"], rel=0.01)


def test_the_command_tells_programs_everything_even_its_errors(saved: Path, tmp_path: Path) -> None:
    frame = shop(20)
    frame.loc[3, "plan"] = "gold"
    write(frame, tmp_path / "in.csv")
    done = command("predict", saved, "in.csv", "-o", "out.csv", "--json", cwd=tmp_path)
    told = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert done.returncode == 3
    assert {"stage", "note", "begin", "progress", "error"} == {each["event"] for each in told}
    assert told[-1]["event"] == "error"
    assert told[-1]["code"] == "too_many_rejects"


def test_a_dry_run_has_a_report_too(model: bimodal.Model, source: Path, tmp_path: Path) -> None:
    told = events(model, source, tmp_path / "out.csv", dry_run=True)
    assert [each["name"] for each in told if each["event"] == "stage"] == ["opening the input", "trying a sample"]
    assert (told[-1]["event"], told[-1]["status"], told[-1]["read"]) == ("report", "dry run", 65_536)


# -- how long it takes ------------------------------------------------------------------------------------------------


def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock(monkeypatch)
    pace = Pace(total_rows=1000)
    now[0] += 10
    assert pace.at(250, 0) == {"rate": 25.0, "share": 0.25, "left": 30.0}
    assert Pace(total_bytes=400).at(0, 0) == {"rate": 0.0, "share": None, "left": None}


def test_bytes_count_where_rows_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock(monkeypatch)
    pace = Pace(None, 400)
    now[0] += 10
    assert pace.at(50, 100) == {"rate": 5.0, "share": 0.25, "left": 30.0}


def test_what_was_done_before_is_no_part_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock(monkeypatch)
    pace = Pace(1000, None, 500)
    assert pace.at(500, 0) == {"rate": 0.0, "share": 0.5, "left": None}
    now[0] += 10
    assert pace.at(750, 0) == {"rate": 25.0, "share": 0.75, "left": 10.0}


def test_more_rows_than_were_expected_are_no_more_than_all() -> None:
    assert Pace(100).at(150, 0)["share"] == 1
    assert Pace(100).at(150, 0)["left"] == 0


# -- for people -------------------------------------------------------------------------------------------------------


def test_a_stage_that_lasts_is_told_and_a_quick_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    monkeypatch.setattr(progress, "SLOW", 600.0)
    lines.stage("opening the input")
    monkeypatch.setattr(progress, "SLOW", 0.05)
    lines.stage("loading the model")
    until = time.monotonic() + 60
    while not stream.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    lines.stage("predicting")
    lines.end(None)
    assert stream.getvalue() == "loading the model …\n"


def test_lines_say_where_a_run_stands_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stream = clock(monkeypatch), io.StringIO()
    lines = Lines(stream)
    lines.begin(1000, None)
    for second in range(1, 9):
        now[0] += 1
        lines.update(100 * second, second // 6, 0)
    lines.begin(None, 4_000_000)
    now[0] += 4
    lines.update(100, 0, 1_000_000)
    lines.begin(None, None)
    now[0] += 4
    lines.update(100, 0, 0)
    assert stream.getvalue().splitlines() == [
        "300 of 1,000 rows, 100 rows/s, 30%, 7 s left",
        "600 of 1,000 rows, 100 rows/s, 60%, 4 s left, 1 rejected",
        "100 rows, 25 rows/s, 25% of 4 MB, 12 s left",
        "100 rows, 25 rows/s",
    ]


def test_a_bar_ends_with_the_run_and_with_an_error(model: bimodal.Model, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    source = write(shop(5), tmp_path / "in.csv")
    for output, dry_run in ((tmp_path / "out.csv", False), (tmp_path / "dry.csv", True)):
        predict_file(model, source, output, progress=Bar(io.StringIO()), dry_run=dry_run)
    with pytest.raises(SinkError):
        predict_file(model, source, tmp_path / "no" / "out.csv", progress=Bar(io.StringIO()), dry_run=True)
    with pytest.raises(bimodal.errors.SourceError):
        predict_file(model, tmp_path / "none.csv", tmp_path / "x.csv", progress=Bar(io.StringIO()))
    until = time.monotonic() + 60
    while bars(before) and time.monotonic() < until:
        time.sleep(0.05)
    assert bars(before) == []


def bars(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that draw."""
    return [each for each in threading.enumerate() if each not in before and "Refresh" in type(each).__name__]


def test_a_terminal_has_its_cursor_at_the_end(saved: Path, tmp_path: Path) -> None:
    write(shop(5), tmp_path / "in.csv")
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "predict", str(saved), "in.csv", "-o", "out.csv", "--dry-run"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
    ):  # fmt: skip
        os.close(theirs)
        shown = b""
        while data := _read(mine):
            shown += data
    os.close(mine)
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # its other end is closed
        return b""


def events_go_to(*, data_on_stdout: bool) -> object:
    told = chosen("json", data_on_stdout=data_on_stdout)
    assert isinstance(told, Events)
    return told._stream


def test_what_progress_may_be() -> None:
    assert type(chosen(None, data_on_stdout=False)) is type(chosen("quiet", data_on_stdout=True)) is Progress
    mine = Lines(io.StringIO())
    assert chosen(mine, data_on_stdout=False) is mine
    assert events_go_to(data_on_stdout=False) is sys.stdout
    assert events_go_to(data_on_stdout=True) is sys.stderr  # the predictions go to the other
    with pytest.raises(UsageError, match="'auto', 'json', 'quiet'"):
        chosen("loud", data_on_stdout=False)
