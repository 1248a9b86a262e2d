"""Named: models that were named when the server was started. What stands in their place is looked at again when a
reload is asked for, and served in place of what was: a copy of it, so that nothing that happens to the file later
changes what is served.

Of a model written in Python the file itself is kept, and run as if it stood in its place: what it imports and reads
beside itself is what stands there now. A model that came from memory or from a registry has no place to look at.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bimodal import formats
from bimodal import package as packages
from bimodal.errors import BimodalError
from bimodal.realtime.repository import Found, Stamp

WRITTEN = "python"  # the format of models written in Python


@dataclass(frozen=True)
class Named(Found):
    """What stands in the place of a model. spec: how it was named (`Location.spec`)."""

    spec: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Named:
        place = _place(spec)
        return cls(spec["name"], "", place, place, "", spec)

    def stamp(self) -> Stamp:
        if self.root.is_dir():
            return super().stamp()
        files = [self.root] if self.spec["format"] == WRITTEN else _files(self.root)
        return tuple(sorted(part for file in files for part in Found(self.name, "", file).stamp()))

    def told(self, copy: Path) -> dict[str, Any]:
        """The spec of the copy. Raises what is wrong with it, as far as that is seen without loading it."""
        spec = dict(self.spec)
        if spec["package"] is not None:
            return {**spec, "package": str(copy), "digest": packages.open(copy).digest}
        if spec["format"] == WRITTEN:
            return {**spec, "digest": formats.digest(str(copy), formats.named(WRITTEN)), "kept": str(copy)}
        kind = formats.recognise(str(copy))
        told: dict[str, Any] = {"format": kind.name, "path": str(copy), "digest": formats.digest(str(copy), kind)}
        home = str(self.root.parent)  # its own classes stand there
        if home not in spec["code"]:
            told |= {"code": [*spec["code"], home], "home": home}
        return {**spec, **told}

    def _copied(self, folder: Path) -> Path:
        """The files of a model that has several stay in the same places to each other."""
        if self.root.is_dir() or self.spec["format"] == WRITTEN:
            return super()._copied(folder)
        for each in _files(self.root):
            place = folder / each.relative_to(self.root.parent)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each, place)
        return folder / self.root.name


def look(specs: Sequence[Mapping[str, Any]]) -> dict[str, list[Named]]:
    """Those that have a place, by name."""
    found = [Named.of(each) for each in specs]
    return {each.name: [each] for each in found if each.root.exists()}


def _place(spec: Mapping[str, Any]) -> Path:
    """The file or folder; of `file.py:attribute` the file. Of `module:attribute` there is none."""
    path = str(spec["package"] or spec["path"])
    return Path(path if Path(path).exists() or ":" not in path else path.rpartition(":")[0]).absolute()


def _files(root: Path) -> list[Path]:
    try:
        return list(formats.recognise(str(root)).files(root))
    except BimodalError:
        return [root]  # no model, or half of one: what it is then told as
