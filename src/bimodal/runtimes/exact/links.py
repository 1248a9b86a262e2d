"""Links: the formulas from raw scores to outputs, each as the library writes it, so that the bits are its own.

A link is one function for each output that it gives, `(raw, finish) -> column`; only those that are asked for run.
raw is float64 [rows, k] in C order (float32 where the library itself works in it). A function never writes into raw.
NumPy sums a row of a C-ordered array in an order that does not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bimodal.rows import Array, Column
from bimodal.runtimes.exact.boosted import BOOSTED
from bimodal.runtimes.exact.built import kernels

if TYPE_CHECKING:
    from bimodal.runtimes.exact.finish import Finish

QUIET = np.errstate(over="ignore", invalid="ignore")  # an infinite score is an answer, and no reason to warn
Formula = Callable[[Array, "Finish"], Column]


def plain(raw: Array, finish: Finish) -> Array:
    """The raw scores themselves: [rows] where there is one, else [rows, k]."""
    return raw[:, 0] if raw.shape[1] == 1 else raw


def positive(raw: Array, finish: Finish) -> Column:
    """The label of the sign of one score: the second class above 0."""
    if len(raw) == 1:
        return finish.label(raw.item() > 0)
    return finish.labelled((raw[:, 0] > 0).view(np.int8))


def largest(raw: Array, finish: Finish) -> Column:
    """The label of the largest of k scores, the first of equal ones."""
    return finish.labelled(raw.argmax(axis=1))


def label(raw: Array, finish: Finish) -> Column:
    """The label of one score by its sign, of several by the largest."""
    return positive(raw, finish) if raw.shape[1] == 1 else largest(raw, finish)


def logistic(raw: Array, finish: Finish) -> Array:
    """Probabilities of two classes from one score: 1 - expit(raw), expit(raw)."""
    out = np.empty((len(raw), 2))
    kernels.logistic(raw, out)
    return out


@QUIET
def softmax(raw: Array, finish: Finish) -> Array:
    """exp(raw - its row's largest), divided by the row's sum."""
    out: Array = raw - raw.max(axis=1).reshape(-1, 1)
    np.exp(out, out=out)
    out /= out.sum(axis=1).reshape(-1, 1)
    return out


def one_by_one(raw: Array, finish: Finish) -> Array:
    """expit of every score, divided by the row's sum; equal shares where all are 0."""
    return _shares(expit(raw))


def expit(raw: Array) -> Array:
    """1 / (1 + exp(-raw)), with the bits of scipy.special.expit."""
    out = np.empty(raw.shape)
    kernels.expit(raw, out)
    return out


def clipped(raw: Array, finish: Finish) -> Array:
    """(clip(raw, -1, 1) + 1) / 2 (loss "modified_huber"): of two classes the second's, of several divided by the row's
    sum."""
    share = np.clip(raw, -1, 1)
    share += 1.0
    share /= 2.0
    if raw.shape[1] > 1:
        return _shares(share)
    out = np.ones((len(raw), 2))
    out[:, 1] = share[:, 0]
    out[:, 0] -= share[:, 0]
    return out


def _shares(values: Array) -> Array:
    total = values.sum(axis=1)
    empty = total == 0
    if empty.any():
        values[empty] = 1
        total[empty] = values.shape[1]
    values /= total.reshape(-1, 1)
    return values


@QUIET
def exponential(raw: Array, finish: Finish) -> Array:
    return np.asarray(np.exp(plain(raw, finish)))


# -- trees -------------------------------------------------------------------------------------------------------------


def mean(raw: Array, finish: Finish) -> Array:
    """Sums over trees, divided by their number."""
    return plain(raw, finish) / finish.numbers["trees"]


def shares(raw: Array, finish: Finish) -> Array:
    """Sums of the trees' probabilities, divided by the number of trees."""
    return raw / finish.numbers["trees"]


def likeliest(raw: Array, finish: Finish) -> Column:
    """The class of the largest share. Shares may be equal where their sums are not, so they are divided first."""
    return largest(shares(raw, finish), finish)


def not_negative(raw: Array, finish: Finish) -> Column:
    """The label of the sign of one score: the second class from 0 on."""
    return finish.labelled((raw[:, 0] >= 0).view(np.int8))


def half_logistic(raw: Array, finish: Finish) -> Array:
    """Probabilities of two classes from one score of exponential loss: expit(2 raw) is the second's."""
    return logistic(2 * raw, finish)


def softmax_columns(raw: Array, finish: Finish) -> Array:
    """softmax whose sum is made from left to right, as NumPy does where each column lies by itself."""
    out: Array = raw - raw.max(axis=1).reshape(-1, 1)
    np.exp(out, out=out)
    total = out[:, 0].copy()
    for column in range(1, out.shape[1]):
        total += out[:, column]
    out /= total.reshape(-1, 1)
    return out


def several_likeliest(raw: Array, finish: Finish) -> Array:
    """Of each of several outputs its likeliest class: [rows, outputs]."""
    kind = finish.fields["prediction"]
    classes = finish.classes or ()
    out = np.empty((len(raw), len(classes)), object if kind in ("string", "any") else kind)
    for place, labels in enumerate(classes):
        out[:, place] = np.array(labels, out.dtype).take(_output(raw, finish, place).argmax(axis=1))
    return out


def _output(raw: Array, finish: Finish, place: int) -> Array:
    """The shares of one of several outputs, which stand side by side."""
    classes = finish.classes or ()
    start = sum(len(labels) for labels in classes[:place])
    return np.asarray(raw[:, start : start + len(classes[place])] / finish.numbers["trees"])


class SeveralShares(Mapping[str, Formula]):
    """The formulas of several classifications at once: prediction, probability_0, probability_1, …"""

    def __getitem__(self, name: str) -> Formula:
        if name == "prediction":
            return several_likeliest
        place = int(name.removeprefix("probability_"))
        return lambda raw, finish: _output(raw, finish, place)

    def __iter__(self) -> Iterator[str]:
        return iter(("prediction",))

    def __len__(self) -> int:
        return 1


def anomaly(raw: Array, finish: Finish) -> Array:
    """How far from an outlier, by the mean depth at which rows are alone: negative ones are outliers."""
    depths = finish.numbers["depths"]
    shallow = raw[:, 0] / depths if depths != 0 else np.ones(len(raw))
    return np.asarray(-(2 ** (-shallow)) - finish.numbers["offset"])


def inlier(raw: Array, finish: Finish) -> Array:
    """1, or -1 for an outlier."""
    return np.where(anomaly(raw, finish) < 0, np.int64(-1), np.int64(1))


# NumPy's own functions from a changed target back to itself, by their names.
AFTER: dict[str, Callable[[Any], Any]] = {
    name: QUIET(getattr(np, name)) for name in ("exp", "exp2", "expm1", "sqrt", "square", "negative", "reciprocal")
}

# By name of the link, then of the output.
LINKS: dict[str, Mapping[str, Formula]] = {
    "identity": {"prediction": plain},
    "exponential": {"prediction": exponential},
    "score": {"prediction": label, "score": plain},
    "logistic": {"prediction": positive, "probability": logistic},
    "softmax": {"prediction": largest, "probability": softmax},
    "one_by_one": {"prediction": largest, "probability": one_by_one},
    "clipped": {"prediction": label, "probability": clipped},
    "mean": {"prediction": mean},
    "shares": {"prediction": likeliest, "probability": shares},
    "several_shares": SeveralShares(),
    "not_negative": {"prediction": not_negative, "probability": logistic},
    "half_logistic": {"prediction": not_negative, "probability": half_logistic},
    "softmax_columns": {"prediction": largest, "probability": softmax_columns},
    "isolation": {"prediction": inlier, "score": anomaly},
    **BOOSTED,
}
