"""The prediction log keeps what it is told to: the oldest whole files go, and nothing else."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import joblib
import pytest

from bimodal.errors import UsageError
from bimodal.realtime import serving
from bimodal.realtime.retention import Bound, Retention
from tests.models import CASES
from tests.realtime.desk import Desk
from tests.realtime.services import until
from tests.realtime.shelf import onnx
from tests.realtime.test_metrics import value

DAY = 86_400.0


def files(folder: Path, count: int = 5, size: int = 100) -> list[Path]:
    """Whole files of a log, the first of them the oldest: a day each."""
    made = []
    for number in range(count):
        path = folder / "model" / str(number % 2) / f"20240101T00000{number}Z-0-17-0123abcd-{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        finished = time.time() - (count - number) * DAY
        os.utime(path, (finished, finished))
        made.append(path)
    return made


def tended(folder: Path, bound: Bound) -> int:
    """How many files are deleted at the first look."""
    kept = Retention(folder, bound)
    kept.close()
    kept.tend(time.time())
    return kept.deleted


@pytest.mark.parametrize(
    ("bound", "left"),
    [
        (Bound(age=2.5 * DAY), 2),
        (Bound(size=300), 3),
        (Bound(size=299), 2),
        (Bound(age=4.5 * DAY, size=200), 2),
        (Bound(age=1.5 * DAY, size=400), 1),
        (Bound(age=30 * DAY, size=500), 5),
        (Bound(size=1), 0),
    ],
)
def test_the_oldest_go_first_and_no_more_than_are_beyond_the_bound(bound: Bound, left: int, tmp_path: Path) -> None:
    made = files(tmp_path)
    assert tended(tmp_path, bound) == 5 - left
    assert [each for each in made if each.exists()] == made[5 - left :]


def test_what_grows_and_what_is_no_file_of_the_log_is_not_touched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = files(tmp_path, 1)[0]
    others = [
        made.with_name(f".{made.stem}.arrow"),
        made.with_name(f".{made.stem}.parquet-tmp"),
        made.with_name("mine.parquet"),
        tmp_path / made.name,
        made.parent / "deeper" / made.name,
    ]
    for each in others:
        each.parent.mkdir(exist_ok=True)
        each.write_bytes(b"x" * 1000)
        os.utime(each, (0, 0))
    with caplog.at_level(logging.INFO):
        assert tended(tmp_path, Bound(age=1.0, size=1)) == 1
    assert not made.exists()
    assert all(each.exists() for each in others)
    assert "1 files of the prediction log" in caplog.text


def test_a_server_deletes_and_counts(tmp_path: Path) -> None:
    made = files(tmp_path)
    spec = {"folder": str(tmp_path), "sample": 1.0, "age": 60.0, "without": [], "models": {}, "alone": True}
    desk = Desk(onnx(), spec={"record": {**spec, "keep": 2.5 * DAY, "limit": None}})
    until(lambda: value(desk.get("/metrics").body, "bimodal_prediction_log_deleted_files_total") == 3)
    assert [each.exists() for each in made] == [False] * 3 + [True] * 2
    desk.close()


def test_it_is_told_in_every_way_that_a_setting_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joblib.dump(CASES["logistic"].model, tmp_path / "iris.pkl")
    config = tmp_path / "bimodal.toml"
    config.write_text(
        '[server]\nprediction_log = "log"\nprediction_log_keep = "30 days"\nprediction_log_limit = "10GB"\n'
        '[models.iris]\npath = "iris.pkl"\n'
    )
    given = {"prediction_log": "log", "prediction_log_keep": "30 days", "prediction_log_limit": 10_000_000_000}
    alone = serving.prepare([str(tmp_path / "iris.pkl")], given, {}).record
    filed = serving.prepare([str(config)], {}, {}).record
    monkeypatch.setenv("BIMODAL_PREDICTION_LOG_KEEP", "30d")
    monkeypatch.setenv("BIMODAL_PREDICTION_LOG_LIMIT", "10 GB")
    around = serving.prepare([str(tmp_path / "iris.pkl")], {"prediction_log": "log"}, {}).record
    for told in (alone, filed, around):
        assert told is not None
        assert (told["keep"], told["limit"]) == (30 * DAY, 10_000_000_000)
    with pytest.raises(UsageError, match=r"prediction_log_keep: write a time such as .*more than none"):
        serving.prepare([str(tmp_path / "iris.pkl")], {**given, "prediction_log_keep": 0}, {})
