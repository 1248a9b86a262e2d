"""MLflow's model folders: an `MLmodel` file, the data of one or more flavors, a signature, requirements.

Where another format of Bimodal reads the flavor's data, that reads it, with all it can do (signature, compiled
forms); otherwise MLflow itself loads the model, as its `python_function`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bimodal.errors import ModelError, UsageError
from bimodal.formats import pyfunc
from bimodal.formats.code import make_importable
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.environment import drifted
from bimodal.formats.library import library
from bimodal.formats.registry import META, version
from bimodal.formats.schema import Schema
from bimodal.formats.sklearn import usable

MLMODEL = "MLmodel"
LARGEST = 16 * 2**20  # bytes of an MLmodel file; they have some kilobytes
# Of each flavor: the entry that names its data, and the formats that may read it, as Bimodal names them.
FLAVORS = {
    "sklearn": ("pickled_model", ("skops", "sklearn")),
    "xgboost": ("data", ("skops", "sklearn", "xgboost")),
    "lightgbm": ("data", ("skops", "sklearn", "lightgbm")),
    "catboost": ("data", ("catboost",)),
    "onnx": ("data", ("onnx",)),
    "keras": ("data", ("keras",)),
    "pytorch": ("model_data", ("torch",)),
}
INSIDE = {"keras": "model.keras", "pytorch": "model.pt2"}  # the file, where the data is a folder


class Mlflow(Format):
    name = "mlflow"
    describes = "MLflow model folders (with an MLmodel file)"

    def __init__(self, formats: Sequence[Format]) -> None:
        self._formats = {each.name: each for each in formats}

    def matches(self, path: str, head: bytes) -> bool:
        return Path(path, MLMODEL).is_file()

    def files(self, path: Path) -> tuple[Path, ...]:
        """Without what a run of the model's code leaves behind, and what a registry wrote beside it."""
        found = (each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
        return tuple(sorted(each for each in found if each.name != META))

    def load(self, source: Source) -> Loaded:
        folder = source.file
        told = _read(folder)
        flavors = told["flavors"]
        schema = Schema.read(told.get("signature"), source.path)
        code = _code(folder, flavors)
        make_importable(folder / MLMODEL, (*source.code, *code))
        warned = drifted(_requirements(folder))
        loaded = self._flavor(replace(source, code=(*source.code, *code)), flavors, schema)
        if loaded is None:
            if "python_function" not in flavors:
                raise ModelError(f"{source.path} has no flavor that Bimodal can load; it has {', '.join(flavors)}")
            loaded = pyfunc.load(replace(source, code=(*source.code, *code)), schema)
        facts = {**loaded.facts, "mlflow": str(told.get("mlflow_version", "")), **version(folder)}
        return replace(loaded, warnings=(*warned, *loaded.warnings), facts=facts)

    def _flavor(self, source: Source, flavors: Mapping[str, Any], schema: Schema | None) -> Loaded | None:
        """The model read by a format of its own; None where there is none."""
        for flavor, (entry, names) in FLAVORS.items():
            if flavor not in flavors:
                continue
            told = flavors[flavor]
            data = _inside(source.file, told.get(entry), flavor)
            if data is None:
                return None
            if flavor == "xgboost" and _is_wrapper(told):
                return _wrapper(source, told, data, schema)
            return self._by_format(replace(source, path=str(data)), names, schema)
        return None

    def _by_format(self, source: Source, names: Sequence[str], schema: Schema | None) -> Loaded | None:
        with source.file.open("rb") as opened:
            head = opened.read(64)
        kinds = (self._formats[name] for name in names if name in self._formats)
        kind = next((each for each in kinds if each.matches(source.path, head)), None)
        return None if kind is None else _named(kind.load, source, schema)


def _read(folder: Path) -> dict[str, Any]:
    """What the MLmodel file tells."""
    yaml = library("yaml")
    file = folder / MLMODEL
    if file.stat().st_size > LARGEST:
        raise ModelError(f"{file} has {file.stat().st_size} bytes: it is no MLmodel file")
    try:
        told = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read ({type(error).__name__})") from error
    flavors = told.get("flavors") if isinstance(told, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(each, dict) for each in flavors.values()):
        raise ModelError(f"{file} names no flavors: it is no MLmodel file")
    return dict(told)


def _inside(folder: Path, data: object, flavor: str) -> Path | None:
    """A flavor's data file, which is never outside its model's folder; None where there is no such file."""
    if not isinstance(data, str):
        return None
    path = folder / data
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{folder / MLMODEL} names {data!r}, which is outside the model's folder")
    path = path / INSIDE.get(flavor, "") if path.is_dir() else path
    return path if path.is_file() else None


def _code(folder: Path, flavors: Mapping[str, Any]) -> tuple[str, ...]:
    """The folders with the user's own code that were saved with the model."""
    named = {each["code"] for each in flavors.values() if isinstance(each.get("code"), str)}
    for each in named:
        if not (folder / each).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{folder / MLMODEL} names {each!r}, which is outside the model's folder")
    return tuple(str((folder / each).absolute()) for each in sorted(named) if (folder / each).is_dir())


def _requirements(folder: Path) -> list[str]:
    file = folder / "requirements.txt"
    return file.read_text("utf-8", "replace").splitlines() if file.is_file() else []


def _is_wrapper(told: Mapping[str, Any]) -> bool:
    """It is XGBoost's own estimator in scikit-learn's manner, in a file of XGBoost."""
    wrapped = str(told.get("model_class", "")).startswith("xgboost.sklearn.")
    return wrapped and str(told.get("data", "")).endswith((".ubj", ".json", ".xgb"))


def _wrapper(source: Source, told: Mapping[str, Any], data: Path, schema: Schema | None) -> Loaded:
    name = told["model_class"].rpartition(".")[2]
    kind = getattr(library("xgboost"), name, None) if name.startswith("XGB") else None
    if not isinstance(kind, type):
        raise ModelError(f"{source.path} holds {name}, which this version of XGBoost does not have")
    model = kind()
    try:
        model.load_model(data)
    except Exception as error:  # xgboost's errors have no common base but Exception
        raise ModelError(f"{data} is damaged, or of a later XGBoost ({type(error).__name__})") from error
    return _named(lambda settled: usable(model, settled, ()), source, schema)


def _named(load: Any, source: Source, schema: Schema | None) -> Loaded:
    """The model with what MLflow's signature adds to its own: types of columns it says nothing of, names of columns
    where it was trained on arrays.
    """
    if schema is None or not schema.flat:
        return _loaded(load, source)
    if source.sample is None:
        source = replace(source, sample=schema.fields)
    loaded = _loaded(load, source)
    if loaded.signature.named or source.features:
        return loaded
    names = tuple(each.name for each in schema.fields)
    if loaded.signature.width not in (-1, len(names)):
        return loaded
    try:
        return _loaded(load, replace(source, features=names))
    except UsageError:
        return loaded


def _loaded(load: Any, source: Source) -> Loaded:
    loaded: Loaded = load(source)
    return loaded
