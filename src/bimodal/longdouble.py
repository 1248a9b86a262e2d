"""Longdoubles of NumPy, which no model and no wire takes: float64 where that is the same number, else a Problem."""

from __future__ import annotations

from typing import Any

from bimodal.errors import Problem

ROUNDED = Problem("wrong_type", "a longdouble that float64 does not hold; round it, with float() or .astype(float)")


def is_long(value: Any) -> bool:
    """Whether it is a longdouble, or an array or a column of them."""
    return getattr(getattr(value, "dtype", None), "char", "") == "g"


def short(value: Any) -> Any:
    """A longdouble as a float where that is the same number; whatever else it is, as it is."""
    if not is_long(value):
        return value
    told = float(value)
    return told if told == value or value != value else value


def narrowed(array: Any) -> Any:
    """An array of longdoubles as float64 where those are the same numbers; another one as it is."""
    if not is_long(array):
        return array
    import numpy as np  # there, since the caller gave an array

    with np.errstate(over="ignore"):
        told = array.astype(np.float64)
    return told if np.array_equal(told, array, equal_nan=True) else array
