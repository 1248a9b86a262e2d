"""Limit: the longest that a call of a model may take."""

from __future__ import annotations

from collections.abc import Mapping


class Limit:
    """The longest that a call may take: as given, or by what earlier calls took.

    seconds: for a call of any size. None: SLACK times what a call of as many rows takes by `costs` (seconds of a call
    by its rows, as loading measured them) and never less than FIRST, until a call was made; then SLACK times what calls
    took at the slowest so far, and never less than LEAST.
    """

    FIRST, LEAST, SLACK, FEW = 120.0, 10.0, 50.0, 1024

    def __init__(self, seconds: float | None = None, costs: Mapping[int, float] | None = None) -> None:
        self._seconds = seconds
        self._expected = min((spent / count for count, spent in (costs or {}).items()), default=0.0)  # seconds a row
        self._small = 0.0  # seconds of a call of few rows, where a row says nothing
        self._row = 0.0  # seconds a row of the others

    def allowed(self, count: int) -> float:
        if self._seconds is not None:
            return self._seconds
        if not self._small and not self._row:
            return max(self.FIRST, self.SLACK * self._expected * count)
        return max(self.LEAST, self.SLACK * (self._small + self._row * count))

    def took(self, count: int, seconds: float) -> None:
        if count < self.FEW:
            self._small = max(self._small, seconds)
        else:
            self._row = max(self._row, seconds / count)
