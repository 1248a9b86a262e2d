"""Errors as HTTP responses: the one table from an error's class and code to a status."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from bimodal.errors import (
    BimodalError,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InputError,
    MethodNotAllowed,
    ModelCrashed,
    ModelFailed,
    ModelNotFound,
    NotFound,
    Overloaded,
    Problem,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
    UsageError,
)
from bimodal.realtime import faults
from bimodal.realtime.exchange import Response
from bimodal.realtime.note import Note
from bimodal.realtime.refusal import INTERNAL, REQUEST_ID, given_id, new_id

log = logging.getLogger("bimodal.realtime")

STATUS: tuple[tuple[type[BaseException], int], ...] = (  # the first that fits
    (TooLarge, 413),
    (UnsupportedMedia, 415),
    (InputError, 400),
    (UsageError, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (ModelNotFound, 404),
    (NotFound, 404),
    (MethodNotAllowed, 405),
    (Conflict, 409),
    (Overloaded, 429),
    (Unavailable, 503),
    (DeadlineExceeded, 504),
    (ModelCrashed, 500),
    (ModelFailed, 500),
)
TOLD = 10  # problems listed in an answer

Headers = tuple[tuple[bytes, bytes], ...]


def status(error: BaseException) -> int:
    """The HTTP status of an error; 500 for what nobody raised on purpose."""
    return next((number for kind, number in STATUS if isinstance(error, kind)), 500)


def described(error: BaseException) -> dict[str, Any]:
    """The error as the values of a JSON body, without a request id. Unknown errors get a fixed sentence."""
    if not isinstance(error, BimodalError):
        return {"error": INTERNAL, "code": "internal"}
    told: dict[str, Any] = {"error": error.message, "code": error.code}
    told.update(_place(error.row, error.column))
    problems = error.problems if isinstance(error, InputError) else ()
    if len(problems) > 1:
        told["problems"] = [_problem(each) for each in problems[:TOLD]]
    return told


def failure(error: BaseException, headers: Mapping[bytes, bytes], extra: Headers = ()) -> Response:
    """The answer that tells the error; what is unknown goes to the log in full under the same request id."""
    name = given_id(headers) or new_id()
    if not isinstance(error, BimodalError):
        log.error("request %s failed", name.decode("ascii"), exc_info=error)
    faults.tell(error, f"request {name.decode('ascii')}")
    told = described(error)
    told["request_id"] = name.decode("ascii")
    fields = [(REQUEST_ID, name), *extra]
    if isinstance(error, Overloaded | Unavailable):
        fields.append((b"retry-after", b"%d" % error.retry_after))
    return Response(status(error), msgspec.json.encode(told), headers=tuple(fields), note=Note(code=told["code"]))


def told_later(error: BaseException, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The same as `failure` tells, of an answer that has begun."""
    name = (given_id(headers) or new_id()).decode("ascii")
    faults.tell(error, f"request {name}")
    return {**described(error), "request_id": name}


def _place(row: int | None, column: str | None) -> dict[str, Any]:
    return {key: value for key, value in (("row", row), ("column", column)) if value is not None}


def _problem(problem: Problem) -> dict[str, Any]:
    return {"error": problem.message, "code": problem.code, **_place(problem.row, problem.column)}
