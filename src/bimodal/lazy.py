"""Lazy frames: those of polars are asked for their rows, as by their own `collect`."""

from __future__ import annotations

from typing import Any


def collected(data: Any) -> Any:
    """A lazy frame of polars with its rows; whatever else it is, as it is."""
    lazy = type(data).__name__ == "LazyFrame" and type(data).__module__.startswith("polars")
    return data.collect() if lazy else data
