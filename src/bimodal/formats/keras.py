"""Keras: models saved as `.keras` archives, or as HDF5 in the older form. Lambda layers are refused: they are code."""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from bimodal.errors import BimodalError, MissingLibrary, ModelError
from bimodal.field import TYPES
from bimodal.formats.archive import damaged, members
from bimodal.formats.code import make_importable, missing_name
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.device import device, one_thread
from bimodal.formats.guard import reading
from bimodal.formats.library import library
from bimodal.formats.tensors import as_vector, guessed, loaded, one_batch, port
from bimodal.rows import Array
from bimodal.runtimes.portions import Portions
from bimodal.runtimes.ports import Port
from bimodal.runtimes.tensors import Call, Tensors
from bimodal.runtimes.torch import named, plain

log = logging.getLogger("bimodal.model")
HDF5 = b"\x89HDF\r\n\x1a\n"
SUFFIXES = (".keras", ".h5", ".hdf5")
UNKNOWN = re.compile(r"Could not locate (?:class|function) '(?:\w+>)?(?P<name>\w+)'")


class Keras(Format):
    name = "keras"
    describes = "Keras models (.keras, .h5)"

    def matches(self, path: str, head: bytes) -> bool:
        if {"config.json", "model.weights.h5"} <= set(members(path, head)):
            return True
        suffix = Path(path).suffix.lower()
        return bool(head) and (suffix == ".keras" or (suffix in SUFFIXES and head.startswith(HDF5)))

    def load(self, source: Source) -> Loaded:
        with source.file.open("rb") as opened:
            old = opened.read(len(HDF5)) == HDF5
        if not old and damaged(source.path):
            raise ModelError(f"{source.path} is damaged, or no Keras model; save it again: model.save('model.keras')")
        keras = _keras()
        backend = str(keras.backend.backend())
        model = _read(keras, source)
        runtime, features = _runtime(keras, model, source)
        facts = {"kind": type(model).__name__, "backend": backend}
        versions = {"python": platform.python_version(), "numpy": np.__version__, "keras": str(keras.__version__)}
        if backend in sys.modules:
            versions[backend] = str(getattr(sys.modules[backend], "__version__", ""))
        return loaded(runtime, source.features or features, versions, facts)


def _keras() -> Any:
    """Keras on PyTorch, unless the user names another backend in KERAS_BACKEND."""
    os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "torch"
    backend = library(os.environ["KERAS_BACKEND"])
    if os.environ["KERAS_BACKEND"] == "torch":
        os.environ.setdefault("KERAS_TORCH_DEVICE", device())  # keras.device() fails with a Dropout layer (Keras 3.15)
        one_thread(backend)
    return library("keras")


def _read(keras: Any, source: Source) -> Any:
    """The model, with the user's own layers out of `code`. Raises ModelError, MissingCode, MissingLibrary."""
    make_importable(source.file, source.code)
    own = _own_layers(keras) if source.code else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras says to those who train
        try:
            with reading(source):
                return keras.saving.load_model(source.path, custom_objects=own, compile=False, safe_mode=True)
        except BimodalError:
            raise
        except Exception as error:  # a damaged archive raises anything
            raise _refused(source.file, error) from error


def _own_layers(keras: Any) -> dict[str, Any]:
    """The layers and models that the user's code defines, under their names."""
    names = vars(sys.modules["__main__"]).items()
    return {name: kind for name, kind in names if isinstance(kind, type) and issubclass(kind, keras.layers.Layer)}


def _refused(file: Path, error: Exception) -> BimodalError:
    text = str(error)
    unknown = UNKNOWN.search(text)
    if unknown:
        return missing_name(file, unknown["name"], "__main__")
    if "Lambda" in text or "lambda" in text:
        return ModelError(
            f"{file} has a Lambda layer, whose Python code would run when it is read; write it as a class of "
            "keras.layers.Layer, save the model again, and give the file of the class with --code FILE"
        )
    if isinstance(error, ImportError):
        return MissingLibrary(f"{file} needs another library: {text.splitlines()[0][:200]}")
    if "No model config found" in text or "No model found" in text:
        return ModelError(f"{file} holds weights alone; save the whole model: model.save('model.keras')")
    log.error("the model cannot be read", exc_info=error)
    reason = f"{type(error).__name__}: {text}".splitlines()[0][:200]
    return ModelError(f"{file} cannot be read by this version of Keras ({reason}); save it again with it")


# -- what it takes, and calling it -----------------------------------------------------------------------------------


def _runtime(keras: Any, model: Any, source: Source) -> tuple[Tensors, tuple[str, ...] | None]:
    """With the inputs that the model was built with; a subclassed model has none that it could tell."""

    def runtime(ports: Sequence[Port], layout: Any = None) -> Tensors:
        call = _call(keras, model, ports, layout)
        return Tensors(call, ports, Portions.of(one_batch(ports, source.path)))

    if not getattr(model, "inputs", None):
        return guessed(runtime, ["input"], source, str(model.compute_dtype or "float32"))
    layout = getattr(model, "input", model.inputs[0])
    leaves = keras.tree.flatten(layout)
    names = [str(path[-1]) if path and isinstance(path[-1], str) else None for path in _paths(keras, layout)]
    ports = [_port(leaf, name or leaf.name, source.path) for leaf, name in zip(leaves, names, strict=True)]
    return runtime(as_vector(ports), layout), None


def _paths(keras: Any, layout: Any) -> list[tuple[Any, ...]]:
    return [path for path, _ in keras.tree.flatten_with_path(layout)]


def _port(tensor: Any, name: str, path: str) -> Port:
    kind = str(tensor.dtype)
    if kind not in TYPES or kind == "string":
        raise ModelError(
            f"{path} takes {kind} in {name!r}, which needs TensorFlow; take the layer that reads text out of the "
            "model, and give the model what it makes of it"
        )
    return port(name, kind, [-1 if size is None else size for size in tensor.shape])


def _call(keras: Any, model: Any, ports: Sequence[Port], layout: Any) -> Call:
    """layout: the structure in which the model takes its tensors; None for one tensor."""
    outputs = list(getattr(model, "output_names", None) or ())
    on_torch = keras.backend.backend() == "torch"
    no_gradients = library("torch").inference_mode if on_torch else nullcontext

    def call(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        with no_gradients():
            tensors = [keras.ops.convert_to_tensor(arrays[port.name], dtype=port.field.type) for port in ports]
            given = model(
                tensors[0] if layout is None else keras.tree.pack_sequence_as(layout, tensors), training=False
            )
            if isinstance(given, list | tuple) and len(given) == len(outputs) > 1:
                given = dict(zip(outputs, given, strict=True))
            return {name: _array(keras, value) for name, value in named(given).items()}

    return call


def _array(keras: Any, value: Any) -> Array:
    return plain(value) if hasattr(value, "detach") else np.asarray(keras.ops.convert_to_numpy(value))
