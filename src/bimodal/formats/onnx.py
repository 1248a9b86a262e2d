"""ONNX models, read by ONNX Runtime."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bimodal.errors import ModelError, ModelFailed
from bimodal.field import Field
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.library import library
from bimodal.formats.protobuf import facts
from bimodal.rows import Array, Rows
from bimodal.runtimes.onnx import Onnx as Session
from bimodal.runtimes.onnx import Port
from bimodal.signature import Signature

TYPES = {"float": "float32", "double": "float64", "float16": "float16", "string": "string", "bool": "bool"}
LABELS = ("label", "output_label")  # as skl2onnx and onnxmltools call them
PROBABILITIES = ("probabilities", "output_probability", "probability_tensor", "probability")


class Onnx(Format):
    name = "onnx"
    describes = "ONNX models (.onnx)"
    inline = True

    def matches(self, path: str, head: bytes) -> bool:
        return bool(head) and Path(path).suffix.lower() == ".onnx"

    def load(self, source: Source) -> Loaded:
        session = _session(source)
        inputs = [_port(each, source.path) for each in session.get_inputs()]
        if not inputs:
            raise ModelError(f"{source.path} takes no input")
        fixed = {port.batch for port in inputs} - {None}
        if len(fixed) > 1:
            raise ModelError(
                f"{source.path} takes inputs of several fixed batch sizes; export it with a free batch dimension"
            )
        told_by_file = facts(source.file)
        outputs = _outputs(session)
        named = len(inputs) > 1
        if not named and inputs[0].scalar and inputs[0].field.type != "string":
            inputs = [replace(inputs[0], field=replace(inputs[0].field, shape=(1,)), column=False)]
        runtime = Session(session, inputs, outputs, batch=fixed.pop() if fixed else None)
        fields = tuple(_example(port.field) for port in inputs)
        signature = Signature(fields, (), named=named, open=not named and fields[0].shape == (-1,))
        signature, told = _settle(runtime, signature, told_by_file.labels)
        if source.features and not named and fields[0].shape:
            signature = _of_width(signature, len(source.features)).with_features(source.features)
            runtime = runtime.with_columns([each.name for each in signature.inputs])
        about = {"opset": told_by_file.opset, "producer": session.get_modelmeta().producer_name}
        return Loaded(runtime, signature, _versions(), told, about)


def _session(source: Source) -> Any:
    onnxruntime = library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(source.path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        raise ModelError(
            f"{source.path} is no ONNX model that ONNX Runtime can read ({type(error).__name__}: {_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """The last sentence of an error of ONNX Runtime."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return text.rpartition(" : ")[2][:200]


def _type(kind: str) -> str:
    element = kind.removeprefix("tensor(").removesuffix(")")
    return TYPES.get(element, element)


def _port(node: Any, path: str) -> Port:
    """One input of the session as a field; `[None, 1]` is a scalar column."""
    kind = _type(node.type)
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    if not node.type.startswith("tensor(") or not shape or kind in ("bfloat16", "complex64", "complex128"):
        raise ModelError(f"{path} takes {node.type} {node.name!r}; inputs must be tensors with a batch dimension")
    column = shape[1:] == (1,)
    return Port(
        node.name, Field(node.name, kind, () if column else shape[1:]), column, shape[0] if shape[0] > 0 else None
    )


def _outputs(session: Any) -> dict[str, str]:
    """Our name for each of the session's outputs."""
    names = [each.name for each in session.get_outputs()]
    ours: dict[str, str] = {}
    for name in names:
        if name.lower() in LABELS and "prediction" not in ours:
            ours["prediction"] = name
        elif name.lower() in PROBABILITIES and "probability" not in ours and len(names) > 1:
            ours["probability"] = name
        else:
            ours[name] = name
    return {"prediction": names[0]} if len(names) == 1 else ours


def _example(each: Field) -> Field:
    if each.type == "string":
        return replace(
            each,
            example="text" if not each.shape else np.full([max(n, 1) for n in each.shape], "text", object).tolist(),
        )
    zero: Any = False if each.type == "bool" else 0 if each.dtype.kind in "iu" else 0.0
    return replace(each, example=np.full([max(n, 1) for n in each.shape], zero).tolist() if each.shape else zero)


def _settle(
    runtime: Session, signature: Signature, labels: tuple[Any, ...] | None
) -> tuple[Signature, tuple[str, ...]]:
    """Outputs as seen on two made-up rows, and whether a missing number is taken (its answers stay numbers)."""
    rows = {each.name: _column(each, each.example) for each in signature.inputs}
    try:
        answer = runtime.run(Rows(rows), runtime.outputs)
    except ModelFailed as error:
        fields = tuple(Field(name, "any") for name in runtime.outputs)
        told = f"it answers no made-up row ({error.message}); its outputs are not known before the first prediction"
        return replace(signature, outputs=fields, classes=labels), (told,)
    outputs = tuple(Field(name, _kind(answer.array(name)), answer.array(name).shape[1:]) for name in runtime.outputs)
    width = next((each.shape[-1] for each in outputs if each.name == "probability" and each.shape), None)
    known = runtime.keys or labels
    classes = known if known is not None and len(known) == width else (tuple(range(width)) if width else None)
    numbers = [each for each in signature.inputs if each.dtype.kind == "f"]
    holes = {each.name: np.full_like(rows[each.name], np.nan) for each in numbers}
    nullable = bool(numbers) and _is_finite(runtime, Rows({**rows, **holes}))
    inputs = tuple(replace(each, nullable=nullable) if each in numbers else each for each in signature.inputs)
    return replace(signature, inputs=inputs, outputs=outputs, classes=classes), ()


def _column(each: Field, value: Any) -> Array:
    column: Array = np.empty((2, *(max(n, 1) for n in each.shape)), each.dtype)
    column[:] = value
    return column


def _is_finite(runtime: Session, rows: Rows) -> bool:
    try:
        answer = runtime.run(rows, runtime.outputs)
    except ModelFailed:
        return False
    return all(values.dtype.kind != "f" or bool(np.isfinite(values).all()) for values in map(answer.array, answer))


def _kind(values: Array) -> str:
    return "string" if values.dtype.kind in "OUS" else values.dtype.name


def _of_width(signature: Signature, width: int) -> Signature:
    """A model that takes any width, once its columns are named."""
    (only,) = signature.inputs
    if only.shape != (-1,):
        return signature
    return replace(signature, inputs=(replace(only, shape=(width,), example=[0.0] * width),), open=False)


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": str(library("onnxruntime").__version__),
    }
