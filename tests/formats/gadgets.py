"""Gadgets: pickles that touch a file when they are read, in the ways that are known in public, and as many spellings.

A process of its own reads them, one after the other, as a server's child does: `python gadgets.py FOLDER WHAT`, which
prints a line of JSON for each. The sources of the ways: the standard library's own documentation of what starts a
program or evaluates a text; the bypasses told of in public against fickling, picklescan and modelscan; the libraries'
own code.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import logging
import lzma
import os
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from tests.formats.ways import Call, Name, Plain, gadgets

# -- the spellings -----------------------------------------------------------------------------------------------------


class Writer:
    """Writes pickles by hand, in one of several dialects."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.out = bytearray()
        self.memo = 0

    def write(self, thing: Any) -> bytes:
        if self.how in ("global 2", "stack 4", "pieces 4", "newobj 2"):
            self.out += b"\x80" + bytes([int(self.how[-1])])
        self.value(thing)
        return bytes(self.out + b".")

    def value(self, thing: Any) -> None:
        if isinstance(thing, Name):
            self.name(thing)
        elif isinstance(thing, Call):
            self.call(thing)
        elif isinstance(thing, str):
            data = thing.encode()
            self.out += b"X" + struct.pack("<I", len(data)) + data
        elif isinstance(thing, bytes):
            self.out += b"B" + struct.pack("<I", len(thing)) + thing
        elif isinstance(thing, bool) or thing is None:
            self.out += {True: b"I01\n", False: b"I00\n", None: b"N"}[thing]
        elif isinstance(thing, int):
            self.out += b"I%d\n" % thing
        elif isinstance(thing, dict):
            self.out += b"(" + b""
            for key, value in thing.items():
                self.value(key)
                self.value(value)
            self.out += b"d"
        else:
            self.out += b"("
            for each in thing:
                self.value(each)
            self.out += b"l" if isinstance(thing, list) else b"t"

    def name(self, thing: Name) -> None:
        if self.how == "stack 4":
            self.value(thing.module)
            self.value(thing.name)
            self.out += b"\x93"
        elif self.how == "pieces 4":  # the texts are fetched from a memo that was filled elsewhere
            for text in (thing.name, thing.module):
                self.value(text)
                self.out += b"r" + struct.pack("<I", self.memo) + b"0"
                self.memo += 1
            self.out += b"j" + struct.pack("<I", self.memo - 1) + b"j" + struct.pack("<I", self.memo - 2) + b"\x93"
        else:
            self.out += f"c{thing.module}\n{thing.name}\n".encode()

    def call(self, thing: Call) -> None:
        if self.how == "inst 0" and isinstance(thing.what, Name) and thing.state is None:
            self.out += b"("
            for each in thing.arguments:
                self.value(each)
            self.out += f"i{thing.what.module}\n{thing.what.name}\n".encode()
            return
        if self.how == "obj 1":
            self.out += b"("
            self.value(thing.what)
            for each in thing.arguments:
                self.value(each)
            self.out += b"o"
        else:
            self.value(thing.what)
            self.value(thing.arguments)
            self.out += b"\x81" if self.how == "newobj 2" else b"R"
        if thing.state is not None:
            self.value(thing.state)
            self.out += b"b"


DIALECTS = ("global 0", "global 2", "stack 4", "pieces 4", "inst 0", "obj 1", "newobj 2")


def spelled(thing: Any, how: str) -> bytes:
    return Writer(how).write(thing)


# -- the containers ----------------------------------------------------------------------------------------------------


def _within_joblib(data: bytes) -> bytes:
    """After an array that joblib wrote among the pickle's opcodes."""
    before = io.BytesIO()
    joblib.dump([np.arange(3.0)], before)
    body = data[2:] if data[:1] == b"\x80" else data
    return before.getvalue()[:-1] + b"0" + body


def _array(data: bytes) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return out.getvalue() + data


def _zip(data: bytes, *names: str, **others: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, data)
        for name, value in others.items():
            archive.writestr(name, value)
    return out.getvalue()


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "model.pkl": bytes,
    "model.joblib": _within_joblib,
    "model.sav": bytes,
    "model.model": bytes,
    "model.pkl.z": zlib.compress,
    "model.pkl.gz": lambda data: gzip.compress(data, mtime=0),
    "model.pkl.bz2": bz2.compress,
    "model.pkl.xz": lzma.compress,
    "model.json": bytes,
    "model.onnx": bytes,
    "model.skops": bytes,
    "model.npy": _array,
    "model.npz": lambda data: _zip(_array(data), "a.npy"),
    "model.pt": lambda data: _zip(data, "archive/data.pkl", "archive/version"),
    "model.pth": bytes,
    "model.ts": lambda data: _zip(data, "archive/data.pkl", "archive/constants.pkl", "archive/version"),
    "model.keras": lambda data: _zip(data, "config.json", "model.weights.h5"),
}


SLOW = ("model.ts", "model.keras", "model.skops")  # their library takes seconds to import


# -- reading them ------------------------------------------------------------------------------------------------------


def trials(folder: Path, what: str) -> Iterator[tuple[str, Path, Callable[[Path], Any]]]:
    """Of each: what it is, the file, how it is read."""
    made = gadgets("MARK", folder)
    np.save(folder / "evil.npy", np.array([Plain("os", "system", ("touch MARK",))], object), allow_pickle=True)
    if what in ("dialects", "short"):
        for how in DIALECTS if what == "dialects" else ("stack 4",):
            for name, each in made.items():
                yield f"{name}, {how}", _file(folder, "model.pkl", spelled(each, how)), ours
    if what == "dialects":
        return
    whole = what == "containers"
    for name in made if whole else FEW:
        data = spelled(made[name], "stack 4" if "." not in name else "global 2")
        for file, wrap in CONTAINERS.items():
            if not whole and file in SLOW:
                continue
            yield f"{name} in {file}", _file(folder, file, wrap(data)), ours
        for kind in (folder_of_sklearn, folder_of_python, folder_with_loader) if whole else (folder_of_sklearn,):
            yield f"{name} in {kind.__name__}", kind(folder, data), ours
        for reader in READERS if whole else READERS[:-1]:
            wrap = _array if reader is read_array else bytes
            yield f"{name} by {reader.__name__}", _file(folder, "model.pkl", wrap(data)), reader


FEW = ("os.system", "getattr of an import", "joblib.load", "a distribution's template", "numpy.memmap", "pickle._loads")


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / "given" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def _mlflow(folder: Path, flavors: str, data: bytes) -> Path:
    place = folder / "mlflow"
    place.mkdir(exist_ok=True)
    (place / "model.pkl").write_bytes(data)
    (place / "MLmodel").write_text(f"flavors:\n{flavors}mlflow_version: 3.1.0\nmodel_uuid: x\n")
    return place


def folder_of_sklearn(folder: Path, data: bytes) -> Path:
    return _mlflow(folder, "  sklearn:\n    pickled_model: model.pkl\n", data)


def folder_of_python(folder: Path, data: bytes) -> Path:
    told = "loader_module: mlflow.pyfunc.model\n    python_model: model.pkl\n    cloudpickle_version: 3.0.0\n"
    return _mlflow(folder, f"  python_function:\n    {told}", data)


def folder_with_loader(folder: Path, data: bytes) -> Path:
    return _mlflow(folder, "  python_function:\n    loader_module: mlflow.sklearn\n    model_path: model.pkl\n", data)


def ours(path: Path) -> Any:
    """As a child reads it."""
    from bimodal import formats
    from bimodal.formats.contract import Source

    return formats.recognise(str(path)).load(Source(str(path)))


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    from bimodal.formats import guard
    from bimodal.formats.contract import Source

    with guard.reading(Source(str(path))):
        return read()


def read_by_c(path: Path) -> Any:
    return _guarded(path, lambda: pickle.loads(path.read_bytes()))


def read_by_python(path: Path) -> Any:
    return _guarded(path, lambda: pickle._Unpickler(io.BytesIO(path.read_bytes())).load())


def read_by_joblib(path: Path) -> Any:
    return _guarded(path, lambda: joblib.load(path))


def read_mapped(path: Path) -> Any:
    return _guarded(path, lambda: joblib.load(path, mmap_mode="r"))


def read_array(path: Path) -> Any:
    return _guarded(path, lambda: np.load(path, allow_pickle=True))


def read_by_pandas(path: Path) -> Any:
    import pandas as pd

    return _guarded(path, lambda: pd.read_pickle(path))


def read_by_cloudpickle(path: Path) -> Any:
    import cloudpickle

    return _guarded(path, lambda: cloudpickle.loads(path.read_bytes()))


def read_by_torch(path: Path) -> Any:
    import torch

    return _guarded(path, lambda: torch.load(path, weights_only=False))


READERS = (
    read_by_c,
    read_by_python,
    read_by_joblib,
    read_mapped,
    read_array,
    read_by_pandas,
    read_by_cloudpickle,
    read_by_torch,
)


def fire(folder: Path) -> None:
    """Each of the FEW as the libraries read it by themselves, in a process of its own: a line for each that does it."""
    for name, each in gadgets("MARK", folder).items():
        if name in FEW and not os.fork():
            with contextlib.suppress(Exception):
                joblib.load(_file(folder, "model.pkl", spelled(each, "stack 4" if "." not in name else "global 2")))
            print(json.dumps([name, Path("MARK").exists()]), flush=True)
            os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.wait()
        Path("MARK").unlink(missing_ok=True)


def main() -> None:
    folder, what = Path(sys.argv[1]), sys.argv[2]
    mark = Path("MARK")
    logging.disable(logging.CRITICAL)
    if what == "unguarded":
        fire(folder)
        return
    for name, path, read in trials(folder, what):
        try:
            read(path)
            outcome = "read"
        except Exception as error:
            outcome = type(error).__name__
            reason = str(error)
        else:
            reason = ""
        harmed = mark.exists() or mark.is_symlink()
        print(json.dumps([name, outcome, harmed, reason[:300]]), flush=True)
        if harmed:
            mark.rmdir() if mark.is_dir() else mark.unlink()


if __name__ == "__main__":
    main()
