"""Packages for tests, whole and damaged."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bimodal import package
from bimodal.golden import Golden
from bimodal.package import Package


def files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())


def resealed(folder: Path, *, golden: Golden | None = None, **changed: Any) -> Package:
    """The package with other entries in its manifest, and digests that fit: what somebody would have packed."""
    manifest = package.open(folder).manifest
    if golden is not None:
        golden.write(folder / package.GOLDEN)
    for name in (package.MANIFEST, package.SEAL):
        (folder / name).unlink()
    package.seal(folder, msgspec.structs.replace(manifest, files={}, **changed))
    return package.open(folder)


class Vandal:
    """Damages copies of a package, each time in one of the ways in which files get damaged. Seeded."""

    def __init__(self, whole: Path, other: Path, seed: int) -> None:
        self.whole, self.other = whole, other
        self.random = random.Random(seed)
        self.ways: list[Callable[[Path, Path], str]] = [
            self.flip, self.cut, self.lengthen, self.remove, self.add, self.rename, self.swap, self.link, self.exchange,
            self.folder,
        ]  # fmt: skip

    def damaged(self, place: Path, number: int) -> str:
        """A damaged copy at `place`; says what was done."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.whole, place)
        return self.ways[number % len(self.ways)](place, self.random.choice(files(place)))

    def flip(self, _: Path, file: Path) -> str:
        data = bytearray(file.read_bytes())
        at = self.random.randrange(len(data))
        data[at] ^= 1 << self.random.randrange(8)
        file.write_bytes(data)
        return f"one bit of {file.name} at {at}"

    def cut(self, _: Path, file: Path) -> str:
        size = self.random.randrange(file.stat().st_size)
        os.truncate(file, size)
        return f"{file.name} cut to {size}"

    def lengthen(self, _: Path, file: Path) -> str:
        with file.open("ab") as opened:
            opened.write(self.random.randbytes(self.random.randint(1, 64)))
        return f"{file.name} made longer"

    def remove(self, _: Path, file: Path) -> str:
        file.unlink()
        return f"{file.name} removed"

    def add(self, place: Path, file: Path) -> str:
        (file.parent / "added.py").write_text("raise SystemExit('this was not packed')")
        return f"a file beside {file.name}"

    def rename(self, _: Path, file: Path) -> str:
        file.rename(file.with_name(f"{file.name}.old"))
        return f"{file.name} renamed"

    def swap(self, place: Path, file: Path) -> str:
        """With the file of another package; the two lie at the same place there."""
        theirs = self.other / file.relative_to(place)
        while not theirs.is_file() or theirs.read_bytes() == file.read_bytes():
            file = self.random.choice(files(place))
            theirs = self.other / file.relative_to(place)
        shutil.copyfile(theirs, file)
        return f"{file.name} of another package"

    def link(self, place: Path, file: Path) -> str:
        """To the same bytes, elsewhere."""
        file.unlink()
        file.symlink_to(self.whole / file.relative_to(place))
        return f"{file.name} is a link"

    def exchange(self, place: Path, file: Path) -> str:
        """Two files of the package change places."""
        theirs = self.random.choice([each for each in files(place) if each.read_bytes() != file.read_bytes()])
        mine = file.read_bytes()
        file.write_bytes(theirs.read_bytes())
        theirs.write_bytes(mine)
        return f"{file.name} and {theirs.name} exchanged"

    def folder(self, place: Path, file: Path) -> str:
        """A folder in a file's place, or one that was not packed."""
        if self.random.random() < 0.5:
            file.unlink()
            file.mkdir()
            return f"{file.name} is a folder"
        (place / "more").mkdir()
        return "an empty folder more"
