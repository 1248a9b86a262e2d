"""Whatever MLflow itself can load: its `python_function`, asked with a frame or with arrays."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bimodal.errors import BimodalError, ModelError
from bimodal.field import Field
from bimodal.formats.code import missing_module
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.guard import reading
from bimodal.formats.library import library
from bimodal.formats.schema import Schema
from bimodal.formats.written import Written
from bimodal.rows import Rows
from bimodal.runtimes import python
from bimodal.runtimes.estimator import Feed
from bimodal.signature import Signature

log = logging.getLogger("bimodal.model")


class Pyfunc(Written):
    """A model behind `mlflow.pyfunc`, with the inputs that its signature tells."""

    def __init__(self, model: Any, schema: Schema | None) -> None:
        super().__init__(model, model.predict)
        self._schema = schema

    def intake(self, source: Source) -> tuple[Signature, Feed]:
        schema = self._schema
        if schema is None:
            return super().intake(source)
        signature = Signature(schema.fields, (), named=schema.named)
        if schema.tensors:
            return signature, _arrays(schema)
        library("pandas")
        frame = python.feed(schema.fields, "frame")
        return signature, frame if schema.named else _by_place(frame)


def load(source: Source, schema: Schema | None, told: Sequence[str] = ()) -> Loaded:
    """The folder at `source`, loaded by MLflow. Raises ModelError, MissingCode, MissingLibrary."""
    pyfunc = _library()
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # what it would tell is told here, in one sentence
    try:
        with reading(source):
            model = pyfunc.load_model(source.path, suppress_warnings=True)
    except BimodalError:
        raise
    except ModuleNotFoundError as error:
        listed = Path(source.path, "requirements.txt")
        if listed.is_file():
            raise ModelError(
                f"{source.path} needs the module {error.name}; install what it was saved with: pip install -r {listed}"
            ) from error
        raise missing_module(source.file, error.name or "") from error
    except Exception as error:  # the model's own code raises what it likes
        log.exception("MLflow could not load the model")
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(f"{source.path} cannot be loaded by MLflow ({type(error).__name__}: {reason})") from error
    return Pyfunc(model, schema).loaded(source, told)


def _library() -> Any:
    """MLflow, which reports its use to its makers unless it is told not to, and warns of its own type hints."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return library("mlflow.pyfunc")


def _arrays(schema: Schema) -> Feed:
    """One array, or named ones."""

    def feed(rows: Rows) -> Any:
        arrays = {each.name: _array(rows, each) for each in schema.fields}
        return arrays if schema.named else arrays[schema.fields[0].name]

    return feed


def _array(rows: Rows, field: Field) -> Any:
    values = rows.array(field.name)
    return values if values.flags.writeable else values.copy()


def _by_place(frame: Feed) -> Feed:
    """A frame whose columns have no names but their places."""

    def feed(rows: Rows) -> Any:
        made = frame(rows)
        made.columns = range(len(made.columns))
        return made

    return feed
