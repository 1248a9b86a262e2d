"""Calls of PyTorch: arrays to tensors on their device, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed
from bimodal.rows import Array
from bimodal.runtimes.ports import Port
from bimodal.runtimes.tensors import Call


def called(torch: Any, function: Callable[[Mapping[str, Any]], Any], ports: Sequence[Port], device: str) -> Call:
    """function: from named tensors to what the model gives. Without gradients; the answers come back to the CPU."""
    names = [port.name for port in ports]

    def call(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        with torch.inference_mode():
            given = function({name: torch.from_numpy(arrays[name]).to(device) for name in names})
            return {name: plain(value) for name, value in named(given).items()}

    return call


def named(given: Any) -> Mapping[str, Any]:
    """What a model gives, by name: one value is `prediction`, several keep their names or get numbers."""
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    if not isinstance(given, list | tuple):
        return {"prediction": given}
    names = getattr(given, "_fields", None) or [f"output_{place}" for place in range(len(given))]
    return {"prediction": given[0]} if len(given) == 1 else dict(zip(names, given, strict=True))


def plain(value: Any) -> Array:
    """A tensor as an array; half precision, of which NumPy knows one kind, becomes float32."""
    if not hasattr(value, "detach"):
        raise ModelFailed(f"the model gave a {type(value).__name__} where a tensor is needed")
    tensor = value.detach().cpu()
    array: Array = (tensor.float() if tensor.dtype.is_floating_point and tensor.dtype.itemsize < 4 else tensor).numpy()
    return np.asarray(array)
