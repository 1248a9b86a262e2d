"""Errors as the end of a gRPC call: the one table from an error's class to a status, and what the trailers tell."""

from __future__ import annotations

import logging
from urllib.parse import quote

from bimodal.errors import (
    BimodalError,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InputError,
    MethodNotAllowed,
    ModelNotFound,
    NoRepository,
    NotFound,
    Overloaded,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UsageError,
)
from bimodal.realtime import faults
from bimodal.realtime.calls import Call, Metadata, Status
from bimodal.realtime.note import Note
from bimodal.realtime.refusal import INTERNAL, REQUEST_ID, given_id, new_id

log = logging.getLogger("bimodal.realtime")

STATUS: tuple[tuple[type[BaseException], Status], ...] = (  # the first that fits
    (TooLarge, Status.RESOURCE_EXHAUSTED),
    (InputError, Status.INVALID_ARGUMENT),
    (NoRepository, Status.FAILED_PRECONDITION),
    (UsageError, Status.INVALID_ARGUMENT),
    (Unauthenticated, Status.UNAUTHENTICATED),
    (Forbidden, Status.PERMISSION_DENIED),
    (ModelNotFound, Status.NOT_FOUND),
    (NotFound, Status.NOT_FOUND),
    (MethodNotAllowed, Status.UNIMPLEMENTED),
    (Conflict, Status.FAILED_PRECONDITION),
    (Overloaded, Status.RESOURCE_EXHAUSTED),
    (Unavailable, Status.UNAVAILABLE),
    (DeadlineExceeded, Status.DEADLINE_EXCEEDED),
)
CODE, ROW, COLUMN, RETRY = b"x-error-code", b"x-error-row", b"x-error-column", b"retry-after"


def status(error: BaseException) -> Status:
    """The status of an error; INTERNAL where the model or the server is to blame."""
    return next((number for kind, number in STATUS if isinstance(error, kind)), Status.INTERNAL)


def told(error: BaseException) -> str:
    """The sentence. Unknown errors get a fixed one."""
    return error.message if isinstance(error, BimodalError) else INTERNAL


def fail(call: Call, error: BaseException, note: Note | None = None) -> None:
    """End a call with the error; what is unknown goes to the log in full under the request id of the trailers."""
    name = given_id(call.metadata) or new_id()
    if not isinstance(error, BimodalError):
        log.error("request %s failed", name.decode("ascii"), exc_info=error)
    faults.tell(error, f"request {name.decode('ascii')}")
    known = note or Note(code=error.code if isinstance(error, BimodalError) else "internal")
    call.fail(status(error), told(error), ((REQUEST_ID, name), *trailers(error)), known)


def trailers(error: BaseException) -> Metadata:
    """The stable code, the place in the rows (a column's name percent-encoded), and when to come again."""
    if not isinstance(error, BimodalError):
        return ((CODE, b"internal"),)
    fields = [(CODE, error.code.encode("ascii"))]
    if error.row is not None:
        fields.append((ROW, b"%d" % error.row))
    if error.column is not None:
        fields.append((COLUMN, quote(error.column, safe=" ").encode("ascii")))
    if isinstance(error, Overloaded | Unavailable):
        fields.append((RETRY, b"%d" % error.retry_after))
    return tuple(fields)
