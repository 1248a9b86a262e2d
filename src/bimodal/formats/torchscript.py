"""TorchScript: programs that do not say what their tensors look like. A note saved in the file does, or a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from bimodal.errors import ModelError
from bimodal.field import FLOATS, INTEGERS, Field
from bimodal.formats.archive import member
from bimodal.formats.contract import Source
from bimodal.formats.guard import reading
from bimodal.formats.tensors import as_vector, guessed
from bimodal.runtimes.portions import Portions
from bimodal.runtimes.ports import Port
from bimodal.runtimes.tensors import Tensors
from bimodal.runtimes.torch import called

NOTE = """torch.jit.save(model, path, _extra_files={"inputs": '{"x": {"type": "float32", "shape": [4]}}'})"""

NUMBERS = (*FLOATS, *INTEGERS, "bool")


class Told(msgspec.Struct):
    """One input as the note `inputs` tells it. shape: of one row, [] for a plain column, -1 where any size is taken."""

    type: str = "float32"
    shape: list[int] = []


def read(torch: Any, source: Source, device: str) -> tuple[Tensors, tuple[str, ...] | None]:
    """The program, on the device, and the names of its columns where a sample has them.

    Raises ModelError where it is not known what it takes.
    """
    with reading(source):
        module = torch.jit.load(source.path, map_location=device).eval()
    names = _names(module, source.path)
    told = _told(source)

    def runtime(ports: Sequence[Port]) -> Tensors:
        return Tensors(called(torch, _positional(module, names), ports, device), ports, Portions())

    if told is not None:
        return runtime(as_vector(_told_ports(names, told, source.path))), None
    floats = next((str(each.dtype) for each in module.parameters() if each.dtype.is_floating_point), "torch.float32")
    return guessed(runtime, names, source, floats.removeprefix("torch."))


def _names(module: Any, path: str) -> list[str]:
    """The tensors that it takes, by position."""
    arguments = [each for each in module.forward.schema.arguments[1:] if not each.has_default_value()]
    other = [each.name for each in arguments if str(each.type) != "Tensor"]
    if other or not arguments:
        what = f"{other[0]!r}, which is no tensor" if other else "no tensor"
        raise ModelError(f"{path} takes {what}; wrap it in a module that takes tensors alone")
    return [each.name for each in arguments]


def _positional(module: Any, names: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    return lambda tensors: module(*[tensors[name] for name in names])


def _told(source: Source) -> dict[str, Told] | None:
    """The note in the file, if it has one."""
    data = member(source.file, "/extra/inputs")
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=dict[str, Told])
    except msgspec.DecodeError as error:
        raise ModelError(f"{source.path}: its note `inputs` is not of the form that {NOTE} gives") from error


def _told_ports(names: Sequence[str], told: Mapping[str, Told], path: str) -> list[Port]:
    """By name; by position where as many are told under other names."""
    if len(told) == len(names) and set(told) != set(names):
        told = dict(zip(names, told.values(), strict=True))
    wrong = next((name for name in names if name not in told or told[name].type not in NUMBERS), None)
    if wrong is not None:
        raise ModelError(
            f"{path}: its note `inputs` gives no type of a tensor for {wrong!r}; it is written like {NOTE}"
        )
    return [Port(name, Field(name, told[name].type, tuple(told[name].shape))) for name in names]
