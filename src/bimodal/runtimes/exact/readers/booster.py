"""The columns of a booster as prepared ones: numbers as they are, categories as their codes in the training's order.

A booster stands alone, or as the last estimator of a pipeline.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.field import FLOATS, INTEGERS, Field
from bimodal.formats import boosters
from bimodal.runtimes.exact.prepare import Input, Lookup, Number, Op, Prepare, Prepared
from bimodal.runtimes.exact.readers.matrix import Looked, Matrix, Raw
from bimodal.signature import Signature


def prepared(signature: Signature, ops: tuple[Op, ...] = ()) -> Prepare:
    """One prepared column for each of the model's. ops: for the numbers. Raises NotCompiled."""
    vector = signature.vector
    if vector is not None and vector.shape[0] > 0:
        places = range(vector.shape[0])
        return Prepare(
            tuple(Input(vector.name, place) for place in places), tuple(Number(place, ops) for place in places)
        )
    inputs = tuple(Input(each.name) for each in signature.inputs)
    return Prepare(inputs, tuple(_column(place, each, ops) for place, each in enumerate(signature.inputs)))


def _column(place: int, each: Field, ops: tuple[Op, ...]) -> Prepared:
    if each.categories is not None:
        return Lookup(place, tuple(each.categories), codes(each.categories))
    if each.type not in (*FLOATS, *INTEGERS, "bool") or each.shape:
        raise NotCompiled(f"the column {each.name!r} of type {each.type} is no number")
    return Number(place, ops)


def codes(categories: tuple[Any, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The table of a Lookup: each category's code; any other and a null are missing values."""
    table = np.full((len(categories) + 2, 1), math.nan)
    table[: len(categories), 0] = np.arange(len(categories))
    return table


def coded(estimator: Any, matrix: Matrix) -> Matrix:
    """The columns that an estimator of XGBoost or LightGBM gets, with codes where it knows categories. What a sparse
    matrix does not hold, its zeros, is missing for XGBoost. Raises NotCompiled."""
    if matrix.sparse and boosters.home(estimator) == "xgboost":
        return matrix.each(*[[("absent",)]] * len(matrix))
    columns = list(matrix.columns)
    for place, values in boosters.categories(estimator).items():
        column = columns[place]
        if isinstance(values, str) or not isinstance(column, Raw) or column.filled:
            raise NotCompiled(f"column {place + 1} reaches {type(estimator).__name__} as categories, and changed")
        columns[place] = Looked(column.origin, tuple(values), codes(tuple(values))[:, 0])
    return replace(matrix, columns=tuple(columns))
