"""Optional libraries: imported where a format needs them, and the command that installs one that is missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from bimodal.errors import MissingLibrary

INSTALL = {
    "pyarrow": "bimodal[batch]",
    "onnxruntime": "bimodal[onnx]",
    "skl2onnx": "bimodal[convert]",
    "xgboost": "bimodal[xgboost]",
    "lightgbm": "bimodal[lightgbm]",
    "catboost": "bimodal[catboost]",
    "torch": "bimodal[torch]",
    "keras": "bimodal[keras]",
    "transformers": "bimodal[huggingface]",
    "llama_cpp": "bimodal[gguf]",
    "joblib": "bimodal[sklearn]",
    "pandas": "bimodal[sklearn]",
    "sklearn": "bimodal[sklearn]",
    "skops": "bimodal[skops]",
    "mlflow": "bimodal[mlflow]",
    "yaml": "bimodal[mlflow]",
    "psycopg": "bimodal[postgres]",
    "adbc_driver_manager": "bimodal[postgres]",
    "adbc_driver_postgresql": "bimodal[postgres]",
    "duckdb": "bimodal[duckdb]",
    "redis": "bimodal[redis]",
    "grpc": "bimodal[grpc]",
    "opentelemetry": "bimodal[otel]",
    "pymysql": "bimodal[sql]",
    "sqlalchemy": "bimodal[sql]",
}
CALLED = {
    "llama_cpp": "llama-cpp-python",
    "sklearn": "scikit-learn",
    "imblearn": "imbalanced-learn",
    "skopt": "scikit-optimize",
    "category_encoders": "category-encoders",
}
MODELS = (
    "sklearn",
    "imblearn",
    "xgboost",
    "lightgbm",
    "catboost",
    "skopt",
    "category_encoders",
    "torch",
    "scipy",
    "pandas",
    "polars",
)


def library(name: str) -> ModuleType:
    """Import it (or a module of ours that stands on one), or raise MissingLibrary with the install command."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise missing(error.name or name) from error


def missing(module: str) -> MissingLibrary:
    """What to say when a library's module is not there."""
    root = module.partition(".")[0]
    package = INSTALL.get(root)
    command = f'pip install "{package}"' if package else f"pip install {CALLED.get(root, root)}"
    return MissingLibrary(f"{CALLED.get(root, root)} is not installed; install it with: {command}")
