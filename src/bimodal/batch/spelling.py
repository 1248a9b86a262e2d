"""Spelling: names of files are bytes; only those that are text can be told in records and messages."""

from __future__ import annotations

import os

from bimodal.errors import UsageError


def see_spelling(named: str) -> None:
    """Raise UsageError for a name that is not UTF-8."""
    try:
        named.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(named).decode("utf-8", "backslashreplace")
        raise UsageError(
            f"{shown}: the name is not UTF-8, so no record could tell it; rename it, or name a link to it"
        ) from None
