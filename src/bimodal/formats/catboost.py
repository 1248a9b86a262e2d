"""CatBoost models, saved by `save_model` in its own format."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bimodal.errors import ModelError
from bimodal.field import INTEGERS, Field
from bimodal.formats.boosters import catboost_names, catboost_types
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.library import library
from bimodal.formats.probe import Probe, example_rows
from bimodal.formats.routes import Claim, Feature
from bimodal.rows import Array
from bimodal.runtimes import estimator as native
from bimodal.runtimes.booster import Booster
from bimodal.runtimes.estimator import Feed
from bimodal.signature import Signature

HEAD = b"CBM1"
POSITIVE = ("Poisson", "Tweedie")  # its regressor answers exp(raw) for these
UNCERTAIN = "RMSEWithUncertainty"
PARTED = ("MultiLogloss", "MultiCrossEntropy")  # each class has a probability of its own: several labels a row


class CatBoost(Format):
    name = "catboost"
    describes = "CatBoost models (.cbm)"

    def matches(self, path: str, head: bytes) -> bool:
        return head.startswith(HEAD)

    def load(self, source: Source) -> Loaded:
        model = Trained(_read(source), source)
        inputs, feed, names = model.inputs()
        with _readable(source):
            model.booster.predict(feed(example_rows(inputs)))  # what it cannot answer is known at once
        fields, classes = model.outputs(feed(example_rows(inputs, 2)))
        signature = Signature(model.settled(inputs, feed), fields, classes, named=names is not None)
        facts = {"loss": model.loss, "trees": model.booster.tree_count_}
        return Loaded(Booster(feed, model.ask, fields), signature, _versions(), facts=facts)


def _read(source: Source) -> Any:
    model = library("catboost").CatBoost()
    with _readable(source):
        model.load_model(source.path, format="cbm")
    return model


@contextmanager
def _readable(source: Source) -> Iterator[None]:
    """Part of what a file holds is read at its first answer."""
    catboost = library("catboost")
    try:
        yield
    except (catboost.CatBoostError, ValueError) as error:  # also of words in it that are no text, or no JSON
        reason = (str(error).splitlines() or [""])[0].rpartition("): ")[2][:200]
        raise ModelError(
            f"{source.path} is no model that CatBoost {catboost.__version__} can read ({reason})"
        ) from error


@dataclass(frozen=True)
class Trained:
    """A model of CatBoost and what its file says of it."""

    booster: Any
    source: Source

    @cached_property
    def loss(self) -> str:
        with _readable(self.source):
            told = json.loads(self.booster.get_metadata().get("params", "{}"))
            loss = told.get("loss_function", {}) if isinstance(told, dict) else told
            if not isinstance(loss, dict):
                raise ValueError("its loss is named by no text")
        return str(loss.get("type", ""))

    @cached_property
    def classes(self) -> tuple[Any, ...]:
        """The labels in the order of the probabilities; () where it is no classifier."""
        return tuple(np.asarray(self.booster.classes_).tolist())

    @cached_property
    def names(self) -> tuple[str, ...] | None:
        """None where it was trained on an array: CatBoost then calls its columns 0, 1, …"""
        return catboost_names(self.booster) or self.source.features

    def inputs(self) -> tuple[tuple[Field, ...], Feed, tuple[str, ...] | None]:
        """The inputs before the model was asked what it takes, the way to feed it, and the columns' names."""
        booster, names = self.booster, self.names
        width = len(booster.feature_names_)
        if names is not None and len(names) != width:
            raise ModelError(f"--features names {len(names)} columns; the model has {width} features")
        if booster.get_embedding_feature_indices():
            raise ModelError(f"{self.source.path} takes embeddings as features, which a table's columns cannot hold")
        types = catboost_types(booster)
        if not types and names is None:
            return (Field("input", "float64", (width,), example=[0.0] * width),), native.vector("input"), None
        called = names or tuple(f"x{place}" for place in range(width))
        fields = tuple(self._field(name, str(types.get(place, "float64"))) for place, name in enumerate(called))
        if not types:
            return fields, native.stacked(called), names
        if names is None:
            return fields, native.mixed(called, dict.fromkeys(called)), None
        library("pandas")
        opaque = frozenset(each.name for each in fields if each.type == "any")
        return fields, native.Frame(fields, dict.fromkeys(called), opaque), names

    def _field(self, name: str, kind: str) -> Field:
        """Where the model takes numbers for text, the sample tells the type."""
        if kind == "float64":
            return Field(name, kind, example=0.0)
        sample = next((each for each in self.source.sample or () if each.name == name), None)
        if kind == "any" and sample is not None and sample.type in (*INTEGERS, "string"):
            return Field(name, sample.type, example=sample.example)
        return Field(name, kind, example="text")

    def settled(self, inputs: tuple[Field, ...], feed: Feed) -> tuple[Field, ...]:
        """The inputs with what the model was seen to take: nulls, infinity."""
        features = [Feature([Claim(each.type, 0 if each.type == "float64" else 1)]) for each in inputs]
        return Probe(self.booster, "predict", feed, bare=False).settle(inputs, features)

    def outputs(self, data: Any) -> tuple[tuple[Field, ...], tuple[Any, ...] | None]:
        answers = self.ask(data, ())
        prediction = answers["prediction"]
        fields = [Field("prediction", native.type_of(prediction), prediction.shape[1:])]
        if "probability" in answers:
            fields.append(Field("probability", "float64", answers["probability"].shape[1:]))
        return tuple(fields), self.classes or None

    def ask(self, data: Any, outputs: Sequence[str]) -> dict[str, Array]:
        """The named outputs, all where none is named."""
        wanted = outputs or ("prediction", "probability")
        if not self.classes:
            return {"prediction": self._predict(data, self._kind)}
        answers = {}
        if "prediction" in wanted:
            labels = self._predict(data, "Class")
            answers["prediction"] = labels[:, 0] if labels.ndim == 2 and self.loss not in PARTED else labels
        if "probability" in wanted:
            answers["probability"] = self._predict(data, "Probability")
        return answers

    @property
    def _kind(self) -> str:
        """As CatBoost's regressor answers."""
        if self.loss in POSITIVE:
            return "Exponent"
        return UNCERTAIN if self.loss == UNCERTAIN else "RawFormulaVal"

    def _predict(self, data: Any, kind: str) -> Array:
        return np.asarray(self.booster.predict(data, prediction_type=kind, thread_count=1))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    return {**versions, "catboost": str(library("catboost").__version__)}
