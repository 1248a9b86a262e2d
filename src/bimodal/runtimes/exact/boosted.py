"""Boosted: the links of XGBoost, which works in float32, and of LightGBM, in float64: the scores' type decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from bimodal.rows import Array, Column
from bimodal.runtimes.exact.built import kernels

if TYPE_CHECKING:
    from bimodal.runtimes.exact.finish import Finish

Formula = Callable[[Array, "Finish"], Column]
EXP, LOG, LOGISTIC, SOFTPLUS = range(4)  # as links.c counts them


def applied(formula: int, raw: Array, slope: float = 1.0) -> Array:
    """The formula of every score, by the C library's exp and log, in the type of the scores."""
    out = np.empty_like(raw)
    kernels.formula(raw, out, formula, slope)
    return out


def _flat(values: Array) -> Array:
    return values[:, 0] if values.shape[1] == 1 else values


def _slope(finish: Finish) -> float:
    return finish.numbers.get("slope", 1.0)


def score(raw: Array, finish: Finish) -> Array:
    return _flat(raw)


def share(raw: Array, finish: Finish) -> Array:
    """1 / (1 + exp(-slope * raw)) of each score."""
    return _flat(applied(LOGISTIC, raw, _slope(finish)))


def exponential(raw: Array, finish: Finish) -> Array:
    return _flat(applied(EXP, raw))


def softplus(raw: Array, finish: Finish) -> Array:
    """log(1 + exp(raw))."""
    return _flat(applied(SOFTPLUS, raw))


def square(raw: Array, finish: Finish) -> Array:
    """The square with the sign of the score: the target's square root was learnt."""
    values = _flat(raw)
    signed: Array = np.sign(values) * values * values
    return signed


def pair(raw: Array, finish: Finish) -> Array:
    """Probabilities of two classes from one score."""
    out = np.empty((len(raw), 2), raw.dtype)
    kernels.formula(raw, out, LOGISTIC, _slope(finish))
    return out


def above(raw: Array, finish: Finish) -> Column:
    """The label by the probability: the second class above one half."""
    return finish.labelled((applied(LOGISTIC, raw, _slope(finish))[:, 0] > 0.5).view(np.int8))


def sign(raw: Array, finish: Finish) -> Array:
    """1 above 0, else 0, of each score."""
    return (_flat(raw) > 0).astype(finish.fields["prediction"])


def likely(raw: Array, finish: Finish) -> Array:
    """1 where the probability of a target is above one half, else 0."""
    return (applied(LOGISTIC, raw) > 0.5).astype(finish.fields["prediction"])


def shares(raw: Array, finish: Finish) -> Array:
    """Probabilities of k classes from k scores."""
    out = np.empty_like(raw)
    kernels.shares(raw, out)
    return out


def best_share(raw: Array, finish: Finish) -> Column:
    """The label of the largest probability, the first of equal ones (scores that differ may give equal ones)."""
    return finish.labelled(shares(raw, finish).argmax(axis=1))


def best_one(raw: Array, finish: Finish) -> Column:
    """The same where each class has a probability of its own."""
    return finish.labelled(applied(LOGISTIC, raw, _slope(finish)).argmax(axis=1))


def best_score(raw: Array, finish: Finish) -> Array:
    """The number of the largest score."""
    best: Array = raw.argmax(axis=1)
    return best.astype(finish.fields["prediction"])


def of_rounds(formula: Formula) -> Formula:
    """The formula of the scores divided by the number of rounds, where the Finish tells it: a random forest's."""

    def divided(raw: Array, finish: Finish) -> Column:
        rounds = finish.numbers.get("rounds")
        return formula(raw if rounds is None else raw / rounds, finish)

    return divided


# By name of the link, then of the output.
OF_SUMS: dict[str, dict[str, Formula]] = {
    "boosted": {"prediction": score},
    "boosted logistic": {"prediction": share},
    "boosted exponential": {"prediction": exponential},
    "boosted softplus": {"prediction": softplus},
    "boosted square": {"prediction": square},
    "boosted sign": {"prediction": sign},
    "boosted largest": {"prediction": best_score},
    "boosted pair": {"prediction": above, "probability": pair},
    "boosted targets": {"prediction": likely, "probability": share},
    "boosted softmax": {"prediction": best_share, "probability": shares},
    "boosted one by one": {"prediction": best_one, "probability": share},
}
BOOSTED: dict[str, Mapping[str, Formula]] = {
    link: {name: of_rounds(formula) for name, formula in formulas.items()} for link, formulas in OF_SUMS.items()
}
