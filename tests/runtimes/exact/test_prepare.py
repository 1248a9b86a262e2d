"""Prepared columns: the kernel against NumPy, for every operation, type of column and shape of input."""

from __future__ import annotations

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimodal.errors import ModelError
from bimodal.rows import Array, Column, Dictionary, Rows
from bimodal.runtimes.exact.built import kernels
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.linear import Linear
from bimodal.runtimes.exact.prepare import Input, Lookup, Number, OneHot, Op, Prepare, done
from bimodal.runtimes.exact.program import Program

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 5e-324, 1e308, 2.0**24 + 1, 2.0**53]
numbers = st.sampled_from(SPECIAL) | st.floats(-1e6, 1e6)
constants = st.floats(-100, 100).filter(lambda value: abs(value) > 1e-3)
operations: st.SearchStrategy[Op] = st.one_of(
    *(st.tuples(st.just(name), constants) for name in ("fill", "subtract", "divide", "multiply", "add", "above")),
    st.tuples(st.just("squash"), st.floats(0, 10)),
    st.tuples(st.just("clip"), st.floats(-10, 0), st.floats(0.5, 10)),
    st.sampled_from([("missing",), ("float32",)]),
)
CITIES = ("Lima", "Oslo", "Pune")


def texts(values: list[str | None]) -> Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def one(*columns: Any, **given: Any) -> Array:
    """The matrix of these prepared columns over plain columns."""
    prepare = Prepare(tuple(Input(name) for name in given), columns)
    return prepare.matrix(Rows(given))


@settings(max_examples=150, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=200), st.lists(operations, max_size=4))
def test_operations_round_as_numpy_does(values: list[float], ops: list[Op]) -> None:
    column = np.array(values)
    with np.errstate(all="ignore"):
        expected = done(ops, column)
    assert np.array_equal(one(Number(0, tuple(ops)), x=column)[:, 0], expected, equal_nan=True)


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_columns_of_every_type_of_number_are_taken(dtype: str) -> None:
    wide = np.array([0, 1, 1, 0, 1, 7, 3], dtype)
    for column in (wide, wide[::-1], wide[::2]):
        assert one(Number(0), x=column)[:, 0].tolist() == column.astype(float).tolist()
    objects = wide.astype(object)
    objects[2] = None
    found = one(Number(0), x=objects)[:, 0]
    assert np.isnan(found[2])
    assert found[[0, 1, 3]].tolist() == [float(wide[0]), float(wide[1]), float(wide[3])]


def test_places_of_a_vector_are_columns() -> None:
    block = np.arange(1200.0).reshape(300, 4)
    prepare = Prepare((Input("v", 2), Input("v", 0)), (Number(1), Number(0, (("add", 1.0),))))
    for whole in (block, np.asfortranarray(block), np.repeat(block, 2, axis=1)[:, ::2]):
        expected = np.column_stack([block[:, 0], block[:, 2] + 1])
        assert np.array_equal(prepare.matrix(Rows({"v": whole})), expected)


def test_a_vector_to_which_nothing_is_done_is_not_copied() -> None:
    prepare = Prepare(tuple(Input("v", place) for place in range(3)), tuple(Number(place) for place in range(3)))
    block = np.arange(6.0).reshape(2, 3)
    assert prepare.matrix(Rows({"v": block})) is block
    turned = np.asfortranarray(block)
    assert prepare.matrix(Rows({"v": turned})).flags.c_contiguous
    assert prepare.matrix(Rows({"v": block.astype(np.float32)})).dtype == np.float64


ways = st.sampled_from([*CITIES, "Rome", "", None])


@settings(max_examples=60, deadline=None)
@given(st.lists(ways, min_size=1, max_size=150))
def test_a_text_is_looked_up_whatever_its_form(values: list[str | None]) -> None:
    table = np.arange(10.0).reshape(5, 2)
    places = np.array([2, 0, 1, -1, 3], np.int32)
    where = [CITIES.index(value) if value in CITIES else 4 if value is None else 3 for value in values]
    expected = np.zeros((len(values), 6))
    expected[:, :2] = table[where]
    for row, place in enumerate(places[where]):
        expected[row, 2 + place] = 1 if place >= 0 else expected[row, 2 + place]
    columns = (Lookup(0, CITIES, table), OneHot(0, CITIES, places, 4))
    forms: list[Column] = [texts(values), Dictionary.encode(values)]
    for form in forms:
        assert np.array_equal(one(*columns, city=form), expected)


@pytest.mark.parametrize(
    ("known", "given", "where"),
    [
        ((3, 1, 2), np.array([1.0, 2.0, 3.0, 4.0, np.nan, 1.5]), [1, 2, 0, 3, 4, 3]),
        ((3, 1, 2), np.array([1, 2, 3, 4]), [1, 2, 0, 3]),
        ((False, True), np.array([True, False]), [1, 0]),
        ((0.5, -0.5), np.array([0.5, -0.5, 0.0, np.inf]), [0, 1, 2, 2]),
        (("a", 1, 2.5), texts(["a", None]), [0, 4]),
        (("a", 1, 2.5), np.array([1.0, 2.5, 7.0, np.nan]), [1, 2, 3, 4]),
        (("a", 1, 2.5), np.array([1, 7]), [1, 3]),
        ((1, 2), np.array([1, 2.0, "x", None, float("nan"), True], object), [0, 1, 2, 3, 3, 0]),
        ((), texts(["a", None]), [0, 1]),
    ],
)
def test_categories_of_every_type_are_known(known: tuple[Any, ...], given: Any, where: list[int]) -> None:
    table = np.arange(len(known) + 2.0).reshape(-1, 1)
    assert one(Lookup(0, known, table), x=given)[:, 0].tolist() == where


def test_a_text_column_without_a_text_is_missing_numbers() -> None:
    empty = Dictionary(np.full(3, -1, np.int32), np.empty(0, object))
    assert np.isnan(one(Number(0), x=empty)).all()


@pytest.mark.parametrize("count", [1, 2, 7, 63, 64, 65, 1000])
def test_a_row_does_not_depend_on_its_neighbours(count: int) -> None:
    random = np.random.default_rng(count)
    given: dict[str, Column] = {
        "x": random.normal(size=count),
        "city": Dictionary.encode(random.choice(CITIES, count).tolist()),
    }
    columns = (Number(0, (("divide", 3.0),)), OneHot(1, CITIES, np.array([0, 1, 2, -1, -1], np.int32), 3))
    prepare = Prepare((Input("x"), Input("city")), columns)
    rows = Rows(given)
    alone = [prepare.matrix(rows.slice(at, at + 1)) for at in range(count)]
    assert np.array_equal(prepare.matrix(rows), np.concatenate(alone))


def test_a_dictionary_s_values_are_looked_up_once_and_few_are_kept() -> None:
    asked = []

    class Text(str):
        def __hash__(self) -> int:
            asked.append(str(self))
            return super().__hash__()

        __eq__ = str.__eq__

    prepare = Prepare((Input("x"),), (Lookup(0, CITIES, np.arange(5.0).reshape(-1, 1)),))
    values = texts([Text("Oslo"), Text("Rome")])
    for _ in range(3):
        column = Dictionary(np.array([0, 1, -1], np.int32), values)
        assert prepare.matrix(Rows({"x": column}))[:, 0].tolist() == [1.0, 3.0, 4.0]
    assert asked == ["Oslo", "Rome"]
    before = sys.getrefcount(values)
    for _ in range(6):  # others take its place
        prepare.matrix(Rows({"x": Dictionary(np.zeros(1, np.int32), texts(["Lima"]))}))
    assert sys.getrefcount(values) == before - 1


def test_several_threads_share_one_prepare() -> None:
    prepare = Prepare((Input("x"),), (Lookup(0, CITIES, np.arange(5.0).reshape(-1, 1)),))

    def ask(turn: int) -> bool:
        values = [CITIES[(turn + at) % 3] for at in range(3)]
        column = Dictionary(np.tile(np.arange(3, dtype=np.int32), 500), texts(list(values)))
        expected = [float(CITIES.index(value)) for value in values] * 500
        return bool(prepare.matrix(Rows({"x": column}))[:, 0].tolist() == expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(200)))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"y": np.zeros(2)}, KeyError),
        ({"x": np.zeros((2, 2))}, TypeError),
        ({"x": np.zeros(2, "M8[us]")}, (TypeError, ValueError)),
        ({"x": np.zeros(2, np.float16)}, TypeError),
        ({"x": texts(["a", "b"])}, (TypeError, ValueError)),
        ({"x": Dictionary(np.zeros(2, np.int32), texts(["a"]))}, TypeError),
    ],
)
def test_a_column_that_does_not_fit_is_an_error(given: dict[str, Any], error: Any) -> None:
    with pytest.raises(error):
        Prepare((Input("x"),), (Number(0),)).matrix(Rows(given))


def test_a_code_that_its_dictionary_does_not_have_is_another_value() -> None:
    column = Dictionary(np.array([0, 5, -7], np.int32), texts(["Oslo"]))
    assert one(Lookup(0, CITIES, np.arange(5.0).reshape(-1, 1)), x=column)[:, 0].tolist() == [1.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "columns",
    [
        (Number(1),),
        (Number(-1),),
        (Number(0, (("power", 2.0),)),),
        (Lookup(0, CITIES, np.zeros((4, 1))),),
        (OneHot(0, CITIES, np.array([0, 1, 2, 3, -1], np.int32), 3),),
        (OneHot(0, CITIES, np.array([0, 1, -2, -1, -1], np.int32), 3),),
        (OneHot(0, CITIES, np.array([0, 1], np.int32), 3),),
        (OneHot(0, CITIES, np.array([0] * 5, np.int32), -1),),
        (Lookup(0, ("a", "a"), np.zeros((4, 1))),),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(columns: Any) -> None:
    with pytest.raises(ValueError):
        _ = Prepare((Input("x"),), columns).kernel


def test_a_damaged_program_is_refused(tmp_path: Path) -> None:
    prepare = Prepare((Input("x"),), (OneHot(0, CITIES, np.array([0, 1, 2, 7, -1], np.int32), 3),))
    program = Program(prepare, Linear(np.ones((1, 3)), np.zeros(1)), Finish("identity", {"prediction": "float64"}))
    program.save(tmp_path / "program.npz")
    with pytest.raises(ModelError):
        Program.load(tmp_path / "program.npz")


def test_the_kernel_s_own_doors_are_guarded() -> None:
    kernel = Prepare((Input("x"),), (Number(0), Number(0))).kernel
    good = {"x": np.zeros(3)}
    kernel.matrix(good, np.empty((3, 2)))
    bad: list[tuple[Any, ...]] = [
        (good,),
        (good, np.empty((3, 3))),
        (good, np.empty((2, 2))),
        (good, np.empty((3, 2), np.float32)),
        (good, np.empty((3, 4))[:, ::2]),
        (good, b"0" * 48),
        ([], np.empty((3, 2))),
    ]
    for arguments in bad:
        with pytest.raises((TypeError, ValueError, BufferError)):
            kernel.matrix(*arguments)
    for weights, intercept in ((np.zeros((1, 3)), np.zeros(1)), (np.zeros((1, 2)), np.zeros(2))):
        with pytest.raises(ValueError):
            kernel.sums(good, weights, intercept, np.empty((3, 1)))
    with pytest.raises(TypeError):
        kernels.Columns(("x",), (), ())


def test_a_kernel_gives_back_what_it_held() -> None:
    class Values(list[str]):
        pass

    prepare = Prepare((Input("x"),), (Lookup(0, CITIES, np.zeros((5, 1))),))
    values = Values(["Oslo"])
    prepare.matrix(Rows({"x": Dictionary(np.zeros(1, np.int32), values)}))  # type: ignore[arg-type]  # any sequence will do
    alive = weakref.ref(values)
    del values
    assert alive() is not None
    del prepare
    gc.collect()
    assert alive() is None


def test_edges_lead_back_to_the_inputs() -> None:
    prepare = Prepare(
        (Input("v", 0), Input("v", 1), Input("city")),
        (
            Number(0, (("subtract", 3.0), ("divide", 2.0))),
            Number(1, (("fill", 0.0), ("multiply", 4.0), ("add", 1.0))),
            Number(0, (("missing",),)),
            OneHot(2, CITIES, np.array([0, 1, 2, -1, -1], np.int32), 3),
        ),
    )
    edges = prepare.edges({0: np.array([0.5, -1.0]), 1: np.array([3.0]), 2: np.array([0.5])})
    assert {key: values.tolist() for key, values in edges.items()} == {
        ("v", 0): [1.0, 4.0],
        ("v", 1): [0.5],
        ("city", None): list(CITIES),
    }
    assert prepare.width == 6


def test_a_prepare_is_told_and_told_again() -> None:
    prepare = Prepare(
        (Input("v", 1), Input("city")),
        (
            Number(0, (("fill", np.inf), ("clip", -1.0, 1.0), ("missing",))),
            Lookup(1, ("a", 1, 2.5, "b"), np.arange(12.0).reshape(6, 2)),
            OneHot(1, (), np.array([-1, 0], np.int32), 1),
        ),
    )
    again = Prepare.retold(*prepare.told())
    assert repr(again.inputs) == repr(prepare.inputs)
    assert repr(again.columns) == repr(prepare.columns)
