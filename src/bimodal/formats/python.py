"""Models written in Python: `file.py:attribute`, `module:attribute`, or an object with predict(), from a notebook."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from bimodal.errors import MissingCode, ModelError, ModelNotFound
from bimodal.field import nearest
from bimodal.formats.code import import_file, make_importable
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.written import Written

PLACE = re.compile(r"(?P<module>.+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")


class Python(Format):
    name = "python"
    describes = "models written in Python (file.py:attribute, module:attribute)"

    def matches(self, path: str, head: bytes) -> bool:
        return PLACE.fullmatch(path) is not None or path.endswith(".py")

    def load(self, source: Source) -> Loaded:
        path = source.path
        kept = None if source.kept is None else Path(source.kept)
        found = PLACE.fullmatch(path) or PLACE.fullmatch(f"{path}:{_only(kept or source.file)}")
        if found is None:
            raise ModelError(f"{source.path}: {_unnamed(source)}")
        module = found["module"]
        make_importable(Path(module) if module.endswith(".py") else Path.cwd() / module, source.code)
        loaded = _file(Path(module), kept) if module.endswith(".py") else _module(module)
        if not hasattr(loaded, found["name"]):
            near = nearest(found["name"], [name for name in vars(loaded) if not name.startswith("_")])
            raise ModelError(f"{module} has no {found['name']}" + (f"; did you mean {near}?" if near else ""))
        return adapt(getattr(loaded, found["name"]), source)


def adapt(model: Any, source: Source, told: Sequence[str] = ()) -> Loaded:
    """A class, an object or a function that predicts."""
    return Written.of(model, source.path).loaded(source, told)


def _file(file: Path, kept: Path | None) -> Any:
    if kept is None and not file.is_file():
        raise ModelNotFound(f"there is no file {file}")
    return import_file(file, kept)


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingCode(f"there is no module {error.name} here; give its folder with --code DIR") from error
    except Exception as error:  # the module's own code raises what it likes
        raise ModelError(f"the module {name} cannot be imported: {type(error).__name__}: {error}") from error


def _only(file: Path) -> str:
    """The one class of the file that has a predict; nothing where there is none, or a choice."""
    if not file.is_file():
        return ""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ""
    named = [
        each.name
        for each in tree.body
        if isinstance(each, ast.ClassDef)
        and any(isinstance(part, ast.FunctionDef) and part.name == "predict" for part in each.body)
    ]
    return named[0] if len(named) == 1 else ""


def _unnamed(source: Source) -> str:
    """What to write where the file does not say which of its objects is the model."""
    if not source.file.is_file():
        raise ModelNotFound(f"there is no file {source.file}")
    named = re.findall(r"^class (\w+)", source.file.read_text("utf-8", "replace"), re.MULTILINE)
    if not named:
        return (
            "there is no class with predict() in it; write one (class Model: with def predict(self, rows):), or name "
            f"another object of the file: {source.path}:NAME"
        )
    return (
        f"name the model in the file: {source.path}:{named[-1]}; in a repository, where none can be named, leave one "
        "class in it that has a predict() of its own"
    )
