"""Whether an answer is that of some version of a model, for those who judge it in another process."""

from __future__ import annotations

import json


def whole(number: int, body: bytes) -> bool:
    """A version answers a whole number from 1 on. number: of the request's body."""
    value = json.loads(body)["prediction"][0]
    return bool(value > 0.5 and abs(value - round(value)) < 1e-6)
