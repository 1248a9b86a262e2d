"""Programs that `torch.export` saved: they say themselves what they take."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bimodal.errors import ModelError
from bimodal.field import TYPES
from bimodal.formats.contract import Source
from bimodal.formats.guard import reading
from bimodal.formats.tensors import as_vector, one_batch, port
from bimodal.rows import Array
from bimodal.runtimes.portions import Portions
from bimodal.runtimes.ports import Port
from bimodal.runtimes.tensors import Tensors
from bimodal.runtimes.torch import called

NO_LIMIT = 2**62  # rows
OBJECTS = re.compile(r"data/constants/(opaque|custom)_obj")


@dataclass(frozen=True)
class Slot:
    """One leaf of the program's arguments: a tensor of ours, or a constant of the export."""

    name: str
    constant: Any = None
    value: Any = None  # a made-up tensor, which has its shape and type

    @property
    def is_tensor(self) -> bool:
        return self.value is not None


def read(torch: Any, source: Source, device: str) -> tuple[Tensors, None]:
    """The program on the device; it names no columns. Raises ModelError where it takes what rows cannot give."""
    _require_data(source)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # else PyTorch 2.13 unpickles what it cannot read as weights
    with reading(source):  # it evaluates the sizes in the file, which are texts
        program = torch.export.load(source.path)
    slots = _slots(program, source.path)
    ports = as_vector([_port(slot, source.path) for slot in slots if slot.is_tensor])
    if not ports:
        raise ModelError(f"{source.path} takes no tensor")
    if device != "cpu":
        program = torch.export.passes.move_to_device_pass(program, device)
    batch = one_batch(ports, source.path)
    portions = Portions.of(batch) if batch else Portions(1, _most(program, slots))
    return Tensors(called(torch, _arranged(program, slots), ports, device), ports, portions), None


def _require_data(source: Source) -> None:
    """Raise ModelError where the archive holds objects beside tensors: PyTorch would unpickle them, which runs code."""
    with zipfile.ZipFile(source.path) as archive:
        for each in archive.namelist():
            if OBJECTS.search(each):
                raise ModelError(
                    f"{source.path} holds objects other than tensors ({each.rpartition('/')[2]}), which run code when "
                    "they are read; export the model without them"
                )


def _slots(program: Any, path: str) -> list[Slot]:
    """The leaves of the arguments, in their order."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    slots = []
    for each in program.graph_signature.input_specs:
        if each.kind.name != "USER_INPUT":
            continue
        kind, name = type(each.arg).__name__, each.arg.name
        if kind not in ("TensorArgument", "ConstantArgument"):
            raise ModelError(f"{path} takes {name!r}, which is no tensor; export it with a fixed value there")
        constant = kind == "ConstantArgument"
        slots.append(Slot(name, each.arg.value) if constant else Slot(name, value=values[name]))
    return slots


def _port(slot: Slot, path: str) -> Port:
    shape = [size if isinstance(size, int) else -1 for size in slot.value.shape]
    kind = str(slot.value.dtype).removeprefix("torch.")
    if not shape:
        raise ModelError(f"{path} takes {slot.name!r} without a batch dimension; its inputs must have one, the first")
    if kind not in TYPES:
        raise ModelError(f"{path} takes {slot.name!r} as {kind}, which rows do not have; export it with float32")
    return port(slot.name, kind, shape)


def _most(program: Any, slots: Sequence[Slot]) -> int | None:
    """The largest number of rows of one call, where the export set a limit."""
    sizes = [slot.value.shape[0] for slot in slots if slot.is_tensor]
    ranges = [program.range_constraints.get(size.node.expr) for size in sizes if not isinstance(size, int)]
    limits = [int(each.upper) for each in ranges if each is not None and each.upper < NO_LIMIT]
    return min(limits, default=None)


def _arranged(program: Any, slots: Sequence[Slot]) -> Callable[[Mapping[str, Any]], Any]:
    """The program's call with its arguments as they were when it was exported: nested, by name, with constants."""
    module, layout = program.module(), program.call_spec.in_spec

    def call(tensors: Mapping[str, Array]) -> Any:
        leaves = [tensors[slot.name] if slot.is_tensor else slot.constant for slot in slots]
        arguments, named = layout.unflatten(leaves)
        return module(*arguments, **named)

    return call
