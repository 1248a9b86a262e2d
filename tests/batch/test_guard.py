"""A run that several processes try: the guard before publication, and the id that makes it one run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import bimodal
from bimodal import predict_file
from tests.batch.places import shop, write


class Lost(Exception):
    pass


def refuse() -> None:
    raise Lost


@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "sqlite:///{}/shop.db#scores"])
def test_a_guard_that_refuses_keeps_the_progress_and_publishes_nothing(
    output: str, model: bimodal.Model, tmp_path: Path
) -> None:
    source = write(shop(), tmp_path / "in.csv")
    place = output.format(tmp_path) if "://" in output else str(tmp_path / output)
    with pytest.raises(Lost):
        predict_file(model, source, place, run="r1", guard=refuse)
    if "://" not in output:
        assert not (tmp_path / output).exists()
    again = predict_file(model, source, place, run="r1", guard=lambda: None)
    assert (again.status, again.resumed, again.predicted, again.run) == ("complete", 300, 300, "r1")


def test_what_another_run_left_is_thrown_away(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(), tmp_path / "in.csv")
    with pytest.raises(Lost):
        predict_file(model, source, tmp_path / "out.csv", run="r1", guard=refuse)
    other = predict_file(model, source, tmp_path / "out.csv", run="r2", threshold=0.3)
    assert (other.resumed, other.run) == (0, "r2")


def test_a_published_run_is_complete_for_good(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(), tmp_path / "in.csv")
    for _ in range(2):
        first = predict_file(model, source, tmp_path / "out.csv", run="r1", overwrite=True)
    assert first.status == "already complete"
    assert predict_file(model, source, tmp_path / "out.csv", run="r2", overwrite=True).status == "complete"


def test_a_run_is_appended_once_and_the_next_one_again(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(), tmp_path / "in.csv")
    place = f"sqlite:///{tmp_path}/shop.db#scores"
    for run in ("r1", "r1", "r2", "r2", "r1"):
        predict_file(model, source, place, mode="append", run=run, overwrite=True)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM scores").fetchone()
    assert count == 600
