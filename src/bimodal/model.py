"""Model: a loaded model with its signature, the one object that both modes call. `load` makes it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from bimodal import formats
from bimodal.errors import BimodalError, InputError, ModelError, UsageError
from bimodal.field import listed, nearest
from bimodal.formats.contract import Format, Source
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.process import ProcessRuntime, Report, measure
from bimodal.signature import EMPTY, Signature, require

log = logging.getLogger("bimodal")
PROMPT = 0.002  # seconds: a proven runtime that answers one row faster than this is called on the event loop


class Model:
    """A saved model, ready to predict.

    name and version (the first 12 digits of the digest) identify it; signature says what it takes and gives; costs
    holds measured seconds of one call by number of rows. Thread-safe. Close it, or use it in a `with` block, to end
    its process at once.
    """

    def __init__(self, location: Location, runtime: Runtime, report: Report) -> None:
        self.location = location
        self.name = location.name
        self.digest = location.digest
        self.version = location.digest[:12]
        self.format = location.kind.name
        self.runtime = runtime
        self.signature = report.signature
        self.versions = report.versions
        self.warnings = report.warnings
        self.facts = report.facts
        self.costs = report.costs

    def __repr__(self) -> str:
        return f"<Model {self.name} {self.version}: {self.format}, {self.runtime.name}>"

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def inline(self) -> bool:
        """Whether `run` may be called on the event loop: proven, and quick by its own measure."""
        return self.runtime.proven and self.costs.get(1, PROMPT) < PROMPT

    def spec(self) -> dict[str, Any]:
        """Plain values from which another process loads the same model (`from_spec`)."""
        return self.location.spec()

    def clones(self, count: int) -> list[Model]:
        """Further Models of the same file, each with a process of its own."""
        return [self.location.open() for _ in range(count)]

    def tell_warnings(self) -> None:
        """Log what its user should know of it: another library's version, a signature that it could not say."""
        for warning in self.warnings:
            log.warning("%s: %s", self.name, warning)

    def warm_up(self) -> None:
        """Predict the example once, so that the first real row finds everything in place."""
        if not self.signature.open:
            self.run(self.signature.example_rows())

    def close(self) -> None:
        self.runtime.close()

    # -- predicting -------------------------------------------------------------------------------------------------

    def resolve_outputs(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """The outputs asked for (by default the prediction, else all), or UsageError naming the valid ones."""
        names = [each.name for each in self.signature.outputs]
        if wanted is None:
            return ("prediction",) if "prediction" in names else tuple(names)
        for name in wanted:
            if name not in names:
                near = nearest(name, names)
                hint = f"; did you mean {near!r}?" if near else ""
                raise UsageError(f"the model has no output {name!r}; it has {listed(names)}{hint}")
        if not wanted:
            raise UsageError(f"no outputs were named; the model has {listed(names)}")
        return tuple(dict.fromkeys(wanted))

    def run(self, rows: Rows, outputs: Sequence[str] = ("prediction",), *, threshold: float | None = None) -> Rows:
        """Predict checked Rows: one row of the named outputs for each row given, in their order. Blocks.

        threshold (0 to 1): the probability of the second of two classes from which on it is the prediction.
        """
        if not rows.count:
            return self.signature.empty_outputs(outputs)
        asked = self._asked(outputs, threshold)
        return self._answer(self.runtime.run(rows, asked), rows.count, outputs, threshold)

    async def run_async(
        self, rows: Rows, outputs: Sequence[str] = ("prediction",), *, threshold: float | None = None
    ) -> Rows:
        """The same without blocking the event loop."""
        if not rows.count:
            return self.signature.empty_outputs(outputs)
        asked = self._asked(outputs, threshold)
        return self._answer(await self.runtime.run_async(rows, asked), rows.count, outputs, threshold)

    def check_threshold(self, threshold: float | None) -> None:
        """Raise UsageError where the model cannot have this threshold."""
        if threshold is None:
            return
        classes = self.signature.classes
        if classes is None or len(classes) != 2 or isinstance(classes[0], tuple) or not self._has("probability"):
            raise UsageError("a threshold needs a classifier with two classes and probabilities; this model has none")
        if not 0 <= threshold <= 1:
            raise UsageError(f"a threshold is a probability between 0 and 1, not {threshold}")

    def _has(self, output: str) -> bool:
        return any(each.name == output for each in self.signature.outputs)

    def _asked(self, outputs: Sequence[str], threshold: float | None) -> tuple[str, ...]:
        """What the runtime must give for these outputs."""
        if threshold is None or "prediction" not in outputs:
            return tuple(outputs)
        self.check_threshold(threshold)
        return tuple(dict.fromkeys(["probability", *(name for name in outputs if name != "prediction")]))

    def _answer(self, answer: Rows, count: int, outputs: Sequence[str], threshold: float | None) -> Rows:
        if answer.count != count:
            raise BimodalError(f"the model gave {answer.count} answers for {count} rows")
        if threshold is None or "prediction" not in outputs:
            return answer
        low, high = self.signature.classes or ()
        labels = np.array([low, high], self.signature.output("prediction").dtype)
        prediction = labels[(answer.array("probability")[:, 1] >= threshold).astype(np.intp)]
        return Rows({name: prediction if name == "prediction" else answer[name] for name in outputs})

    def predict(self, data: Any, *, outputs: Sequence[str] | None = None, threshold: float | None = None) -> Any:
        """Predict every row of `data`; the answer is of the kind that was given.

        data: a pandas frame, an Arrow table, a list of records (dicts, or lists of values), a dict of columns, a
        NumPy array [rows, features], or Rows. A frame gives a frame with its index, a table a table, records a list
        of dicts, columns a dict of lists, an array the prediction's array, Rows give Rows. Raises InputError telling
        the row and column of the first bad value.
        """
        names = self.resolve_outputs(outputs)
        self.check_threshold(threshold)
        rows, shape = _taken(data, self.signature)
        return shape(self.run(rows, names, threshold=threshold), self.signature)


# -- kinds of data: what is given, and how the answer is given back --------------------------------------------------


def _taken(data: Any, signature: Signature) -> tuple[Rows, Any]:
    """The data as Rows, and the function that gives the outputs back in the same kind."""
    if isinstance(data, Rows):
        return data, lambda answer, _: answer
    if isinstance(data, np.ndarray):
        return _checked(signature, _records(data)), _as_array
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return _table_rows(signature, data, frame=True), lambda answer, sig: _as_frame(answer, sig, data)
    if type(data).__module__.startswith("pyarrow"):
        return _table_rows(signature, data, frame=False), _as_table
    if isinstance(data, Mapping):
        rows, _, problems = signature.check_columns(data)
        require(problems)
        return rows, _as_columns
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _checked(signature, [data] if _one_row(data, signature) else data), _as_records
    raise UsageError(
        f"predict takes a frame, an Arrow table, records, columns, an array or Rows, not a {type(data).__name__}"
    )


def _one_row(data: Sequence[Any], signature: Signature) -> bool:
    """Whether a flat list is the values of one row, as in `{"input": [5.1, 3.5, 1.4, 0.2]}`."""
    return (
        bool(data)
        and signature.flat
        and signature.width != 1
        and all(isinstance(v, int | float | str | None) for v in data)
    )


def _checked(signature: Signature, records: Sequence[Any]) -> Rows:
    if not len(records):
        raise InputError.of([EMPTY])
    rows, _, problems = signature.check(records)
    require(problems)
    return rows


def _records(array: Array) -> list[Any]:
    if array.ndim == 0:
        raise InputError("an array of rows is needed, [rows, features], not a single value")
    return list(array) if array.ndim > 1 else array.tolist()


def _table_rows(signature: Signature, data: Any, *, frame: bool) -> Rows:
    from bimodal import table  # Arrow is loaded only where a table comes in

    arrow = table.from_frame(data) if frame else table.as_table(data)
    if not arrow.num_rows:
        raise InputError.of([EMPTY])
    rows, _, problems = table.Binding.bind(signature, arrow.column_names).rows(arrow)
    require(problems)
    return rows


def _as_array(answer: Rows, _: Signature) -> Any:
    arrays = [answer.array(name) for name in answer]
    return arrays[0] if len(arrays) == 1 else answer


def _as_records(answer: Rows, _: Signature) -> list[dict[str, Any]]:
    lists = [answer.array(name).tolist() for name in answer]
    return [dict(zip(answer, values, strict=True)) for values in zip(*lists, strict=True)]


def _as_columns(answer: Rows, _: Signature) -> dict[str, list[Any]]:
    return {name: answer.array(name).tolist() for name in answer}


def _as_table(answer: Rows, signature: Signature) -> Any:
    from bimodal import table

    return table.flat(answer, signature)


def _as_frame(answer: Rows, signature: Signature, given: Any) -> Any:
    frame = _as_table(answer, signature).to_pandas()
    frame.index = given.index
    return frame


# -- loading -----------------------------------------------------------------------------------------------------------


class PrivateFolder:
    """A folder that only this user can read; it goes when nothing refers to it any more."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="bimodal-")  # mode 0700
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True)
class Location:
    """Where a model is, before anything of it is loaded: from it a server and its workers start.

    folder: the private folder of a model that came from memory.
    """

    name: str
    kind: Format
    source: Source
    digest: str
    folder: PrivateFolder | None = None

    @classmethod
    def find(
        cls,
        source: Any,
        *,
        sample: Any = None,
        code: str | Path | Sequence[str | Path] = (),
        features: Sequence[str] | None = None,
        name: str | None = None,
    ) -> Location:
        """The arguments are those of `load`."""
        paths = (code,) if isinstance(code, str | Path) else tuple(code)
        for path in paths:
            if not Path(path).exists():
                raise UsageError(f"--code {path}: there is no such file or folder")
        absolute = tuple(str(Path(path).absolute()) for path in paths)
        told = Source("", absolute, _sample(sample), tuple(features) if features is not None else None)
        if not isinstance(source, str | Path):
            return cls._in_memory(source, told, name)
        path = str(source)
        kind = formats.recognise(path)
        place = str(Path(path).absolute()) if Path(path).exists() else path
        return cls(name or formats.stem(path), kind, replace(told, path=place), formats.digest(path))

    @classmethod
    def _in_memory(cls, thing: Any, told: Source, name: str | None) -> Location:
        """A model in memory is written into a private folder and read from there, as if it had been saved."""
        if not any(hasattr(thing, verb) for verb in ("predict", "transform")):
            raise ModelError(
                f"a {type(thing).__name__} has neither predict nor transform; give a model or the path of one"
            )
        folder = PrivateFolder()
        name = name or type(thing).__name__.lower()
        path = Path(folder.path, f"{name}.pkl")
        path.write_bytes(cloudpickle.dumps(thing))
        return cls(name, formats.recognise(str(path)), replace(told, path=str(path)), formats.digest(str(path)), folder)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Location:
        """The place that `spec` described, in another process."""
        fields = None if spec["sample"] is None else Signature.retold({**_NOTHING, "inputs": spec["sample"]}).inputs
        features = None if spec["features"] is None else tuple(spec["features"])
        source = Source(spec["path"], tuple(spec["code"]), fields, features)
        return cls(spec["name"], formats.named(spec["format"]), source, spec["digest"])

    def spec(self) -> dict[str, Any]:
        """Plain values from which another process finds the same model."""
        sample = None if self.source.sample is None else Signature(self.source.sample, ()).told()["inputs"]
        return {
            "name": self.name,
            "format": self.kind.name,
            "digest": self.digest,
            "path": self.source.path,
            "code": list(self.source.code),
            "sample": sample,
            "features": None if self.source.features is None else list(self.source.features),
        }

    def open(self) -> Model:
        """Load in a child; a format that is proven once it answered there is then loaded here."""
        child = ProcessRuntime(self.kind.name, self.source)
        if not self.kind.inline:
            return Model(self, child, child.report)
        child.close()
        loaded = self.kind.load(self.source)
        costs = {} if loaded.signature.open else measure(loaded.runtime, loaded.signature)
        return Model(self, loaded.runtime, replace(child.report, costs=costs))


_NOTHING = {"outputs": (), "classes": None, "named": True, "open": False}


def _sample(data: Any) -> Any:
    if data is None:
        return None
    from bimodal import sample  # brings Arrow along, which a server that loads a saved model does without

    return sample.fields(data)


def load(
    source: Any,
    *,
    sample: Any = None,
    code: str | Path | Sequence[str | Path] = (),
    features: Sequence[str] | None = None,
    name: str | None = None,
) -> Model:
    """Load a saved model, or take one that is in memory.

    source: the path of a file (scikit-learn saved with joblib or pickle, ONNX), a Python model (`file.py:attribute` or
    `module:attribute`), or an object with `predict`. sample: a file, frame or records with rows like the ones to
    come, for what the model cannot say itself. code: files or folders with classes that the saved model needs.
    features: names for the columns of a model that was trained on arrays. name: by default the file's stem.

    Raises ModelNotFound, ModelError (what the file is not, and what is supported), MissingCode, MissingLibrary.
    """
    if isinstance(source, Model):
        return source
    model = Location.find(source, sample=sample, code=code, features=features, name=name).open()
    model.tell_warnings()
    return model


def from_spec(spec: Mapping[str, Any]) -> Model:
    """The model that `Model.spec` described, in another process."""
    return Location.from_spec(spec).open()
