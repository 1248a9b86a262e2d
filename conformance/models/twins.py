"""The known models, in NumPy: the answers that the suite expects, and what servers of Python code may serve.

    echo_<datatype>  input x [-1, 2], output y: the same values. One for each datatype
    pair             inputs a and b, FP32 [-1, 2]; outputs sum and difference (a + b, a - b)
    slow             input ms, FP32 [-1, 1]; sleeps as many milliseconds as its first value says and gives it back
    words            input text_input, BYTES [-1]; output text_output: the text, in a stream word by word

This file needs NumPy alone and no file beside it: it may be copied to where a server looks for code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


@dataclass(frozen=True)
class Port:
    """An input or an output: shape without the rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Twin:
    """A known model's signature."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def _echo(datatype: str) -> Twin:
    return Twin(f"echo_{datatype.lower()}", (Port("x", datatype, (2,)),), (Port("y", datatype, (2,)),))


_PAIR = tuple(Port(name, "FP32", (2,)) for name in ("a", "b", "sum", "difference"))
TWINS: dict[str, Twin] = {
    twin.name: twin
    for twin in (
        *map(_echo, TYPES),
        Twin("pair", _PAIR[:2], _PAIR[2:]),
        Twin("slow", (Port("ms", "FP32", (1,)),), (Port("slept", "FP32", (1,)),)),
        Twin("words", (Port("text_input", "BYTES", ()),), (Port("text_output", "BYTES", ()),)),
    )
}


def answer(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a known model for arrays by name."""
    if name == "pair":
        a, b = (np.asarray(inputs[each], np.float32) for each in ("a", "b"))
        return {"sum": a + b, "difference": a - b}
    if name == "slow":
        slept = np.asarray(inputs["ms"], np.float32)
        time.sleep(float(slept.reshape(-1)[0]) / 1000)
        return {"slept": slept}
    if name == "words":
        return {"text_output": inputs["text_input"]}
    return {"y": inputs["x"]}


def pieces(text: str) -> Iterator[str]:
    """A text word by word; joined, they are the text."""
    for number, word in enumerate(text.split(" ")):
        yield word if number == 0 else f" {word}"
