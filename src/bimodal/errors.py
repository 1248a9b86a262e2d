"""Every error of Bimodal, with a stable code.

An error knows what happened, where (row and column), and what to do about it; it does not know the wire it leaves
on. Each wire (`realtime/app.py`, the CLI) has one table from code to status. A message never repeats a value of the
caller's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from traceback import walk_tb

_FRAMES = 3  # of the model's code, told with its error
_HERE = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one row: the same words in every door.

    `row` counts from 1 (the first row of data), None where the whole input is meant; `column` is the feature's name.
    """

    code: str
    message: str
    row: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        place = ", ".join(
            part
            for part in (
                f"row {self.row}" if self.row is not None else "",
                f"column {self.column!r}" if self.column is not None else "",
            )
            if part
        )
        return f"{place}: {self.message}" if place else self.message

    def at(self, row: int) -> Problem:
        """The same problem, told of another row number."""
        return Problem(self.code, self.message, row, self.column)


class BimodalError(Exception):
    """The base of every error that Bimodal raises on purpose."""

    code = "error"

    def __init__(self, message: str, *, row: int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.row = row
        self.column = column

    def __str__(self) -> str:
        return self.message


class UsageError(BimodalError):
    """The command or the call is wrong: an unknown option, an output that exists, two options that exclude each
    other.
    """

    code = "usage"


class NoRepository(UsageError):
    """Models are to be loaded or unloaded by a server that has no repository of them."""


class ConfigError(UsageError):
    """bimodal.toml is wrong: every fault on a line of its own, `bimodal.toml:12: jobs.nightly.shedule: …`."""

    code = "config"


class OutputExists(UsageError):
    """Something stands at the output already."""

    code = "output_exists"


class InputError(BimodalError):
    """The caller's rows do not fit the model's signature (or are no rows at all)."""

    code = "invalid_input"

    def __init__(
        self, message: str, *, row: int | None = None, column: str | None = None, problems: Sequence[Problem] = ()
    ) -> None:
        super().__init__(message, row=row, column=column)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> InputError:
        """The error that tells the first problem, and how many more there are."""
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        error = cls(f"{first}{more}", row=first.row, column=first.column, problems=problems)
        error.code = first.code
        return error


class MalformedInput(InputError):
    """The bytes are not what they claim to be: broken JSON, CSV, Parquet, Arrow."""

    code = "malformed"


class TooLarge(InputError):
    """A limit on size was passed: body, rows, depth."""

    code = "too_large"


class UnsupportedMedia(InputError):
    """A content type that is not understood."""

    code = "unsupported_media_type"


class SourceError(BimodalError):
    """A file or table to read is absent, unreadable or broken."""

    code = "source"


class WrongFormat(SourceError):
    """A file is none of the format that its name says: it stays so, however often it is read."""


class SinkError(BimodalError):
    """The output cannot be written: no space, no rights, no such folder."""

    code = "sink"


class TooManyRejects(BimodalError):
    """More rows were refused than `--max-rejects` allows; nothing was published."""

    code = "too_many_rejects"


class BooksDoNotBalance(BimodalError):
    """Rows in are not rows predicted plus rows rejected: a fault of Bimodal, found before anything is published."""

    code = "books_do_not_balance"


class ModelError(BimodalError):
    """The model cannot be loaded or cannot say what it needs."""

    code = "model"


class ModelNotFound(ModelError):
    """No model of that name (or no file at that path)."""

    code = "model_not_found"


class NotCompiled(ModelError):
    """The model has no compiled form of the kind that was asked for; the message says why."""

    code = "not_compiled"


class ParityFailed(NotCompiled):
    """A compiled form was made, and its answers are not the native ones; the message shows the first row."""

    code = "parity_failed"


class PackageDamaged(ModelError):
    """A file of a package is not the one that was packed."""

    code = "package_damaged"


class AnswersChanged(ModelError):
    """Under the libraries installed here a packaged model gives other answers than when it was packed."""

    code = "answers_changed"


class OutputHeld(BimodalError):
    """Another run is writing this output; the message says which."""

    code = "output_held"


class PlanChanged(UsageError):
    """An unfinished run of another plan stands at the output; the message names what differs."""

    code = "plan_changed"


class SourceChanged(PlanChanged):
    """The input is another than when the unfinished run read it."""

    code = "source_changed"


class MissingCode(ModelError):
    """The saved model needs Python code that is not there; `--code` adds it."""

    code = "model_code_missing"


class MissingLibrary(BimodalError):
    """An optional library is not installed; the message is the install command."""

    code = "library_missing"


class ModelFailed(BimodalError):
    """The model raised an error on these rows. said: its type and first line; it may repeat the rows, so `told` leaves
    it out. where: the last frames of the model's own code. model: name and version. All three are for the log alone.
    """

    code = "model_failed"
    said: str | None = None
    where: str = ""
    model: str = ""


class ModelCrashed(BimodalError):
    """The process that ran the model died (segmentation fault, killed, out of memory)."""

    code = "model_crashed"
    where: str = ""
    model: str = ""


class ModelHung(ModelCrashed):
    """The model gave no answer within its time, and its process was ended. tried: seconds that it had, alone."""

    code = "model_hung"
    tried: float = inf


class Unauthenticated(BimodalError):
    """The server asks for an API key, and the caller gave none that it knows."""

    code = "unauthenticated"


class Forbidden(BimodalError):
    """The caller's key lacks a scope; or the request comes by another name of the server, or from a foreign page."""

    code = "forbidden"


class NotFound(BimodalError):
    """No such route, version or run."""

    code = "not_found"


class NoPrediction(NotFound):
    """A lookup of one key that has no result, without a row to predict from."""

    code = "no_prediction"


class Conflict(BimodalError):
    """What was asked for does not fit the state of things: the result of a run that has none yet."""

    code = "conflict"


class MethodNotAllowed(BimodalError):
    """The route exists, the method does not."""

    code = "method_not_allowed"


class Overloaded(BimodalError):
    """The queue is full: try again after `retry_after` seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(BimodalError):
    """Draining, starting, or without a worker: try again after `retry_after` seconds."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(BimodalError):
    """The deadline passed before the answer was ready."""

    code = "deadline_exceeded"


class ServerUnreachable(BimodalError):
    """The client could not reach the server."""

    code = "server_unreachable"


class PortTaken(UsageError):
    """Another program listens on the port."""

    code = "port_taken"


def told(error: BimodalError) -> dict[str, object]:
    """The error as plain values, to be raised again in another process by `retold`."""
    return {
        "kind": type(error).__name__,
        "code": error.code,
        "message": error.message,
        "row": error.row,
        "column": error.column,
    }


def retold(values: dict[str, object]) -> BimodalError:
    """The error that `told` described."""
    kind = globals().get(str(values["kind"]), BimodalError)
    error: BimodalError = kind(str(values["message"]))
    error.code = str(values["code"])
    row, column = values.get("row"), values.get("column")
    error.row = row if isinstance(row, int) else None
    error.column = str(column) if column is not None else None
    if isinstance(error, ModelFailed) and values.get("said") is not None:
        error.said = str(values["said"])
        error.where = str(values.get("where") or "")
    return error


def refused_by_model(error: BaseException, message: str) -> ModelFailed:
    """What a model raised, with its own words beside the message."""
    failed = ModelFailed(message)
    first = (str(error).strip().splitlines() or [""])[0]
    failed.said = _sayable(f"{type(error).__name__}: {first}"[:300])
    failed.where = _sayable(_where(error))
    return failed


def _sayable(text: str) -> str:
    """With halves of characters, which no wire and no log takes, written out as `\\ud800`."""
    return text.encode("utf-8", "backslashreplace").decode()


def _where(error: BaseException) -> str:
    """The last frames of the model's own code: what is neither of Bimodal nor of an installed library, if any is."""
    frames = [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_HERE)
    ]
    own = [frame for frame in frames if "site-packages" not in frame[0]] or frames[-1:]
    return ", ".join(f"{file}:{line} in {name}" for file, line, name in own[-_FRAMES:])


def by_code(code: str) -> type[BimodalError]:
    """The class of a stable code; the codes of Problems belong to InputError."""
    return next((kind for kind in _kinds(BimodalError) if kind.code == code), InputError)


def _kinds(base: type[BimodalError]) -> list[type[BimodalError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in _kinds(child))]
