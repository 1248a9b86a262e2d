"""The data files of an ONNX model: plain files beside it, by their names alone.

A location that leads elsewhere could read any file of the machine into the model's answers.
"""

from __future__ import annotations

from pathlib import Path

from bimodal.errors import ModelError
from bimodal.formats.protobuf import outside


def data_files(model: Path) -> tuple[Path, ...]:
    """The files that hold tensors of the model. Raises ModelError where one is not a plain file beside it."""
    try:
        names = outside(model)
    except ValueError as error:
        raise ModelError(f"{model} is no ONNX model that can be read to its end; save it again") from error
    return tuple(_beside(model, name) for name in names)


def _beside(model: Path, name: str) -> Path:
    if not _is_plain(name):
        raise ModelError(
            f"{model} keeps weights outside its own folder; save it with plain names for its data: "
            'onnx.save_model(model, "model.onnx", save_as_external_data=True, location="model.onnx.data")'
        )
    file = model.parent / name
    if not file.exists():
        raise ModelError(f"{model} keeps its weights in {name}, which is not beside it; copy that file into its folder")
    if not file.is_file() or file.resolve().parent != model.parent.resolve():
        raise ModelError(f"{model} keeps its weights in {name}, which is no plain file of its folder; copy it there")
    return file


def _is_plain(name: str) -> bool:
    """A file's name without a way to it, on any system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0") and name == name.strip()
