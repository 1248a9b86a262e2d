"""Stops: texts that end an answer where they come up, which pieces may cut in two."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Takes an answer's pieces, gives what can no longer be the beginning of a stop."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """What may be told now; `found` where a stop came up, which is not told, nor what follows it."""
        if self.found or not self._stops:
            return "" if self.found else piece
        text = self._held + piece
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        held = max(self._begun(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back; the answer has ended."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _begun(text: str, stop: str) -> int:
        """How many of the last letters may begin a stop."""
        return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
