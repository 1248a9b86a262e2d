"""Finish: from raw scores to the model's outputs, by the formula that the library itself uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bimodal.rows import Array, Column, Dictionary, Rows
from bimodal.runtimes.exact.links import AFTER, LINKS


@dataclass(frozen=True)
class Finish:
    """link: the name of the formula, in `links.LINKS`. classes: the labels. fields: type of each output, by name, in
    the signature's order. numbers: what the formula needs beside (a divisor, …); with a "threshold", the prediction is
    the class at "positive" where its probability reaches it. after: the function that gives the prediction back on the
    target's own scale, in `links.AFTER`.
    """

    link: str
    fields: dict[str, str]
    classes: tuple[Any, ...] | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    after: str | None = None

    def outputs(self, raw: Array, names: Sequence[str]) -> Rows:
        """The named outputs of raw scores [rows, k]."""
        formulas = LINKS[self.link]
        if self.after is not None:
            return Rows({"prediction": AFTER[self.after](formulas["prediction"](raw, self))}, len(raw))
        if "threshold" not in self.numbers:
            return Rows({name: formulas[name](raw, self) for name in names}, len(raw))
        made: dict[str, Column] = {"probability": formulas["probability"](raw, self)}
        if "prediction" in names:
            made["prediction"] = self._at_threshold(made["probability"])
        return Rows({name: made[name] for name in names}, len(raw))

    def _at_threshold(self, probability: Any) -> Column:
        positive = int(self.numbers["positive"])
        reached = probability[:, positive] >= self.numbers["threshold"]
        return self.labelled(np.where(reached, positive, 1 - positive))

    def label(self, code: int) -> Column:
        """The label of one row."""
        if self.fields["prediction"] == "string":
            return Dictionary(np.array([code], np.int32), self.labels)
        return self.labels[code : code + 1].copy()

    def labelled(self, codes: Array) -> Column:
        """The labels of these classes (their places, any integer type): text as a Dictionary."""
        if self.fields["prediction"] == "string":
            return Dictionary(codes.astype(np.int32), self.labels)
        return self.labels.take(codes)

    @cached_property
    def labels(self) -> Array:
        """The classes as an array of the prediction's type."""
        kind = self.fields["prediction"]
        made = np.empty(len(self.classes or ()), object if kind in ("string", "any") else kind)
        made[:] = self.classes
        return made

    def told(self) -> tuple[dict[str, Any], dict[str, Array]]:
        classes = None if self.classes is None else list(self.classes)
        told = {"link": self.link, "fields": self.fields, "classes": classes, "numbers": self.numbers}
        return {**told, "after": self.after}, {}

    @classmethod
    def retold(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Finish:
        if values["link"] not in LINKS:
            raise ValueError(f"no link is called {values['link']!r}")
        if values["after"] is not None and values["after"] not in AFTER:
            raise ValueError(f"no function is called {values['after']!r}")
        classes = None if values["classes"] is None else tuple(values["classes"])
        return cls(values["link"], dict(values["fields"]), classes, dict(values["numbers"]), values["after"])
