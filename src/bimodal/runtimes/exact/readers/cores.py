"""Cores: the middle of a Program for the last estimator of a model, by the first reader that knows it."""

from __future__ import annotations

from typing import Any

from bimodal.errors import NotCompiled
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.linear import Linear
from bimodal.runtimes.exact.readers import lightgbm, linear, trees, xgboost
from bimodal.runtimes.exact.trees import Trees

Core = tuple[Linear | Trees, Finish, bool]  # the core, its Finish, and whether it is steady on dense columns
READERS = (linear.core, trees.core, xgboost.core, lightgbm.core)


def core(estimator: Any, width: int) -> Core:
    """Raises NotCompiled where no reader knows the estimator."""
    for reader in READERS:
        found = reader(estimator, width)
        if found is not None:
            return found
    raise NotCompiled(f"{type(estimator).__name__} has no compiled form")
