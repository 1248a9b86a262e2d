"""Saves the model as MLflow keeps one, then becomes `mlflow models serve`: one worker. It has no batching."""

import os
import sys
from pathlib import Path
from tempfile import mkdtemp

import joblib
import mlflow.sklearn

if __name__ == "__main__":
    folder = mkdtemp(prefix="mlflow-")
    place = str(Path(folder, "model"))
    mlflow.sklearn.save_model(joblib.load(os.environ["MODEL"]), place, serialization_format="cloudpickle")
    program = str(Path(sys.executable).with_name("mlflow"))
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", sys.argv[1], "--workers", "1"]
    os.chdir(folder)
    os.execv(program, [program, "models", "serve", "-m", place, *options])
