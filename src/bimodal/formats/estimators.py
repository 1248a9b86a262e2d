"""What an object of scikit-learn (or alike) is: its kind, what stands inside it, its columns, its methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bimodal.formats import boosters

# Libraries whose estimators take numbers unless an encoder stands before them.
NUMERIC = ("sklearn", "imblearn", "xgboost", "lightgbm", "catboost")
# Estimators that hand their columns on, untouched, to the ones inside them.
SHARED = ("VotingClassifier", "VotingRegressor", "StackingClassifier", "StackingRegressor")
REPEATED = ("MultiOutputClassifier", "MultiOutputRegressor", "OneVsRestClassifier", "OneVsOneClassifier")
WRAPPED = ("SelfTrainingClassifier", "TunedThresholdClassifierCV", "FixedThresholdClassifier")


def is_estimator(model: Any) -> bool:
    """Whether it follows scikit-learn's conventions; a class itself does not."""
    if isinstance(model, type):
        return False
    return hasattr(model, "__sklearn_tags__") or callable(getattr(model, "get_params", None))


def names_of(step: Any) -> set[str]:
    """The names of its class and of the classes that it comes from."""
    return {each.__name__ for each in type(step).__mro__ if each.__module__.partition(".")[0] in NUMERIC}


def home(step: Any) -> str:
    return type(step).__module__.partition(".")[0]


def kind(step: Any) -> str:
    """How columns pass through it: a word of `Routes`."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return "passthrough"
    names = names_of(step)
    for composed in ("Pipeline", "ColumnTransformer", "FeatureUnion"):
        if composed in names:
            return composed
    if names & {"CountVectorizer", "HashingVectorizer"}:
        return "vectorizer"
    if hasattr(step, "categories_") and names & {"OneHotEncoder", "OrdinalEncoder", "TargetEncoder"}:
        return "encoder"
    if "FunctionTransformer" in names:
        return "passthrough" if step.func is None else ("numbers" if _of_numbers(step.func) else "opaque")
    return "numbers" if home(step) in NUMERIC else "opaque"


def _of_numbers(function: Any) -> bool:
    """A function of NumPy's or scikit-learn's own: numbers in, numbers out."""
    function = getattr(function, "func", function)  # of a partial
    home = (getattr(function, "__module__", None) or "").partition(".")[0]
    return type(function).__name__ == "ufunc" or home in ("numpy", "sklearn")


def one_to_one(step: Any) -> bool:
    """Each column it gives is the one it got, changed."""
    names = {each.__name__ for each in type(step).__mro__}
    if "FunctionTransformer" in names:
        return type(step.func).__name__ == "ufunc"
    return "OneToOneFeatureMixin" in names


def carries_text(step: Any) -> bool:
    """It takes text columns as well as numbers, and hands them on."""
    return "SimpleImputer" in names_of(step) and step.strategy in ("most_frequent", "constant")


def marks_null_as_none(step: Any) -> bool:
    """A missing value is None for it, not NaN."""
    return "SimpleImputer" in names_of(step) and step.missing_values is None


def gaps(step: Any) -> frozenset[int]:
    """The places of the columns in which alone it takes a missing value, where it says so."""
    if "MissingIndicator" not in names_of(step) or step.features == "all" or not step.error_on_new:
        return frozenset()
    return frozenset(int(place) for place in step.features_)


def inner(model: Any) -> list[Any]:
    """The fitted estimators inside one that hands them its columns untouched."""
    names = names_of(model)
    if getattr(model, "best_estimator_", None) is not None:
        return [model.best_estimator_]
    if names & set(SHARED):
        return [each for each in model.estimators_ if not isinstance(each, str)]
    if names & set(REPEATED):
        return list(model.estimators_[:1])
    if names & set(WRAPPED):
        return [model.estimator_]
    if "TransformedTargetRegressor" in names:
        return [model.regressor_]
    if "CalibratedClassifierCV" in names:
        return [model.calibrated_classifiers_[0].estimator]
    if "FrozenEstimator" in names:
        return [model.estimator]
    prepared = getattr(model, "_preprocessor", None)  # histogram boosting's own encoder of categorical columns
    return [prepared] if prepared is not None and "BaseHistGradientBoosting" in names else []


def last(model: Any) -> Any:
    """The estimator that gives the answers: the last step of pipelines, the best of a search."""
    while True:
        if kind(model) == "Pipeline":
            model = model.steps[-1][1]
        elif getattr(model, "best_estimator_", None) is not None:
            model = model.best_estimator_
        else:
            return model


def first(model: Any) -> Any:
    """The estimator that is the first to look at the rows."""
    while True:
        steps = [step for _, step in model.steps if kind(step) != "passthrough"] if kind(model) == "Pipeline" else []
        inside = steps or inner(model)
        if not inside:
            return model
        model = inside[0]


def columns(model: Any) -> tuple[str, ...] | None:
    """The names of the columns it was trained on; None where it was trained on arrays."""
    for each in _fronts(model):
        names = attribute(each, "feature_names_in_")
        if names is not None and len(names) and all(isinstance(name, str) for name in names):
            return tuple(str(name) for name in names)
        called = boosters.names(each)
        if called is not None:
            return called
    return None


def width(model: Any) -> int | None:
    """How many columns it was trained on; None where it does not say."""
    for each in _fronts(model):
        count = boosters.width(each) or attribute(each, "n_features_in_")
        if count is not None:
            return int(count)
    return 1 if "IsotonicRegression" in names_of(first(model)) else None


def takes_text(model: Any) -> bool:
    """Whether its rows are plain texts: a vectorizer is the first to look at them."""
    for each in _fronts(model):
        if kind(each) == "Pipeline":
            known = [step for _, step in each.steps if kind(step) not in ("opaque", "passthrough")]
            return bool(known) and takes_text(known[0])
        if kind(each) == "FeatureUnion":
            return any(takes_text(step) for _, step in each.transformer_list)
        if kind(each) == "vectorizer":
            return True
    return False


def _fronts(model: Any) -> Iterator[Any]:
    """The estimator, and what stands inside it and gets its columns."""
    yield model
    for each in inner(model)[:1]:
        yield from _fronts(each)


def attribute(model: Any, name: str) -> Any:
    """An attribute that may be a property raising whatever error."""
    try:
        return getattr(model, name, None)
    except Exception:  # properties of foreign classes raise errors of all sorts where they have nothing to say
        return None


def parts(model: Any) -> Iterator[Any]:
    """The estimator and every estimator within it, once each."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple) or _holds_objects(each):
            waiting.extend(each.ravel().tolist() if hasattr(each, "ravel") else each)
        elif is_estimator(each) or type(each).__name__ == "_CalibratedClassifier":
            yield each
            waiting.extend(getattr(each, "__dict__", {}).values())


def _holds_objects(value: Any) -> bool:
    return hasattr(value, "ravel") and getattr(getattr(value, "dtype", None), "hasobject", False)


def one_job(model: Any) -> None:
    """Let every part work in one thread a call: sums made by several threads are not repeatable."""
    for each in parts(model):
        if isinstance(getattr(each, "__dict__", {}).get("n_jobs"), int):
            each.n_jobs = 1
        boosters.one_thread(each)


def describe(model: Any) -> str:
    """`Pipeline(StandardScaler, LogisticRegression)`."""
    name = type(model).__name__
    if kind(model) == "Pipeline":
        return f"{name}({', '.join(describe(step) for _, step in model.steps)})"
    inside = inner(model)[:1]
    if model is None or isinstance(model, str):
        return str(model)
    return f"{name}({describe(inside[0])})" if inside and "BaseHistGradientBoosting" not in names_of(model) else name
