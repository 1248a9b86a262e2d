"""What first users ran into: slips that passed silently, and errors that led astray."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import bimodal
from bimodal import predict_file
from bimodal.errors import SourceChanged, SourceError, TooManyRejects, UsageError
from tests.batch.places import shop, write

FRAME = pd.DataFrame({"age": [20.0, 30.0, None, 50.0] * 5, "city": ["Oslo", "Lima", None, "Pune"] * 5})
BINARY = [0, 1] * 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("findings")
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    prepare = ColumnTransformer([("n", SimpleImputer(), ["age"]), ("c", texts, ["city"])])
    joblib.dump(make_pipeline(prepare, LogisticRegression()).fit(FRAME, BINARY), folder / "tab.pkl")
    targets = pd.DataFrame({"a": BINARY, "b": [7, 8, 9, 7] * 5})
    joblib.dump(RandomForestClassifier(3).fit(FRAME[["age"]].fillna(0), targets), folder / "multi.pkl")
    return folder


@pytest.fixture(scope="module")
def tab(folder: Path) -> Iterator[bimodal.Model]:
    """The first of them, loaded once."""
    with bimodal.load(folder / "tab.pkl") as loaded:
        yield loaded


def test_a_slip_in_one_line_is_refused_whatever_its_neighbours_have(tab: bimodal.Model, folder: Path) -> None:
    lines = ['{"age":30,"city":"Oslo"}', '{"age":30,"citi":"Oslo"}', '{"age":null,"city" : null}']
    (folder / "slip.jsonl").write_text("\n".join(lines))
    with pytest.raises(TooManyRejects, match="'citi' is near"):
        predict_file(tab, folder / "slip.jsonl", folder / "slip.csv")
    (folder / "nulls.jsonl").write_text(f"{lines[0]}\n{lines[2]}\n")
    report = predict_file(tab, folder / "nulls.jsonl", folder / "nulls.csv")
    assert (report.predicted, report.rejected) == (2, 0)


def test_one_and_a_thousand_are_not_guessed_apart(tab: bimodal.Model, folder: Path) -> None:
    (folder / "thousands.csv").write_text("age;city\n1,000;Oslo\n12,500;Lima\n")
    with pytest.raises(TooManyRejects):
        predict_file(tab, folder / "thousands.csv", folder / "thousands_out.csv")
    report = predict_file(tab, folder / "thousands.csv", folder / "thousands_out.csv", decimal=",")
    assert report.predicted == 2
    (folder / "decimals.csv").write_text("age;city\n1,5;Oslo\n12,500;Lima\n")
    assert predict_file(tab, folder / "decimals.csv", folder / "decimals_out.csv").predicted == 2


def test_proba_of_several_targets_gives_the_probabilities_of_each(folder: Path) -> None:
    (folder / "ages.csv").write_text("age\n20\n30\n")
    predict_file(folder / "multi.pkl", folder / "ages.csv", folder / "ages_out.csv", proba=True)
    model = joblib.load(folder / "multi.pkl")
    told = pd.read_csv(folder / "ages_out.csv")
    expected = model.predict_proba(pd.DataFrame({"age": [20, 30]}))
    assert told[[f"probability_1_{label}" for label in (7, 8, 9)]].to_numpy().tolist() == expected[1].tolist()


def test_a_rename_to_no_feature_is_told(tab: bimodal.Model, folder: Path) -> None:
    FRAME.rename(columns={"city": "town"}).to_csv(folder / "towns.csv", index=False)
    with pytest.raises(UsageError, match="the model has no feature 'citi'; did you mean town=city"):
        predict_file(tab, folder / "towns.csv", rename={"town": "citi"})


def test_a_frame_is_no_path(tab: bimodal.Model, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.predict"):
        predict_file(tab, FRAME)  # type: ignore[arg-type]  # what a user may try


def test_standard_input_says_what_it_does_not_take(folder: Path) -> None:
    pq.write_table(pa.Table.from_pandas(FRAME), folder / "frame.parquet")
    command = [sys.executable, "-m", "bimodal", "predict", "tab.pkl", "-", "-o", "-", "--json"]
    with (folder / "frame.parquet").open("rb") as given:
        done = subprocess.run(command, cwd=folder, stdin=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "standard input looks like Parquet" in done.stderr
    event = json.loads(done.stdout.splitlines()[-1])
    assert (event["event"], event["code"]) == ("error", SourceError.code)


def test_what_an_event_carries_never_decides_whether_it_is_predicted(folder: Path) -> None:
    command = [sys.executable, "-m", "bimodal", "predict", "tab.pkl", "-", "-o", "-"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        told = []
        for extra in ('"id":9007199254740993', '"id":5.5,"coupon":"x"', '"id":"many"', '"id":null'):
            running.stdin.write(b'{"age":30,"city":"Oslo",%b}\n' % extra.encode())
            running.stdin.flush()
            told.append(json.loads(running.stdout.readline()))
        running.stdin.close()
        assert running.wait(60) == 0
    assert [each["id"] for each in told] == [9007199254740993, 5.5, "many", None]
    assert len({each["prediction"] for each in told}) == 1


def test_an_input_that_changes_while_it_is_read_is_not_published(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write(shop(50), tmp_path / "in.csv"), tmp_path / "out.csv"
    real = model.run

    def run(*words: object, **named: object) -> object:
        source.write_text(source.read_text() + source.read_text().splitlines()[-1] + "\n")
        return real(*words, **named)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(model, "run", run)
    with pytest.raises(SourceChanged, match="changed while it was read"):
        predict_file(model, source, out)
    assert not out.exists()
    monkeypatch.undo()
    assert predict_file(model, source, out).predicted == len(source.read_text().splitlines()) - 1


def test_the_sample_is_never_the_output(saved: Path, tmp_path: Path) -> None:
    source, sample = write(shop(5), tmp_path / "in.csv"), write(shop(7), tmp_path / "sample.csv")
    before = sample.read_bytes()
    with pytest.raises(UsageError, match="is the sample itself"):
        predict_file(saved, source, sample, sample=str(sample), overwrite=True)
    assert sample.read_bytes() == before


def test_refused_rows_are_not_read_where_those_of_the_run_are_told(model: bimodal.Model, tmp_path: Path) -> None:
    bad = shop(5).astype({"age": object})
    bad.loc[2, "age"] = "old"
    source = write(bad, tmp_path / "in.csv")
    predict_file(model, source, f"sqlite:///{tmp_path}/shop.db#scores", max_rejects=1)
    (rejects,) = tmp_path.glob("*.rejects.jsonl")
    before = rejects.read_bytes()
    with pytest.raises(TooManyRejects, match=r"scores\.2\.rejects\.jsonl"):
        predict_file(model, rejects, f"sqlite:///{tmp_path}/shop.db#scores", mode="append")
    assert rejects.read_bytes() == before
    rejects.write_text(before.decode().replace("old", "41"))
    assert predict_file(model, rejects, f"sqlite:///{tmp_path}/shop.db#scores", mode="append").predicted == 1
