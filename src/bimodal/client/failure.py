"""The error that an answer tells, as the model itself raises it."""

from __future__ import annotations

import msgspec

from bimodal.client.question import Answer
from bimodal.errors import BimodalError, Overloaded, Unavailable, by_code


def failure(answer: Answer) -> BimodalError:
    """The error of an answer of HTTP whose status is 400 or more."""
    retry = answer.headers.get(b"retry-after", b"").decode("latin-1")
    try:
        told = msgspec.json.decode(answer.body)
        return made(told["code"], told["error"], told.get("row"), told.get("column"), retry)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        pass  # it is no error of ours: a proxy's page, another server's words
    sentence = f"the server answered {answer.status} without an error that can be read"
    kinds: dict[int, type[BimodalError]] = {429: Overloaded, 503: Unavailable}  # of a proxy in between
    return waiting(kinds.get(answer.status, BimodalError)(sentence), retry)


def made(code: str, sentence: str, row: int | None, column: str | None, retry: str = "") -> BimodalError:
    """The error of a stable code."""
    error = by_code(code)(sentence)
    error.row, error.column, error.code = row, column, code
    return waiting(error, retry)


def waiting(error: BimodalError, retry: str) -> BimodalError:
    """The error with the seconds of Retry-After, where it is one to wait after."""
    if isinstance(error, Overloaded | Unavailable) and retry.strip().isdigit():
        error.retry_after = int(retry)
    return error
