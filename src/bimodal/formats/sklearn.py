"""scikit-learn models saved with joblib or pickle, and whatever else a pickle holds that can predict."""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

from bimodal.errors import BimodalError, MissingLibrary, ModelError
from bimodal.formats import drift, estimators
from bimodal.formats.code import make_importable, missing_module, missing_name
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.fitted import understand
from bimodal.formats.guard import reading
from bimodal.formats.library import MODELS, library, missing
from bimodal.formats.python import adapt

log = logging.getLogger("bimodal.model")
PACKED = (".z", ".gz", ".bz2", ".xz", ".lzma", ".lz4")
SUFFIXES = (".pkl", ".pickle", ".joblib", ".sav", ".model", *PACKED)
DATA = (  # endings of other formats, and of data: what is a pickle in spite of them hides it
    ".json", ".jsonl", ".ndjson", ".ubj", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".xml", ".cbm", ".h5",
    ".hdf5", ".keras", ".tflite", ".onnx", ".pb", ".pmml", ".mlmodel", ".skops", ".pt2", ".gguf", ".ggml",
    ".safetensors", ".bimodal", ".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc", ".orc", ".avro", ".npz",
    ".npy", ".db", ".sqlite", ".duckdb", ".zip", ".tar", ".py",
)  # fmt: skip
LOST = re.compile(
    r"(?:Can't get attribute|module '(?P<of>[\w.]+)' has no attribute) '(?P<name>[\w.]+)'"
    r"(?: on <module '(?P<on>[\w.]+)')?"
)
SUPPORTED = "an estimator of scikit-learn with predict or transform, or an object with a predict method"


class Sklearn(Format):
    name = "sklearn"
    describes = (
        "scikit-learn models and other Python objects with predict(), saved with joblib or pickle (.joblib, .pkl)"
    )

    def matches(self, path: str, head: bytes) -> bool:
        pickled = len(head) > 2 and head[0] == 0x80 and head[1] <= 5
        return bool(head) and (pickled or Path(path).suffix.lower() in SUFFIXES)

    def load(self, source: Source) -> Loaded:
        _demand_honest(source)
        make_importable(source.file, source.code)
        model, told = unpickle(source)
        if estimators.is_estimator(model):
            return usable(model, source, told)
        if callable(getattr(model, "predict", None)) or _is_function(model):
            return adapt(model, source, told)
        raise ModelError(f"{source.path} {_what(model)}; supported is {SUPPORTED}")


def _demand_honest(source: Source) -> None:
    """Raise ModelError where the file's name tells that it is no pickle."""
    file = source.file
    packed = file.suffix.lower() in PACKED
    ending = Path(file.stem).suffix if packed else file.suffix
    if ending.lower() in DATA:
        what = "is no model as its name says, or a pickle" if packed else "is a pickle"
        raise ModelError(
            f"{source.path} {what} under a false name: {ending} files are none, and a pickle calls functions when it "
            "is read; if you trust it, give it the ending .pkl"
        )


def usable(model: Any, source: Source, told: tuple[str, ...]) -> Loaded:
    """An estimator as Bimodal runs it. Raises ModelError, whatever the estimator itself raises."""
    try:
        return understand(model, source, told)
    except BimodalError:
        raise
    except Exception as error:  # a model of another version, or one that was damaged, fails anywhere
        log.exception("the model cannot be used")
        kind, reason = type(model).__name__, f"{type(error).__name__}: {error}".splitlines()[0][:200]
        hint = f"; it was {told[0]}" if told else ""
        raise ModelError(f"{source.path} holds a {kind} that cannot be used ({reason}){hint}") from error


def unpickle(source: Source) -> tuple[Any, tuple[str, ...]]:
    """The object in the file, and what is to be told of it. Raises ModelError, MissingCode, MissingLibrary."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with reading(source):
                model = _read(source.file)
        except BimodalError:
            raise
        except ModuleNotFoundError as error:
            raise absent(source.file, error.name or "") from error
        except AttributeError as error:
            raise _lost(source.file, error) from error
        except Exception as error:  # a damaged pickle raises anything
            raise _damaged(source.file, error) from error
    for message in dict.fromkeys(str(warning.message) for warning in caught):  # a forest says it once a tree
        log.warning("%s", message)
    return model, versions_told(caught)


def _read(file: Path) -> Any:
    """joblib reads plain pickles too; without it, they are all that can be read."""
    try:
        joblib = library("joblib")
    except MissingLibrary:
        with file.open("rb") as opened:
            if opened.read(1) != b"\x80":
                raise
            opened.seek(0)
            return pickle.load(opened)
    return joblib.load(file)


def absent(file: Path, module: str) -> BimodalError:
    """The error for a module that the saved model names and that is not there."""
    root = {"_loss": "sklearn"}.get(module, module.partition(".")[0])  # up to 1.7 a module of it is called so
    if root == "numpy":
        return ModelError(
            f"{file} was saved under another major version of NumPy ({module} is not in this one); upgrade NumPy"
        )
    if root in MODELS:
        try:
            library(root)
        except BimodalError:
            return missing(root)
        return _elsewhere(file, root, f"module {module}")
    return missing_module(file, module)


def _lost(file: Path, error: AttributeError) -> BimodalError:
    found = LOST.search(str(error))
    if found is None:
        return ModelError(f"{file} cannot be unpickled: {type(error).__name__}: {error}")
    name, module = found["name"], found["on"] or found["of"] or "__main__"
    root = module.partition(".")[0]
    if root == "bimodal":  # the program that runs: what stood in `__main__` when it was saved is looked for there
        module = "__main__"
    if root in MODELS or root == "numpy":
        return _elsewhere(file, root, f"{module}.{name}")
    return missing_name(file, name, module)


def _elsewhere(file: Path, root: str, what: str) -> ModelError:
    """The error for what another version of a library has."""
    known = drift.unreadable(file, f"{what} is not in this one") if root == "sklearn" else None
    return known or ModelError(f"{file} was saved under another version of {root}, whose {what} is not in this one")


def _damaged(file: Path, error: Exception) -> ModelError:
    """The error for a file that cannot be unpickled; one that ends too early is damaged, whatever saved it."""
    cut = isinstance(error, EOFError | pickle.UnpicklingError)
    reason = (f"{type(error).__name__}: {error}".splitlines()[0])[:200]
    known = None if cut else drift.unreadable(file, reason)
    return known or ModelError(f"{file} {_damage(file, error)}")


def _damage(file: Path, error: Exception) -> str:
    """What is wrong with a file that cannot be unpickled."""
    with file.open("rb") as opened:
        head = opened.read(64)
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the model itself; fetch it with: git lfs pull"
    if head.startswith(b"PK\x03\x04"):
        return "is a zip archive, not a pickle"
    compressed = head.startswith((b"\x78", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00", b"\x04\x22\x4d\x18"))
    if head[:1] == b"\x80" or compressed:
        return f"is a damaged or truncated pickle ({type(error).__name__}); save it again"
    return f"is not a pickle ({type(error).__name__}); supported is {SUPPORTED}, saved with joblib or pickle"


def versions_told(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """One sentence where the model was saved under another version of scikit-learn."""
    for warning in caught:
        saved = getattr(warning.message, "original_sklearn_version", None)
        if saved is not None:
            now = getattr(warning.message, "current_sklearn_version", "")
            told = f"saved under scikit-learn {saved}, loaded under {now}: its answers may differ; "
            return (f"{told}to be sure, install scikit-learn=={saved}",)
    return ()


def _is_function(model: Any) -> bool:
    return callable(model) and type(model).__name__ in ("function", "builtin_function_or_method", "partial")


def _what(model: Any) -> str:
    """What the file holds instead of a model."""
    kind = type(model).__name__
    pieces = dict(enumerate(model)) if isinstance(model, list | tuple) else model if isinstance(model, dict) else {}
    keys = [key for key, value in pieces.items() if not isinstance(value, type) and _predicts(value)]
    if keys:
        place = f"saved[{keys[0]!r}]"
        return f"holds a {kind} with the model in it; save that alone: joblib.dump({place}, 'model.joblib')"
    return f"holds an object of type {kind}, not a model"


def _predicts(thing: Any) -> bool:
    return callable(getattr(thing, "predict", None)) or callable(getattr(thing, "transform", None))
