"""Estimators whose rows are neither numbers in columns nor texts: dicts, labels, sets of labels, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bimodal.errors import ModelError
from bimodal.field import Field
from bimodal.formats import estimators
from bimodal.formats.routes import Claim, Feature
from bimodal.runtimes import estimator as native
from bimodal.runtimes.estimator import Feed
from bimodal.signature import Signature

PLACES = "it cannot say {what}: {taken} are taken"


@dataclass(frozen=True)
class Unusual:
    """How such an estimator takes rows: its signature without outputs, the feed, what is known of each column."""

    signature: Signature
    feed: Feed
    features: tuple[Feature, ...]
    told: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Any, sample: Sequence[Field] | None) -> Unusual | None:
        """None where the first estimator to look at the rows is none of these."""
        front = estimators.first(model)
        names = estimators.names_of(front)
        if "DictVectorizer" in names:
            return cls._dicts(front)
        if "FeatureHasher" in names:
            return cls._hashed(front, sample)
        if names & {"LabelEncoder", "LabelBinarizer"}:
            return cls._labels(front)
        if "MultiLabelBinarizer" in names:
            return cls._sets(front)
        return cls._images(front) if "PatchExtractor" in names else None

    @classmethod
    def _dicts(cls, front: Any) -> Unusual:
        """A DictVectorizer's names tell its columns: `age` is a number, `city=Oslo` a category of the text `city`."""
        known: dict[str, list[str] | None] = {}
        for each in front.feature_names_:
            name, written, category = str(each).partition(front.separator)
            if not written:
                known[name] = None
                continue
            kept = known.setdefault(name, [])
            if kept is not None:
                kept.append(category)
        fields, features = [], []
        for name, categories in known.items():
            text = categories is not None
            claim = Claim("string" if text else "float64", id(front), tuple(categories) if categories else None)
            example = categories[0] if categories else 0.0
            fields.append(Field(name, claim.type, categories=claim.categories, example=example))
            features.append(Feature([claim]))
        return cls(Signature(tuple(fields), ()), native.records(list(known)), tuple(features))

    @classmethod
    def _hashed(cls, front: Any, sample: Sequence[Field] | None) -> Unusual:
        """A FeatureHasher knows no names at all: the sample's columns are its keys, or, of texts, its words."""
        if not sample:
            raise ModelError("a FeatureHasher takes any names and tells none; --sample FILE shows its columns")
        names = [each.name for each in sample]
        feed = native.words(names) if front.input_type == "string" else native.records(names)
        if front.input_type == "pair":
            feed = native.pairs(names)
        fields = tuple(Field(each.name, each.type, example=each.example) for each in sample)
        return cls(Signature(fields, ()), feed, tuple(Feature([Claim(each.type, id(front))]) for each in fields))

    @classmethod
    def _labels(cls, front: Any) -> Unusual:
        known = np.asarray(front.classes_)
        claim = Claim(_type(known), id(front), tuple(known.tolist()))
        field = Field("input", claim.type, categories=claim.categories, example=known.tolist()[0])
        return cls(Signature((field,), (), named=False), native.column("input"), (Feature([claim]),))

    @classmethod
    def _sets(cls, front: Any) -> Unusual:
        known = np.asarray(front.classes_)
        field = Field("input", _type(known), (-1,), example=known.tolist()[:1])
        told = PLACES.format(what="how many labels a row has", taken="rows of any one number of labels")
        signature = Signature((field,), (), named=False, open=True)
        return cls(signature, native.sets("input"), (Feature([Claim(field.type, id(front))]),), (told,))

    @classmethod
    def _images(cls, front: Any) -> Unusual:
        height, width = front.patch_size or (10, 10)
        field = Field("input", "float64", (-1, -1), example=np.zeros((height, width)).tolist())
        told = PLACES.format(what="how large its images are", taken="grey images of any one size")
        signature = Signature((field,), (), named=False, open=True)
        return cls(signature, native.vector("input"), (Feature([Claim("float64", id(front))]),), (told,))


def _type(labels: Any) -> str:
    kind = native.type_of(labels)
    return kind if kind in ("string", "bool", "float64") else "int64" if labels.dtype.kind in "iu" else "any"
