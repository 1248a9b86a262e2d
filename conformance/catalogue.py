"""What is checked: each check with an id, its level, and the sentence of the specification that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MUST, SHOULD, OPTIONAL = "must", "should", "optional"
LEVELS = (MUST, SHOULD, OPTIONAL)
REST = "Open Inference, inference_rest.md"
GRPC = "Open Inference, inference_grpc.md"
REQUIRED = "KServe, required_api.md"


class Fault(Exception):
    """The server answered otherwise than the sentence says."""

    def __init__(self, told: str, request: str = "", answer: str = "") -> None:
        super().__init__(told)
        self.told, self.request, self.answer = told, request, answer


class Absent(Exception):
    """The check does not apply to this server: what it needs is not announced, or no known model is there."""


class Null(Exception):
    """An answer in JSON holds a null: an extension's word, which the protocol does not know."""


@dataclass(frozen=True)
class Check:
    """id: section/name. extension: what the server must announce for it to apply. grpc: whether it needs the port."""

    id: str
    level: str
    source: str
    sentence: str
    run: Callable[[Any], None]
    extension: str | None = None
    grpc: bool = False

    @property
    def section(self) -> str:
        return self.id.partition("/")[0]


CHECKS: dict[str, Check] = {}


def add(check: Check) -> None:
    """Take a check into the catalogue. An id stands once."""
    if check.id in CHECKS:
        raise ValueError(f"two checks are called {check.id}")
    CHECKS[check.id] = check


def check(
    id: str,  # noqa: A002 - the word of the reports
    level: str,
    source: str,
    sentence: str,
    *,
    extension: str | None = None,
    grpc: bool = False,
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Takes the decorated function into the catalogue."""

    def taken(run: Callable[[Any], None]) -> Callable[[Any], None]:
        add(Check(id, level, source, sentence, run, extension, grpc))
        return run

    return taken
