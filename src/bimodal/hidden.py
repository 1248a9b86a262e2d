"""Hidden: variables of the environment that hold secrets by the user's own word (`env:NAME` in bimodal.toml, or as the
password of a key), which no process of a model gets.

Their names, never what they hold, stand in a variable themselves: so they reach every process that starts such a one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

VARIABLE = "BIMODAL_HIDDEN"
_names = re.compile(r"(?:^|[:=])env:([^@#&?/,\s]+)").findall


def hide(told: object) -> None:
    """Every variable that is referred to in a text, or in the texts of a table or list."""
    if isinstance(told, Mapping):
        for each in told.values():
            hide(each)
    elif isinstance(told, list | tuple):
        for each in told:
            hide(each)
    elif isinstance(told, str) and (found := _names(told)):
        os.environ[VARIABLE] = ",".join(sorted({*names(), *found}))


def names(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    return frozenset(each for each in environment.get(VARIABLE, "").split(",") if each)
