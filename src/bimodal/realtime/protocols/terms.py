"""What an Open Inference request asks for beside its rows: outputs, threshold, deadline, priority.

Of the parameters of a request `threshold` is ours; `priority` and `timeout` are those of Triton's
extension_schedule_policy.md; what stands for a state between requests is refused; others are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from bimodal.errors import InputError
from bimodal.field import kind
from bimodal.realtime.batcher import RANK, Key
from bimodal.realtime.protocols import classification, tensors
from bimodal.realtime.protocols.inference import Parameter, Parameters
from bimodal.realtime.service import Served


class Named(Protocol):
    """An output that is asked for."""

    name: str
    parameters: Any


def chosen(served: Served, parameters: Parameters | None, wanted: Sequence[Named] | None) -> Key:
    """The key of a request: all outputs where none are named, be it by an empty list. Raises InputError, UsageError."""
    threshold = (parameters or {}).get("threshold")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise InputError(f"the parameter threshold needs a number, not {kind(threshold)}")
    if not wanted:
        names = [each.name for each in served.signature.outputs]
    else:
        names = [each.name for each in wanted]
        twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
        if twice is not None:
            raise tensors.wrong(twice, "two outputs of this name are asked for")
    key = served.choose(names, threshold)
    for each in wanted or ():
        classification.check(served.signature, each.name, each.parameters)
    return key


def deadline(parameters: Parameters | None, start: float, most: float) -> float:
    """When the answer must be there: `start` and the parameter `timeout` (microseconds), at most `most` seconds."""
    told = (parameters or {}).get("timeout")
    if told is None or told == 0:
        return start + most
    return start + min(_whole("timeout", told, "microseconds", 63) / 1e6, most)


def rank(parameters: Parameters | None) -> int:
    """The parameter `priority`: 1 goes first; 0, the default, is `RANK`. Raises InputError."""
    told = (parameters or {}).get("priority")
    return RANK if told is None else _whole("priority", told, "the level, 1 the highest", 32) or RANK


def stateless(parameters: Parameters | None) -> None:
    """Raise InputError where a request belongs to a sequence: no model here remembers the one before."""
    if (parameters or {}).get("sequence_id", 0) not in (0, ""):
        raise InputError("the parameter sequence_id: models keep no state between requests; send it without")


def _whole(name: str, value: Parameter, unit: str, bits: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**bits:
        raise InputError(f"the parameter {name} needs a whole number of 0 or more ({unit}), below 2**{bits}")
    return value
