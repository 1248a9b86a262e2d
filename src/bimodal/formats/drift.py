"""Drift: a model that another version of scikit-learn saved than the one that is here, and what that does to it.

Most such models answer as before. Some cannot be read, some fail when they are asked, and some answer otherwise: those
are refused here, as far as the file alone can tell. A package's golden rows tell the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bimodal.errors import ModelError
from bimodal.formats import estimators
from bimodal.formats.environment import installed, release
from bimodal.formats.library import library

SAVED = re.compile(rb"_sklearn_version.{1,12}?(\d+\.\d+(?:\.\d+)?(?:rc\d+)?)", re.DOTALL)  # as a pickle has it
MOST = 64 << 20  # bytes in which it is looked for
LEFT = ("auto", "deprecated", "warn")  # values that leave it to the library


def unreadable(file: Path, reason: str) -> ModelError | None:
    """The error for a file that another minor version saved, and that cannot be read here; None where neither version
    is known to differ: in compressed files it cannot be seen.
    """
    now = installed("scikit-learn")
    with file.open("rb") as opened:
        found = SAVED.search(opened.read(MOST))
    if found is None or now is None or release(found[1].decode()) == release(now):
        return None
    then = found[1].decode()
    return ModelError(
        f"{file} was saved under scikit-learn {then} and cannot be read under {now} ({reason}); install "
        f"scikit-learn=={then}, or train and save it again"
    )


def demand_known(model: Any, path: str, told: str) -> None:
    """Raise ModelError where a parameter chose how the model computes, and it or its value is not known any more:
    AdaBoost's `algorithm="SAMME.R"` went in 1.6, LogisticRegression's `multi_class` in 1.8; the answers are others now.
    """
    for each in estimators.parts(model):
        for name, value in _unknown(each).items():
            raise ModelError(
                f"{path} holds {type(each).__name__} with {name}={value!r}, which this version of scikit-learn does "
                f"not know, so that it may answer otherwise; it was {told}; or save it again here, to take the answers "
                f"of this version"
            )


def _unknown(each: Any) -> dict[str, str]:
    """Its settings that its class does not have now, or not with that value: name → value."""
    if estimators.home(each) != "sklearn" or not hasattr(type(each), "_get_param_names"):
        return {}
    held = {name: value for name, value in vars(each).items() if name[0] != "_" and name[-1] != "_"}
    names = type(each)._get_param_names()
    fresh = type(each)(**{name: held[name] for name in names if name in held})  # it sets more than its parameters
    chosen = {name: held[name] for name in held if isinstance(held[name], str) and held[name] not in LEFT}
    return {
        name: value
        for name, value in chosen.items()
        if name not in vars(fresh) or (name in names and not _is_valid(fresh, name, value))
    }


def _is_valid(fresh: Any, name: str, value: str) -> bool:
    checks = library("sklearn.utils._param_validation")
    known = getattr(fresh, "_parameter_constraints", {})
    try:
        checks.validate_parameter_constraints(known, {name: value}, type(fresh).__name__)
    except checks.InvalidParameterError:
        return False
    return True


def demand_answers(model: Any, faults: Sequence[tuple[str, object]], path: str, told: str) -> None:
    """Raise ModelError where the model failed on a made-up row. faults: of each method that it has, what it raised."""
    for method, fault in faults:
        if fault is not None:
            raise ModelError(
                f"{path} holds {type(model).__name__}, whose {method} fails ({fault}); it was {told}; or show rows "
                f"that it takes with --sample FILE"
            )
