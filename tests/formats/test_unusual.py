"""Estimators whose rows are dicts, labels, sets of labels or images: their own answers, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import SparsePCA
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelBinarizer, LabelEncoder, MultiLabelBinarizer, StandardScaler

from bimodal.errors import InputError, ModelError
from bimodal.field import Field
from bimodal.formats.contract import Loaded
from bimodal.rows import Array, Rows
from bimodal.signature import require
from tests.formats.test_fitted import load
from tests.models import IRIS, SPECIES

CITIES = [{"city": "Oslo", "age": 30.0}, {"city": "Lima", "age": 41.0}, {"city": "Oslo", "age": 22.5}]
COLUMNS = (Field("city", "string", example="Oslo"), Field("age", "float64", example=30.0))
IMAGES = np.random.default_rng(1).random((3, 5, 4))


def asked(loaded: Loaded, records: list[Any], name: str) -> Array:
    rows, _, problems = loaded.signature.check(records)
    require(problems)
    return loaded.runtime.run(rows, [name]).array(name)


def test_the_columns_of_a_dict_vectorizer_are_read_from_its_names(tmp_path: Path) -> None:
    model = make_pipeline(DictVectorizer(), LogisticRegression()).fit(CITIES, [0, 1, 1])
    loaded = load(model, tmp_path)
    assert [(each.name, each.type) for each in loaded.signature.inputs] == [("age", "float64"), ("city", "string")]
    assert loaded.signature.input("city").categories == ("Lima", "Oslo")
    unknown = [*CITIES, {"city": "Pune", "age": 1.0}]
    np.testing.assert_array_equal(asked(loaded, unknown, "probability"), model.predict_proba(unknown))


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("dict", lambda rows: rows),
        ("pair", lambda rows: [list(row.items()) for row in rows]),
    ],
)
def test_a_sample_tells_the_keys_of_a_feature_hasher(
    kind: str, own: Callable[[list[Any]], list[Any]], tmp_path: Path
) -> None:
    model = FeatureHasher(8, input_type=kind)
    loaded = load(model, tmp_path, sample=COLUMNS)
    np.testing.assert_array_equal(asked(loaded, CITIES, "transformed"), model.transform(own(CITIES)).toarray())


def test_a_feature_hasher_of_texts_takes_the_words_of_its_columns(tmp_path: Path) -> None:
    model = FeatureHasher(8, input_type="string")
    loaded = load(model, tmp_path, sample=(Field("a", "string", example="x"), Field("b", "string", example="y")))
    ours = asked(loaded, [["red", "blue"], ["red", "red"]], "transformed")
    np.testing.assert_array_equal(ours, model.transform([["red", "blue"], ["red", "red"]]).toarray())


def test_a_feature_hasher_without_a_sample_is_told_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--sample FILE"):
        load(FeatureHasher(8), tmp_path)


@pytest.mark.parametrize("kind", [LabelEncoder, LabelBinarizer])
@pytest.mark.parametrize("labels", [["low", "high", "mid"], [3, 1, 2], [True, False], [3.0, 1.0, 2.0]])
def test_an_encoder_of_labels_takes_one_column_of_them(kind: Any, labels: list[Any], tmp_path: Path) -> None:
    model = kind().fit(labels)
    loaded = load(model, tmp_path)
    np.testing.assert_array_equal(asked(loaded, labels[::-1], "transformed"), model.transform(labels[::-1]))
    assert loaded.signature.inputs[0].categories == tuple(sorted(labels))


def test_a_label_that_the_encoder_does_not_know_is_refused_by_name_of_the_known(tmp_path: Path) -> None:
    loaded = load(LabelEncoder().fit(["low", "high"]), tmp_path)
    with pytest.raises(InputError, match="it knows 'high', 'low'"):
        asked(loaded, ["medium"], "transformed")


def test_sets_of_labels_are_taken_in_any_one_number(tmp_path: Path) -> None:
    model = MultiLabelBinarizer().fit([{"red", "blue"}, {"green"}])
    loaded = load(model, tmp_path)
    assert loaded.signature.open
    for rows in ([["red", "green"], ["blue", "blue"]], [["green"]]):
        np.testing.assert_array_equal(asked(loaded, rows, "transformed"), model.transform(rows))
    with pytest.raises(InputError, match="a number where text is needed"):
        asked(loaded, [[1, 2]], "transformed")


def test_the_patches_of_an_image_are_its_one_answer(tmp_path: Path) -> None:
    model = PatchExtractor(patch_size=(2, 3))
    loaded = load(model, tmp_path)
    ours = asked(loaded, IMAGES.tolist(), "transformed")
    np.testing.assert_array_equal(ours.reshape(-1, 2, 3), model.transform(IMAGES))
    assert ours.shape == (3, 8, 2, 3)


def test_images_of_unlike_sizes_or_uneven_lines_are_refused(tmp_path: Path) -> None:
    loaded = load(PatchExtractor(patch_size=(2, 2)), tmp_path)
    with pytest.raises(InputError, match="row 2: 2 × 2 values, where the first row has 5 × 4"):
        asked(loaded, [IMAGES[0].tolist(), [[1.0, 2.0], [3.0, 4.0]]], "transformed")
    with pytest.raises(InputError, match="2 features are needed, 1 was given"):
        asked(loaded, [[[1.0, 2.0], [3.0]]], "transformed")


@pytest.mark.parametrize("beyond", ["nan", "clip"])
def test_an_isotonic_regression_knows_that_it_has_one_feature(beyond: Any, tmp_path: Path) -> None:
    model = IsotonicRegression(out_of_bounds=beyond).fit([10.0, 20.0, 30.0], [1.0, 3.0, 2.0])
    loaded = load(model, tmp_path)
    assert (loaded.signature.width, loaded.signature.open) == (1, False)
    values = [[12.5], [10.0], [29.0]]
    np.testing.assert_array_equal(asked(loaded, values, "prediction"), model.predict(np.ravel(values)))


@pytest.mark.parametrize("width", [1, 3])
def test_one_row_of_a_sparse_pca_is_one_row_again(width: int, tmp_path: Path) -> None:
    model = SparsePCA(width, random_state=0).fit(IRIS)
    loaded = load(model, tmp_path)
    names = [each.name for each in loaded.signature.outputs]
    assert model.transform(IRIS[:1]).shape == (width,)  # the library's own slip
    answer = loaded.runtime.run(Rows({"input": IRIS[:1]}), names)
    np.testing.assert_array_equal(np.column_stack([answer.array(name) for name in names])[0], model.transform(IRIS[:1]))


@pytest.mark.parametrize("frame", [False, True])
def test_a_null_goes_where_an_indicator_met_one(frame: bool, tmp_path: Path) -> None:
    data: Any = np.array([[1.0, np.nan, 0.0], [2.0, 3.0, 0.5], [4.0, 5.0, 0.25]])
    data = pd.DataFrame(data, columns=["a", "b", "c"]) if frame else data
    model = MissingIndicator().fit(data)
    loaded = load(model, tmp_path)
    assert [each.nullable for each in loaded.signature.inputs] == [False, True, False]
    ours = asked(loaded, np.asarray(data).tolist(), loaded.signature.outputs[0].name)
    np.testing.assert_array_equal(ours, model.transform(data)[:, 0])
    with pytest.raises(InputError, match=r"row 1, .*null where a number is needed"):
        asked(loaded, [[None, 1.0, 1.0]], loaded.signature.outputs[0].name)


def test_a_null_goes_where_columns_of_an_array_are_imputed(tmp_path: Path) -> None:
    data = np.where(np.arange(600).reshape(-1, 4) % 21 == 1, np.nan, np.resize(IRIS, (150, 4)))
    columns = ColumnTransformer([("some", SimpleImputer(), [1]), ("all", StandardScaler(), [0, 2, 3])])
    data[:, [0, 2, 3]] = IRIS[:, [0, 2, 3]]
    model = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(data, SPECIES)
    loaded = load(model, tmp_path)
    assert [each.nullable for each in loaded.signature.inputs] == [False, True, False, False]
    np.testing.assert_array_equal(asked(loaded, data.tolist(), "probability"), model.predict_proba(data))
