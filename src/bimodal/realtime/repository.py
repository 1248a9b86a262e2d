"""Repository: a folder of models, `NAME/VERSION/…`, and what is found in it. Nothing of a model is loaded here.

    churn/1/model.pkl            a folder a version: with one model in it, or itself one (a package, MLflow, …)
    churn/2/
    fraud/model.onnx             a model without versions: in a folder of its name, which may be the model itself
    score.pkl                    or a file of its name
    aliases.toml                 other names of versions: [churn] champion = "2"

Names that begin with a dot or an underscore are passed over. All else in which no model is recognised is told with the
reason, and never served.
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bimodal import package as packages
from bimodal.errors import ModelFailed, NotFound, UsageError
from bimodal.formats import FILES, FORMATS, PACKED
from bimodal.private import PrivateFolder
from bimodal.realtime.states import STATISTICS, TAKEN

ALIASES = "aliases.toml"
DEFAULT = "default"  # the alias of the version that answers where none is named
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # it stands in URLs
WRITTEN = "model.py"  # a model written in Python, among files of code
STEM = "model"  # of the file that counts where there are several
MODELS = 1000  # of one repository

Stamp = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True)
class Found:
    """One version of a model. version: empty where the model stands without versions. path: of the model, None where
    there is none, for the `reason`. root: the file or folder that has all of the version.
    """

    name: str
    version: str
    root: Path
    path: Path | None = None
    reason: str = ""

    def stamp(self) -> Stamp:
        """By what it is seen to have changed: path, inode, size and times of each of its files. The time of
        modification may come along with a copy (`cp -p`, tar), that of the last change of any kind does not.
        """
        files = [self.root] if self.root.is_file() else [each for each in self.root.rglob("*") if not each.is_dir()]
        told = []
        for file in files:
            try:
                stat = file.stat()
            except OSError:  # it is being replaced
                continue
            told.append((str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        return tuple(sorted(told))

    def copied(self, folder: PrivateFolder) -> Path:
        """The root of a copy in the folder. Raises ModelFailed."""
        try:
            return self._copied(Path(folder.path))
        except (OSError, shutil.Error) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ModelFailed(f"{self.root} cannot be copied: {reason}") from None

    def _copied(self, folder: Path) -> Path:
        copy = folder / self.root.name
        if self.root.is_dir():
            return Path(shutil.copytree(self.root, copy, ignore=shutil.ignore_patterns("__pycache__")))
        return Path(shutil.copyfile(self.root, copy))


class Repository:
    """What stands in a folder, looked at anew each time. Raises UsageError where there is no such folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        if not self.folder.is_dir():
            raise UsageError(f"the repository {folder} is no folder; give the folder that holds the models")

    def look(self) -> dict[str, list[Found]]:
        """The versions of each model, from the oldest to the newest."""
        found: dict[str, list[Found]] = {}
        for place in _entries(self.folder):
            if len(found) < MODELS and (place.is_dir() or _file(place)):
                name = place.name if place.is_dir() else place.stem
                twice = Found(name, "", place, None, f"two models are called {name}: a folder and a file")
                found[name] = [twice] if name in found else _versions(name, place)
        return found

    def find(self, name: str) -> list[Found]:
        """The versions of one model, from the oldest to the newest. Raises NotFound naming the nearest."""
        found = self.look()
        if name not in found:
            from bimodal.field import listed, nearest  # with NumPy, which a server's parent process does without

            near = nearest(name, list(found))
            hint = f"did you mean {near!r}?" if near else f"it has {listed(list(found))}" if found else "it is empty"
            raise NotFound(f"no model of that name is in the repository; {hint}")
        return found[name]

    def aliases(self) -> dict[str, dict[str, str]]:
        """Other names of versions, by the model's name. Raises UsageError where the file is wrong."""
        file = self.folder / ALIASES
        try:
            told = tomllib.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read as TOML: {error}") from None
        for name, table in told.items():
            if not isinstance(table, dict) or not all(isinstance(each, str) for each in table.values()):
                raise UsageError(f'{file}: {name}: write a table [{name}] with lines like champion = "2", in quotes')
            for alias in table:
                if not NAME.fullmatch(alias):
                    raise UsageError(f"{file}: {name}: an alias has letters, digits, _ - and . in it, and begins so")
        return told


def chosen(found: Sequence[Found], aliases: Mapping[str, str], most: int) -> list[Found]:
    """Those that are to be served: of the versions that are models the newest, and those that an alias names."""
    models = [each for each in found if each.path is not None]
    newest = models[-most:]
    return [each for each in models if each in newest or each.version in aliases.values()]


def is_model(folder: str | Path) -> bool:
    """Whether a folder is one model, for a format that knows folders (a package, MLflow, Hugging Face, …)."""
    return packages.is_package(folder) or any(each.matches(str(folder), b"") for each in FORMATS)


def is_repository(path: str | Path) -> bool:
    """Whether a folder that is no model has models in it."""
    folder = Path(path)
    if not folder.is_dir() or is_model(folder) or (folder / "saved_model.pb").is_file():
        return False
    return any(each.path is not None for versions in Repository(folder).look().values() for each in versions)


def _versions(name: str, place: Path) -> list[Found]:
    """The versions of what stands at one place of the repository."""
    if not NAME.fullmatch(name):
        return [Found(name, "", place, None, "a name has letters, digits, _ - and . in it, and begins with no sign")]
    if name == STATISTICS:
        return [Found(name, "", place, None, TAKEN)]
    if place.is_file() or is_model(place):
        return [Found(name, "", place, place)]
    folders = [each for each in _entries(place) if each.is_dir()]
    versions = [_version(name, each) for each in folders]
    if any(each.path is not None or each.version.isdecimal() for each in versions):
        return _sorted(versions)
    path, reason = _model(place)
    return [Found(name, "", place, path, reason)]


def _version(name: str, folder: Path) -> Found:
    if not NAME.fullmatch(folder.name):
        return Found(name, folder.name, folder, None, "a version has letters, digits, _ - and . in its name")
    path, reason = _model(folder)
    return Found(name, folder.name, folder, path, reason)


def _sorted(versions: list[Found]) -> list[Found]:
    """Numbers by their size; where there are other names too, all by their time of modification."""
    if all(each.version.isdecimal() for each in versions):
        return sorted(versions, key=lambda each: (int(each.version), each.version))
    return sorted(versions, key=lambda each: (_time(each.root), each.version))


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _model(folder: Path) -> tuple[Path | None, str]:
    """The one model in a folder, which may be the folder itself; else the reason why there is none."""
    if is_model(folder):
        return folder, ""
    inside = _entries(folder)
    models = [each for each in inside if (is_model(each) if each.is_dir() else _file(each))]
    models = models or [each for each in inside if each.name == WRITTEN]
    if len(models) > 1:
        models = [each for each in models if each.stem == STEM] or models
    if len(models) > 1:
        names = ", ".join(each.name for each in models[:4])
        return None, f"there are several models in it ({names}); call the one that is meant {STEM}{models[0].suffix}"
    if models:
        return models[0], ""
    return None, "there is no model in it that Bimodal knows" + ("" if inside else ", it is empty")


def _file(path: Path) -> bool:
    """Whether a file is a saved model, by what it begins with."""
    if path.suffix in PACKED or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    return any(each.matches(str(path), head) for each in FILES)


def _entries(folder: Path) -> list[Path]:
    """What stands in a folder, by name, but for what is hidden."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in names if name[0] not in "._"]
