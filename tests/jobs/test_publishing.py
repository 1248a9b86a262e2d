"""The committed output of a run becomes an edition of the prediction store, whatever kind of output it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from bimodal.config.tables import StoreTable
from bimodal.errors import UsageError
from bimodal.jobs.trial import Trial
from bimodal.predictions.collected import Collector
from bimodal.predictions.opening import open_reader
from tests.jobs.desk import Desk
from tests.jobs.test_incremental import DUE, Quiet
from tests.jobs.test_incremental import Jobs as Tried

FRAME = pd.DataFrame({"id": range(40), "n": np.linspace(-2, 2, 40), "m": np.linspace(3, 1, 40)})
FEATURES = ["n", "m"]


@pytest.fixture(scope="module")
def estimator() -> Any:
    return LogisticRegression().fit(FRAME[FEATURES], np.where(FRAME["n"] > 0, "yes", "no"))


@pytest.fixture
def desk(tmp_path: Path, estimator: Any) -> Desk:
    made = Desk(tmp_path, "")
    joblib.dump(estimator, tmp_path / "yes.pkl")
    FRAME.to_parquet(tmp_path / "in.parquet", index=False)
    FRAME.to_csv(tmp_path / "in.csv", index=False)
    return made


def configured(desk: Desk, text: str) -> Tried:
    (desk.folder / "bimodal.toml").write_text(
        '[models.doubled]\npath = "yes.pkl"\n[models.doubled.store]\njob = "nightly"\nkey = "id"\n'
        f'[jobs.nightly]\nmodel = "doubled"\nproba = true\n{text}'
    )
    return Tried(desk)


def answers(desk: Desk, keys: list[Any]) -> tuple[Any, list[Any]]:
    folder = desk.folder / "predictions" / "doubled"
    reader = open_reader(StoreTable("nightly", "id"), folder)
    edition, found = reader.look(keys)
    reader.close()
    return edition, [None if one is None else msgspec.json.decode(b"{" + one.body + b"}") for one in found]


@pytest.mark.parametrize("source", ["in.parquet", "in.csv"])
@pytest.mark.parametrize("output", ["out.parquet", "out.csv", "out.jsonl", "sqlite:///{}/shop.db#scores", None])
def test_each_key_has_what_the_library_says(source: str, output: str | None, desk: Desk, estimator: Any) -> None:
    told = "" if output is None else f'output = "{output.format(desk.folder)}"\n'
    jobs = configured(desk, f'input = "{source}"\n{told}')
    assert jobs.run() == 40
    edition, found = answers(desk, [0, 39, 40])
    assert (edition.kind, edition.count, edition.run) == ("int", 40, "r1")
    assert edition.outputs == ("prediction", "probability")
    assert [found[0]["prediction"], found[1]["prediction"], found[2]] == ["no", "yes", None]
    right = estimator.predict_proba(FRAME[FEATURES])
    np.testing.assert_allclose([each["probability"] for each in found[:2]], right[[0, 39]], rtol=1e-12)
    assert not list((desk.folder / "runs").glob("*")) if output is None else True


def test_the_same_run_again_changes_nothing_and_the_next_one_is_the_next_edition(desk: Desk) -> None:
    jobs = configured(desk, 'input = "in.parquet"\noutput = "out.parquet"\n')
    task = jobs.task("r1")
    first = Trial(task, Quiet()).run()["report"]["edition"]
    again = Trial(task, Quiet()).run()["report"]
    assert (again["edition"], again["status"]) == (first, "already complete")
    assert Trial(jobs.task("r2"), Quiet()).run()["report"]["edition"]["version"] == first["version"] + 1


def test_rows_that_were_asked_for_live_are_scored_too(desk: Desk, estimator: Any) -> None:
    jobs = configured(desk, 'input = "in.parquet"\n')
    jobs.run()
    folder = desk.folder / "predictions" / "doubled"
    collector = Collector(folder, 0)
    collector.add(17, "changed", {"n": 9.0, "m": 9.0}, 1)
    collector.add(100, "miss", {"n": 1.5, "m": 1.0}, 2)
    collector.add(101, "miss", {"n": "no number", "m": 1.0}, 3)
    collector.add(102, "miss")
    collector.flush()
    jobs.run()
    edition, found = answers(desk, [17, 100, 101, 102])
    assert (edition.count, found[2:]) == (41, [None, None])
    right = estimator.predict_proba(pd.DataFrame({"n": [FRAME["n"][17], 1.5], "m": [FRAME["m"][17], 1.0]}))
    np.testing.assert_allclose([each["probability"] for each in found[:2]], right, rtol=1e-12)
    jobs.run()
    assert answers(desk, [100])[1] == [None], "it was collected for one run"


def test_a_key_that_comes_twice_or_is_not_kept_is_told(desk: Desk) -> None:
    pd.concat([FRAME, FRAME.head(1)]).to_parquet(desk.folder / "twice.parquet", index=False)
    with pytest.raises(UsageError, match="keeps the edition that it had: the column 'id' does not tell the rows apart"):
        configured(desk, 'input = "twice.parquet"\n').run()
    FRAME[FEATURES].to_parquet(desk.folder / "keyless.parquet", index=False)
    jobs = configured(desk, 'input = "keyless.parquet"\n')
    jobs.number = 1
    with pytest.raises(UsageError, match="has no column 'id'"):
        jobs.run()


@pytest.mark.parametrize(
    ("keys", "kind"),
    [(["a", "", None, "b" * 4097], "text"), ([1, None, None, None], "int"), (["1", "", "", None], "int")],
)
@pytest.mark.parametrize("source", ["odd.parquet", "odd.csv"])
def test_keys_that_nobody_can_ask_for_are_left_out_and_told(
    desk: Desk, source: str, keys: list[Any], kind: str
) -> None:
    odd = FRAME.head(4).assign(id=pd.array(keys, dtype="Int64" if keys[0] == 1 else "string"))
    odd.to_parquet(desk.folder / "odd.parquet", index=False)
    odd.to_csv(desk.folder / "odd.csv", index=False)
    jobs = configured(desk, f'input = "{source}"\n')
    assert jobs.run() == 4
    edition, found = answers(desk, [int(keys[0]) if kind == "int" else "a"])
    assert (edition.count, edition.kind, found[0]["prediction"]) == (1, kind, "no")
    assert any("3 rows are left out of the prediction store" in each for each in jobs.parent.notes)


def test_a_run_of_old_days_leaves_the_current_edition(desk: Desk) -> None:
    jobs = configured(desk, 'input = "in.parquet"\noutput = "out.parquet"\n')
    jobs.run()
    old, parent = replace(jobs.task("r2"), due=DUE - 86_400), Quiet()
    report = Trial(old, parent).run()["report"]
    assert (report["predicted"], report.get("edition")) == (40, None)
    assert any("keeps its edition of 2026-03-31 03:00 UTC" in each for each in parent.notes)
    assert answers(desk, [0])[0].run == "r1"
    Trial(replace(jobs.task("r3"), due=DUE), Quiet()).run()
    assert (answers(desk, [0])[0].run, answers(desk, [0])[0].due) == ("r3", DUE)


def test_an_output_that_cannot_be_served_is_said_to_be_published(desk: Desk) -> None:
    pd.concat([FRAME, FRAME.head(1)]).to_parquet(desk.folder / "twice.parquet", index=False)
    with pytest.raises(UsageError, match=r"out\.parquet is published, but the prediction store of doubled keeps"):
        configured(desk, 'input = "twice.parquet"\noutput = "out.parquet"\n').run()
    assert (desk.folder / "out.parquet").exists()


def test_an_incremental_job_serves_the_whole_table(desk: Desk) -> None:
    place = f"sqlite:///{desk.folder}/shop.db"
    with closing(sqlite3.connect(desk.folder / "shop.db")) as database:
        FRAME.head(10).to_sql("people", database, index=False)
    text = f'input = "{place}#people"\noutput = "{place}#scores"\nmode = "append"\nincremental = "rows"\nkey = "id"\n'
    jobs = configured(desk, text)
    assert jobs.run() == 10
    with closing(sqlite3.connect(desk.folder / "shop.db")) as database:
        FRAME.tail(5).to_sql("people", database, index=False, if_exists="append")
    assert jobs.run() == 5
    assert answers(desk, [0])[0].count == 15
    with pytest.raises(UsageError, match="two models"):
        configured(desk, text + 'on_model_change = "new"\n').run()
    with pytest.raises(UsageError, match="hold all results"):
        configured(desk, 'input = "*.parquet"\noutput = "out/"\nincremental = "files"\n').run()
