"""Converted: a model's ONNX form as a runtime, with the native model's inputs and outputs.

The bytes come from `formats/conversion.py`; what stands here needs ONNX Runtime alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed, NotCompiled
from bimodal.field import Field
from bimodal.formats.conversion import STACKED
from bimodal.formats.library import library
from bimodal.rows import Array, Column, Dictionary, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.onnx import Onnx
from bimodal.runtimes.ports import Port
from bimodal.signature import Signature

TYPES = {
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(string)": "string",
    "tensor(bool)": "bool",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


class Converted(Runtime):
    """A session with the native signature: its types go in, its types come out.

    places: for each output of ours, the session's output, and the column of it where one output holds several.
    """

    name = "onnx"
    proven = True
    releases_gil = True

    def __init__(self, session: Any, signature: Signature) -> None:
        self._inputs = signature.inputs
        self._fields = {each.name: each for each in signature.outputs}
        self._places = _places([each.name for each in session.get_outputs()], signature)
        self._ports = _ports(session, signature)
        self._stacked = STACKED in self._ports and signature.vector is None
        given = list(dict.fromkeys(name for name, _ in self._places.values()))
        self._onnx = Onnx(session, list(self._ports.values()), {name: name for name in given})

    @classmethod
    def of(cls, model: bytes, signature: Signature) -> Converted:
        """A session for the model. Raises NotCompiled where ONNX Runtime does not take it."""
        onnxruntime = library("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base but Exception
            raise NotCompiled(f"ONNX Runtime does not take the converted model ({type(error).__name__})") from error
        return cls(session, signature)

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        asked = list(dict.fromkeys(self._places[name][0] for name in outputs))
        answer = self._onnx.run(self._fed(rows), asked)
        return Rows({name: self._taken(name, answer) for name in outputs}, rows.count)

    def _fed(self, rows: Rows) -> Rows:
        """The columns in the session's types."""
        if self._stacked:
            only = self._ports[STACKED].field
            block = np.empty((rows.count, only.shape[0]), only.dtype)
            for place, each in enumerate(self._inputs):
                block[:, place] = rows.array(each.name)
            return Rows({STACKED: block}, rows.count)
        return Rows({name: _as_type(rows[name], port.field) for name, port in self._ports.items()}, rows.count)

    def _taken(self, name: str, answer: Rows) -> Column:
        given, column = self._places[name]
        values = answer.array(given)
        if column is not None and values.ndim > 1:
            values = values[:, column]
        return _answered(values, self._fields[name])


def _ports(session: Any, signature: Signature) -> dict[str, Port]:
    """Our columns and the session's inputs have the same names: `conversion` made them so."""
    nodes = {each.name: each for each in session.get_inputs()}
    known = {each.name: each for each in signature.inputs}
    if set(nodes) == {STACKED} and signature.vector is None and STACKED not in known:
        known = {STACKED: Field(STACKED, "float64", (len(signature.inputs),))}
    if not nodes or set(nodes) - set(known):
        raise NotCompiled("the converted model has other inputs than the native one")
    ports = {}
    for name, node in nodes.items():
        kind = TYPES.get(node.type)
        if kind is None:
            raise NotCompiled(f"the converted model takes {node.type} in {name}")
        column = not known[name].shape
        ports[name] = Port(name, Field(name, kind, known[name].shape), column)
    return ports


def _places(given: Sequence[str], signature: Signature) -> dict[str, tuple[str, int | None]]:
    """Where each of our outputs comes from, by the order in which converters give them: labels, then numbers."""
    wanted = [each.name for each in signature.outputs]
    if len(given) == 1 and len(wanted) > 1 and "prediction" not in wanted:
        return {name: (given[0], place) for place, name in enumerate(wanted)}
    if len(given) < len(wanted):
        raise NotCompiled(f"the converted model gives {len(given)} outputs where the native one gives {len(wanted)}")
    return {name: (each, None) for name, each in zip(wanted, given, strict=False)}


def _as_type(column: Column, each: Field) -> Array:
    values = column.decode() if isinstance(column, Dictionary) else column
    if each.type != "string":
        return values.astype(each.dtype, copy=False)
    if any(value is None for value in values.flat):
        raise ModelFailed("ONNX has no missing text")
    return values


def _answered(values: Array, each: Field) -> Column:
    """The session's answers in the native type, or ModelFailed where they do not fit."""
    if values.ndim == 2 and not each.shape and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != len(each.shape) + 1:
        raise ModelFailed(f"the converted model gave {each.name} with {values.ndim - 1} dimensions a row")
    if each.type == "string":
        return Dictionary.encode([str(value) for value in values]) if values.ndim == 1 else values.astype(object)
    if each.type == "any":
        return values.astype(object)
    if each.dtype.kind in "iub" and values.dtype.kind == "f":
        raise ModelFailed(f"the converted model gave {each.name} as numbers with a fraction")
    with np.errstate(over="ignore"):
        return values.astype(each.dtype, copy=False)
