"""PyTorch: what `torch.export` and TorchScript saved. A pickled module is refused: it runs code when it is read."""

from __future__ import annotations

import logging
import pickletools
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bimodal.errors import BimodalError, ModelError
from bimodal.formats import exported, torchscript
from bimodal.formats.archive import ZIP, damaged, member, members
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.device import device, one_thread
from bimodal.formats.library import library
from bimodal.formats.tensors import loaded

log = logging.getLogger("bimodal.model")
SUFFIXES = (".pt", ".pth", ".pt2", ".ts", ".torchscript")
EXPORTED, SCRIPT, COMPILED, PICKLE = "exported program", "TorchScript", "AOTInductor package", "pickle"
LINES = (
    'rows = {0: torch.export.Dim("rows")}',
    'torch.export.save(torch.export.export(model.eval(), (example,), dynamic_shapes=(rows,)), "model.pt2")',
)
EXPORT = "\n".join(("", *LINES, "where example is a tensor of two rows or more; for several inputs, one of each"))
# Where the parts of a state_dict come from.
STATE = ("torch", "collections", "numpy", "_codecs", "__builtin__", "builtins")


class Torch(Format):
    name = "torch"
    describes = "PyTorch models saved with torch.export (.pt2) or as TorchScript (.pt, .ts)"

    def matches(self, path: str, head: bytes) -> bool:
        return _kind(path, head) is not None or (bool(head) and Path(path).suffix.lower() in SUFFIXES)

    def load(self, source: Source) -> Loaded:
        kind = _readable(source)
        torch = library("torch")
        one_thread(torch)
        place = device()
        with _reading(source):
            read = exported.read if kind == EXPORTED else torchscript.read
            runtime, features = read(torch, source, place)
        versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": str(torch.__version__)}
        return loaded(runtime, source.features or features, versions, {"kind": kind, "device": place})


def _kind(path: str, head: bytes) -> str | None:
    """What PyTorch saved, by the names in its archive."""
    ends = {name.partition("/")[2] or name for name in members(path, head)}
    if any(end.startswith("data/aotinductor/") for end in ends):
        return COMPILED
    if ends & {"archive_format", "serialized_exported_program.json"}:
        return EXPORTED
    if {"data.pkl", "constants.pkl"} <= ends:
        return SCRIPT
    old = head[:1] == b"\x80" and Path(path).suffix.lower() in SUFFIXES
    return PICKLE if old or {"data.pkl", "version"} <= ends else None


def _readable(source: Source) -> str:
    """The kind of the file, or ModelError with the lines that save a model as one that can be read."""
    with source.file.open("rb") as opened:
        kind = _kind(source.path, opened.read(64))
    if kind == PICKLE:
        raise ModelError(f"{source.path} {_pickled(source.file)}. Where the model is at hand, export it:{EXPORT}")
    if kind == COMPILED:
        raise ModelError(f"{source.path} is machine code for one kind of machine; export the program itself:{EXPORT}")
    if kind is None or damaged(source.path):
        raise ModelError(f"{source.path} is damaged, or no model of PyTorch; export it again:{EXPORT}")
    return kind


def _pickled(file: Path) -> str:
    """What a pickle of PyTorch holds, by the names of its classes alone: it is not unpickled."""
    with file.open("rb") as opened:
        head = opened.read(len(ZIP))
    classes = _classes(member(file, "data.pkl") or b"") if head == ZIP else []
    own = next((name for name in classes if name.partition(".")[0] not in STATE), None)
    whole = own or next((name for name in classes if name.startswith("torch.nn.modules")), None)
    if whole:
        return f"is a pickled module ({whole}), which runs code when it is read"
    return "holds weights alone (a state_dict), not what is computed with them" if classes else "is a pickle"


def _classes(data: bytes) -> list[str]:
    """The classes and functions that a pickle names."""
    try:
        found = [str(argument) for code, argument, _ in pickletools.genops(data) if code.name == "GLOBAL"]
    except ValueError:
        return []
    return [name.replace(" ", ".") for name in found]


@contextmanager
def _reading(source: Source) -> Iterator[None]:
    """PyTorch's own errors as ours. Its announcements (TorchScript is to go) are not the user's business here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except BimodalError:
            raise
        except Exception as error:  # a damaged archive raises anything
            log.exception("the model cannot be read")
            raise ModelError(
                f"{source.path} is damaged, or was saved by another version of PyTorch ({type(error).__name__}); "
                f"export it again:{EXPORT}"
            ) from error
