"""A dry run says what would happen, near the truth, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as arrow_parquet
import pytest

import bimodal
from bimodal import predict_file
from bimodal.batch.history import History
from bimodal.batch.progress import Progress
from bimodal.errors import OutputExists, SinkError
from tests.batch.places import command, shop, write

ROWS = 80_000
TOLD = re.compile(
    r"(about )?([\d,]+) rows? in ([\d,]+) chunks?: about .+ with \d+ at work(?:, (\d+) (B|kB|MB) written)?"
)
UNITS = {"B": 1, "kB": 10**3, "MB": 10**6}


class Heard(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


def dry(model: Any, source: Any, output: Any, **options: Any) -> list[str]:
    """What a dry run says."""
    heard = Heard()
    report = predict_file(model, source, output, dry_run=True, progress=heard, **options)
    assert report.status == "dry run"
    return heard.notes


def expected(notes: list[str]) -> tuple[bool, int, int, int | None]:
    """Whether the rows are only about so many, rows, chunks, bytes."""
    (found,) = [match for note in notes if (match := TOLD.fullmatch(note))]
    about, rows, chunks, size, unit = found.groups()
    count = int(rows.replace(",", "")), int(chunks.replace(",", ""))
    return about is not None, *count, None if size is None else int(size) * UNITS[unit]


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    frame = pd.concat([shop(1000)] * (ROWS // 1000), ignore_index=True)
    return frame.assign(id=[f"{number:06}" for number in range(ROWS)])


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "parquet", "arrow"])
def test_rows_chunks_and_size_are_near_the_truth(
    kind: str, many: pd.DataFrame, model: bimodal.Model, tmp_path: Path
) -> None:
    source = write(many, tmp_path / f"in.{kind}")
    other = "parquet" if kind == "csv" else kind
    about, rows, chunks, size = expected(dry(model, source, tmp_path / f"out.{other}", workers=1))
    assert about is False
    assert rows == ROWS
    report = predict_file(model, source, tmp_path / f"out.{other}")
    assert report.chunks == 2
    assert chunks == 2
    assert size is not None
    assert size * ROWS / rows == pytest.approx((tmp_path / f"out.{other}").stat().st_size, rel=0.2)


def test_small_inputs_and_none(model: bimodal.Model, tmp_path: Path) -> None:
    assert expected(dry(model, write(shop(1), tmp_path / "one.jsonl"), tmp_path / "out.csv"))[1:3] == (1, 1)
    (tmp_path / "none.csv").write_text("id,age,spent,plan\n")
    notes = dry(model, tmp_path / "none.csv", tmp_path / "out.csv")
    assert "the input has no rows; the output would have none" in notes


def test_what_standard_input_brings_is_not_known(saved: Path, tmp_path: Path) -> None:
    words = ["predict", saved, "-", "-o", "out.csv", "--dry-run"]
    done = command(*words, cwd=tmp_path, data=shop(20).to_csv(index=False).encode())
    assert done.returncode == 0
    assert "how many rows will come is not known" in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


# -- nothing is left behind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "parts/", "sqlite:///new.db#t", "duckdb:///new.duckdb#t"])
def test_nothing_is_left_behind(
    output: str, model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIMODAL_STATE", str(tmp_path / "state"))
    write(shop(), tmp_path / "in.csv")
    assert "the output has the columns id, day, note, prediction" in dry(model, "in.csv", output)
    assert [each.name for each in tmp_path.iterdir()] == ["in.csv"]
    assert History().list() == []


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_database_that_is_there_stays_as_it_is(
    kind: str, model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(shop(), tmp_path / "in.csv")
    with closing(sqlite3.connect("shop.db") if kind == "sqlite" else duckdb.connect("shop.db")) as connection:
        connection.execute("CREATE TABLE other (n INTEGER)")
    before = (tmp_path / "shop.db").read_bytes()
    dry(model, "in.csv", f"{kind}:///shop.db#scores")
    assert (tmp_path / "shop.db").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", "shop.db"]


# -- what would go wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["no/out.csv", "no/parts/", "sqlite:///no/new.db#t", "duckdb:///no/new.duckdb#t"])
def test_a_folder_that_is_not_there_is_told(
    output: str, model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(shop(5), tmp_path / "in.csv")
    with pytest.raises(SinkError, match="no folder no"):
        dry(model, source, output)


@pytest.mark.parametrize("output", ["sqlite:///closed/shop.db#t", "duckdb:///closed/shop.duckdb#t"])
def test_missing_rights_are_told(
    output: str, model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "closed").mkdir()
    real = os.access
    monkeypatch.setattr("os.access", lambda path, mode: "closed" not in str(path) and real(path, mode))  # root may all
    source = write(shop(5), tmp_path / "in.csv")
    with pytest.raises(SinkError, match="writ"):
        dry(model, source, output)


def test_an_output_that_is_there_is_told(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(5), tmp_path / "in.csv")
    (tmp_path / "out.csv").write_text("precious")
    with pytest.raises(OutputExists, match="--overwrite"):
        dry(model, source, tmp_path / "out.csv")
    dry(model, source, tmp_path / "out.csv", overwrite=True)
    assert (tmp_path / "out.csv").read_text() == "precious"


def test_rows_that_would_be_rejected_are_shown(model: bimodal.Model, tmp_path: Path) -> None:
    frame = shop(20)
    frame.loc[3, "plan"] = "gold"
    notes = dry(model, write(frame, tmp_path / "in.csv"), tmp_path / "out.csv")
    assert any(note.startswith("would be rejected: in.csv, row 4, column 'plan'") for note in notes)
    assert "5.0% of the first 20 rows would be rejected" in notes


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_the_key_of_an_upsert_is_looked_at(
    kind: str, model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db") if kind == "sqlite" else duckdb.connect("shop.db")) as connection:
        connection.execute("CREATE TABLE scores (id TEXT PRIMARY KEY, prediction TEXT)")
        connection.execute("CREATE TABLE bare (id TEXT, prediction TEXT)")
    upsert: dict[str, Any] = {"mode": "upsert", "key": "id", "keep": ["id"]}
    frame = shop(20)
    into = f"{kind}:///shop.db#scores"
    assert "the key id is unique" in dry(model, write(frame, tmp_path / "in.parquet"), into, **upsert)
    frame.loc[[4, 5], "id"] = "0001"
    twice = dry(model, write(frame, tmp_path / "in.parquet"), into, **upsert)
    assert "the key id is not unique: 2 rows have the key of another; upsert would refuse them" in twice
    frame.loc[[4, 5], "id"] = None
    nulls = dry(model, write(frame, tmp_path / "in.parquet"), into, **upsert)
    assert "the key id has 2 nulls, which tell no row: upsert would refuse them" in nulls
    with pytest.raises(SinkError, match="CREATE UNIQUE INDEX"):
        dry(model, tmp_path / "in.parquet", f"{kind}:///shop.db#bare", **upsert)
    with pytest.raises(SinkError, match="no table absent to update"):
        dry(model, tmp_path / "in.parquet", f"{kind}:///shop.db#absent", **upsert)


def test_a_key_of_several_columns_is_one(model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as connection:
        connection.execute("CREATE TABLE scores (shop INTEGER, day TEXT, prediction TEXT, UNIQUE (shop, day))")
    frame = shop(60).assign(shop=[number // 28 for number in range(60)])  # days come again after 28 rows
    write(frame, tmp_path / "in.parquet")
    upsert: dict[str, Any] = {"mode": "upsert", "key": ["shop", "day"], "keep": ["shop", "day"]}
    assert "the key shop, day is unique" in dry(model, "in.parquet", "sqlite:///shop.db#scores", **upsert)
    write(frame.assign(shop=1), tmp_path / "in.parquet")
    (told,) = [note for note in dry(model, "in.parquet", "sqlite:///shop.db#scores", **upsert) if "unique" in note]
    assert told.startswith("the key shop, day is not unique: 32 rows")


def test_a_table_that_does_not_fit_is_told(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as connection:
        connection.execute("CREATE TABLE scores (id TEXT, score TEXT)")
    source = write(shop(5), tmp_path / "in.csv")
    with pytest.raises(SinkError, match="ALTER TABLE"):
        dry(model, source, "sqlite:///shop.db#scores", mode="append", keep=["id"])
    with pytest.raises(OutputExists):
        dry(model, source, "sqlite:///shop.db#scores", keep=["id"])


def test_an_estimate_says_so(model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow_parquet.write_table(
        arrow_parquet.read_table(write(shop(100), tmp_path / "a.parquet")), tmp_path / "b.parquet"
    )
    assert expected(dry(model, [tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out.csv"))[:2] == (
        False,
        200,
    )
    for name in "ab":
        write(shop(100), tmp_path / f"{name}.csv")
    about, rows, _, _ = expected(dry(model, [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out.csv"))
    assert (about, rows) == (False, 200)  # all were looked through
    monkeypatch.setattr("bimodal.batch.dry.LOOK", 0.0)
    about, rows, _, _ = expected(dry(model, [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out.csv"))
    assert (about, rows) == (True, 200)


def test_the_numbers_are_fields_and_a_full_disk_is_told(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(shop(100), tmp_path / "in.csv")
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1000, 990, 10))
    heard = Heard()
    found = predict_file(model, source, tmp_path / "out.csv", dry_run=True, progress=heard, workers=1).expected
    assert found is not None
    assert (found["rows"], found["rows_are"], found["chunks"], found["free"]) == (100, "exact", 1, 10)
    assert (found["workers"], found["tried"], found["rejected_share"]) == (1, 100, 0.0)
    predict_file(model, source, tmp_path / "out.csv", progress="quiet")
    assert found["bytes"] == pytest.approx((tmp_path / "out.csv").stat().st_size, rel=0.1)
    assert "there is no room for that: 10 B are free where it would be written" in heard.notes
    assert "none of the first 100 rows would be rejected" in heard.notes
    again = predict_file(model, source, tmp_path / "out.csv", dry_run=True, progress=heard)
    assert again.status == "already complete"


def test_the_rows_of_a_view_are_counted(model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as connection:
        shop(30).to_sql("t", connection, index=False)
        connection.execute("CREATE VIEW v AS SELECT * FROM t")
        connection.commit()
    assert expected(dry(model, "sqlite:///shop.db#v", "out.csv"))[:2] == (False, 30)
