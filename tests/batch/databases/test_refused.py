"""Refused rows of a table: run again they are what they were; no table takes another's file."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from bimodal import Model, predict_file
from tests.batch.places import shop


def rows_of(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("step", [1, -1])
def test_refused_rows_go_into_the_table_that_they_were_refused_for(
    step: int, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that begin within one second are told apart by when they were published, not by their ids."""
    ids = count(1000, step)
    monkeypatch.setattr("bimodal.batch.run.secrets.token_hex", lambda size: f"{next(ids):0{2 * size}x}")
    frame = shop(20)
    frame.loc[[3, 7], "plan"] = "gold"
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        frame.to_sql("people", connection, index=False)
        connection.execute("ALTER TABLE people ADD COLUMN photo BLOB")
        connection.execute("UPDATE people SET photo = CAST(x'00ff' || id AS BLOB)")
        connection.commit()
    url = f"sqlite:///{tmp_path}/shop.db"
    first = predict_file(model, f"{url}#people", f"{url}#scores", max_rejects=2)
    told = tmp_path / "scores.rejects.jsonl"
    assert first.rejects == str(told)
    records = [json.loads(line) for line in told.read_text().splitlines()]
    assert {each["table"] for each in records} == {"shop.db#scores"}
    records[0]["raw"]["plan"] = "pro"
    told.write_text("".join(json.dumps(each) + "\n" for each in records))
    for _ in range(2):  # once more does nothing
        again = predict_file(model, told, f"{url}#scores", mode="append", max_rejects=1)
        assert (again.predicted, again.rejected) == (1, 1)
        assert again.rejects == str(tmp_path / "scores.2.rejects.jsonl")
        assert rows_of(tmp_path / "shop.db", "SELECT count(*), count(DISTINCT id) FROM scores") == [(19, 19)]
    same = "SELECT count(*) FROM scores s JOIN people p ON s.id = p.id AND s.photo = p.photo"
    assert rows_of(tmp_path / "shop.db", same) == [(19,)]


def test_two_databases_tell_their_refused_rows_apart(model: Model, tmp_path: Path) -> None:
    frame = shop(9)
    frame.loc[4, "plan"] = "gold"
    frame.to_csv(tmp_path / "in.csv", index=False)
    told = [
        predict_file(model, tmp_path / "in.csv", f"sqlite:///{tmp_path}/{name}.db#scores", max_rejects=1).rejects
        for name in ("one", "two")
    ]
    assert told[0] == str(tmp_path / "scores.rejects.jsonl")
    assert told[1] is not None
    assert told[1] != told[0]
    for path, name in zip(told, ("one", "two"), strict=True):
        assert path is not None
        assert json.loads(Path(path).read_text())["table"] == f"{name}.db#scores"
    frame[:4].to_csv(tmp_path / "in.csv", index=False)
    predict_file(model, tmp_path / "in.csv", f"sqlite:///{tmp_path}/two.db#scores", mode="replace")
    assert [Path(each or "").exists() for each in told] == [True, False]
