"""Finish: from raw scores to the model's outputs, by the formula that the library itself uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bimodal.rows import Array, Rows


@dataclass(frozen=True)
class Finish:
    """link: the name of the formula, in `links.LINKS`. classes: the labels. fields: type of each output, by name, in the
    signature's order. numbers: what the formula needs beside (a divisor, …)."""

    link: str
    fields: dict[str, str]
    classes: tuple[Any, ...] | None = None
    numbers: dict[str, float] = field(default_factory=dict)

    def outputs(self, raw: Array, names: Sequence[str]) -> Rows:
        """The named outputs of raw scores [rows, k]."""
        raise NotImplementedError

    def told(self) -> tuple[dict[str, Any], dict[str, Array]]:
        raise NotImplementedError

    @classmethod
    def retold(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Finish:
        raise NotImplementedError
