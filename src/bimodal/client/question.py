"""Question: one request of a client, whatever the wire; a Conversation is the questions behind one call."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
JSON = "application/json"


@dataclass(slots=True)
class Question:
    """method: of HTTP; empty for gRPC, whose path is that of a method and whose body is its message.

    safe: it may be asked twice, since asking changes nothing (or since it carries an Idempotency-Key).
    """

    method: str
    path: str
    body: bytes | None = None
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    safe: bool = True


@dataclass(slots=True)
class Answer:
    """headers: by their names in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


Conversation = Generator[Question, Answer, T]
