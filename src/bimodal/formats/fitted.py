"""A fitted estimator as a model: its signature read from itself, settled by asking it, and its runtime."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bimodal.errors import ModelError
from bimodal.field import FLOATS, Field, listed
from bimodal.formats import boosters, drift, estimators
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.conversion import converted
from bimodal.formats.library import library
from bimodal.formats.probe import Probe, example_rows, works
from bimodal.formats.routes import Claim, Feature, Routes
from bimodal.formats.unusual import Unusual
from bimodal.rows import Array, Rows
from bimodal.runtimes import estimator as native
from bimodal.runtimes.estimator import Answer, Estimator, Feed
from bimodal.runtimes.exact.readers import pipeline
from bimodal.signature import Signature

METHODS = ("predict", "transform")  # the first that it has answers
SCORES = ("decision_function", "score_samples")
WIDEST = 1000  # a transformer of more columns gives one vector


def understand(model: Any, source: Source, told: Sequence[str] = ()) -> Loaded:
    """The model as Bimodal runs it. Raises ModelError where it is unfitted or cannot answer new rows.

    told: of another version of its library, which saved it; what that broke is an error too.
    """
    method = _method(model, source.path)
    _require_fitted(model, source.path)
    _one_thread(model)
    warnings.filterwarnings("ignore", module=r"sklearn\.")  # its warnings at every call would fill the log
    warnings.filterwarnings("ignore", "overflow encountered in cast", RuntimeWarning)  # beyond float32: it refuses them
    taken = Intake.of(model, method, source)
    if told:
        if not source.compared:
            drift.demand_known(model, source.path, told[0])
        drift.demand_answers(model, _faults(model, method, taken), source.path, told[0])
    signature = taken.signature
    if not taken.fault:
        answers, outputs, classes = _outputs(model, method, taken.feed(example_rows(signature.inputs, 2)))
        for guess in (
            taken._guesses() if method == "transform" else ()
        ):  # what comes out as it went in is of any type too
            outputs = _blurred(outputs, model, guess.feed(example_rows(guess.signature.inputs, 2)))
        scores = {each.method for each in answers.values()} - {method}
        taken, inputs = taken.settled(model, method, sorted(scores))
        signature = replace(taken.signature, inputs=inputs, outputs=outputs, classes=classes)
    else:
        answers, outputs, classes = _promised(model, method)
        signature = replace(signature, outputs=outputs, classes=classes)
        told = [*told, f"it answers no made-up row ({taken.fault}); --sample FILE shows what its rows look like"]
    feed = taken.feed
    if source.features and not signature.named:
        signature = signature.with_features(source.features)
        names = [each.name for each in signature.inputs]
        vector = len(taken.signature.inputs) == 1 and taken.signature.inputs[0].shape
        feed = native.stacked(names) if vector else _renamed(feed, taken.signature.inputs, names)
    unsure = source.sample is None and any(each.type == "any" for each in signature.inputs)
    runtime = Estimator(model, feed, answers, signature.outputs, unsure=unsure)
    facts = {"estimator": estimators.describe(model)}
    to_onnx = partial(converted, model, signature)
    lower = partial(pipeline.read, model, signature)
    return Loaded(runtime, signature, versions(model), (*told, *taken.told), facts, lower=lower, to_onnx=to_onnx)


def _faults(model: Any, method: str, taken: Intake) -> list[tuple[str, object]]:
    """What each method raises on made-up rows, None where it answers."""
    if taken.fault:
        return [(method, taken.fault)]
    data = taken.feed(example_rows(taken.signature.inputs, 2))
    others = [each for each in ("predict_proba", *SCORES) if callable(estimators.attribute(model, each))]
    return [(each, works(model, each, data)) for each in others]


def _one_thread(model: Any) -> None:
    """One row then costs no waking of threads, and sums are made in one order; several processes use several cores."""
    estimators.one_job(model)
    library("threadpoolctl").threadpool_limits(1)


def _renamed(feed: Feed, fields: Sequence[Field], names: Sequence[str]) -> Feed:
    """Feed columns that got other names by `--features`."""
    return lambda rows: feed(Rows({each.name: rows[name] for each, name in zip(fields, names, strict=True)}))


def versions(model: Any) -> dict[str, str]:
    """Of Python and of every library that has a part in the model."""
    roots = {estimators.home(each) for each in estimators.parts(model)} & set(estimators.NUMERIC)
    found = {"python": platform.python_version(), "numpy": np.__version__}
    for name in sorted(roots | {"sklearn"}):
        found["scikit-learn" if name == "sklearn" else name] = str(library(name).__version__)
    return found


def _method(model: Any, path: str) -> str:
    for method in METHODS:
        if callable(estimators.attribute(model, method)):
            return method
    last = estimators.last(model)
    name = type(last).__name__
    if hasattr(last, "fit_predict") or hasattr(last, "fit_transform"):
        raise ModelError(
            f"{path} holds {name}, which cannot predict new rows: it only labels the rows it was fitted on"
        )
    raise ModelError(f"{path} holds {name}, which has neither predict nor transform")


def _require_fitted(model: Any, path: str) -> None:
    last = estimators.last(model)
    if estimators.home(last) in boosters.LIBRARIES and hasattr(last, "fit") and not boosters.fitted(last):
        raise ModelError(f"{path} holds {type(last).__name__}, which is not fitted: call fit() before saving it")
    if estimators.home(model) != "sklearn":
        return
    checks = library("sklearn.utils.validation")
    try:
        checks.check_is_fitted(model)
    except library("sklearn.exceptions").NotFittedError as error:
        raise ModelError(
            f"{path} holds {type(model).__name__}, which is not fitted: call fit() before saving it"
        ) from error


# -- inputs ------------------------------------------------------------------------------------------------------------


class Intake:
    """How the model takes rows: signature of its inputs, the feed, what is known of each column."""

    def __init__(self, signature: Signature, feed: Feed, features: Sequence[Feature], told: Sequence[str] = ()) -> None:
        self.signature = signature
        self.feed = feed
        self.features = tuple(features)
        self.told = tuple(told)
        self.fault: object = None
        self.places: tuple[Feature, ...] = ()  # of a vector, what is known of each of its places

    def settled(self, model: Any, method: str, scores: Sequence[str] = ()) -> tuple[Intake, tuple[Field, ...]]:
        """The fields as the model was seen to take them; a vector in whose places alone a null may stand is taken apart
        into columns."""
        inputs = Probe(model, method, self.feed, bare=method == "transform", scores=scores).settle(
            self.signature.inputs, self.features
        )
        if inputs[0].nullable or len({each.group for each in self.places}) < 2:
            return self, inputs
        apart = self._apart()
        probe = Probe(model, method, apart.feed, bare=method == "transform", scores=scores)
        fields = probe.settle(apart.signature.inputs, apart.features)
        return (apart, fields) if any(each.nullable for each in fields) else (self, inputs)

    def _apart(self) -> Intake:
        """The places of a vector as columns of their own."""
        examples = self.signature.inputs[0].example
        fields = tuple(Field(f"x{place}", "float64", example=each) for place, each in enumerate(examples))
        signature = Signature(fields, (), named=False)
        return Intake(signature, native.stacked([each.name for each in fields]), self.places, self.told)

    @classmethod
    def of(cls, model: Any, method: str, source: Source) -> Intake:
        names, width = estimators.columns(model), estimators.width(model)
        if names is not None and boosters.home(model) == "lightgbm":
            names = boosters.spelled(names, [*(source.features or ()), *(each.name for each in source.sample or ())])
        rare = Unusual.of(model, source.sample) if names is None and width is None else None
        if names is None and width is None and source.features and not estimators.takes_text(model):
            width = len(source.features)
        sample = {each.name: each for each in source.sample or ()}
        if rare is not None:
            tries = [cls(rare.signature, rare.feed, rare.features, rare.told)]
        elif names is None and width is None:
            tries = [cls._texts()] if estimators.takes_text(model) else cls._unknown(source.sample)
        elif names is not None:
            features = Routes.through(model, len(names))
            used = [place for place, feature in enumerate(features) if feature.used]
            tries = (
                [cls._frame([names[place] for place in used], [features[place] for place in used], sample)]
                if used
                else []
            )
            if len(used) < len(names):
                tries.append(cls._frame(names, features, sample))
        else:
            tries = [cls._array(Routes.through(model, width or 0), source.sample)]
        tries += [each for one in list(tries) for each in one._guesses()]
        for each in tries:
            each.fault = works(model, method, each.feed(example_rows(each.signature.inputs, 2)))
            if each.fault is None:
                return each
        return tries[0]

    @classmethod
    def _texts(cls) -> Intake:
        field = Field("input", "string", example="text")
        return cls(Signature((field,), (), named=False), native.texts("input"), [Feature([Claim("string", 0)])])

    @classmethod
    def _unknown(cls, sample: Sequence[Field] | None) -> list[Intake]:
        """A model that says nothing of its columns: the sample's, or rows of any width."""
        if sample:
            features = [Feature([Claim("any", 0)]) for _ in sample]
            tries = [cls._frame([each.name for each in sample], features, {each.name: each for each in sample})]
            if all(each.type != "string" for each in sample):
                tries.append(cls._array([Feature([Claim("float64", 0)]) for _ in sample], sample))
            return tries
        told = (
            "it cannot say how many features it has: rows of numbers of any one width are taken; "
            "--sample FILE settles its columns"
        )
        field = Field("input", "float64", (-1,), example=[0.0])
        signature = Signature((field,), (), named=False, open=True)
        return [cls(signature, native.vector("input"), [Feature([Claim("float64", 0)])], [told])]

    @classmethod
    def _frame(cls, names: Sequence[str], features: Sequence[Feature], sample: dict[str, Field]) -> Intake:
        library("pandas")
        fields = [_field(name, feature, sample.get(name)) for name, feature in zip(names, features, strict=True)]
        opaque = frozenset(name for name, feature in zip(names, features, strict=True) if feature.opaque)
        nulls = {name: feature.null for name, feature in zip(names, features, strict=True)}
        unsettled = [each.name for each in fields if each.type == "any"]
        told = (
            [f"the types of {listed(unsettled)} are not known from the model; --sample FILE settles them"]
            if unsettled
            else []
        )
        coded = {
            name: feature.coded for name, feature in zip(names, features, strict=True) if feature.coded is not None
        }
        return cls(Signature(tuple(fields), ()), native.Frame(fields, nulls, opaque, coded), features, told)

    @classmethod
    def _array(cls, features: Sequence[Feature], sample: Sequence[Field] | None) -> Intake:
        """Trained on arrays: one vector where all are numbers, else columns by position."""
        shown = [each.example for each in sample] if sample and len(sample) == len(features) else [None] * len(features)
        if not any(
            feature.type in ("string", "bool") or (feature.categories and feature.type == "any") for feature in features
        ):
            example = [_number(seen, feature.example) for seen, feature in zip(shown, features, strict=True)]
            field = Field("input", "float64", (len(features),), example=example)
            whole = Feature([claim for feature in features for claim in feature.claims if claim.type != "any"][:1])
            taken = cls(Signature((field,), (), named=False), native.vector("input"), [whole])
            taken.places = tuple(features)
            return taken
        fields = [_field(f"x{place}", feature, None) for place, feature in enumerate(features)]
        nulls = {each.name: feature.null for each, feature in zip(fields, features, strict=True)}
        feed = native.mixed([each.name for each in fields], nulls)
        return cls(Signature(tuple(fields), (), named=False), feed, features)

    def _guesses(self) -> list[Intake]:
        """The same with text, where nothing is known of a column and a number may not do."""
        fields = self.signature.inputs
        if all(each.type != "any" or isinstance(each.example, str) for each in fields):
            return []
        guessed = tuple(replace(each, example="text") if each.type == "any" else each for each in fields)
        return [Intake(replace(self.signature, inputs=guessed), self.feed, self.features, self.told)]


def _field(name: str, feature: Feature, sample: Field | None) -> Field:
    kind, example = feature.type, feature.example
    if sample is None:
        return Field(name, kind, categories=feature.categories, example=example)
    shown = sample.type if kind == "any" else kind
    field = Field(name, shown, categories=feature.categories, example=_fitting(sample.example, shown, example))
    if not feature.opaque:
        return field
    known = feature.categories or sample.categories
    return replace(field, nullable=sample.nullable, categories=known, frame=sample.frame)


def _fitting(seen: Any, kind: str, otherwise: Any) -> Any:
    """The sample's value as the example, where it is of the field's type."""
    if seen is None or seen != seen:  # NaN is not itself
        return otherwise
    if kind in FLOATS:
        return _number(seen, otherwise)
    if kind == "string":
        return seen if isinstance(seen, str) else otherwise
    return seen


def _number(seen: Any, otherwise: Any) -> float:
    value = seen if isinstance(seen, int | float) and seen == seen else otherwise  # NaN is not itself
    return float(value) if isinstance(value, int | float) else 0.0


# -- outputs -----------------------------------------------------------------------------------------------------------

Outputs = tuple[dict[str, Answer], tuple[Field, ...], tuple[Any, ...] | None]


def _outputs(model: Any, method: str, data: Any) -> Outputs:
    """What the model gives, seen on two made-up rows."""
    result = getattr(model, method)(data)
    if method == "transform":
        return _transformed(model, result)
    answers = {"prediction": Answer("predict")}
    fields = [_seen("prediction", native.part(result, answers["prediction"]))]
    classes = None
    if callable(estimators.attribute(model, "predict_proba")) and works(model, "predict_proba", data) is None:
        probabilities = model.predict_proba(data)
        several = isinstance(probabilities, list)
        for place, each in enumerate(probabilities if several else [probabilities]):
            name = f"probability_{place}" if several else "probability"
            answers[name] = Answer("predict_proba", place if several else None)
            fields.append(_seen(name, np.asarray(each)))
        classes = _classes(model, fields[1:], several=several)
    else:
        for score in SCORES:
            if callable(estimators.attribute(model, score)) and works(model, score, data) is None:
                answers["score"] = Answer(score)
                fields.append(_seen("score", np.asarray(getattr(model, score)(data))))
                break
    return answers, tuple(fields), classes


def _seen(name: str, values: Array) -> Field:
    shape = values.shape[1:]
    if shape == (1,) and name == "prediction":
        shape = ()
    return Field(name, native.type_of(values), tuple(shape))


def _classes(model: Any, fields: Sequence[Field], *, several: bool) -> tuple[Any, ...] | None:
    """The labels of the columns of `probability`; a tuple for each output where there are several."""
    known = estimators.attribute(model, "classes_")
    widths = [each.shape[0] for each in fields]
    if known is not None and several:
        labels = tuple(tuple(np.asarray(each).tolist()) for each in known)
        return labels if [len(each) for each in labels] == widths else None
    if known is not None and not isinstance(known, list):
        labels = tuple(np.asarray(known).tolist())
        if len(labels) == widths[0]:
            return labels
    return None if several else tuple(range(widths[0]))


def _transformed(model: Any, result: Any) -> Outputs:
    if "PatchExtractor" in estimators.names_of(model):  # many patches of an image are its one answer
        field = Field("transformed", "float64", (-1, *result.shape[1:]))
        return {"transformed": Answer("transform", several=True)}, (field,), None
    width = result.shape[1] if len(result.shape) > 1 else 1
    names = _names_out(model, width)
    if names is None or width > WIDEST:
        answer = Answer("transform")
        return {"transformed": answer}, (_seen("transformed", native.part(result, answer)),), None
    answers = {name: Answer("transform", column=place) for place, name in enumerate(names)}
    if not hasattr(result, "iloc"):
        result = native.part(result, Answer("transform"))  # made dense once
    fields = tuple(Field(name, native.type_of(native.part(result, answer))) for name, answer in answers.items())
    return answers, fields, None


def _blurred(outputs: tuple[Field, ...], model: Any, data: Any) -> tuple[Field, ...]:
    """The outputs of a transformer, of type `any` where other rows gave another type."""
    if works(model, "transform", data) is not None:
        return outputs
    _, others, _ = _transformed(model, model.transform(data))
    if [each.name for each in others] != [each.name for each in outputs]:
        return outputs
    return tuple(
        one if one.type == other.type else replace(one, type="any") for one, other in zip(outputs, others, strict=True)
    )


def _names_out(model: Any, width: int) -> list[str] | None:
    try:
        names = [str(name) for name in model.get_feature_names_out()]
    except Exception:  # where a step has no names, the error is of any sort
        return None
    return names if len(names) == width and len(set(names)) == width else None


def _promised(model: Any, method: str) -> Outputs:
    """The outputs of a model that answered no made-up row: what it says of itself."""
    if method == "transform":
        return {"transformed": Answer("transform")}, (Field("transformed", "float64", (-1,)),), None
    known = estimators.attribute(model, "classes_")
    labels = None if known is None or isinstance(known, list) else np.asarray(known)
    kind = native.type_of(labels) if labels is not None else "float64"
    fields = [Field("prediction", kind)]
    answers = {"prediction": Answer("predict")}
    if labels is not None and callable(estimators.attribute(model, "predict_proba")):
        fields.append(Field("probability", "float64", (len(labels),)))
        answers["probability"] = Answer("predict_proba")
    return answers, tuple(fields), None if labels is None else tuple(labels.tolist())
