"""One model of every format, really trained and saved as its library saves it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from tests.models import CASES, IRIS, NAMES, SPECIES, TEXTS


def _sklearn(folder: Path) -> Path:
    joblib.dump(CASES["forest"].model, folder / "model.joblib")
    return folder / "model.joblib"


def _skops(folder: Path) -> Path:
    import_module("skops.io").dump(CASES["frame_logistic"].model, folder / "model.skops")
    return folder / "model.skops"


def _onnx(folder: Path) -> Path:
    made = import_module("skl2onnx").to_onnx(CASES["logistic"].model, IRIS[:1], options={"zipmap": False})
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


def _xgboost(folder: Path) -> Path:
    xgboost = import_module("xgboost")
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(IRIS, SPECIES)
    model.save_model(folder / "model.ubj")
    return folder / "model.ubj"


def _lightgbm(folder: Path) -> Path:
    lightgbm = import_module("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(IRIS, SPECIES)
    model.booster_.save_model(folder / "model.txt")
    return folder / "model.txt"


def _catboost(folder: Path) -> Path:
    catboost = import_module("catboost")
    told = {"iterations": 5, "depth": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    catboost.CatBoostClassifier(**told).fit(IRIS, NAMES).save_model(str(folder / "model.cbm"))
    return folder / "model.cbm"


def _torch(folder: Path) -> Path:
    torch = import_module("torch")
    module = import_module("tests.formats.test_torch")
    net = module.trained(4, 3, torch.from_numpy(IRIS.astype(np.float32)), torch.from_numpy(SPECIES))
    made: Path = module.exported(net, (torch.zeros(2, 4),), folder)
    return made


def _keras(folder: Path) -> Path:
    import_module("tests.formats.test_keras")  # chooses the backend
    keras = import_module("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(IRIS.astype(np.float32), SPECIES, epochs=2, verbose=0)
    model.save(folder / "model.keras")
    return folder / "model.keras"


def _huggingface(folder: Path) -> Path:
    made: Path = import_module("tests.formats.test_huggingface").saved(folder / "mood")
    return made


def _mlflow(folder: Path) -> Path:
    import_module("mlflow.sklearn").save_model(CASES["frame_logistic"].model, folder / "registered")
    return folder / "registered"


def _python(folder: Path) -> str:
    lines = ["import numpy as np", "", "class Doubled:", "    def predict(self, rows: np.ndarray):", "        "]
    (folder / "mine.py").write_text("\n".join(lines) + "return rows[:, 0] * 2\n")
    return f"{folder / 'mine.py'}:Doubled"


SAVED: dict[str, Callable[[Path], Any]] = {
    "sklearn": _sklearn, "skops": _skops, "onnx": _onnx, "xgboost": _xgboost, "lightgbm": _lightgbm,
    "catboost": _catboost, "torch": _torch, "keras": _keras, "huggingface": _huggingface, "mlflow": _mlflow,
    "python": _python,
}  # fmt: skip


def saved(format_: str, folder: Path) -> str:
    """The path of the model; libraries may warn as they train and save."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(SAVED[format_](folder))


def sample(format_: str) -> Any:
    """Rows that it takes."""
    if format_ == "huggingface":
        return [{"text": text} for text in TEXTS]
    if format_ in ("skops", "mlflow"):
        return CASES["frame_logistic"].rows
    return IRIS[::5] if format_ in ("sklearn", "python") else IRIS[::5].astype(np.float32)
