"""Model and load: the answer is of the kind that was given, and it is the library's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bimodal
from bimodal.errors import InputError, ModelError, ModelNotFound, UsageError
from bimodal.location import Location
from bimodal.model import Model, from_spec, load

IRIS = load_iris(as_frame=True)
X: pd.DataFrame = IRIS.data
NAMED = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, IRIS.target_names[IRIS.target])
BINARY = LogisticRegression().fit(X.to_numpy()[:100], IRIS.target[:100])


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("named") / "iris.pkl"
    joblib.dump(NAMED, path)
    with load(path) as model:
        yield model


@pytest.fixture(scope="module")
def binary() -> Iterator[Model]:
    with load(BINARY) as model:
        yield model


def test_a_file_gives_name_version_and_signature(named: Model) -> None:
    assert named.name == "iris"
    assert named.version == named.digest[:12]
    assert [field.name for field in named.signature.inputs] == list(X.columns)
    assert named.signature.classes == ("setosa", "versicolor", "virginica")
    assert named.runtime.name == "native"


def test_a_frame_gives_a_frame_with_its_index(named: Model) -> None:
    frame = X.iloc[::-7]
    answer = named.predict(frame, outputs=["prediction", "probability"])
    assert answer.index.equals(frame.index)
    assert answer["prediction"].tolist() == NAMED.predict(frame).tolist()
    np.testing.assert_array_equal(
        answer[["probability_setosa", "probability_versicolor", "probability_virginica"]], NAMED.predict_proba(frame)
    )


KINDS: dict[str, Any] = {
    "records": (lambda f: f.to_dict("records"), lambda a: [row["prediction"] for row in a]),
    "lists": (lambda f: f.to_numpy().tolist(), lambda a: [row["prediction"] for row in a]),
    "columns": (lambda f: f.to_dict("list"), lambda a: a["prediction"]),
    "array": (lambda f: f.to_numpy(), lambda a: a.tolist()),
    "arrow": (lambda f: pa.Table.from_pandas(f), lambda a: a.column("prediction").to_pylist()),
    "reordered": (lambda f: f[f.columns[::-1]], lambda a: a["prediction"].tolist()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gets_the_librarys_answer(named: Model, kind: str) -> None:
    given, taken = KINDS[kind]
    frame = X.iloc[::10]
    assert taken(named.predict(given(frame))) == NAMED.predict(frame).tolist()


def test_a_flat_list_is_one_row(named: Model) -> None:
    assert named.predict([5.1, 3.5, 1.4, 0.2]) == [{"prediction": "setosa"}]


def test_a_bad_row_is_an_error_with_its_place(named: Model) -> None:
    frame = X.head(3).copy()
    frame.iloc[1, 2] = np.nan
    with pytest.raises(InputError, match="row 2, column 'petal length"):
        named.predict(frame)
    with pytest.raises(InputError, match="no rows"):
        named.predict(X.head(0))
    with pytest.raises(InputError, match="the column is missing"):
        named.predict(X.drop(columns=X.columns[0]))
    with pytest.raises(UsageError, match="not a int"):
        named.predict(5)


def test_a_threshold_moves_the_decision(binary: Model) -> None:
    rows = X.to_numpy()[:100]
    probability = BINARY.predict_proba(rows)[:, 1]
    for threshold in (0.01, 0.5, 0.99):
        np.testing.assert_array_equal(binary.predict(rows, threshold=threshold), (probability >= threshold).astype(int))
    with pytest.raises(UsageError, match="between 0 and 1"):
        binary.predict(rows, threshold=2)


def test_a_threshold_needs_two_classes(named: Model) -> None:
    with pytest.raises(UsageError, match="two classes"):
        named.predict(X, threshold=0.5)


def test_an_unknown_output_names_the_near_one(named: Model) -> None:
    with pytest.raises(UsageError, match="did you mean 'probability'"):
        named.predict(X, outputs=["probabilities"])


def test_an_estimator_in_memory_is_served_like_a_saved_one(binary: Model) -> None:
    assert binary.name == "logisticregression"
    np.testing.assert_array_equal(binary.predict(X.to_numpy()), BINARY.predict(X.to_numpy()))


def test_another_process_finds_the_same_model(named: Model) -> None:
    with from_spec(named.spec()) as other:
        assert (other.name, other.digest, other.signature) == (named.name, named.digest, named.signature)


def test_clones_have_processes_of_their_own(named: Model) -> None:
    clones = named.clones(2)
    assert len({model.runtime.pid for model in [named, *clones]}) == 3  # type: ignore[attr-defined]  # native: a ProcessRuntime
    for clone in clones:
        assert clone.predict(X.head(1))["prediction"].tolist() == ["setosa"]
        clone.close()


def test_features_name_the_columns_of_an_array_model() -> None:
    with load(BINARY, features=["a", "b", "c", "d"]) as model:
        frame = X.set_axis(["b", "a", "d", "c"], axis=1)[["a", "b", "c", "d"]]
        expected = BINARY.predict(frame.to_numpy())
        assert model.predict(frame[["d", "c", "b", "a"]])["prediction"].tolist() == expected.tolist()


def test_a_wrong_path_names_the_near_one(tmp_path: Path) -> None:
    joblib.dump(BINARY, tmp_path / "my_model.pkl")
    with pytest.raises(ModelNotFound, match=r"did you mean .*my_model\.pkl"):
        load(tmp_path / "my_modle.pkl")
    with pytest.raises(UsageError, match="--code"):
        load(tmp_path / "my_model.pkl", code="nowhere.py")


@pytest.mark.parametrize("thing", [5, {"a": 1}, X])
def test_what_is_no_model_is_told(thing: object) -> None:
    with pytest.raises(ModelError):
        load(thing)


def test_the_private_folder_of_a_model_in_memory_goes_with_it() -> None:
    location = Location.find(BINARY)
    folder = Path(location.source.path).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    del location
    assert not folder.exists()


def test_the_public_names_are_there() -> None:
    for name in bimodal.__all__:
        assert getattr(bimodal, name) is not None


@pytest.mark.parametrize("kind", ["f8", "f4", "i8", "u1"])
def test_an_array_is_taken_as_it_is(kind: str) -> None:
    array = (X.to_numpy() * 10).astype(kind)
    with load(BINARY) as model:
        assert model.predict(array).tolist() == BINARY.predict(array.astype(float)).tolist()
        assert model.predict(array[:1]).tolist() == model.predict(array)[:1].tolist()
    named = LogisticRegression(max_iter=2000).fit(X, IRIS.target)
    with load(named) as model:
        frame = pd.DataFrame(array, columns=X.columns)
        assert model.predict(array).tolist() == named.predict(frame).tolist()


def test_an_array_with_a_bad_number_is_told_where() -> None:
    array = X.to_numpy().copy()
    array[6, 2] = np.nan
    with load(BINARY) as model, pytest.raises(InputError, match="row 7"):
        model.predict(array)
    with load(BINARY) as model, pytest.raises(InputError, match="3"):
        model.predict(array[:, :3])


def test_a_frame_with_two_columns_of_one_name_is_refused() -> None:
    named = LogisticRegression(max_iter=2000).fit(X, IRIS.target)
    with load(named) as model, pytest.raises(InputError, match="two columns"):
        model.predict(pd.concat([X, X], axis=1))


THIRD = np.longdouble(1) / 3
WIDE = pytest.mark.skipif(THIRD == 1 / 3, reason="a longdouble is a float64 there")


def longdoubles(value: Any) -> dict[str, Any]:
    """Longdoubles in every kind of data, of which the last is the value."""
    rows = [[5.1, 3.5, 1.4, 0.25], [5.5, 3.5, 1.25, value]]
    array = np.array(rows, np.longdouble)
    return {
        "an array": array,
        "lists": rows,
        "records": [dict(zip(X.columns, row, strict=True)) for row in rows],
        "columns": dict(zip(X.columns, array.T, strict=True)),
        "a frame": pd.DataFrame(array, columns=X.columns),
        "a frame of objects": pd.DataFrame(array.astype(object), columns=X.columns),
    }


@pytest.mark.parametrize("kind", list(longdoubles(1)))
def test_a_longdouble_is_taken_where_float64_holds_it(named: Model, kind: str) -> None:
    given = longdoubles(np.longdouble(0.5))
    answers = named.predict(given[kind])
    plain = named.predict(given["an array"].astype(float))
    told = answers["prediction"].tolist() if hasattr(answers, "iloc") else answers
    if isinstance(told, dict):
        told = told["prediction"]
    elif isinstance(answers, list):
        told = [each["prediction"] for each in answers]
    assert list(told) == plain.tolist()


@WIDE
@pytest.mark.parametrize("kind", list(longdoubles(1)))
def test_a_longdouble_that_would_be_rounded_is_refused(named: Model, kind: str) -> None:
    for value in (THIRD, THIRD * np.longdouble(2) ** 2000):
        with pytest.raises(InputError, match="a longdouble that float64 does not hold") as caught:
            named.predict(longdoubles(value)[kind])
        assert (caught.value.row, caught.value.column, caught.value.code) == (2, X.columns[3], "wrong_type")


def test_a_frame_is_not_changed_and_its_complex_column_named(named: Model) -> None:
    frame = longdoubles(0.5)["a frame"]
    named.predict(frame)
    assert set(frame.dtypes) == {np.dtype(np.longdouble)}
    with pytest.raises(InputError, match=r"the frame cannot be read.*petal width"):
        named.predict(frame.astype(complex)[list(X.columns[3:])])
