"""The classification extension: the largest values of an output with their places and labels, as text.

https://github.com/triton-inference-server/server, docs/protocol/extension_classification.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bimodal.field import FLOATS, INTEGERS
from bimodal.realtime.protocols import tensors
from bimodal.rows import Array
from bimodal.signature import Signature


def count(name: str, parameters: Mapping[str, Any] | None) -> int | None:
    """How many classes an output is asked to tell; None where it is asked for as it is. Raises InputError."""
    told = (parameters or {}).get("classification")
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int) or told < 0:
        raise tensors.wrong(name, "the parameter classification needs a whole number, how many classes to tell")
    return told or None


def check(signature: Signature, name: str, parameters: Mapping[str, Any] | None) -> None:
    """Raise InputError where an output cannot be told so."""
    if count(name, parameters) is not None and signature.output(name).type not in (*FLOATS, *INTEGERS):
        raise tensors.wrong(name, "a classification needs an output of numbers")


def labels(signature: Signature, name: str) -> Sequence[Any] | None:
    """The names of an output's places."""
    return signature.classes if name == "probability" else None


def classified(array: Array, count: int, labels: Sequence[Any] | None) -> Array:
    """`value:index` or `value:index:label` of the `count` largest values of each row, the largest first.

    array: [n, …] of numbers; a row of more axes, or of one value, is taken as a flat list. Equal values stay in the
    order of their places; NaN comes last. Returns objects (str) [n, at most count].
    """
    rows = array.reshape(len(array), -1)
    count = min(count, rows.shape[1])
    if rows.dtype.kind == "f":
        order = np.argsort(np.where(np.isnan(rows), np.inf, -rows), axis=1, kind="stable")[:, :count]
    else:
        order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    names = list(labels) if labels is not None and len(labels) == rows.shape[1] else None
    told = np.empty(order.shape, object)
    for row, places in enumerate(order.tolist()):
        told[row] = [_told(rows[row, place].item(), place, names) for place in places]
    return told


def _told(value: float, place: int, names: Sequence[Any] | None) -> str:
    return f"{value}:{place}" if names is None else f"{value}:{place}:{names[place]}"
