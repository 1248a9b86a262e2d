"""LightGBM models, saved by `save_model` as text."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bimodal.errors import ModelError
from bimodal.field import FLOATS, Field
from bimodal.formats.boosters import lightgbm_categories, spelled
from bimodal.formats.columns import Columns
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.library import library
from bimodal.rows import Array
from bimodal.runtimes.booster import Booster
from bimodal.runtimes.exact.readers import lightgbm as reader
from bimodal.runtimes.exact.readers.modeltext import ModelText
from bimodal.signature import Signature

HEADS = (b"tree\nversion=", b"tree\r\nversion=")
TREES, CATEGORIES = "\nend of trees", "\npandas_categorical:"


class LightGBM(Format):
    name = "lightgbm"
    describes = "LightGBM models (.txt)"

    def matches(self, path: str, head: bytes) -> bool:
        return head.startswith(HEADS)

    def load(self, source: Source) -> Loaded:
        booster = _read(source)
        text = ModelText.of(booster)
        columns = _columns(booster, text, source)
        model = Trained(booster, text)
        fields, classes = model.outputs()
        signature = Signature(columns.fields(), fields, classes, named=columns.names is not None)
        runtime = Booster(columns.feed(), model.ask, fields)
        facts = {"objective": text.objective or "custom", "trees": booster.num_trees()}
        return Loaded(
            runtime, signature, _versions(), model.told(), facts, lower=lambda: reader.program(booster, signature)
        )


def _read(source: Source) -> Any:
    lightgbm = library("lightgbm")
    lightgbm.register_logger(_Silent())
    try:
        text = source.file.read_text("utf-8")
        _require_whole(source.path, text)
        return lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(
            f"{source.path} is no model that LightGBM {lightgbm.__version__} can read "
            f"({(str(error).splitlines() or [''])[0][:200]})"
        ) from error


def _require_whole(path: str, text: str) -> None:
    """Raise ModelError where the file was cut off: the library crashes on some such files, and loses the categories of
    others without a word."""
    _, mark, told = text.rpartition(CATEGORIES)
    whole = TREES in text.replace("\r", "")
    if mark and whole:
        try:
            json.loads(told)
        except ValueError:
            whole = False
    if not whole:
        raise ModelError(
            f"{path} is cut off: a LightGBM model ends with its trees and categories; save or copy it again"
        )


class _Silent:
    """LightGBM's words go nowhere: what matters it raises."""

    def info(self, words: str) -> None:
        return

    def warning(self, words: str) -> None:
        return


def _columns(booster: Any, text: ModelText, source: Source) -> Columns:
    names = spelled(booster.feature_name(), (*(source.features or ()), *(each.name for each in source.sample or ())))
    known = lightgbm_categories(booster, text)
    if known is None:
        known = dict(zip(_seen(names, source), booster.pandas_categorical, strict=False))
        if len(known) != len(booster.pandas_categorical):
            raise ModelError(
                f"{source.path} was trained with {len(booster.pandas_categorical)} columns of categories, and does not "
                "say which; --sample FILE shows them (as text)"
            )
    if names == tuple(f"Column_{place}" for place in range(len(names))) and not known:
        return Columns(None, len(names)).named(source.features)
    return Columns(names, len(names), known)


def _seen(names: Sequence[str], source: Source) -> tuple[int, ...]:
    """The places of the columns that are no numbers in the sample."""
    types = {each.name: each.type for each in source.sample or ()}
    return tuple(place for place, name in enumerate(names) if types.get(name, FLOATS[0]) in ("string", "any", "bool"))


@dataclass(frozen=True)
class Trained:
    """A booster and its own text."""

    booster: Any
    text: ModelText

    @property
    def kind(self) -> str:
        """The objective without its parameters."""
        return self.text.objective.partition(" ")[0]

    def outputs(self) -> tuple[tuple[Field, ...], tuple[Any, ...] | None]:
        """The outputs and the classes. The file knows no labels: classes are numbered, as in the training."""
        width = self.text.classes
        if self.kind == "binary":
            return (Field("prediction", "int64"), Field("probability", "float64", (2,))), (0, 1)
        if self.kind in ("multiclass", "multiclassova"):
            return (Field("prediction", "int64"), Field("probability", "float64", (width,))), tuple(range(width))
        return (Field("prediction", "float64", (width,) if width > 1 else ()),), None

    def ask(self, data: Any, outputs: Sequence[str]) -> dict[str, Array]:
        raw = np.asarray(self.booster.predict(data, num_threads=1))
        if self.kind == "binary":
            raw = np.stack([1.0 - raw, raw], axis=1)
        if self.kind in ("binary", "multiclass", "multiclassova"):
            return {"prediction": raw.argmax(axis=1), "probability": raw}
        return {"prediction": raw}

    def told(self) -> tuple[str, ...]:
        if self.text.objective:
            return ()
        return ("it learnt an objective of its own: prediction is its raw score",)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    return {**versions, "lightgbm": str(library("lightgbm").__version__)}
