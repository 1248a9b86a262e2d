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
from bimodal.errors import BimodalError, ModelFailed
from bimodal.location import PrivateFolder
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

    def take(self) -> tuple[dict[str, Any], PrivateFolder]:
        """The spec of what stands there now, and the folder of its copy. Raises what is wrong with it, as far as that
        is seen without loading it.
        """
        spec = dict(self.spec)
        if spec["package"] is not None:
            folder = PrivateFolder()
            copy = Path(folder.path, self.root.name)
            shutil.copytree(self.root, copy, ignore=shutil.ignore_patterns("__pycache__"))
            return {**spec, "package": str(copy), "digest": packages.open(copy).digest}, folder
        folder = PrivateFolder()
        if spec["format"] == WRITTEN:
            copy = Path(folder.path, self.root.name)
            shutil.copyfile(self.root, copy)
            return {**spec, "digest": formats.digest(str(copy), formats.named(WRITTEN)), "kept": str(copy)}, folder
        copy = _copied(self.root, Path(folder.path))
        kind = formats.recognise(str(copy))
        code = list(dict.fromkeys([*spec["code"], str(self.root.parent)]))  # its own classes stand there
        told = {"format": kind.name, "path": str(copy), "digest": formats.digest(str(copy), kind), "code": code}
        return {**spec, **told}, folder


def look(specs: Sequence[Mapping[str, Any]]) -> dict[str, list[Named]]:
    """Those that have a place, by name."""
    found = [Named.of(each) for each in specs]
    return {each.name: [each] for each in found if each.root.exists()}


def taken(named: Named) -> tuple[dict[str, Any], PrivateFolder]:
    """`Named.take`, whose errors name the place."""
    try:
        return named.take()
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ModelFailed(f"{named.root} cannot be copied: {reason}") from None
    except BimodalError as error:
        raise ModelFailed(error.message) from None


def _place(spec: Mapping[str, Any]) -> Path:
    """The file or folder; of `file.py:attribute` the file. Of `module:attribute` there is none."""
    path = str(spec["package"] or spec["path"])
    return Path(path if Path(path).exists() or ":" not in path else path.rpartition(":")[0]).absolute()


def _files(root: Path) -> list[Path]:
    try:
        return list(formats.recognise(str(root)).files(root))
    except BimodalError:
        return [root]  # no model, or half of one: what it is then told as


def _copied(root: Path, folder: Path) -> Path:
    """A copy of a model's files, in the same places to each other."""
    if root.is_dir():
        return Path(shutil.copytree(root, folder / root.name, ignore=shutil.ignore_patterns("__pycache__")))
    for each in _files(root):
        place = folder / each.relative_to(root.parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(each, place)
    return folder / root.name
