"""ONNX models, read by ONNX Runtime."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bimodal.errors import ModelError, ModelFailed
from bimodal.field import Field
from bimodal.formats.beside import data_files
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.library import library
from bimodal.formats.protobuf import facts
from bimodal.formats.tensors import as_vector, made_up, of_width, one_batch, output, port, signed, with_nulls
from bimodal.runtimes.onnx import Onnx as Session
from bimodal.runtimes.ports import Port
from bimodal.signature import Signature

CUDA = "CUDAExecutionProvider"
TYPES = {"float": "float32", "double": "float64", "float16": "float16", "string": "string", "bool": "bool"}
LABELS = ("label", "output_label")  # as skl2onnx and onnxmltools call them
PROBABILITIES = ("probabilities", "output_probability", "probability_tensor", "probability")


class Onnx(Format):
    name = "onnx"
    describes = "ONNX models (.onnx)"
    inline = True

    def matches(self, path: str, head: bytes) -> bool:
        return bool(head) and Path(path).suffix.lower() == ".onnx"

    def files(self, path: Path) -> tuple[Path, ...]:
        """The model and its data files. Raises ModelError where those are not plain files beside it."""
        return (path, *data_files(path))

    def load(self, source: Source) -> Loaded:
        data_files(source.file)  # before ONNX Runtime follows a name out of the folder
        session = _session(source)
        inputs = [_port(each, source.path) for each in session.get_inputs()]
        if not inputs:
            raise ModelError(f"{source.path} takes no input")
        batch = one_batch(inputs, source.path)
        told_by_file = facts(source.file)
        outputs = _outputs(session)
        inputs = as_vector(inputs)
        runtime = Session(session, inputs, outputs, batch=batch)
        signature = signed(inputs)
        signature, told = _settle(runtime, signature, told_by_file.labels)
        if source.features and signature.vector is not None:
            signature = of_width(signature, len(source.features)).with_features(source.features)
            runtime = runtime.with_columns([each.name for each in signature.inputs])
        about = {"opset": told_by_file.opset, "producer": session.get_modelmeta().producer_name}
        if session.get_providers()[0] == CUDA:
            about["device"] = "cuda"
        return Loaded(runtime, signature, _versions(), told, about)


def _session(source: Source) -> Any:
    onnxruntime = library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(source.path, options, providers=providers(onnxruntime))
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        raise ModelError(
            f"{source.path} is no ONNX model that ONNX Runtime can read ({type(error).__name__}: {_reason(error)})"
        ) from error


def providers(onnxruntime: Any, device: str = "auto") -> list[str]:
    """What executes, the first that can: CUDA where this ONNX Runtime has it, the CPU. device: auto, cpu, cuda."""
    there = onnxruntime.get_available_providers()
    return [*([CUDA] if device != "cpu" and CUDA in there else []), "CPUExecutionProvider"]


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
    return port(node.name, kind, shape)


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


def _settle(
    runtime: Session, signature: Signature, labels: tuple[Any, ...] | None
) -> tuple[Signature, tuple[str, ...]]:
    """Outputs as seen on two made-up rows, and whether a missing number is taken (its answers stay numbers)."""
    try:
        answer = runtime.run(made_up(signature), runtime.outputs)
    except ModelFailed as error:
        fields = tuple(Field(name, "any") for name in runtime.outputs)
        told = f"it answers no made-up row ({error.message}); its outputs are not known before the first prediction"
        return replace(signature, outputs=fields, classes=labels), (told,)
    outputs = tuple(output(name, answer.array(name)) for name in runtime.outputs)
    width = next((each.shape[-1] for each in outputs if each.name == "probability" and each.shape), None)
    known = runtime.keys or labels
    classes = known if known is not None and len(known) == width else (tuple(range(width)) if width else None)
    settled = replace(signature, outputs=outputs, classes=classes)
    return with_nulls(settled, runtime, runtime.outputs), ()


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": str(library("onnxruntime").__version__),
    }
