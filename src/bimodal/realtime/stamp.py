"""Stamp: by what a model's files are seen to have changed, without reading them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bimodal.location import Location

Stamp = tuple[tuple[str, int, int, int, int], ...]


def stamp(locations: Sequence[Location]) -> Stamp:
    """Path, inode, size and times of each file of the models, as they are now. A file that is not there is left out;
    so is a model that is no file here (its address).
    """
    found = []
    for path in [path for each in locations for path in _files(each)]:
        try:
            told = path.stat()
        except OSError:
            continue
        found.append((str(path), told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns))
    return tuple(sorted(found))


def _files(location: Location) -> list[Path]:
    if location.package is not None:
        folder = Path(location.package.folder)
        return [each for each in folder.rglob("*") if each.is_file()]
    path = location.source.path
    place = Path(path) if Path(path).exists() else Path(path.rpartition(":")[0])
    try:
        return list(location.kind.files(place)) if place.is_file() or place.is_dir() else []
    except OSError:  # a folder that is being replaced
        return []
