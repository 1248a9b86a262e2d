"""ONNX forms: the native model's inputs go in, its outputs come out, in its own types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bimodal.compile.convert import Converted
from bimodal.errors import MissingLibrary, ModelFailed, NotCompiled
from bimodal.formats import conversion
from bimodal.formats.contract import Loaded
from bimodal.formats.library import missing
from bimodal.rows import Dictionary, Rows
from tests.compile.models import load
from tests.models import CASES


def converted(loaded: Loaded, precision: str) -> Converted:
    assert loaded.to_onnx is not None
    return Converted.of(loaded.to_onnx(precision), loaded.signature)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("labelled", "float64"),  # labels are text
        ("boolean", "float64"),
        ("frame_logistic", "float64"),  # named columns become one vector
        ("pca", "float64"),  # outputs are columns of one array
        ("ridge", "float64"),  # scores
        ("many_numbers", "float64"),
        ("ada", "float32"),
        ("mixed", "float32"),  # texts and numbers
        ("ordinal_forest", "float32"),
    ],
)
def test_types_and_order_are_the_native_ones(name: str, precision: str, tmp_path: Path) -> None:
    loaded = load(CASES[name].model, tmp_path)
    runtime = converted(loaded, precision)
    names = [each.name for each in loaded.signature.outputs]
    rows = loaded.signature.example_rows(3)
    ours, native = runtime.run(rows, names), loaded.runtime.run(rows, names)
    for each in loaded.signature.outputs:
        assert isinstance(ours[each.name], Dictionary) == isinstance(native[each.name], Dictionary)
        one, other = ours.array(each.name), native.array(each.name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, atol=1e-5)
        else:
            assert one.tolist() == other.tolist()
    (last,) = runtime.run(rows, names[-1:])
    assert last == names[-1]


def test_encoded_texts_are_taken_and_missing_ones_refused(tmp_path: Path) -> None:
    loaded = load(CASES["mixed"].model, tmp_path)
    runtime = converted(loaded, "float32")
    rows = loaded.signature.example_rows(2)
    cities = Dictionary.encode(rows.array("city"))
    encoded = Rows({**rows, "city": cities})
    plain = runtime.run(rows, ["probability"]).array("probability")
    np.testing.assert_array_equal(runtime.run(encoded, ["probability"]).array("probability"), plain)
    holes = Rows({**rows, "city": Dictionary(np.array([0, -1], np.int32), cities.values)})
    with pytest.raises(ModelFailed, match="no missing text"):
        runtime.run(holes, ["probability"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [("function_text", "no type for the column 'plan'"), ("own", "how many columns"), ("threshold", "skl2onnx")],
)
def test_what_cannot_be_converted_is_a_sentence(name: str, reason: str, tmp_path: Path) -> None:
    loaded = load(CASES[name].model, tmp_path)
    with pytest.raises(NotCompiled, match=reason):
        converted(loaded, "float64")


def test_without_the_converter_the_reason_is_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> MissingLibrary:
        raise missing(name)

    loaded = load(CASES["logistic"].model, tmp_path)
    monkeypatch.setattr(conversion, "library", absent)
    with pytest.raises(NotCompiled, match=r"pip install .bimodal\[onnx\]"):
        converted(loaded, "float64")


def test_bytes_that_are_no_onnx_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotCompiled, match="does not take"):
        Converted.of(b"nonsense", load(CASES["logistic"].model, tmp_path).signature)
