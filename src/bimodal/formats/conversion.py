"""A fitted estimator as ONNX, by skl2onnx: in float64 or float32, with the signature's inputs under their own names."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from bimodal.errors import MissingLibrary, NotCompiled
from bimodal.field import FLOATS, INTEGERS
from bimodal.formats import estimators
from bimodal.formats.library import library
from bimodal.signature import Signature

STACKED = "all_columns"  # the one input of a model that takes all its columns as one vector
FOREIGN = ("xgboost", "lightgbm", "catboost")  # skl2onnx knows nothing of them


def converted(model: Any, signature: Signature, precision: str) -> bytes:
    """The model as ONNX in "float64" or "float32". Raises NotCompiled with the reason."""
    _require_known(model, signature)
    try:
        library("onnxruntime")
        skl2onnx = library("skl2onnx")
        types = library("skl2onnx.common.data_types")
    except MissingLibrary as error:
        raise NotCompiled(error.message) from error
    fault: Exception | None = None
    for initial in _initial(model, signature, types, precision):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its deprecations are none of the user's
            logging.getLogger("skl2onnx").setLevel(logging.ERROR)
            try:
                made = skl2onnx.convert_sklearn(model, initial_types=initial, options=_options(model, signature))
                data: bytes = made.SerializeToString()
            except Exception as error:  # a converter that meets what it does not know raises anything
                fault = error
            else:
                return data
    raise NotCompiled(f"skl2onnx does not convert it to {precision} ({_reason(fault)})") from fault


def _require_known(model: Any, signature: Signature) -> None:
    foreign = sorted({estimators.home(each) for each in estimators.parts(model)} & set(FOREIGN))
    if foreign:
        raise NotCompiled(f"{foreign[0]} has no converter to ONNX here")
    if signature.open:
        raise NotCompiled("it does not say how many columns it takes")
    opaque = [each.name for each in signature.inputs if each.type in ("any", "timestamp") or len(each.shape) > 1]
    if opaque:
        raise NotCompiled(f"ONNX has no type for the column {opaque[0]!r}")


def _initial(model: Any, signature: Signature, types: Any, precision: str) -> list[list[tuple[str, Any]]]:
    """The ways to declare the inputs: each column by name, then all of them as one vector."""
    number = types.DoubleTensorType if precision == "float64" else types.FloatTensorType
    vector = signature.vector
    if vector is not None:
        return [[(vector.name, number([None, vector.shape[0]]))]]
    kinds = {**dict.fromkeys(FLOATS, number), **dict.fromkeys(INTEGERS, types.Int64TensorType)}
    kinds |= {"string": types.StringTensorType, "bool": types.BooleanTensorType}
    named = [(each.name, kinds[each.type]([None, 1])) for each in signature.inputs]
    stacked = [(STACKED, number([None, len(named)]))]
    plain = all(each.type in FLOATS for each in signature.inputs)
    return ([stacked] if plain else []) + ([named] if estimators.columns(model) is not None else [])


def _options(model: Any, signature: Signature) -> dict[int, dict[str, bool]] | None:
    names = {each.name for each in signature.outputs}
    if estimators.attribute(model, "classes_") is None:
        return None
    options = {"zipmap": False}
    if "score" in names:
        options["raw_scores"] = True
    return {id(model): options}


def _reason(fault: Exception | None) -> str:
    """The first sentence of a converter's error."""
    if fault is None:
        return "no way to declare its inputs"
    lines = [line.strip() for line in str(fault).strip().splitlines() if line.strip()]
    return f"{type(fault).__name__}: {lines[0][:160]}" if lines else type(fault).__name__
