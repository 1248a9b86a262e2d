"""What `--trust` names: what a model file may call beyond what any may (`formats/guard.py`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from bimodal.errors import UsageError

ANY = "cloudpickle"  # functions that are pickled by value: they are code, so that the file may run any
NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def names(given: str | Sequence[str]) -> tuple[str, ...]:
    """The names in an option's text (separated by commas), or in a list. Raises UsageError."""
    found = [each.strip() for each in (given.split(",") if isinstance(given, str) else given)]
    for each in found:
        if NAME.fullmatch(each) is None:
            raise UsageError("--trust takes names such as module.name, separated by commas")
        if each in sys.stdlib_module_names:
            raise UsageError(
                f"--trust {each}: all of Python's module {each} is too much; name what the file calls in it"
            )
    return tuple(dict.fromkeys(found))
