"""What the shared stores have in common: keys as text, the errors of a key, addresses that stand elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bimodal.errors import InputError, UsageError

LOW, HIGH = -(2**63), 2**63 - 1


def named(keys: Sequence[int | str], kind: str, before: int) -> list[str]:
    """The keys of an edition as text. before: rows that came earlier. Raises InputError for one of another kind."""
    wanted = int if kind == "int" else str
    words = []
    for place, key in enumerate(keys, before + 1):
        if type(key) is not wanted or (isinstance(key, int) and not LOW <= key <= HIGH):
            needed = "integers of 64 bits" if kind == "int" else "text"
            raise InputError(f"row {place}: a key of another kind than {needed}", row=place)
        words.append(str(key))
    return words


def texts(keys: Sequence[int | str], kind: str | None) -> list[str | None]:
    """The keys that are looked up, as text; None for one of another kind than the edition's."""
    wanted = int if kind == "int" else str
    return [str(key) if type(key) is wanted else None for key in keys]


def twice(second: int, first: int | None) -> InputError:
    """A key that comes a second time."""
    where = f"row {first}" if first is not None else "an earlier row"
    return InputError(
        f"row {second}: its key stands in {where} too; a prediction store has one result a key", row=second
    )


def referred(url: str) -> str:
    """The URL itself, where it is a reference to one: env:NAME, file:PATH. Raises UsageError."""
    place, _, rest = url.partition(":")
    if place == "env":
        value = os.environ.get(rest, "")
    elif place == "file" and not rest.startswith("//"):
        try:
            value = Path(rest).read_text().strip()
        except (OSError, UnicodeDecodeError):
            value = ""
    else:
        return url
    if not value:
        raise UsageError(f"the address of a prediction store should stand in {url}, and nothing can be read there")
    return value
