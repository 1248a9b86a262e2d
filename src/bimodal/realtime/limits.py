"""What one worker accepts: every queue, body, count and time has a bound here."""

from __future__ import annotations

from dataclasses import dataclass, fields

from bimodal.errors import UsageError

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one worker. Sizes are in bytes, times in seconds; what is exactly at a limit is accepted."""

    header_bytes: int = 32 * KIB
    """The request line and all header fields, with the empty line that ends them (else 431)."""
    header_fields: int = 100
    """Header fields of a request (else 431)."""
    body_bytes: int = 16 * MIB
    """The body of a request (else 413). A stream of lines may be longer: it is never held as a whole."""
    chunk_bytes: int = 1 * MIB
    """What a chunked body may add to its content: sizes, extensions, trailers (else 413)."""
    header_timeout: float = 10.0
    """From the first byte of a request to the end of its head (else 408)."""
    body_timeout: float = 30.0
    """From the head to the end of the body; for a body taken in pieces, from one piece to the next (else 408)."""
    body_rate: int = 1 * KIB
    """Bytes a second of a body taken in pieces, while nothing of it is answered: it may be `body_timeout` behind (else
    408)."""
    idle_timeout: float = 60.0
    """Between two requests, and for a caller that does not read its answer (the connection is closed)."""
    deadline: float = 10.0
    """From the whole request to its answer (else 504)."""
    depth: int = 64
    """Nesting of a JSON body."""
    rows: int = 10_000
    """Rows in a request."""
    connections: int = 4096
    """Open connections (one more is told 503)."""
    pipeline: int = 16
    """Requests of one connection in flight; beyond it the connection is not read."""
    streams: int = 128
    """Requests and calls of one HTTP/2 connection in flight (one more is refused)."""
    bodies_bytes: int = 512 * MIB
    """All the bodies that are being received, together (else 503)."""
    backlog: int = 2048
    """Connections that the system may queue for the worker."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise UsageError(f"limit {field.name} must be greater than 0")
