"""What a request asks for beside its rows: outputs, threshold, kept columns, its deadline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from bimodal.errors import InputError, UsageError
from bimodal.field import kind, listed, nearest

PARAMETERS = ("outputs", "threshold", "keep")
TIMEOUT = b"x-request-timeout-ms"
_number = re.compile(rb"[0-9]+(\.[0-9]*)?|\.[0-9]+").fullmatch


@dataclass(frozen=True, slots=True)
class Choice:
    """outputs None: the default ones. keep: True for all columns that are no features, or their names."""

    outputs: tuple[str, ...] | None = None
    threshold: float | None = None
    keep: bool | tuple[str, ...] = False

    def over(self, other: Choice) -> Choice:
        """This choice where it chooses, the other one where it does not."""
        return Choice(
            other.outputs if self.outputs is None else self.outputs,
            other.threshold if self.threshold is None else self.threshold,
            self.keep or other.keep,
        )

    def kept(self, spare: Sequence[str], outputs: Sequence[str]) -> list[str]:
        """The columns to answer back, of those that are no features. Raises UsageError."""
        if self.keep is False:
            return []
        names = list(spare) if self.keep is True else list(self.keep)
        for name in names:
            if name not in spare:
                near = nearest(name, spare)
                hint = f"did you mean {near!r}?" if near else f"the columns that are no features: {listed(spare)}"
                if not spare:
                    hint = "the rows hold nothing but features"
                raise UsageError(f"keep: there is no column {name!r} to answer back; {hint}")
            if name in outputs:
                raise UsageError(f"keep: the column {name!r} has the name of an output; rename it")
        return names


NONE = Choice()


def of_query(query: str) -> Choice:
    """`?outputs=a,b&threshold=0.3&keep=id` (or `keep=true`). Other names are left alone, unless they look like a slip.

    Raises UsageError.
    """
    if not query:
        return NONE
    told: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in PARAMETERS and (near := nearest(name, PARAMETERS)) is not None:
            raise UsageError(f'the address has no parameter "{near}", but one like it; did you mean "{near}"?')
        if name in PARAMETERS and name in told:
            raise UsageError(f'the address has the parameter "{name}" twice')
        told[name] = value
    keep = told.get("keep", "false")
    return Choice(
        _names(told["outputs"]) if "outputs" in told else None,
        _threshold(told["threshold"]) if "threshold" in told else None,
        keep == "true" if keep in ("true", "false") else _names(keep),
    )


def of_body(body: Mapping[str, Any]) -> Choice:
    """The same of a JSON body."""
    outputs, threshold, keep = body.get("outputs"), body.get("threshold"), body.get("keep", False)
    if outputs is not None and not _are_names(outputs):
        raise InputError(f'"outputs" needs a list of names, not {kind(outputs)}')
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise InputError(f'"threshold" needs a number, not {kind(threshold)}')
    if not isinstance(keep, bool) and not _are_names(keep):
        raise InputError(f'"keep" needs true or a list of column names, not {kind(keep)}')
    return Choice(
        None if outputs is None else tuple(outputs), threshold, keep if isinstance(keep, bool) else tuple(keep)
    )


def seconds(headers: Mapping[bytes, bytes], most: float) -> float:
    """How long the caller waits: X-Request-Timeout-Ms, at most (and by default) the server's deadline."""
    told = headers.get(TIMEOUT)
    if told is None:
        return most
    value = float(told) if _number(told) else 0.0
    if not value > 0:
        raise InputError("the header X-Request-Timeout-Ms needs a number of milliseconds above 0, in digits, like 250")
    return min(value / 1000, most)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _threshold(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError("threshold needs a number between 0 and 1") from None
