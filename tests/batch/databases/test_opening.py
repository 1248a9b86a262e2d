"""A password never stands in what a run tells or keeps; what a database guesses is not taken for known."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import traceback
from pathlib import Path

import pytest

from bimodal import predict_file
from bimodal.batch.databases.address import spoken
from bimodal.batch.sources.inputs import open_input
from bimodal.errors import UsageError
from tests.batch.places import COMMAND, shop, write

PASSWORD = "hunter2-is-secret"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("postgresql://ann:hunter2@db/shop#a.b", "postgresql://db/shop#a.b"),
        ("postgresql://ann:env:SHOP@db/shop#t", "postgresql://ann:env:SHOP@db/shop#t"),
        ("sqlite:///shop.db#t", "sqlite:///shop.db#t"),
        ("customers.csv", "customers.csv"),
    ],
)
def test_an_address_is_told_without_its_password(written: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", PASSWORD)
    assert spoken(written) == told


@pytest.mark.parametrize(
    "written",
    [
        "postgresql:/u:{}@h/db#t",
        "postgresql//u:{}@h/db",
        "postgresql:///u:{}@h/db",
        "postgres:u:{}@h",
        "pg//u:{}@h/db",
        "pg://u:{}/x@h/db",
        "u:{}@h/db",
        "mysql:\\\\u:{}@h/x",
        "https://u:{}@h/x.csv",
        "s3://K:{}@b/x.parquet",
    ],
)
def test_a_password_in_a_misspelt_address_is_never_told(written: str, saved: Path, tmp_path: Path) -> None:
    address = written.format(PASSWORD)
    for words in ((address, "out.csv"), (tmp_path / "in.csv", address)):
        with pytest.raises(UsageError) as caught:
            predict_file(saved, *words)
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_a_file_may_have_the_name_of_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("10:30@home.csv").write_text("a\n")
    for name in (
        "10:30@home.csv",
        "./new:10:30@home.csv",
        str(tmp_path / "a:b@c.csv"),
        "C:\\a:b@c.csv",
        "ann@home.csv",
    ):
        assert spoken(name) == name


def test_a_run_tells_and_keeps_no_password(saved: Path, tmp_path: Path) -> None:
    write(shop(5), tmp_path / "in.csv")
    state = tmp_path / "state"
    output = f"postgresql://ann:{PASSWORD}@127.0.0.1:9/shop#scores"
    for words in ([output, "-o", "out.csv"], ["in.csv", "-o", output, "--dry-run", "--json"]):
        done = subprocess.run(
            [*COMMAND, "predict", str(saved), *words, "--debug"],
            cwd=tmp_path,
            env={**os.environ, "BIMODAL_STATE": str(state)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        assert "127.0.0.1" in done.stderr
    kept = [path.read_text() for path in state.rglob("*.json")]
    assert PASSWORD not in json.dumps(kept)


def test_two_tables_are_no_input_and_nothing_of_them_is_told() -> None:
    address = f"postgresql://ann:{PASSWORD}@db/shop#t"
    with pytest.raises(UsageError, match="only input") as caught:
        open_input([address, address])
    assert PASSWORD not in str(caught.value)


def test_rows_that_a_database_only_guesses_at_are_no_books(saved: Path, tmp_path: Path) -> None:
    """SQLite takes a table's last row number for its count, and knows none of a view."""
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        shop(200).to_sql("gaps", connection, index=False)
        connection.execute("DELETE FROM gaps WHERE rowid % 3 = 0")
        connection.execute("CREATE VIEW few AS SELECT * FROM gaps LIMIT 10")
    connection.close()
    for table, count in (("gaps", 134), ("few", 10)):
        report = predict_file(saved, f"sqlite:///{tmp_path}/shop.db#{table}", tmp_path / f"{table}.csv")
        assert (report.read, report.predicted) == (count, count)
