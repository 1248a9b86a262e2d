"""Durability: what a crash of the machine leaves."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make what a file holds, or the names in a folder, durable."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
