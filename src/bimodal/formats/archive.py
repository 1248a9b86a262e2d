"""Zip archives, which PyTorch and Keras save into: what is in one, without unpacking it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

ZIP = b"PK\x03\x04"
LARGEST = 16 * 2**20  # bytes of a member that is read whole


def members(path: str | Path, head: bytes) -> tuple[str, ...]:
    """The names in the archive; none where the file is no archive. head: its first bytes."""
    if not head.startswith(ZIP):
        return ()
    try:
        with zipfile.ZipFile(path) as archive:
            held = archive.infolist()
            whole = min((each.header_offset for each in held), default=0) == 0
            return tuple(each.filename for each in held) if whole else ()  # the end of an archive within another one
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return ()


def member(path: str | Path, ending: str) -> bytes | None:
    """The first member whose name ends so; None where there is none, or none of a sensible size."""
    with zipfile.ZipFile(path) as archive:
        for each in archive.infolist():
            if each.filename.endswith(ending) and each.file_size <= LARGEST:
                return archive.read(each)
    return None


def damaged(path: str | Path) -> bool:
    """Whether a member of the archive is not what was written, by its checksum: a flipped bit of a weight would go
    unnoticed otherwise.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except (OSError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError):
        return True
