"""How saved models are recognised and loaded: one file a format."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bimodal.errors import ModelError, ModelNotFound
from bimodal.formats.contract import Format
from bimodal.formats.listed import Listed

FILES: tuple[Listed, ...] = (
    Listed("python", "Python"),
    Listed("gguf", "Gguf"),
    Listed("onnx", "Onnx", inline=True),
    Listed("torch", "Torch"),
    Listed("keras", "Keras"),
    Listed("skops", "Skops"),
    Listed("xgboost", "XGBoost"),
    Listed("lightgbm", "LightGBM"),
    Listed("catboost", "CatBoost"),
    Listed("sklearn", "Sklearn"),
)
FORMATS: tuple[Listed, ...] = (Listed("mlflow", "Mlflow", FILES), Listed("huggingface", "HuggingFace"), *FILES)

LOOKED_AT = 200  # files of a folder
PACKED = (".gz", ".bz2", ".xz", ".z", ".py")  # more often data or code than a model


def named(name: str) -> Format:
    return next(each for each in FORMATS if each.name == name)


def recognise(path: str) -> Format:
    """The format of the model at `path`, by its content; raises ModelNotFound or ModelError saying what is
    supported.
    """
    head = _head(path)
    for each in FORMATS:
        if each.matches(path, head):
            return each.format
    if not Path(path).exists():
        raise ModelNotFound(f"there is no file {path}{_near(Path(path))}")
    supported = "; ".join(each.describes for each in FORMATS)
    if Path(path).is_dir():
        raise ModelError(f"{path} is a folder that is no model{_within(Path(path))}; supported are {supported}")
    what = "is empty" if Path(path).is_file() and not head else "is not a model that Bimodal knows"
    raise ModelError(f"{path} {what}; supported are {supported}")


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except PermissionError:
        raise ModelError(f"{path} may not be read: no permission; `ls -l` shows who may") from None
    except OSError:
        return b""


def _near(path: Path) -> str:
    from bimodal.field import nearest  # with NumPy, which a server's parent process does without

    try:
        near = nearest(path.name, [each.name for each in path.parent.iterdir()])
    except OSError:
        return f"; the folder {path.parent} does not exist"
    return f"; did you mean {path.parent / near}?" if near else ""


def _within(folder: Path) -> str:
    """What stands in a folder instead: a model in a file of its own, or one of TensorFlow."""
    if (folder / "saved_model.pb").is_file():
        return " that Bimodal knows (a SavedModel of TensorFlow: save it as .keras, or convert it with tf2onnx)"
    plain = (each for each in sorted(folder.iterdir())[:LOOKED_AT] if each.suffix not in PACKED and each.is_file())
    found = next((each for each in plain if any(kind.matches(str(each), _head(str(each))) for kind in FILES)), None)
    return f"; did you mean {found}?" if found else ""


def stem(path: str) -> str:
    """The model's name by default: the file's stem, the folder's name, or the attribute of a Python model."""
    file = Path(path)
    if file.is_dir():
        return file.absolute().name
    return file.stem if file.exists() else path.rpartition(":")[2]


def digest(path: str, kind: Format) -> str:
    """SHA-256 of the model's file; of several files, over their names and digests; of a Python model, of the file
    before the colon, or of its address.
    """
    place = Path(path) if Path(path).exists() else Path(path.rpartition(":")[0])
    if not place.exists():
        return hashlib.sha256(path.encode()).hexdigest()
    files = kind.files(place)
    if len(files) == 1:
        return _sha256(files[0])
    root = place if place.is_dir() else place.parent
    listed = "".join(f"{_sha256(each)} {each.relative_to(root).as_posix()}\n" for each in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
