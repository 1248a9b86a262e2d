"""Tally: what the measures of quality need of a chunk, in few bytes; made in any thread, added up at the end.

Counts are integers and sums are exact, so the figures do not depend on how the rows were cut into chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bimodal.batch.ranks import Pack, pack
from bimodal.batch.sources.contract import MISSING
from bimodal.batch.sums import exact_sum, packed, square, unpacked
from bimodal.batch.targets import MISSING_CODE, Labels, kind_of, labels_of, numbers_of, words
from bimodal.field import FLOATS
from bimodal.rows import Rows
from bimodal.signature import Signature
from bimodal.table import arrow_column

CURVES = 16  # classes up to which each has its ROC curve: 5 to 8 bytes a row and class
STRANGE = 20  # labels told that the model does not know
UNNAMED = 200  # labels told of a model that does not say which it has
OTHERS = -1  # the label of all further ones

Label = int | str
"""A class by its place, or a label that the model does not know; OTHERS for those beyond."""


class Tally(msgspec.Struct, array_like=True):
    """One target of one chunk.

    kind: labels, numbers, or why there is nothing to measure. rows: predicted. labelled: those with a target and a
    prediction. unreadable: with a target that is none of its kind. unscored: with a target, and a prediction or
    probabilities that are missing. kinds: what the target's values are. pairs: how often a label was right and another
    predicted. loss: the sum of the log losses, scored: of how many rows. packs: the probabilities, a class each (of two
    classes the second's). sums: of the errors, of their magnitudes and squares, of the targets, of their squares.
    """

    kind: str
    rows: int = 0
    labelled: int = 0
    unreadable: int = 0
    unscored: int = 0
    kinds: list[str] = []
    pairs: list[tuple[Label, Label, int]] = []
    loss: bytes = b""
    scored: int = 0
    packs: list[Pack] = []
    sums: list[bytes] = []


decode = msgspec.msgpack.Decoder(list[Tally]).decode


def wanted(signature: Signature, outputs: Sequence[str]) -> tuple[str, ...]:
    """These outputs, and what a measure of quality needs beside them, where the model has it."""
    more = [each.name for each in signature.outputs if each.name.startswith(("prediction", "probability"))]
    return tuple(dict.fromkeys([*outputs, *more]))


def scored_of(
    target: pa.ChunkedArray | pa.Array,
    answer: Rows,
    signature: Signature,
    *,
    missing: Collection[str] = MISSING,
    mark: str = ".",
) -> bytes:
    """A chunk's tally, as bytes to keep.

    target: the right answers of the rows predicted. answer: the outputs that `wanted` names. missing: words for a
    missing value. mark: the decimal mark of a target that is text. Raises nothing for what the target holds.
    """
    if "prediction" not in answer:
        return msgspec.msgpack.encode([Tally("the model has no prediction to compare the target with")])
    prediction = answer.array("prediction")
    several = prediction.shape[1] if prediction.ndim == 2 else 0
    if not several:
        probability = answer.array("probability") if "probability" in answer else None
        return msgspec.msgpack.encode([_tally(target, prediction, probability, signature, None, missing, mark)])
    columns = _spread(target, several)
    if columns is None:
        reason = f"the model predicts {several} targets, and one column of {words(target.type)} was named"
        return msgspec.msgpack.encode([Tally(f"{reason}; a column of lists of {several} values would be measured")])
    tallies = []
    for place, column in enumerate(columns):
        name = f"probability_{place}"
        probability = answer.array(name) if name in answer else None
        each = np.ascontiguousarray(prediction[:, place])
        tallies.append(_tally(column, each, probability, signature, place, missing, mark))
    return msgspec.msgpack.encode(tallies)


def classes_of(signature: Signature, place: int | None) -> tuple[Any, ...] | None:
    """The classes, of a model of several targets those of one."""
    classes = signature.classes
    if classes is None or place is None:
        return classes
    return classes[place] if place < len(classes) and isinstance(classes[place], tuple) else None


def _tally(
    target: pa.ChunkedArray | pa.Array,
    prediction: NDArray[Any],
    probability: NDArray[Any] | None,
    signature: Signature,
    place: int | None,
    missing: Collection[str],
    mark: str,
) -> Tally:
    if prediction.ndim > 1:
        return Tally("a prediction is no single value, so there is nothing to compare with a column")
    classes, type_ = classes_of(signature, place), signature.output("prediction").type
    if classes is None and (type_ in FLOATS or prediction.dtype.kind == "f"):
        return _numbers(target, prediction.astype(np.float64), missing, mark)
    kind = kind_of(classes or (), type_)
    right = labels_of(target, classes or (), kind, missing)
    given = labels_of(arrow_column(prediction), classes or (), kind, ())
    return _labels(right, given, len(classes) if classes else 0, probability)


# -- labels -----------------------------------------------------------------------------------------------------------


def _labels(right: Labels, given: Labels, known: int, probability: NDArray[Any] | None) -> Tally:
    told = (right.codes != MISSING_CODE) & (given.codes != MISSING_CODE)
    tally = Tally("labels", len(right.codes), int(told.sum()), kinds=[right.kind])
    tally.unscored = int(((right.codes != MISSING_CODE) & ~told).sum())
    tally.pairs = _pairs(right, given, known, told)
    if known < 2 or probability is None or probability.ndim != 2 or probability.shape[1] != known:
        return tally
    judged = told & (right.codes < known)
    sound = judged & np.isfinite(probability).all(axis=1)
    tally.unscored += int((judged & ~sound).sum())
    _score(tally, probability[sound], right.codes[sound])
    return tally


def _score(tally: Tally, probability: NDArray[Any], codes: NDArray[np.int64]) -> None:
    """Log loss as scikit-learn defines it, clipped at the type's epsilon; the scores of each class, packed."""
    known = probability.shape[1]
    least = float(np.finfo(probability.dtype if probability.dtype.kind == "f" else np.float64).eps)
    floats = probability.astype(np.float64, copy=False)
    own = np.ascontiguousarray(floats[np.arange(len(codes)), codes])
    tally.scored, tally.loss = len(codes), packed(exact_sum(-np.log(np.clip(own, least, 1 - least))))
    if known <= CURVES:
        places = [1] if known == 2 else range(known)
        tally.packs = [pack(np.ascontiguousarray(floats[:, place]), codes == place) for place in places]


def _pairs(right: Labels, given: Labels, known: int, told: NDArray[np.bool_]) -> list[tuple[Label, Label, int]]:
    """How often each label met each prediction."""
    strange = sorted({*right.strange, *given.strange})
    places = {label: known + place for place, label in enumerate(strange)}
    width = known + len(strange)
    one, other = (_moved(each, known, places)[each.codes[told]] for each in (right, given))
    met, counts = np.unique(one * width + other, return_counts=True)
    names: list[Label] = [*range(known), *strange]
    pairs = Counter[tuple[Label, Label]]()
    for code, count in zip(met.tolist(), counts.tolist(), strict=True):
        pairs[names[code // width], names[code % width]] = count
    return [(*pair, count) for pair, count in told_apart(pairs, known).items()]


def _moved(labels: Labels, known: int, places: dict[str, int]) -> NDArray[np.int64]:
    """From a column's own codes to those in common."""
    return np.array([*range(known), *(places[label] for label in labels.strange)], np.int64)


def told_apart(pairs: Counter[tuple[Label, Label]], known: int) -> Counter[tuple[Label, Label]]:
    """The pairs with the first strange labels in the order of their texts; all others are one. What is kept so of a
    part is enough for the whole: a label among the first of all is among the first of each part.
    """
    strange = sorted({label for pair in pairs for label in pair if isinstance(label, str)})
    most = STRANGE if known else UNNAMED
    if len(strange) <= most:
        return pairs
    beyond = set(strange[most:])
    merged = Counter[tuple[Label, Label]]()
    for (one, other), count in pairs.items():
        merged[OTHERS if one in beyond else one, OTHERS if other in beyond else other] += count
    return merged


# -- numbers ----------------------------------------------------------------------------------------------------------


def _numbers(
    target: pa.ChunkedArray | pa.Array, prediction: NDArray[np.float64], missing: Collection[str], mark: str
) -> Tally:
    numbers = numbers_of(target, missing, mark)
    there = ~np.isnan(numbers.values)
    sound = there & np.isfinite(prediction)
    right, given = numbers.values[sound], prediction[sound]
    with np.errstate(over="ignore", invalid="ignore"):
        errors = given - right
        columns = [errors, np.abs(errors), errors * errors, right, *square(right)]
    tally = Tally("numbers", len(prediction), int(sound.sum()), numbers.unreadable, kinds=[numbers.kind])
    tally.unscored = int((there & ~sound).sum())
    if all(np.isfinite(each).all() for each in columns):
        one, magnitude, squared, plain, upper, lower = (exact_sum(each) for each in columns)
        tally.sums = [packed(each) for each in (one, magnitude, squared, plain, upper + lower)]
    else:
        tally.sums = [b"-"]  # too large to be squared
    return tally


# -- adding up --------------------------------------------------------------------------------------------------------


class Total:
    """The tallies of all chunks in one, but for the packed scores, which stay where they are."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rows = self.labelled = self.unreadable = self.unscored = self.scored = self.loss = 0
        self.kinds: set[str] = set()
        self.pairs = Counter[tuple[Label, Label]]()
        self.curves = 0
        self.sums: list[int] | None = [0] * 5

    def add(self, tally: Tally, known: int) -> None:
        """known: how many classes the model has."""
        self.rows += tally.rows
        self.labelled += tally.labelled
        self.unreadable += tally.unreadable
        self.unscored += tally.unscored
        self.scored += tally.scored
        self.loss += unpacked(tally.loss)
        self.kinds.update(tally.kinds)
        self.curves = max(self.curves, len(tally.packs))
        for one, other, count in tally.pairs:
            self.pairs[one, other] += count
        self.pairs = told_apart(self.pairs, known)
        if tally.sums == [b"-"]:
            self.sums = None
        elif tally.sums and self.sums is not None:
            self.sums = [mine + unpacked(more) for mine, more in zip(self.sums, tally.sums, strict=True)]


def _spread(target: pa.ChunkedArray | pa.Array, width: int) -> list[pa.Array] | None:
    """A column of lists as columns, a list of another length being none; None where it holds no lists."""
    array = target.combine_chunks() if isinstance(target, pa.ChunkedArray) else target
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    kind = array.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    fits = np.asarray(pc.equal(pc.list_value_length(array), width).fill_null(False))
    values = array.filter(pa.array(fits)).flatten()
    rank = np.cumsum(fits) - 1
    return [values.take(pa.array(rank * width + place, mask=~fits)) for place in range(width)]
