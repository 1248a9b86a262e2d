"""ONNX models: the session's own answers, under our names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bimodal import formats
from bimodal.errors import ModelError, ModelFailed
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.protobuf import facts
from bimodal.rows import Rows
from tests.models import CASES, DIABETES, IRIS, IRIS_FRAME, NAMES, PROGRESS, SPECIES, customers


def loaded(model: Any, folder: Path, **told: Any) -> Loaded:
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return formats.recognise(str(path)).load(Source(str(path), **told))


def converted(model: Any, kind: Any = DoubleTensorType, width: int = 4, *, zipmap: bool = False) -> Any:
    options = {id(model): {"zipmap": zipmap}} if hasattr(model, "predict_proba") else None
    return to_onnx(model, initial_types=[("X", kind([None, width]))], options=options)


def graph(
    node: str, inputs: dict[str, Any], outputs: dict[str, Any], kind: int = TensorProto.FLOAT, **attributes: Any
) -> Any:
    """One node as a model; inputs and outputs by name and shape."""
    made = helper.make_graph(
        [helper.make_node(node, list(inputs), list(outputs), **attributes)],
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize("target", [SPECIES, NAMES, SPECIES - 1])
def test_a_classifier_gives_prediction_and_probability(zipmap: bool, target: Any, tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS, target)
    ours = loaded(converted(model, FloatTensorType if zipmap else DoubleTensorType, zipmap=zipmap), tmp_path)
    signature = ours.signature
    kind = "float32" if zipmap else "float64"
    assert [(each.name, each.type, each.shape) for each in signature.inputs] == [("X", kind, (4,))]
    assert not signature.named
    assert [each.name for each in signature.outputs] == ["prediction", "probability"]
    assert signature.classes == tuple(np.unique(target).tolist())
    answer = ours.runtime.run(Rows({"X": IRIS.astype(kind)}), ["probability", "prediction"])
    assert answer.array("prediction").tolist() == model.predict(IRIS).tolist()
    np.testing.assert_allclose(answer.array("probability"), model.predict_proba(IRIS), atol=1e-6)


def test_a_regression_is_a_plain_prediction(tmp_path: Path) -> None:
    model = LinearRegression().fit(DIABETES, PROGRESS)
    ours = loaded(converted(model, FloatTensorType, 10), tmp_path)
    (output,) = ours.signature.outputs
    assert (output.name, output.type, output.shape) == ("prediction", "float32", ())
    answer = ours.runtime.run(Rows({"X": DIABETES.astype(np.float32)}), ["prediction"])
    np.testing.assert_allclose(answer.array("prediction"), model.predict(DIABETES), rtol=1e-4)


def test_columns_of_several_types_go_by_name(tmp_path: Path) -> None:
    case = CASES["one_hot_alone"]
    columns = {"city": StringTensorType([None, 1]), "plan": StringTensorType([None, 1])}
    ours = loaded(to_onnx(case.model, initial_types=list(columns.items()), options={"zipmap": False}), tmp_path)
    assert [(each.name, each.type, each.shape) for each in ours.signature.inputs] == [
        ("city", "string", ()),
        ("plan", "string", ()),
    ]
    assert ours.signature.named
    rows = case.rows.dropna()
    answer = ours.runtime.run(Rows({name: rows[name].to_numpy(object) for name in columns}), ["prediction"])
    assert answer.array("prediction").tolist() == case.model.predict(rows).tolist()


def test_integers_stay_integers(tmp_path: Path) -> None:
    model = RandomForestClassifier(3, random_state=0).fit(
        customers()[["year", "visits"]].to_numpy(), SPECIES.repeat(2)[:200]
    )
    ours = loaded(
        to_onnx(model, initial_types=[("X", Int64TensorType([None, 2]))], options={"zipmap": False}), tmp_path
    )
    assert ours.signature.inputs[0].type == "int64"


def test_features_name_the_columns_of_a_vector(tmp_path: Path) -> None:
    ours = loaded(converted(CASES["logistic"].model), tmp_path, features=tuple("abcd"))
    rows = Rows({name: IRIS[:, place] for place, name in enumerate("abcd")})
    assert (
        ours.runtime.run(rows, ["prediction"]).array("prediction").tolist()
        == CASES["logistic"].model.predict(IRIS).tolist()
    )
    assert [each.name for each in ours.signature.inputs] == list("abcd")


def test_one_column_is_a_vector_of_one(tmp_path: Path) -> None:
    model = LinearRegression().fit(IRIS[:, :1], SPECIES)
    ours = loaded(converted(model, width=1), tmp_path)
    assert ours.signature.inputs[0].shape == (1,)
    assert ours.runtime.run(Rows({"X": IRIS[:, :1]}), ["prediction"]).count == len(IRIS)


def test_images_keep_their_shape(tmp_path: Path) -> None:
    ours = loaded(graph("Relu", {"image": ["n", 3, 8, 8]}, {"edges": ["n", 3, 8, 8]}), tmp_path)
    assert ours.signature.inputs[0].shape == (3, 8, 8)
    (output,) = ours.signature.outputs
    assert (output.name, output.shape) == ("prediction", (3, 8, 8))
    image = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(
        ours.runtime.run(Rows({"image": image}), ["prediction"]).array("prediction"), np.maximum(image, 0)
    )


def test_any_width_is_open(tmp_path: Path) -> None:
    ours = loaded(graph("Relu", {"x": ["n", "width"]}, {"y": ["n", "width"]}), tmp_path)
    assert ours.signature.open
    assert ours.signature.inputs[0].shape == (-1,)


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    ours = loaded(graph("Relu", {"x": [4, 2]}, {"y": [4, 2]}), tmp_path)
    values = np.arange(-7.0, 7.0, dtype=np.float32).reshape(7, 2)
    np.testing.assert_array_equal(
        ours.runtime.run(Rows({"x": values}), ["prediction"]).array("prediction"), np.maximum(values, 0)
    )


def test_other_outputs_keep_their_names(tmp_path: Path) -> None:
    made = graph("Split", {"x": ["n", 4]}, {"left": ["n", 2], "right": ["n", 2]}, axis=1)
    assert [each.name for each in loaded(made, tmp_path).signature.outputs] == ["left", "right"]


def test_nulls_are_refused_where_the_answer_would_be_no_number(tmp_path: Path) -> None:
    assert not loaded(converted(CASES["logistic"].model), tmp_path).signature.inputs[0].nullable


def test_a_row_is_answered_alike_alone_and_in_company(tmp_path: Path) -> None:
    runtime = loaded(converted(CASES["logistic"].model), tmp_path).runtime
    whole = runtime.run(Rows({"X": IRIS}), ["probability"]).array("probability")
    alone = [
        runtime.run(Rows({"X": IRIS[i : i + 1]}), ["probability"]).array("probability")[0] for i in range(len(IRIS))
    ]
    np.testing.assert_allclose(whole, np.array(alone), rtol=0, atol=1e-15)
    assert runtime.proven
    assert runtime.releases_gil


@pytest.mark.parametrize("content", [b"hello", b"\x08\x07\x12\x0bskl2onnx", b"\0" * 200])
def test_a_broken_file_is_a_model_error(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no ONNX model"):
        loaded(content, tmp_path)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_file_is_a_model_error(share: float, tmp_path: Path) -> None:
    whole = converted(CASES["forest"].model).SerializeToString()
    with pytest.raises(ModelError, match="no ONNX model"):
        loaded(whole[: int(len(whole) * share)], tmp_path)


def test_a_row_that_the_session_refuses_is_a_failure_without_its_data(tmp_path: Path) -> None:
    ours = loaded(converted(CASES["logistic"].model), tmp_path)
    with pytest.raises(ModelFailed, match="the model raised"):
        ours.runtime.run(Rows({"X": np.ones((2, 3))}), ["prediction"])


@pytest.mark.parametrize("kind", [FloatTensorType, DoubleTensorType])
@pytest.mark.parametrize("target", [SPECIES, NAMES, SPECIES - 1, SPECIES * 10**6])
def test_the_classes_are_read_from_the_file(kind: Any, target: Any, tmp_path: Path) -> None:
    for model in (LogisticRegression(max_iter=5000), RandomForestClassifier(2, random_state=0)):
        made = converted(model.fit(IRIS, target), kind)
        path = tmp_path / "labels.onnx"
        path.write_bytes(made.SerializeToString())
        assert facts(path).labels == tuple(np.unique(target).tolist())
        assert facts(path).opset == next(each.version for each in made.opset_import if not each.domain)


def test_the_session_is_the_librarys(tmp_path: Path) -> None:
    ours = loaded(converted(CASES["frame_forest"].model, FloatTensorType), tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    values = IRIS_FRAME.to_numpy(np.float32)
    label, probability = session.run(None, {"X": values})
    answer = ours.runtime.run(Rows({"X": values}), ["prediction", "probability"])
    assert answer.array("prediction").tolist() == label.tolist()
    np.testing.assert_array_equal(answer.array("probability"), probability)
