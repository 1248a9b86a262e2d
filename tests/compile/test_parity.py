"""Parity: a compiled form that is right passes; one that is wrong in one bit of one row is caught, the row shown."""

from __future__ import annotations

import copy
import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from bimodal.compile import parity, probes, seek
from bimodal.compile.difference import Rule, same
from bimodal.compile.probes import Group, Probes
from bimodal.compile.reference import Reference
from bimodal.compile.report import Parity
from bimodal.errors import ModelFailed, NotCompiled
from bimodal.formats.contract import Loaded
from bimodal.rows import Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.exact.linear import Linear
from bimodal.runtimes.exact.program import Exact, Program
from bimodal.runtimes.exact.readers import pipeline
from tests.compile.models import Changed, Neighbourly, Single, Swapped, load
from tests.models import CASES, DIABETES, IRIS, NAMES, PROGRESS

BITS = Rule("bits")
# What the libraries warn of when they add up extremes is theirs; in the process that compiles it is not looked at.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy", "ignore::RuntimeWarning:sklearn")


def forest() -> Any:
    return RandomForestClassifier(10, max_depth=5, random_state=0).fit(IRIS, NAMES)


def lowered(loaded: Loaded) -> Program:
    assert loaded.lower is not None
    return loaded.lower()


def asked(loaded: Loaded, edges: Any = None, most: int = 3000) -> Reference:
    made = probes.make(loaded.signature, edges or {}, most=most)
    return Reference(loaded.runtime, made, loaded.signature, seconds=0.1)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """The same for what is made once for all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, Program, Reference]:
    """A forest, the same as a Program, and its own answers."""
    loaded = load(forest(), tmp_path_factory.mktemp("forest"))
    program = lowered(loaded)
    return loaded, program, asked(loaded, program.edges(), most=8000)


def test_a_good_form_passes_bit_by_bit(grown: tuple[Loaded, Program, Reference]) -> None:
    _, program, reference = grown
    found = parity.compare(reference, Exact(program), BITS)
    assert found.reason is None
    assert (found.labels, found.leaves, found.bits, found.ulp, found.absolute) == (0, 0, 0, 0, 0.0)
    assert found.steady
    assert reference.steady
    assert found.rows == reference.probes.count >= 7000
    assert set(found.calls) == {1, 2, 7, 64, 1000}
    assert found.calls[64] == found.rows


def nudged(model: Any, place: int) -> Any:
    """The forest with one threshold moved below the float32 that it takes: as fine as its trees can look."""
    other = copy.deepcopy(model)
    forks = [(tree.tree_, node) for tree in other.estimators_ for node in np.flatnonzero(tree.tree_.feature >= 0)]
    tree, node = forks[place]
    threshold = tree.threshold
    single = np.float32(threshold[node])
    taken = single if single <= threshold[node] else np.nextafter(single, np.float32(-np.inf))
    threshold[node] = np.nextafter(np.float64(taken), -np.inf)
    return other


@pytest.mark.parametrize("place", [0, 1, 20])
def test_a_threshold_moved_by_one_unit_is_caught(place: int, grown: tuple[Loaded, Program, Reference]) -> None:
    loaded, _, reference = grown
    wrong = pipeline.read(nudged(forest(), place), loaded.signature)
    found = parity.compare(reference, Exact(wrong), BITS)
    assert found.reason is not None
    assert found.leaves > 0
    assert found.counter is not None
    row = np.array(found.counter.row["input"], float)[None]
    own = forest().predict_proba(row)[0].tolist()
    assert found.counter.native["probability"] == own
    assert found.counter.candidate["probability"] != own
    assert "native" in str(found.counter)


def test_a_swapped_class_is_caught(grown: tuple[Loaded, Program, Reference]) -> None:
    _, program, reference = grown
    found = parity.compare(reference, Swapped(Exact(program)), BITS)
    assert found.labels > 100
    assert found.reason == f"{found.labels} labels differ"
    assert found.counter is not None
    assert (found.counter.native["prediction"], found.counter.candidate["prediction"]) == ("setosa", "virginica")


def test_a_form_that_looks_at_the_rows_neighbours_is_caught(grown: tuple[Loaded, Program, Reference]) -> None:
    _, program, reference = grown
    found = parity.compare(reference, Neighbourly(Exact(program)), BITS)
    assert found.reason == "it gives a row other bits in other company"
    assert not found.steady
    assert found.counter is not None
    assert found.counter.batch == 2
    assert found.counter.native["probability"] != found.counter.candidate["probability"]


class Hasty(Changed):
    """Keeps what it was asked where another thread finds it."""

    def __init__(self, own: Runtime) -> None:
        super().__init__(own)
        self._kept: Rows | None = None

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        self._kept = rows
        answer = self._own.run(rows, outputs)
        assert self._kept is not None
        return answer if self._kept is rows else self._own.run(self._kept.take(np.arange(rows.count) % 7), outputs)


class Slow(Runtime):
    """Lets other threads in while it answers."""

    name = "slow"

    def __init__(self, own: Runtime) -> None:
        self._own = own

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        answer = self._own.run(rows, outputs)
        for _ in range(3000):
            pass
        return answer


def test_a_form_that_several_threads_disturb_is_caught(
    grown: tuple[Loaded, Program, Reference],
) -> None:
    _, program, reference = grown
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        found = parity.compare(reference, Hasty(Slow(Exact(program))), BITS)
    finally:
        sys.setswitchinterval(before)
    assert found.reason == "it gives a row other bits in other company"


class Forgetful(Changed):
    """Answers otherwise from its hundredth call on."""

    def __init__(self, own: Runtime) -> None:
        super().__init__(own)
        self._calls = itertools.count()

    def change(self, name: str, values: Any, rows: Rows) -> Any:
        return values[::-1] if next(self._calls) > 100 else values


def test_a_form_that_answers_otherwise_later_is_caught(grown: tuple[Loaded, Program, Reference]) -> None:
    _, program, reference = grown
    assert parity.compare(reference, Forgetful(Exact(program)), BITS).reason is not None


def test_another_type_is_no_equal_answer(grown: tuple[Loaded, Program, Reference]) -> None:
    class Narrow(Changed):
        def change(self, name: str, values: Any, rows: Rows) -> Any:
            return values.astype(np.float32) if name == "probability" else values

    _, program, reference = grown
    found = parity.compare(reference, Narrow(Exact(program)), Rule("close", 1e-5))
    assert found.reason == "it gives probability as float32(3,) where the model gives float64(3,)"


def test_a_form_that_raises_does_not_pass(grown: tuple[Loaded, Program, Reference]) -> None:
    class Choosy(Changed):
        def change(self, name: str, values: Any, rows: Rows) -> Any:
            if np.isnan(rows.array("input")).any():
                raise ModelFailed("no nulls here")
            return values

    _, program, reference = grown
    found = parity.compare(reference, Choosy(Exact(program)), BITS)
    assert found.reason == "it raises where the model answers: no nulls here"


def boosted() -> Any:
    return HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(IRIS, NAMES)


def test_float32_on_thresholds_is_refused_and_on_random_rows_looks_right(tmp_path: Path) -> None:
    loaded = load(boosted(), tmp_path)
    ours, native = Single(loaded.runtime), loaded.runtime
    random = Rows({"input": np.random.default_rng(0).normal(IRIS.mean(0), IRIS.std(0), (2000, 4))})
    np.testing.assert_array_equal(
        native.run(random, ["probability"]).array("probability"), ours.run(random, ["probability"]).array("probability")
    )
    found = parity.compare(asked(loaded, lowered(loaded).edges()), ours, Rule("close", 1e-5))
    assert found.leaves > 20
    assert found.counter is not None
    assert "threshold" in found.counter.group


def test_float32_is_refused_without_knowing_a_threshold_by_asking_for_the_turns(tmp_path: Path) -> None:
    loaded = load(make_pipeline(StandardScaler(), boosted()).fit(IRIS, NAMES), tmp_path)
    reference = asked(loaded)
    assert parity.compare(reference, Single(loaded.runtime), Rule("close", 1e-5)).leaves < 20
    wider = reference.widened("found by search", seek.turns(reference))
    found = parity.compare(wider, Single(loaded.runtime), Rule("close", 1e-5))
    assert found.leaves > 100
    assert found.counter is not None


def test_the_turns_are_neighbouring_numbers_with_different_answers(tmp_path: Path) -> None:
    tree = make_pipeline(StandardScaler(), boosted()).fit(IRIS, NAMES)
    reference = asked(load(tree, tmp_path))
    rows = seek.turns(reference).array("input")
    low, high = np.split(rows, 2)
    assert len(low) > 50
    which = np.argmax(low != high, axis=1)
    at = np.arange(len(low))
    assert (np.abs(_places(low[at, which]) - _places(high[at, which])) == 1).all()
    assert (tree.predict_proba(low) != tree.predict_proba(high)).any(axis=1).all()


def _places(values: Any) -> Any:
    whole = np.ascontiguousarray(values).view(np.int64)
    return np.where(whole < 0, np.iinfo(np.int64).min - whole, whole)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, Program, Reference]:
    """A model to which BLAS gives one row other bits in other company."""
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(DIABETES, PROGRESS)
    loaded = load(model, tmp_path_factory.mktemp("dense"))
    return loaded, lowered(loaded), asked(loaded)


def rounding(program: Program) -> Rule:
    """As `choose` makes it."""
    core = program.core
    assert isinstance(core, Linear)
    weights, intercept = np.abs(core.weights), np.abs(core.intercept)

    def terms(rows: Rows) -> Any:
        return (np.abs(program.prepare.matrix(rows)) @ weights.T + intercept).max(axis=1)

    return Rule("rounding", 1e-9, program.prepare.width, terms)


def test_where_the_library_is_not_steady_the_compiled_form_is_and_stays_within_rounding(
    dense: tuple[Loaded, Program, Reference],
) -> None:
    _, program, reference = dense
    assert not reference.steady
    assert reference.spread > 0
    found = parity.compare(reference, Exact(program), rounding(program))
    assert found.reason is None
    assert found.steady
    assert found.bits > 0


@pytest.mark.parametrize("share", [1e-12, 1e-14])
def test_a_weight_that_is_slightly_off_is_caught_all_the_same(
    share: float, dense: tuple[Loaded, Program, Reference]
) -> None:
    loaded, program, reference = dense
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(DIABETES, PROGRESS)
    model[-1].coef_[3] *= 1 + share
    wrong = pipeline.read(model, loaded.signature)
    found = parity.compare(reference, Exact(wrong), rounding(program))
    assert found.reason is not None
    assert found.counter is not None


def test_an_unsteady_form_of_an_unsteady_library_is_refused_where_it_claims_to_be_steady(
    dense: tuple[Loaded, Program, Reference],
) -> None:
    loaded, program, reference = dense
    assert parity.compare(reference, loaded.runtime, rounding(program)).reason is not None
    assert parity.compare(reference, loaded.runtime, Rule("close", 1e-9)).reason is None


class Tied(Runtime):
    """A library whose label of a tie depends on how many rows it is asked; `fixed`: never."""

    name = "native"

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        x = rows.array("input")[:, 0]
        tie = (rows.count % 2) if self._fixed is None else self._fixed
        score = np.where(np.abs(x) < 1.0, 0.5, x) + (rows.count % 2) * 1e-17 * np.abs(x)
        return Rows({"prediction": np.where(np.abs(x) < 1.0, tie, x > 0).astype(np.int64), "score": score})


def test_a_label_that_the_library_itself_gives_in_other_company_is_counted_not_refused(tmp_path: Path) -> None:
    signature = load(LogisticRegression().fit(IRIS[:100], NAMES[:100] == "setosa"), tmp_path).signature
    outputs = (
        signature.output("prediction").__class__("prediction", "int64"),
        signature.output("prediction").__class__("score", "float64"),
    )
    tied = type(signature)(signature.inputs, outputs, named=False)
    made = probes.make(tied, {}, most=500)
    reference = Reference(Tied(), made, tied, seconds=0.1)
    found: Parity = parity.compare(reference, Tied(fixed=1), Rule("rounding"))
    assert found.wavering > 10
    assert found.labels == 0


class Picky(Runtime):
    """A library that raises on some rows; `answers`: a form that does not."""

    name = "native"

    def __init__(self, own: Runtime, beyond: float) -> None:
        self._own, self._beyond = own, beyond

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        if (np.abs(rows.array("input")) >= self._beyond).any():
            raise ModelFailed("too large")
        return self._own.run(rows, outputs)


def test_rows_that_the_model_refuses_are_found_left_out_and_counted(tmp_path: Path) -> None:
    loaded = load(DecisionTreeClassifier(random_state=0).fit(IRIS, NAMES), tmp_path)
    made = probes.make(loaded.signature, {}, most=3000)
    native = Picky(loaded.runtime, 1e38)
    with pytest.raises(NotCompiled, match="raises on more than 1%"):
        Reference(native, made, loaded.signature)
    places = np.abs(np.nan_to_num(made.rows.array("input"))).max(axis=1) >= 1e38
    kept = np.concatenate([np.flatnonzero(~places)[:2000], np.flatnonzero(places)[:7]])
    made = Probes((Group("some", made.rows.take(np.sort(kept))),), made.typical, 2007, 0)
    reference = Reference(native, made, loaded.signature)
    assert (reference.refused.count, reference.rows.count) == (7, 2000)
    assert parity.compare(reference, native, BITS).reason is None
    found = parity.compare(reference, loaded.runtime, BITS)
    assert found.reason == "it answers a row on which the model itself raises"
    assert found.counter is not None
    assert found.counter.native == {"error": "it raises"}


def test_a_model_that_does_not_repeat_itself_has_no_equal(tmp_path: Path) -> None:
    class Random(Changed):
        def change(self, name: str, values: Any, rows: Rows) -> Any:
            return values + np.random.default_rng().normal(size=values.shape) if name == "probability" else values

    loaded = load(forest(), tmp_path)
    made = probes.make(loaded.signature, {}, most=500)
    reference = Reference(Random(loaded.runtime), made, loaded.signature, seconds=0.1)
    found = parity.compare(reference, loaded.runtime, Rule("close", 1.0))
    assert found.reason == "the model itself does not give the same answers twice"


def test_text_columns_come_encoded_and_plain(tmp_path: Path) -> None:
    class Plain(Changed):
        def change(self, name: str, values: Any, rows: Rows) -> Any:
            encoded = not isinstance(rows["city"], np.ndarray)
            return np.nextafter(values, np.inf) if encoded and values.dtype.kind == "f" else values

    loaded = load(CASES["mixed"].model, tmp_path)
    reference = asked(loaded, most=300)
    found = parity.compare(reference, Plain(loaded.runtime), Rule("rounding"))
    assert found.reason is not None
    assert not found.steady


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (np.array([0.0]), np.array([-0.0]), False),
        (np.array([np.nan]), np.array([-np.nan]), True),
        (np.array([1.0]), np.array([np.nextafter(1.0, 2)]), False),
        (np.array(["a"], object), np.array(["a"], object), True),
        (np.array([None], object), np.array(["None"], object), False),
        (np.array([np.nan], object), np.array([np.nan], object), True),
        (np.array([1]), np.array([1]), True),
    ],
)
def test_the_same_is_the_same_bits(one: Any, other: Any, equal: bool) -> None:
    assert bool(same(one, other)[0]) is equal
