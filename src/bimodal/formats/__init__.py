"""How saved models are recognised and loaded: one file a format."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bimodal.errors import ModelError, ModelNotFound
from bimodal.field import nearest
from bimodal.formats.contract import Format
from bimodal.formats.onnx import Onnx
from bimodal.formats.python import Python
from bimodal.formats.sklearn import Sklearn

FORMATS: tuple[Format, ...] = (Python(), Onnx(), Sklearn())


def named(name: str) -> Format:
    return next(each for each in FORMATS if each.name == name)


def recognise(path: str) -> Format:
    """The format of the model at `path`, by its content; raises ModelNotFound or ModelError saying what is
    supported.
    """
    head = _head(path)
    for each in FORMATS:
        if each.matches(path, head):
            return each
    if not Path(path).exists():
        raise ModelNotFound(f"there is no file {path}{_near(Path(path))}")
    supported = "; ".join(each.describes for each in FORMATS)
    what = "is empty" if Path(path).is_file() and not head else "is not a model that Bimodal knows"
    raise ModelError(f"{path} {what}; supported are {supported}")


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except OSError:
        return b""


def _near(path: Path) -> str:
    try:
        near = nearest(path.name, [each.name for each in path.parent.iterdir()])
    except OSError:
        return f"; the folder {path.parent} does not exist"
    return f"; did you mean {path.parent / near}?" if near else ""


def stem(path: str) -> str:
    """The model's name by default: the file's stem, or the attribute of a Python model."""
    file = Path(path)
    return file.stem if file.exists() else path.rpartition(":")[2]


def digest(path: str) -> str:
    """SHA-256 of the model's file (of a Python model: of the file before the colon, or of its address)."""
    file = Path(path) if Path(path).exists() else Path(path.rpartition(":")[0])
    if not file.is_file():
        return hashlib.sha256(path.encode()).hexdigest()
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
