"""Two models on the same rows, against what pandas computes of both models' own predictions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn import metrics
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.preprocessing import StandardScaler

import bimodal
from bimodal.batch.rejects import Allowed
from bimodal.batch.sources import parquet
from bimodal.comparison import Comparison
from bimodal.errors import InputError, OutputExists, UsageError
from tests.batch.places import read

FEATURES = ["a", "b", "c"]


def people(count: int = 3_000) -> pd.DataFrame:
    """Features, an id, two columns to cut by, labels and a number to predict."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(random.normal(size=(count, 3)), columns=FEATURES)
    frame["id"] = [f"p{number}" for number in range(count)]
    frame["city"] = random.choice(["Oslo", "Lima", "Pune"], count)
    frame["age"] = random.integers(18, 90, count)
    chance = frame["a"] - frame["b"] + random.normal(size=count)
    frame["left"] = np.where(chance > 0, "yes", "no")
    frame["spent"] = chance + frame["c"] * 2
    return frame


PEOPLE = people()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    PEOPLE.to_csv(folder / "people.csv", index=False)
    PEOPLE.to_parquet(folder / "people.parquet", index=False, row_group_size=700)
    return folder


class Models:
    """Two classifiers, one of them trained on fewer rows, two regressors, and one with other names for the classes."""

    def __init__(self) -> None:
        features, labels, number = PEOPLE[FEATURES], PEOPLE["left"], PEOPLE["spent"]
        self.old: Any = LogisticRegression().fit(features[:60], labels[:60])
        self.new: Any = LogisticRegression().fit(features[:2_000], labels[:2_000])
        self.renamed: Any = LogisticRegression().fit(features[:60], labels[:60].map({"yes": "leaves", "no": "stays"}))
        self.narrow: Any = LogisticRegression().fit(PEOPLE[["b", "age"]], labels)
        self.line: Any = LinearRegression().fit(features, number)
        self.trees: Any = HistGradientBoostingRegressor(max_iter=20).fit(features, number)


@pytest.fixture(scope="module")
def trained() -> Models:
    return Models()


@pytest.fixture(scope="module")
def saved(trained: Models, folder: Path) -> Iterator[dict[str, bimodal.Model]]:
    for name, estimator in vars(trained).items():
        joblib.dump(estimator, folder / f"{name}.pkl")

    def load(name: str) -> bimodal.Model:
        return bimodal.load(folder / f"{name}.pkl", background=False)

    with ThreadPoolExecutor(3) as pool:  # each starts a process of its own
        loaded = dict(zip(vars(trained), pool.map(load, vars(trained)), strict=True))
    yield loaded
    for each in loaded.values():
        each.close()


@pytest.fixture(scope="module")
def found(saved: dict[str, bimodal.Model], folder: Path) -> Comparison:
    return bimodal.compare(
        saved["old"], saved["new"], folder / "people.parquet", by="city", target="left", output=folder / "changed.csv"
    )


def answers(trained: Models) -> pd.DataFrame:
    """What the libraries themselves say."""
    features = PEOPLE[FEATURES]
    return PEOPLE.assign(
        old=trained.old.predict(features),
        new=trained.new.predict(features),
        one=trained.old.predict_proba(features)[:, 1],
        other=trained.new.predict_proba(features)[:, 1],
    )


def test_changed_labels_are_counted_and_named(found: Comparison, trained: Models) -> None:
    told = answers(trained)
    changed = told[told["old"] != told["new"]]
    assert (found.kind, found.rows, found.compared, found.changed) == ("labels", 3_000, 3_000, len(changed))
    assert found.share == len(changed) / 3_000
    expected = told.value_counts(["old", "new"]).to_dict()
    assert {(each.old, each.new): each.rows for each in found.moves} == expected
    assert [(each.row, each.old, each.new) for each in found.first] == [
        (place + 1, row.old, row.new) for place, row in zip(changed.index[:20], changed.itertuples(), strict=False)
    ]


def test_the_shift_of_the_scores_is_that_of_pandas_and_scipy(found: Comparison, trained: Models) -> None:
    told = answers(trained)
    step = told["other"] - told["one"]
    (shift,) = found.shifts
    assert (shift.name, shift.rows) == ("probability_yes", 3_000)
    expected = {
        "old": told["one"].mean(),
        "new": told["other"].mean(),
        "mean": step.mean(),
        "mean_absolute": step.abs().mean(),
        "p50": step.abs().quantile(0.5),
        "p90": step.abs().quantile(0.9),
        "p99": step.abs().quantile(0.99),
        "largest": step.abs().max(),
        "ks": ks_2samp(told["one"], told["other"]).statistic,
        "psi": stability(told["one"], told["other"]),
    }
    for name, value in expected.items():
        assert getattr(shift, name) == pytest.approx(value, rel=1e-12, abs=1e-15), name


def stability(one: pd.Series[float], other: pd.Series[float]) -> float:
    """The population stability index over the deciles of the first."""
    cuts = np.unique(np.quantile(one, np.arange(1, 10) / 10, method="inverted_cdf"))
    shares = [
        np.bincount(np.searchsorted(cuts, each, "left"), minlength=len(cuts) + 1) / len(each) for each in (one, other)
    ]
    old, new = (np.maximum(share, 1e-4) for share in shares)
    return float(((new - old) * np.log(new / old)).sum())


def test_segments_are_those_of_a_group_by(found: Comparison, trained: Models) -> None:
    told = answers(trained).assign(changed=lambda frame: frame["old"] != frame["new"])
    told["step"] = told["other"] - told["one"]
    expected = told.groupby("city").agg(rows=("changed", "size"), changed=("changed", "sum"), shift=("step", "mean"))
    assert {each.value: (each.rows, each.changed) for each in found.segments} == {
        str(city): (row.rows, row.changed) for city, row in expected.iterrows()
    }
    assert [each.changed for each in found.segments] == sorted(expected["changed"], reverse=True)
    for each in found.segments:
        assert each.shift == pytest.approx(expected.loc[each.value, "shift"], rel=1e-9)


def test_both_are_measured_side_by_side(found: Comparison, trained: Models) -> None:
    told = answers(trained)
    assert found.quality is not None
    old, new = found.quality.old.told(), found.quality.new.told()
    for each, label, score in ((old, "old", "one"), (new, "new", "other")):
        assert each["accuracy"] == metrics.accuracy_score(told["left"], told[label])
        assert each["auc"] == pytest.approx(metrics.roc_auc_score(told["left"] == "yes", told[score]), abs=1e-12)
    right, other = told["old"] == told["left"], told["new"] == told["left"]
    assert (found.quality.better, found.quality.worse) == (int((other & ~right).sum()), int((right & ~other).sum()))


def test_all_changed_rows_are_written_with_their_columns(found: Comparison, trained: Models, folder: Path) -> None:
    told = answers(trained)
    changed = told[told["old"] != told["new"]]
    written = pd.read_csv(folder / "changed.csv")
    assert found.output == str(folder / "changed.csv")
    assert list(written.columns) == [*PEOPLE.columns, "old_prediction", "new_prediction"]
    assert written["id"].tolist() == changed["id"].tolist()
    assert written["old_prediction"].tolist() == changed["old"].tolist()
    assert written["new_prediction"].tolist() == changed["new"].tolist()


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "arrow", "csv.gz"])
def test_changed_rows_in_every_format(
    saved: dict[str, bimodal.Model], folder: Path, tmp_path: Path, ending: str
) -> None:
    place = tmp_path / f"changed.{ending}"
    found = bimodal.compare(
        saved["old"], saved["new"], folder / "people.parquet", output=place, keep=["id"], proba=True
    )
    written = read(place)
    assert len(written) == found.changed
    names = ["id", "old_prediction", "old_probability_no", "old_probability_yes"]
    assert list(written.columns)[:4] == names
    assert [each.name for each in tmp_path.iterdir()] == [place.name]


def test_numbers_move_and_are_measured(saved: dict[str, bimodal.Model], trained: Models, folder: Path) -> None:
    found = bimodal.compare(saved["line"], saved["trees"], folder / "people.csv", target="spent", by="age")
    one, other = trained.line.predict(PEOPLE[FEATURES]), trained.trees.predict(PEOPLE[FEATURES])
    assert (found.kind, found.changed, found.moves) == ("numbers", int((~np.isclose(one, other, 1e-9, 0)).sum()), ())
    (shift,) = found.shifts
    assert shift.name == "prediction"
    assert shift.mean == pytest.approx(np.mean(other - one), rel=1e-9)
    assert shift.p99 == pytest.approx(np.quantile(np.abs(other - one), 0.99), rel=1e-12)
    assert shift.ks == pytest.approx(ks_2samp(one, other).statistic, rel=1e-12)
    assert found.quality is not None
    assert found.quality.new.told()["r2"] == pytest.approx(metrics.r2_score(PEOPLE["spent"], other), rel=1e-12)
    nearer = np.abs(other - PEOPLE["spent"]) < np.abs(one - PEOPLE["spent"])
    assert found.quality.better == int(nearer.sum())
    cuts = np.unique(np.quantile(PEOPLE["age"], np.arange(1, 10) / 10, method="inverted_cdf"))
    counts = np.bincount(np.searchsorted(cuts, PEOPLE["age"], "right"))
    assert sorted(each.rows for each in found.segments) == sorted(counts.tolist())
    assert {f"below {cuts[0]:g}", f"{cuts[-1]:g} and more"} <= {each.value for each in found.segments}


def test_a_model_compared_with_itself_changes_nothing(saved: dict[str, bimodal.Model], folder: Path) -> None:
    found = bimodal.compare(saved["trees"], saved["trees"], folder / "people.csv", output=folder / "none.csv")
    (shift,) = found.shifts
    assert (found.changed, found.first, shift.largest, shift.ks, shift.psi) == (0, (), 0.0, 0.0, 0.0)
    assert len(pd.read_csv(folder / "none.csv")) == 0


def test_models_of_other_features_read_the_columns_of_both(
    saved: dict[str, bimodal.Model], trained: Models, folder: Path
) -> None:
    found = bimodal.compare(saved["old"], saved["narrow"], folder / "people.csv")
    one, other = trained.old.predict(PEOPLE[FEATURES]), trained.narrow.predict(PEOPLE[["b", "age"]])
    assert found.changed == int((one != other).sum())


def test_renamed_classes_are_told(saved: dict[str, bimodal.Model], folder: Path) -> None:
    found = bimodal.compare(saved["old"], saved["renamed"], folder / "people.parquet")
    assert (found.changed, found.shifts) == (3_000, ())
    told = "the models have different classes: only the old one has 'no', 'yes'; only the new one has 'leaves', 'stays'"
    assert told in found.notes


def test_labels_of_another_type_are_the_same_label(folder: Path) -> None:
    number = (PEOPLE["left"] == "yes").astype(int)
    one = LogisticRegression().fit(PEOPLE[FEATURES], number)
    other = LogisticRegression().fit(PEOPLE[FEATURES], number.astype(str))
    found = bimodal.compare(one, other, folder / "people.parquet", target="left")
    assert found.changed == 0
    assert (
        "the models have the same classes in another order or of another type; they are compared as text" in found.notes
    )
    assert found.quality is not None
    assert any("the target holds text" in line for line in found.quality.old.lines())
    assert (found.quality.better, found.quality.worse) == (0, 0)


@pytest.mark.parametrize("chunk", [100, 1_000])
def test_chunks_change_nothing(
    saved: dict[str, bimodal.Model], folder: Path, found: Comparison, chunk: int, tmp_path: Path
) -> None:
    PEOPLE.to_parquet(tmp_path / "people.parquet", index=False, row_group_size=chunk)
    other = bimodal.compare(saved["old"], saved["new"], tmp_path / "people.parquet", target="left")
    assert (other.shifts, other.quality, other.moves) == (found.shifts, found.quality, found.moves)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_refused_rows_are_counted_apart(saved: dict[str, bimodal.Model], tmp_path: Path, ending: str) -> None:
    frame = PEOPLE[["a", "b", "c", "age"]].iloc[:100].astype({"age": float})
    frame.loc[3, "a"], frame.loc[5, "age"], frame.loc[7, "b"] = np.nan, np.nan, np.nan
    place = tmp_path / f"holes.{ending}"
    frame.to_csv(place, index=False) if ending == "csv" else frame.to_parquet(place, index=False)
    found = bimodal.compare(saved["old"], saved["narrow"], place)
    assert (found.rows, found.compared) == (100, 97)
    assert sorted((each.by, each.column, each.rows) for each in found.refused) == [
        ("both", "b", 1), ("new", "age", 1), ("old", "a", 1)
    ]  # fmt: skip
    assert all("null where a number is needed" in each.reason for each in found.refused)


def test_a_decimal_comma_is_understood_in_targets_and_segments(
    saved: dict[str, bimodal.Model], folder: Path, tmp_path: Path
) -> None:
    PEOPLE.to_csv(tmp_path / "comma.csv", index=False, sep=";", decimal=",")
    found = bimodal.compare(saved["line"], saved["trees"], tmp_path / "comma.csv", target="spent", by="a")
    assert found.quality is not None
    told = found.quality.old.told()
    expected = metrics.mean_absolute_error(PEOPLE["spent"], joblib.load(folder / "line.pkl").predict(PEOPLE[FEATURES]))
    assert (told["rows"], told["unlabelled"]) == (3_000, 0)
    assert told["mae"] == pytest.approx(expected, rel=1e-9)
    assert len(found.segments) == 10


def test_transformers_are_compared_by_what_they_give(folder: Path, tmp_path: Path) -> None:
    one, other = StandardScaler().fit(PEOPLE[FEATURES]), StandardScaler().fit(PEOPLE[FEATURES] * [1, 1, 3])
    found = bimodal.compare(one, other, folder / "people.parquet", output=tmp_path / "moved.csv", keep=["id"])
    assert (found.kind, found.changed, [each.name for each in found.shifts]) == ("numbers", 3_000, FEATURES)
    assert [each.largest == 0 for each in found.shifts] == [True, True, False]
    assert list(pd.read_csv(tmp_path / "moved.csv").columns) == [
        "id",
        "old_a",
        "old_b",
        "old_c",
        "new_a",
        "new_b",
        "new_c",
    ]


def test_several_targets_are_one_label_and_measured_one_by_one(folder: Path, tmp_path: Path) -> None:
    features, left = PEOPLE[FEATURES], (PEOPLE["left"] == "yes").astype(int)
    both = np.column_stack([left, left + (PEOPLE["a"] > 0)])
    one = MultiOutputClassifier(LogisticRegression()).fit(features[:60], both[:60])
    other = MultiOutputClassifier(LogisticRegression()).fit(features, both)
    PEOPLE.assign(both=both.tolist()).to_parquet(tmp_path / "both.parquet")
    found = bimodal.compare(one, other, tmp_path / "both.parquet", target="both")
    assert found.changed == int((one.predict(features) != other.predict(features)).any(axis=1).sum())
    assert found.quality is not None
    told = found.quality.new.told()["targets"]
    expected = (other.predict(features) == both).mean(axis=0)
    assert [each["accuracy"] for each in told] == pytest.approx(expected.tolist(), rel=1e-15)
    assert (found.quality.better, found.quality.worse) == (None, None)


def test_a_sample_is_spread_evenly_over_a_source_that_knows_its_rows(
    saved: dict[str, bimodal.Model], trained: Models, folder: Path
) -> None:
    found = bimodal.compare(saved["old"], saved["new"], folder / "people.parquet", rows=1_000)
    told = answers(trained).iloc[2::3]
    changed = told[told["old"] != told["new"]]
    assert (found.rows, found.changed) == (1_000, len(changed))
    assert [each.row for each in found.first] == (changed.index[:20] + 1).tolist()


def test_a_sample_of_csv_is_its_first_rows(saved: dict[str, bimodal.Model], trained: Models, folder: Path) -> None:
    found = bimodal.compare(saved["old"], saved["new"], folder / "people.csv", rows=1_000)
    told = answers(trained).iloc[:1_000]
    assert (found.rows, found.changed) == (1_000, int((told["old"] != told["new"]).sum()))


def test_a_threshold_is_for_both(saved: dict[str, bimodal.Model], trained: Models, folder: Path) -> None:
    found = bimodal.compare(saved["old"], saved["new"], folder / "people.parquet", threshold=0.2)
    told = answers(trained)
    assert found.changed == int(((told["one"] >= 0.2) != (told["other"] >= 0.2)).sum())


def test_how_much_may_change(found: Comparison) -> None:
    assert found.within(Allowed(found.changed))
    assert not found.within(Allowed(found.changed - 1))
    assert not found.within(Allowed(share=found.share * 0.99))


def test_a_label_and_a_number_cannot_be_compared(saved: dict[str, bimodal.Model], folder: Path) -> None:
    with pytest.raises(UsageError, match="the old model predicts labels, the new one numbers"):
        bimodal.compare(saved["old"], saved["line"], folder / "people.csv")


def test_what_is_not_there_is_told_with_what_may_be_meant(saved: dict[str, bimodal.Model], folder: Path) -> None:
    with pytest.raises(UsageError, match="--by: the input has no column 'citty'; did you mean 'city'"):
        bimodal.compare(saved["old"], saved["new"], folder / "people.csv", by="citty")
    with pytest.raises(UsageError, match="--rename x=y: no model has a feature 'y'"):
        bimodal.compare(saved["old"], saved["new"], folder / "people.csv", rename={"x": "y"})
    (folder / "few.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"the column .* is missing"):
        bimodal.compare(saved["old"], saved["new"], folder / "few.csv")


def test_an_output_that_is_there_is_kept(saved: dict[str, bimodal.Model], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(OutputExists):
        bimodal.compare(saved["old"], saved["new"], folder / "people.csv", output=tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "mine"
    bimodal.compare(saved["old"], saved["new"], folder / "people.csv", output=tmp_path / "mine.csv", overwrite=True)
    assert (tmp_path / "mine.csv").read_text() != "mine"


def test_a_run_that_fails_leaves_no_file(
    saved: dict[str, bimodal.Model], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Iterator[object]:
        raise OSError("gone")

    monkeypatch.setattr(parquet.ParquetSource, "chunks", broken)
    with pytest.raises(OSError, match="gone"):
        bimodal.compare(saved["old"], saved["new"], folder / "people.parquet", output=tmp_path / "none.csv")
    assert list(tmp_path.iterdir()) == []
