"""The measures of quality: scikit-learn's own figures, whatever the chunks, and targets as they come in files."""

from __future__ import annotations

import decimal
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from bimodal.batch.quality import Labelled, Numbered, Quality, lines, measure, scored_of, wanted
from bimodal.field import Field
from bimodal.rows import Rows
from bimodal.signature import Signature


def classifier(classes: tuple[Any, ...] | None, type_: str, width: int | None = None) -> Signature:
    probability = (Field("probability", "float64", (width or len(classes or ()),)),) if classes else ()
    return Signature((), (Field("prediction", type_), *probability), classes=classes)


BINARY = classifier((0, 1), "int64")
THREE = classifier(("a", "b", "c"), "string")
REGRESSOR = Signature((), (Field("prediction", "float64"),))


def whole(target: Any, answer: Rows, signature: Signature, size: int = 1_000_000, **options: Any) -> Quality:
    column = target if isinstance(target, pa.Array | pa.ChunkedArray) else pa.array(target)
    starts = range(0, max(answer.count, 1), size)
    parts = [
        scored_of(column[at : at + size], answer.slice(at, min(at + size, answer.count)), signature, **options)
        for at in starts
    ]

    def again() -> Iterator[bytes]:
        return iter(parts)

    found = measure(again, signature, "y")
    assert found is not None
    return found


def labelled(*given: Any, **options: Any) -> Labelled:
    (only,) = whole(*given, **options).measured
    assert isinstance(only, Labelled)
    return only


def numbered(*given: Any, **options: Any) -> Numbered:
    (only,) = whole(*given, **options).measured
    assert isinstance(only, Numbered)
    return only


def binary(count: int = 3_000, digits: int = 17) -> tuple[Any, Rows]:
    random = np.random.default_rng(count + digits)
    target = (random.random(count) < 0.4).astype(np.int64)
    second = np.round(1 / (1 + np.exp(-random.normal(size=count) - target)), digits)
    probability = np.column_stack([1 - second, second])
    return target, Rows({"prediction": (second > 0.5).astype(np.int64), "probability": probability})


def three(count: int = 2_000) -> tuple[Any, Rows]:
    random = np.random.default_rng(count)
    target = random.integers(0, 3, count)
    raw = random.normal(size=(count, 3)) + 2 * np.eye(3)[target]
    probability = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    names = np.array(["a", "b", "c"], object)
    return names[target], Rows({"prediction": names[probability.argmax(axis=1)], "probability": probability})


@pytest.mark.parametrize("digits", [1, 2, 17])
def test_two_classes_have_the_figures_of_scikit_learn(digits: int) -> None:
    target, answer = binary(digits=digits)
    found = labelled(target, answer, BINARY)
    given, probability = answer.array("prediction"), answer.array("probability")
    assert found.accuracy == metrics.accuracy_score(target, given)
    assert found.auc == pytest.approx(metrics.roc_auc_score(target, probability[:, 1]), abs=1e-12)
    assert found.log_loss == pytest.approx(metrics.log_loss(target, probability), rel=1e-13)
    assert np.array_equal(found.confusion or (), metrics.confusion_matrix(target, given))
    assert (found.rows, found.unlabelled, found.notes) == (3_000, 0, ())


def test_three_classes_have_the_figures_of_scikit_learn() -> None:
    target, answer = three()
    found = labelled(target, answer, THREE)
    given, probability = answer.array("prediction"), answer.array("probability")
    expected = metrics.roc_auc_score(target, probability, multi_class="ovr", average="macro")
    assert found.auc == pytest.approx(expected, abs=1e-12)
    assert found.log_loss == pytest.approx(metrics.log_loss(target, probability), rel=1e-13)
    assert np.array_equal(found.confusion or (), metrics.confusion_matrix(target, given))
    figures = metrics.precision_recall_fscore_support(target, given)
    told = [(each.precision, each.recall, each.f1, each.rows) for each in found.classes]
    np.testing.assert_allclose(np.array(told, float).T, figures, rtol=1e-14)
    assert [each.label for each in found.classes] == ["a", "b", "c"]


def test_numbers_have_the_figures_of_scikit_learn() -> None:
    random = np.random.default_rng(5)
    target = random.normal(1e6, 3, 4_000)
    given = target + random.normal(0.1, 1, 4_000)
    found = numbered(target, Rows({"prediction": given}), REGRESSOR)
    assert found.mae == pytest.approx(metrics.mean_absolute_error(target, given), rel=1e-13)
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(target, given), rel=1e-13)
    assert found.r2 == pytest.approx(metrics.r2_score(target, given), rel=1e-9)  # the mean is a million
    assert found.bias == pytest.approx(float(np.mean(given - target)), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(0, 3))
def test_how_rows_are_cut_changes_no_bit(size: int, kind: int) -> None:
    if kind == 3:
        random = np.random.default_rng(size)
        target = random.normal(1e9, 1e-3, 500)
        answer = Rows({"prediction": target * random.normal(1, 1e-9, 500)})
        assert whole(target, answer, REGRESSOR) == whole(target, answer, REGRESSOR, size)
        return
    target, answer = three(500) if kind == 2 else binary(500, digits=17 if kind else 1)
    signature = THREE if kind == 2 else BINARY
    assert whole(target, answer, signature) == whole(target, answer, signature, size)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1e-17])), min_size=1, max_size=40))
def test_ties_and_certainty_are_as_in_scikit_learn(rows: list[tuple[int, float]]) -> None:
    target, second = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    probability = np.column_stack([1 - second, second])
    found = labelled(target, Rows({"prediction": (second > 0.5).astype(int), "probability": probability}), BINARY)
    assert found.log_loss == pytest.approx(metrics.log_loss(target, probability, labels=[0, 1]), rel=1e-12)
    if len(set(target.tolist())) == 2:
        assert found.auc == pytest.approx(metrics.roc_auc_score(target, second), abs=1e-12)
    else:
        assert found.auc is None
        assert "no AUC: all the rows have one label" in found.notes


def test_a_class_that_no_row_has_is_left_out_of_the_auc_and_told() -> None:
    target, answer = three()
    some = target != "c"
    found = labelled(target[some], answer.take(some), THREE)
    probability = answer.array("probability")[some]
    expected = [metrics.roc_auc_score(target[some] == name, probability[:, at]) for at, name in enumerate("ab")]
    assert found.auc == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.notes == ("the AUC leaves out 1 of 3 classes, which no row has",)


def test_rows_without_a_target_are_unlabelled() -> None:
    target, answer = binary(400)
    there = np.arange(400) % 3 != 0
    column = pa.array([int(value) if here else None for value, here in zip(target, there, strict=True)])
    found = labelled(column, answer, BINARY)
    assert (found.rows, found.unlabelled) == (int(there.sum()), int((~there).sum()))
    assert found.auc == labelled(target[there], answer.take(there), BINARY).auc


def test_rows_whose_probability_is_nan_count_in_the_accuracy_alone() -> None:
    target, answer = binary(400)
    probability = answer.array("probability").copy()
    probability[::10] = np.nan
    sound = ~np.isnan(probability[:, 1])
    found = labelled(target, Rows({"prediction": answer["prediction"], "probability": probability}), BINARY)
    assert found.rows == 400
    assert found.auc == pytest.approx(metrics.roc_auc_score(target[sound], probability[sound, 1]), abs=1e-12)
    assert any(note.startswith("40 rows for which the model gave no number") for note in found.notes)


SPELLINGS: list[tuple[tuple[Any, ...], str, Any]] = [
    ((0, 1), "int64", pa.array(["0", "1"])),
    ((0, 1), "int64", pa.array([" 0", "1.0"])),
    ((0, 1), "int64", pa.array(["0", "1"]).dictionary_encode()),
    ((0, 1), "int64", pa.array([0.0, 1.0])),
    ((0, 1), "int64", pa.array([False, True])),
    ((0, 1), "int64", pa.array([decimal.Decimal("0.0"), decimal.Decimal("1.0")])),
    ((False, True), "bool", pa.array(["False", "true"])),
    ((False, True), "bool", pa.array([0, 1])),
    (("0", "1"), "string", pa.array([0, 1])),
    (("0", "1"), "string", pa.array([0.0, 1.0])),
    ((0.0, 1.0), "float64", pa.array(["0", "1"])),
    ((0.5, 1.5), "float64", pa.array(["0.5", "1.50"])),
    (("None", "yes"), "string", pa.array(["None", "yes"])),
    (("true", "x"), "string", pa.array(["true", "x"])),
]


@pytest.mark.parametrize(("classes", "type_", "column"), SPELLINGS)
def test_a_target_is_read_as_the_classes_are_written(classes: tuple[Any, ...], type_: str, column: Any) -> None:
    array = np.array(classes, object if type_ == "string" else type_)
    answer = Rows({"prediction": array, "probability": np.array([[0.9, 0.1], [0.2, 0.8]])})
    found = labelled(column, answer, classifier(classes, type_))
    assert (found.accuracy, found.auc, found.rows) == (1.0, 1.0, 2)
    assert found.labels == classes


def test_types_that_never_meet_are_told_as_such_without_the_data() -> None:
    _, answer = binary(50)
    found = whole(["secret", "other"] * 25, answer, BINARY)
    (only,) = found.measured
    assert isinstance(only, Labelled)
    assert only.accuracy is only.auc is only.log_loss is None
    told = "the target holds text, the model's classes are integers"
    assert any(told in line for line in found.lines())
    assert "secret" not in msgspec.json.encode(found.told()).decode()


def test_labels_that_the_model_does_not_know_are_counted() -> None:
    target, answer = binary(300)
    column = pa.array(["7" if at % 10 == 0 else str(value) for at, value in enumerate(target.tolist())])
    found = labelled(column, answer, BINARY)
    texts = np.array([str(each) for each in answer.array("prediction")])
    assert found.labels == (0, 1, "7")
    expected = metrics.confusion_matrix(np.array(column.to_pylist()), texts, labels=["0", "1", "7"])
    assert np.array_equal(found.confusion or (), expected)
    assert found.accuracy == metrics.accuracy_score(column.to_pylist(), texts)
    known = np.arange(300) % 10 != 0
    assert found.auc == pytest.approx(
        metrics.roc_auc_score(target[known], answer.array("probability")[known, 1]), abs=1e-12
    )
    assert any("30 rows with a label that the model does not know" in note for note in found.notes)


@pytest.mark.parametrize("size", [7, 1_000])
def test_a_column_of_keys_does_not_fill_the_report(size: int) -> None:
    target, answer = binary(600)
    column = pa.array([f"id{at:04}" if at % 2 else str(value) for at, value in enumerate(target.tolist())])
    found = labelled(column, answer, BINARY, size=size)
    assert found.labels == (0, 1, *(f"id{at:04}" for at in range(1, 40, 2)), "(others)")
    assert sum(map(sum, found.confusion or ())) == 600
    assert sum(each.rows for each in found.classes) == 600


def test_a_classifier_without_classes_is_measured_by_its_labels() -> None:
    signature = Signature((), (Field("prediction", "int64"), Field("score", "float64")))
    target, answer = binary(100)
    given = Rows({"prediction": answer["prediction"]})
    found = labelled(pa.array([f"{value}.0" for value in target.tolist()]), given, signature)
    assert found.labels == ("0", "1")
    assert found.accuracy == metrics.accuracy_score(target, answer.array("prediction"))
    assert found.auc is None
    assert "no AUC and no log loss: there are no probabilities of the classes" in found.notes


def test_a_target_of_text_is_read_as_numbers() -> None:
    answer = Rows({"prediction": np.array([1.0, 2.0, 3.0, 4.0, 5.0])})
    found = numbered(pa.array(["1.5", "NA", "", "soon", "inf"]), answer, REGRESSOR)
    assert (found.rows, found.unlabelled, found.mae, found.bias) == (1, 4, 0.5, -0.5)
    assert "2 rows whose target is no finite number (the column holds text)" in found.notes
    comma = numbered(pa.array(["1,5", "1.002,5", "3", "4", "5"]), answer, REGRESSOR, mark=",")
    assert (comma.rows, comma.mae) == (5, (0.5 + 1000.5) / 5)


def test_dates_are_no_numbers() -> None:
    column = pa.array([1, 2], pa.timestamp("s"))
    found = numbered(column, Rows({"prediction": np.array([1.0, 2.0])}), REGRESSOR)
    assert (found.rows, found.mae) == (0, None)
    assert "2 rows whose target is no finite number (the column holds times)" in found.notes


def test_a_target_that_never_changes_has_no_r2() -> None:
    found = numbered(pa.array([0.1] * 9), Rows({"prediction": np.arange(9.0)}), REGRESSOR)
    assert found.r2 is None
    assert found.notes == ("no R²: the target is the same in all rows",)


def test_numbers_beyond_all_squares_are_told() -> None:
    found = numbered(pa.array([1e300, 1.0]), Rows({"prediction": np.array([1.0, 1.0])}), REGRESSOR)
    assert found.mae is None
    assert found.notes == ("no figures: some numbers are too large to be squared",)


def test_a_model_of_several_targets_is_measured_by_a_column_of_lists() -> None:
    signature = Signature((), (Field("prediction", "float64", (2,)),))
    given = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    found = whole(pa.array([[1.0, 11.0], None, [3.0, 33.0]]), Rows({"prediction": given}), signature)
    first, second = found.measured
    assert isinstance(first, Numbered)
    assert isinstance(second, Numbered)
    assert (first.mae, second.mae, second.rows, second.unlabelled) == (0.0, 2.0, 2, 1)
    assert found.lines()[0].startswith("y[0]: MAE 0, ")


def test_several_targets_and_a_plain_column_are_told() -> None:
    signature = Signature((), (Field("prediction", "float64", (2,)),))
    found = whole([1.0], Rows({"prediction": np.ones((1, 2))}), signature)
    assert found.told()["notes"][0].startswith("the model predicts 2 targets, and one column of numbers was named")


def test_a_transformer_has_no_quality() -> None:
    signature = Signature((), (Field("transformed", "float64", (2,)),))
    found = whole([1.0], Rows({"transformed": np.ones((1, 2))}), signature)
    assert found.lines() == ["quality was not measured", "the model has no prediction to compare the target with"]


def test_no_chunk_is_no_quality_and_no_rows_are_told() -> None:
    assert measure(lambda: iter([]), BINARY, "y") is None
    found = labelled(pa.array([], pa.int64()), BINARY.empty_outputs(["prediction", "probability"]), BINARY)
    assert (found.rows, found.accuracy) == (0, None)
    assert "no row has both a target and a prediction" in found.notes


def test_what_is_told_survives_json_and_fits_a_terminal() -> None:
    target, answer = three()
    found = whole(target, answer, THREE)
    again = msgspec.json.decode(msgspec.json.encode(found.told()))
    assert lines(again) == found.lines()
    assert found.lines()[0].startswith("accuracy 0.")
    assert found.lines()[0].endswith("on 2,000 labelled rows")
    assert len(found.lines()) == 5
    assert max(map(len, found.lines())) <= 80


def test_the_outputs_that_are_needed_are_asked_for_once() -> None:
    assert wanted(BINARY, ("probability",)) == ("probability", "prediction")
    assert wanted(REGRESSOR, ("prediction",)) == ("prediction",)


def test_many_classes_have_no_curves_and_say_so() -> None:
    signature = classifier(tuple(range(30)), "int64")
    probability = np.full((60, 30), 1 / 30)
    found = labelled(np.arange(60) % 30, Rows({"prediction": np.zeros(60, int), "probability": probability}), signature)
    assert found.auc is None
    assert found.log_loss == pytest.approx(np.log(30))
    assert "no AUC: it is computed for up to 16 classes, this model has 30" in found.notes


@pytest.mark.soak
def test_ten_million_rows_are_measured_in_bounded_memory(tmp_path: Path) -> None:
    count, size = 10_000_000, 65_536
    random = np.random.default_rng(9)
    targets, scores, lengths = [], [], []
    place = tmp_path / "scored"
    with open(place, "wb") as file:
        for at in range(0, count, size):
            target = random.integers(0, 2, min(size, count - at))
            second = 1 / (1 + np.exp(-random.normal(size=len(target)) - target))
            answer = Rows(
                {"prediction": (second > 0.5).astype(int), "probability": np.column_stack([1 - second, second])}
            )
            lengths.append(file.write(scored_of(pa.array(target), answer, BINARY)))
            targets.append(target.astype(bool))
            scores.append(second)

    def again() -> Iterator[bytes]:
        with open(place, "rb") as file:
            for length in lengths:
                yield file.read(length)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = measure(again, BINARY, "y")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert found is not None
    (only,) = found.measured
    assert isinstance(only, Labelled)
    assert only.auc == pytest.approx(metrics.roc_auc_score(np.concatenate(targets), np.concatenate(scores)), abs=1e-12)
    assert grown < 160e6
    assert sum(lengths) < 6 * count
