"""The error that an answer tells, as the model itself raises it; and of answers that are not Bimodal's."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Any

import msgspec

from bimodal.client.patience import LONGEST
from bimodal.client.question import Answer
from bimodal.errors import BimodalError, Overloaded, ServerUnreachable, Unavailable, by_code


def failure(answer: Answer, place: str) -> BimodalError:
    """The error of an answer of HTTP that is none of a prediction. place: who answered."""
    retry = answer.headers.get(b"retry-after", b"").decode("latin-1")
    told = _told(answer.body) if answer.status >= 400 else None
    if told is not None:
        return made(told["code"], told["error"], told.get("row"), told.get("column"), retry)
    error = strange(answer, place)
    kinds: dict[int, type[BimodalError]] = {429: Overloaded, 503: Unavailable}  # of a proxy in between
    return waiting(kinds.get(answer.status, ServerUnreachable)(error.message), retry)


def strange(answer: Answer, place: str) -> ServerUnreachable:
    """Something else answers: a proxy, a page to log in."""
    kind = answer.headers.get(b"content-type", b"").decode("latin-1") or "no content type"
    return ServerUnreachable(
        f"the server at {place} answered {answer.status} ({kind}), which is no answer of Bimodal; is the address "
        "right, and does a proxy or a page to log in stand in between?"
    )


def _told(body: bytes) -> dict[str, Any] | None:
    """The error in a body, in our shape or in OpenAI's; None where there is none of ours."""
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    if isinstance(told.get("error"), dict):
        inner = told["error"]
        told = {"error": inner.get("message"), "code": inner.get("code"), "column": inner.get("param")}
    return told if isinstance(told.get("error"), str) and isinstance(told.get("code"), str) else None


def made(code: str, sentence: str, row: int | None, column: str | None, retry: str = "") -> BimodalError:
    """The error of a stable code."""
    error = by_code(code)(sentence)
    error.row, error.column, error.code = row, column, code
    return waiting(error, retry)


def waiting(error: BimodalError, retry: str) -> BimodalError:
    """The error with the seconds of Retry-After, where it is one to wait after."""
    if isinstance(error, Overloaded | Unavailable):
        error.retry_after = seconds(retry.strip())
    return error


def seconds(retry: str) -> int:
    """Retry-After in seconds from now, be it told so or as a date (RFC 9110, section 10.2.3); 0 where it is neither."""
    most = int(LONGEST)
    if retry.isascii() and retry.isdigit():
        return min(int(retry), most) if len(retry) < len(str(most)) else most
    try:
        when = parsedate_to_datetime(retry)
    except (ValueError, OverflowError):
        return 0
    left = when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)
    return max(0, min(ceil(left.total_seconds()), most))
