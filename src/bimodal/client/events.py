"""Server-Sent Events as they come: the answer of a model that streams, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from bimodal.client.failure import made
from bimodal.errors import ServerUnreachable

ACCEPT = (("accept", "text/event-stream"),)


class Events:
    """Bytes in, pieces out. ended: the model's answer is complete."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._rest = b""
        self.ended = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The pieces that are complete now; then, behind those that came before it, raises the error that an event
        tells.
        """
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            piece = self._piece(event)
            if piece is not None:
                yield piece

    def _piece(self, event: bytes) -> dict[str, Any] | None:
        fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
        if b"data" not in fields:
            return None
        told: dict[str, Any] = msgspec.json.decode(fields[b"data"])
        kind = fields.get(b"event", b"")
        if kind == b"error":
            raise made(told["code"], told["error"], told.get("row"), told.get("column"))
        if kind == b"end":
            self.ended = True
            return None
        return told

    def finish(self) -> None:
        """No more comes. Raises ServerUnreachable where the end is missing."""
        if not self.ended:
            raise ServerUnreachable(f"the server at {self._place} ended its answer in the middle")
