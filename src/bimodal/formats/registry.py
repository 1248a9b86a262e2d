"""Models by their address in MLflow's registry or runs: `models:/name@alias`, `models:/name/3`, `runs:/id/model`.

A process of its own fetches one: MLflow is large, and the process that serves does without it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bimodal.errors import BimodalError, ModelError, ModelNotFound, UsageError, retold, told
from bimodal.formats.library import library

META = "registered_model_meta"  # where MLflow writes down the name and version that an alias led to
URI = re.compile(r"(models|runs):/")
FETCH = "from bimodal.formats.registry import main; main()"
PASSWORD = re.compile(r"//[^/@\s]*@")
LONGEST = 1800.0  # seconds that a download may take
STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
LOCAL = ("mlruns", "mlflow.db")  # a store that MLflow finds by itself in the working directory
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


def is_uri(path: str) -> bool:
    return URI.match(path) is not None


def stem(uri: str) -> str:
    """The model's name by default: `churn` of `models:/churn@champion`, the last part of `runs:/id/model`."""
    parts = [part for part in uri.partition(":")[2].split("/") if part]
    if not parts:
        raise UsageError(f"{uri} names no model; write models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/PATH")
    return parts[-1] if uri.startswith("runs:") else parts[0].partition("@")[0]


def resolve(uri: str, folder: Path) -> Path:
    """Fetch the model into the folder; where its files are now.

    The store is the one of MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI, or the one that this process set with
    `mlflow.set_tracking_uri`. Raises UsageError (no store is configured), ModelNotFound, ModelError (the store cannot
    be reached), MissingLibrary.
    """
    stem(uri)
    settings = _settings()
    if not any(settings.get(name) for name in STORES) and not any(Path(place).exists() for place in LOCAL):
        raise UsageError(
            f"{uri} is in a store of MLflow, and none is configured; name it: "
            f"export MLFLOW_TRACKING_URI=https://mlflow.example.com"
        )
    command = [sys.executable, "-P", "-c", FETCH, uri, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, env=settings, check=False)
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{uri} did not arrive within {LONGEST:.0f} s") from error
    except (ValueError, IndexError) as error:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(f"{uri} could not be fetched: {last[:300]}") from error
    if "error" in answer:
        raise retold(answer["error"])
    return Path(answer["path"])


def version(folder: Path) -> dict[str, str]:
    """The name and version in the registry of a model that was fetched from there: what an alias led to."""
    file = folder / META
    if not file.is_file():
        return {}
    lines = (line.partition(":") for line in file.read_text("utf-8", "replace").splitlines())
    told = {key.strip(): value.strip().strip("'\"") for key, _, value in lines}
    return {"registered": f"{told.get('model_name', '')} version {told.get('model_version', '')}"}


def _settings() -> dict[str, str]:
    """The environment, with the stores that this process has set in MLflow itself."""
    mlflow: Any = sys.modules.get("mlflow")
    found = {"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ}  # MLflow reports its use to its makers otherwise
    if mlflow is not None and mlflow.is_tracking_uri_set():
        found["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()
        found["MLFLOW_REGISTRY_URI"] = mlflow.get_registry_uri()
    return found


def main() -> None:
    uri, folder = sys.argv[1:]
    try:
        answer: Mapping[str, Any] = {"path": fetch(uri, Path(folder))}
    except BimodalError as error:
        answer = {"error": told(error)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def fetch(uri: str, folder: Path) -> str:
    """What `resolve` does in the process of its own; the errors are the same."""
    artifacts = library("mlflow.artifacts")
    raised = library("mlflow.exceptions").MlflowException
    try:
        return str(Path(artifacts.download_artifacts(uri, dst_path=str(folder))).absolute())
    except raised as error:
        if "unsupported URI" in error.message:
            raise ModelError(
                f"{uri}: mlflow-skinny reads no store in a database; pip install mlflow, or name a server of MLflow"
            ) from error
        if error.error_code in ABSENT:
            raise ModelNotFound(f"{uri} is not in the store of MLflow: {_reason(error.message)}") from error
        raise _unreachable(uri, error.message) from error
    except ImportError as error:
        raise ModelError(f"{uri}: mlflow-skinny lacks {error.name} to read this store; pip install mlflow") from error
    except OSError as error:
        raise _unreachable(uri, f"{type(error).__name__}: {error}") from error


def _unreachable(uri: str, reason: str) -> ModelError:
    store = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or "in this folder"
    return ModelError(f"{uri}: the store of MLflow ({_reason(store)}) gave no answer: {_reason(reason)}")


def _reason(text: str) -> str:
    """The first line, without a password."""
    return PASSWORD.sub("//", (text.strip().splitlines() or [""])[0])[:300]
