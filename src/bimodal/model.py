"""Model: a loaded model with its signature, the one object that both modes call. `load` makes it."""

from __future__ import annotations

import logging
import weakref
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import GenericAlias
from typing import Any

import msgspec
import numpy as np

from bimodal import verification
from bimodal.errors import BimodalError, MissingLibrary, NotCompiled, UsageError
from bimodal.field import listed, nearest
from bimodal.given import as_records, checked, piece_told, pieces_told, taken
from bimodal.location import Location
from bimodal.rows import Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.exact.gather import Gather, gather
from bimodal.runtimes.isolation import NEVER
from bimodal.runtimes.process import ProcessRuntime, Report, measure
from bimodal.verification import Compiled, Verification

log = logging.getLogger("bimodal")
PROMPT = 0.002  # seconds: a proven runtime that answers one row faster than this is called on the event loop


class Model:
    """A saved model, ready to predict.

    name and version (the first 12 digits of the digest, or what a repository calls it) identify it; signature says
    what it takes and gives; costs holds measured seconds of one call by number of rows. A native model may become a
    compiled one while it is in use, once that is proven to give the same answers: `runtime` is the one of the moment.
    Thread-safe. Close it, or use it in a `with` block, to end its process at once.
    """

    def __init__(self, location: Location, runtime: Runtime, report: Report, compiled: Compiled | None = None) -> None:
        self.location = location
        self.name = location.name
        self.digest = location.digest
        self.version = location.version
        self.format = location.kind.name
        self.runtime = runtime
        self.signature = report.signature
        self.versions = report.versions
        self.warnings = report.warnings
        self.facts = report.facts
        self.costs = report.costs
        self.compiled = compiled
        self._verification: Verification | None = None
        self._bulk: Model | None = None
        self._decoding: tuple[Gather | None, Any] | None = None

    @classmethod
    def open(cls, location: Location, *, background: bool = True) -> Model:
        """Load what is there. background: prove a compiled form of a bare model meanwhile, and switch to it."""
        wanted = location.runtime
        if location.kind.inline:
            return cls._open_inline(location, wanted)
        known = None if wanted == "native" else verification.known(location)
        if wanted in ("exact", "onnx"):
            known = known or verification.prove(location)
        if known is not None and known.report.chosen(wanted) != "native":
            return cls(location, *known.open(wanted), known)
        child = ProcessRuntime(location.kind.name, location.source, location.isolation)
        model = cls(location, child, _without_drift(location, child), known)
        if background and child.report.compiles and location.package is None:
            model.verify()
        return model

    @classmethod
    def _open_inline(cls, location: Location, wanted: str) -> Model:
        """A format that is proven once it answered in a child is then loaded here."""
        if wanted == "exact":
            raise NotCompiled(f"{location.source.path} is {location.kind.name}, which has no exact form")
        child = ProcessRuntime(location.kind.name, location.source, replace(location.isolation, spare=NEVER))
        try:
            told = _without_drift(location, child)
        finally:
            child.close()
        loaded = location.kind.load(location.source)
        costs = {} if loaded.signature.open else measure(loaded.runtime, loaded.signature)
        return cls(location, loaded.runtime, replace(told, costs=costs))

    def __repr__(self) -> str:
        return f"<Model {self.name} {self.version}: {self.format}, {self.runtime_name}>"

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def inline(self) -> bool:
        """Whether `run` may be called on the event loop: proven, and quick by its own measure."""
        return self.runtime.proven and self.costs.get(1, PROMPT) < PROMPT

    @property
    def runtime_name(self) -> str:
        """The runtime in words: native, native (verifying), exact, onnx."""
        return f"{self.runtime.name} (verifying)" if self.verifying else self.runtime.name

    @property
    def process(self) -> dict[str, Any] | None:
        """Of the process that a native model runs in: what it holds and may hold, and what takes its place (see
        `ProcessRuntime.told`). None of a compiled one, which needs no process of its own.
        """
        return self.runtime.told() if isinstance(self.runtime, ProcessRuntime) else None

    def spec(self) -> dict[str, Any]:
        """Plain values from which another process loads the same model (`from_spec`)."""
        return self.location.spec()

    def clones(self, count: int) -> list[Model]:
        """Further native Models of the same file, each with a process of its own."""
        native = replace(self.location, runtime="native", isolation=replace(self.location.isolation, spare=NEVER))
        if native.file is not None and isinstance(self.runtime, ProcessRuntime) and not self.runtime.tried:
            native = replace(native, file=replace(native.file, tried=False))
        return [Model.open(native) for _ in range(count)]

    def tell_warnings(self) -> None:
        """Log what its user should know of it: another library's version, a signature that it could not say."""
        for warning in self.warnings:
            log.warning("%s: %s", self.name, warning)
        if self.process is not None:
            log.info("%s: what takes the place of its process: %s", self.name, self.process["spare"])

    # -- compiling ----------------------------------------------------------------------------------------------------

    @property
    def verifying(self) -> bool:
        """Whether a compiled form is being proven now."""
        return self._verification is not None and self._verification.running

    def verify(self) -> None:
        """Begin, in the background, to compile the model and to prove that the answers are equal; then switch."""
        if self._verification is not None or self.compiled is not None or self.location.runtime != "auto":
            return
        mine = weakref.ref(self)

        def done(found: Compiled) -> None:
            model = mine()
            if model is not None:
                model._settle(found)

        self._verification = Verification(self.location, done)
        weakref.finalize(self, self._verification.cancel)

    def _settle(self, found: Compiled) -> None:
        """What the verification found. The native process ends when the last call that uses it has."""
        if found.report.live != "native":
            runtime, told = found.open("auto")
            self.costs, self.runtime = told.costs, runtime
        self.compiled = found

    def warm_up(self) -> None:
        """Wait until a compiled form is proven or given up, and predict the example once: the first real row then finds
        everything in place.
        """
        if isinstance(self.runtime, ProcessRuntime) and self.runtime.report.compiles:
            self.verify()
        if self._verification is not None:
            self._verification.wait()
        if not self.signature.open and not self.streams:  # whose answer to a made-up row may take long
            self.run(self.signature.example_rows(), self.resolve_outputs(None))

    def in_bulk(self, *, wait: bool, runtime: str | None = None) -> Model:
        """The Model that predicts large batches fastest: this one, or one with another of its proven runtimes.

        wait: prove a compiled form first, where that is not known yet. runtime: the one that it must be, where the
        user leaves the choice (a run that goes on keeps the one it began with).
        """
        if wait or runtime not in (None, "native"):
            self.warm_up()
        if runtime is not None and self.location.runtime == "auto":
            return self if self.runtime.name == runtime else self._other(runtime)
        wanted = self.location.runtime
        if self.compiled is None or self.compiled.report.chosen(wanted, bulk=True) == self.compiled.report.chosen(
            wanted
        ):
            return self
        if self._bulk is None:
            self._bulk = self._open_bulk(self.compiled)
        return self._bulk

    def _other(self, runtime: str) -> Model:
        """The same model under another runtime; closed with this one. Raises where it has none."""
        if self._bulk is None or self._bulk.runtime.name != runtime:
            self._bulk = Model.open(replace(self.location, runtime=runtime))
        return self._bulk

    def _open_bulk(self, known: Compiled) -> Model:
        if known.report.chosen(self.location.runtime, bulk=True) != "native":
            return Model(self.location, *known.open(self.location.runtime, bulk=True), known)
        try:
            return Model.open(replace(self.location, runtime="native"))
        except MissingLibrary:
            return self  # a compiled form needs none, and gives the same answers

    def close(self) -> None:
        if self._verification is not None:
            self._verification.cancel()
        if self._bulk is not None and self._bulk is not self:
            self._bulk.close()
        self.runtime.close()

    # -- predicting -------------------------------------------------------------------------------------------------

    def resolve_outputs(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """The outputs asked for (by default the prediction, else all), or UsageError naming the valid ones."""
        names = [each.name for each in self.signature.outputs]
        if wanted is None:
            return ("prediction",) if "prediction" in names else tuple(names)
        if isinstance(wanted, str) or not all(isinstance(name, str) for name in wanted):
            raise UsageError('outputs needs a list of names, as in ["prediction"]')
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
        if threshold is None:
            answer = self.runtime.run(rows, outputs)
            return answer if answer.count == rows.count else self._answer(answer, rows.count, outputs, None)
        asked = self._asked(outputs, threshold)
        return self._answer(self.runtime.run(rows, asked), rows.count, outputs, threshold)

    async def run_async(
        self,
        rows: Rows,
        outputs: Sequence[str] = ("prediction",),
        *,
        threshold: float | None = None,
        aside: bool = False,
    ) -> Rows:
        """The same without blocking the event loop. aside: in a process of its own, while other calls go on."""
        if not rows.count:
            return self.signature.empty_outputs(outputs)
        asked = self._asked(outputs, threshold)
        run = self.runtime.run_aside if aside else self.runtime.run_async
        return self._answer(await run(rows, asked), rows.count, outputs, threshold)

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
        quick = self._quick(data)
        rows, shape = taken(data, self.signature) if quick is None else (quick, as_records)
        return shape(self.run(rows, names, threshold=threshold), self.signature)

    @property
    def streams(self) -> bool:
        """Whether its answers come in pieces; another model's answer is one piece."""
        return self.runtime.streams > 0

    @property
    def side_by_side(self) -> int:
        """Rows that are answered at once, each by itself; 0: of a model that takes the rows of a call together."""
        return self.runtime.streams

    def stream(self, row: Any, *, outputs: Sequence[str] | None = None) -> Generator[dict[str, Any]]:
        """The answer to one row (a record, or Rows of one) in pieces, each a dict of the outputs that it holds: by
        default all. Closing the generator stops the model. Raises InputError, ModelFailed, ModelCrashed.
        """
        rows, names = self.asked_of_one(row, outputs)
        return pieces_told(self.runtime.stream(rows, names))

    async def stream_async(
        self, row: Any, *, outputs: Sequence[str] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The same without blocking the event loop."""
        rows, names = self.asked_of_one(row, outputs)
        if not isinstance(self.runtime, ProcessRuntime) or not self.streams:
            yield piece_told(await self.runtime.run_async(rows, names))
            return
        pieces = await self.runtime.stream_async(rows, names, lambda: None)
        try:
            async for piece in pieces:
                yield piece_told(piece)
        finally:
            pieces.close()

    def asked_of_one(self, row: Any, outputs: Sequence[str] | None) -> tuple[Rows, tuple[str, ...]]:
        """One row, judged, and the outputs that are asked of it."""
        names = self.resolve_outputs([each.name for each in self.signature.outputs] if outputs is None else outputs)
        rows = row if isinstance(row, Rows) else checked(self.signature, [row])
        if rows.count != 1:
            raise UsageError(f"a stream answers one row, not {rows.count}")
        return rows, names

    def _quick(self, data: Any) -> Rows | None:
        """Records of plain named values as Rows, decoded as a request is; None where they need the full verdict."""
        if type(data) is not list or not data or type(data[0]) is not dict:
            return None
        if self._decoding is None:
            found = gather(self.signature) if self.signature.named else None
            self._decoding = (found, GenericAlias(list, (self.signature.row_type,)) if found else None)
        found, kind = self._decoding
        if found is None:
            return None
        try:
            return found(msgspec.convert(data, kind))
        except msgspec.ValidationError:
            return None


def _without_drift(location: Location, child: ProcessRuntime) -> Report:
    """What loading told, once a package's golden rows are answered as at packing; raises AnswersChanged."""
    if location.package is None:
        return child.report
    told = location.package.check_answers(child.report.versions, child.run, allow_drift=location.drift)
    return replace(child.report, warnings=(*child.report.warnings, *told))


# -- loading -----------------------------------------------------------------------------------------------------------


def load(
    source: Any,
    *,
    sample: Any = None,
    code: str | Path | Sequence[str | Path] = (),
    features: Sequence[str] | None = None,
    name: str | None = None,
    runtime: str | None = None,
    background: bool = True,
    allow_drift: bool = False,
    timeout: float | None = None,
    model_memory: int | str | None = None,
    load_timeout: float | None = None,
    trust: str | Sequence[str] = (),
) -> Model:
    """Load a saved model, or take one that is in memory.

    source: the path of a saved model or of a package, a Python model (`file.py:attribute` or `module:attribute`), or an
    object with `predict`. sample: a file, frame or records with rows like the ones to come, for what the model cannot
    say itself, and to prove a compiled form on. code: files or folders with classes that the saved model needs.
    features: names for the columns of a model that was trained on arrays. name: by default the file's stem. runtime:
    auto (native at once, and the fastest compiled form as soon as its answers are proven equal), exact, onnx, native.
    background: begin that proof now; without it, it is made when a large batch or `warm_up` asks for it. allow_drift: a
    package whose answers are others under the libraries installed here is loaded all the same, with a warning.
    timeout: seconds for a call with the made-up rows that loading tries (120). model_memory: bytes, or a text such as
    2GB, that the process of a native model may hold (three quarters of what the machine or the container has); beyond
    it, it is ended. load_timeout: seconds that it may take to load (600); beyond them, it is ended. trust: names that
    a pickle may call beyond those that models need (`module.name`), or cloudpickle, whose files may run anything.

    Raises ModelNotFound, ModelError (what the file is not, and what is supported), MissingCode, MissingLibrary,
    NotCompiled or ParityFailed (the runtime that was asked for cannot be had), PackageDamaged, AnswersChanged.
    """
    if isinstance(source, Model):
        return source
    location = Location.find(
        source,
        sample=sample,
        code=code,
        features=features,
        name=name,
        runtime=runtime,
        allow_drift=allow_drift,
        timeout=timeout,
        model_memory=model_memory,
        load_timeout=load_timeout,
        trust=trust,
    )
    model = Model.open(location, background=background)
    model.tell_warnings()
    return model


def from_spec(spec: Mapping[str, Any]) -> Model:
    """The model that `Model.spec` described, in another process."""
    return Model.open(Location.from_spec(spec))
