"""XGBoost models, saved by `save_model` as JSON or UBJSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bimodal.errors import ModelError
from bimodal.field import Field
from bimodal.formats.boosters import xgboost_categories
from bimodal.formats.columns import Columns
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.library import library
from bimodal.rows import Array
from bimodal.runtimes.booster import Booster
from bimodal.runtimes.exact.readers import xgboost as reader
from bimodal.signature import Signature

LARGEST = float(np.finfo(np.float32).max)  # a matrix of XGBoost refuses what its float32 cannot hold
OLD = (b"binf", b"\x00\x00\x00?")  # the binary format of versions before 3, the latter with its usual base score
OLD_SUFFIXES = (".model", ".bin", ".xgb", ".deprecated")


class XGBoost(Format):
    name = "xgboost"
    describes = "XGBoost models (.json, .ubj)"

    def matches(self, path: str, head: bytes) -> bool:
        text = head.lstrip()
        return (text.startswith(b"{") and b"learner" in head) or _is_old(path, head)

    def load(self, source: Source) -> Loaded:
        booster = _read(source)
        model = Trained(booster, _columns(booster).named(source.features))
        fields, classes = model.outputs()
        columns = model.columns
        signature = Signature(columns.fields(), fields, classes, named=columns.names is not None)
        runtime = Booster(columns.feed(), model.ask, fields)
        return Loaded(
            runtime,
            signature,
            _versions(),
            model.told(),
            model.facts(),
            lower=lambda: reader.program(booster, signature, model.rounds),
        )


def _is_old(path: str, head: bytes) -> bool:
    return head.startswith(OLD[0]) or (head.startswith(OLD[1]) and Path(path).suffix.lower() in OLD_SUFFIXES)


def _read(source: Source) -> Any:
    xgboost = library("xgboost")
    data = source.file.read_bytes()
    if _is_old(source.path, data[:64]):
        raise ModelError(
            f"{source.path} is in XGBoost's old binary format, which its versions from 3 on cannot read; load it with "
            "the version that saved it (before 3) and save it again: booster.save_model('model.ubj')"
        )
    try:
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(data))  # by its content: from a file, its name would decide
        booster.set_param({"nthread": 1, "device": "cpu"})
        booster.num_features()
    except (xgboost.core.XGBoostError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{source.path} is no model that XGBoost {xgboost.__version__} can read ({_reason(error)})"
        ) from error
    return booster


def _reason(error: Exception) -> str:
    """The first line of an error of XGBoost, without the place in its source. Where it quotes bytes of the file that
    are no text, its Python part fails to read it."""
    words = error.object.decode(errors="replace") if isinstance(error, UnicodeDecodeError) else str(error)
    return words.splitlines()[0].rpartition("] ")[2][:200]


def _columns(booster: Any) -> Columns:
    names = tuple(booster.feature_names) if booster.feature_names else None
    known = {} if names is None else xgboost_categories(booster)
    return Columns(names, booster.num_features(), known, closed=True, most=LARGEST)


@dataclass(frozen=True)
class Trained:
    """A booster and what its file says of it."""

    booster: Any
    columns: Columns

    @cached_property
    def objective(self) -> str:
        return str(self._config["objective"]["name"])

    @cached_property
    def _config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = json.loads(self.booster.save_config())["learner"]
        return config

    @cached_property
    def rounds(self) -> int:
        """How many rounds of boosting answer; 0 means all. Where scikit-learn's interface saved the file, those up to
        the best one, as it answers itself; a Booster takes all."""
        best = self.booster.attr("best_iteration")
        return int(best) + 1 if best is not None and self.booster.attr("scikit_learn") is not None else 0

    def outputs(self) -> tuple[tuple[Field, ...], tuple[Any, ...] | None]:
        """The outputs and the classes. The file knows no labels: classes are numbered, as in the training."""
        shape = self._shape()
        if self.objective == "multi:softprob":
            classes = tuple(range(shape[0]))
            return (Field("prediction", "int64"), Field("probability", "float32", shape)), classes
        if self.objective == "binary:logistic":
            if shape:  # several targets, each with a probability of its own
                return (Field("prediction", "int64", shape), Field("probability", "float32", shape)), None
            return (Field("prediction", "int64"), Field("probability", "float32", (2,))), (0, 1)
        if self.objective in ("multi:softmax", "binary:hinge"):
            return (Field("prediction", "int64", shape),), None
        return (Field("prediction", "float32", shape),), None

    def _shape(self) -> tuple[int, ...]:
        row = np.zeros((1, self.columns.width))
        answer = self.booster.predict(self._matrix(row), iteration_range=(0, self.rounds))
        return tuple(answer.shape[1:])

    def ask(self, data: Any, outputs: Sequence[str]) -> dict[str, Array]:
        raw = self.booster.predict(self._matrix(data), iteration_range=(0, self.rounds))
        if self.objective == "multi:softprob":
            return {"prediction": raw.argmax(axis=1), "probability": raw}
        if self.objective == "binary:logistic":
            pair = np.stack([1.0 - raw, raw], axis=1) if raw.ndim == 1 else raw
            return {"prediction": (raw > 0.5).astype(np.int64), "probability": pair}
        return {"prediction": raw}

    def _matrix(self, data: Any) -> Any:
        xgboost = library("xgboost")
        if not isinstance(data, np.ndarray):
            return xgboost.DMatrix(data, nthread=1, enable_categorical=True)
        booster = self.booster
        return xgboost.DMatrix(
            data, nthread=1, feature_names=booster.feature_names, feature_types=booster.feature_types
        )

    def told(self) -> tuple[str, ...]:
        told = []
        coded = [
            place
            for place, kind in enumerate(self.booster.feature_types or ())
            if kind == "c" and place not in self.columns.categories
        ]
        if coded:
            names = self.columns.names or [f"number {place + 1}" for place in range(self.columns.width)]
            told.append(
                f"the file does not hold the categories of {', '.join(names[place] for place in coded[:8])}: "
                "those columns take the categories' codes, counted from 0"
            )
        if self.booster.attr("best_iteration") is not None and not self.rounds:
            told.append(
                f"training stopped early, best at round {int(self.booster.attr('best_iteration')) + 1} of "
                f"{self.booster.num_boosted_rounds()}; as Booster.predict does, all of them answer"
            )
        return tuple(told)

    def facts(self) -> dict[str, Any]:
        return {
            "booster": self._config["gradient_booster"]["name"],
            "objective": self.objective,
            "rounds": self.rounds or self.booster.num_boosted_rounds(),
        }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    return {**versions, "xgboost": str(library("xgboost").__version__)}
