"""Trees as flat tables: a plain walk, written down once more here, is the oracle."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bimodal.errors import ModelFailed, NotCompiled
from bimodal.rows import Array, Rows
from bimodal.runtimes.exact.masks import WIDEST
from bimodal.runtimes.exact.prepare import Input, Number, Prepare
from bimodal.runtimes.exact.trees import NARROW, WIDE, Tree, Trees, floor32

COLUMNS = 5
TINY = float(np.float32(1e-35))
SIZES = (1, 2, 7, 64, 1000)
NUMBERS = [0.0, -0.0, 1.0, -1.0, 2.5, 1e-35, TINY, -TINY, 5e-324, 1e-40, 3e38, 1e300, -1e300, math.inf, -math.inf]
NUMBERS += [math.nan, 16777217.0, 9007199254740993.0, 1 + 2**-24, 1 + 2**-23, -0.5, 31.0, 32.0, 70.2, 1e9]


STUMP = Tree(
    np.array([0, -1, -1]), np.zeros(3), np.array([1, -1, -1]), np.array([2, -1, -1]), np.ones(3, bool), np.eye(3, 1)
)


def prepare(width: int = COLUMNS) -> Prepare:
    return Prepare(tuple(Input("input", place) for place in range(width)), tuple(Number(k) for k in range(width)))


def scored(trees: Trees, matrix: Array) -> Array:
    return trees.score(prepare(matrix.shape[1]), Rows({"input": matrix}))


def grown(random: np.random.Generator, leaves: int, w: int = 1, *, special: bool = True, first: int = 0) -> Tree:
    """A tree of any shape; its nodes stand in the order in which they grew."""
    feature, threshold, left, right = [-1], [0.0], [-1], [-1]
    ends = [0]
    for _ in range(leaves - 1):
        node = ends.pop(int(random.integers(len(ends))))
        feature[node] = int(random.integers(COLUMNS))
        drawn = random.normal() if random.random() < 0.5 else random.choice([n for n in NUMBERS if n == n])
        threshold[node] = float(drawn)
        left[node], right[node] = len(feature), len(feature) + 1
        ends += [len(feature), len(feature) + 1]
        for column in (feature, left, right):
            column += [-1, -1]
        threshold += [0.0, 0.0]
    count = len(feature)
    inner = [node for node in range(count) if feature[node] >= 0 and special and random.random() < 0.2]
    sets = {node: frozenset(random.integers(0, 90, int(random.integers(0, 6))).tolist()) for node in inner}
    return Tree(
        np.array(feature),
        np.array(threshold),
        np.array(left),
        np.array(right),
        random.random(count) < 0.5 if special else np.ones(count, bool),
        random.normal(size=(count, w)),
        first,
        sets,
        random.random(count) < 0.3 if special else None,
    )


def goes_left(tree: Tree, node: int, x: Any, *, single: bool) -> bool:
    if node in tree.categories:
        if x != x:
            return bool(tree.nan_left[node])
        below = x < 0 if single else x <= -1
        return not below and x < 1e6 and int(x) in tree.categories[node]
    zero = tree.zero_missing is not None and tree.zero_missing[node] and abs(x) <= TINY
    return bool(tree.nan_left[node]) if x != x or zero else bool(x <= tree.threshold[node])


def walked(trees: list[Tree], base: Array, matrix: Array, *, single: bool, rounded: bool) -> Array:
    with np.errstate(over="ignore"):
        seen = matrix.astype(np.float32).astype(float) if rounded or single else matrix
    out = np.tile(base.astype(np.float32 if single else float), (len(matrix), 1))
    for row, values in enumerate(seen):
        for tree in trees:
            node = 0
            while tree.feature[node] >= 0:
                side = goes_left(tree, node, values[tree.feature[node]], single=single)
                node = int((tree.left if side else tree.right)[node])
            w = tree.value.shape[1]
            out[row, tree.first : tree.first + w] += tree.value[node].astype(out.dtype)
    return out


def drawn(random: np.random.Generator, rows: int, trees: list[Tree]) -> Array:
    """Rows of any numbers, many of them thresholds or beside one."""
    matrix = random.normal(size=(rows, COLUMNS))
    which = random.random(matrix.shape)
    edges = np.concatenate([tree.threshold for tree in trees])
    chosen = random.choice(edges, matrix.shape)
    near = [chosen, np.nextafter(chosen, np.inf), np.nextafter(chosen, -np.inf), floor32(chosen).astype(float)]
    for place, values in enumerate(near):
        matrix = np.where((which > 0.1 * place) & (which < 0.1 * (place + 1)), values, matrix)
    matrix = np.where((which > 0.4) & (which < 0.6), random.choice(NUMBERS, matrix.shape), matrix)
    return np.where((which > 0.6) & (which < 0.7), random.integers(-3, 95, matrix.shape), matrix)


def same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("value", [-5e-324, -0.5, -1.0, 0.0, 31.0, 31.9, 32.0, 1e9, math.inf, -math.inf])
@pytest.mark.parametrize("chosen", [frozenset(), frozenset({0}), frozenset({31}), frozenset({0, 32})])
@pytest.mark.parametrize("single", [False, True])
def test_a_category_is_a_number_without_its_fraction(value: float, chosen: frozenset[int], *, single: bool) -> None:
    tree = replace(STUMP, categories={0: chosen})
    built = Trees.build([tree], np.zeros(1), single=single, width=1)
    for rows in (1, 9, 100):
        matrix = np.full((rows, 1), value)
        assert same(scored(built, matrix), walked([tree], np.zeros(1), matrix, single=single, rounded=False))


@settings(max_examples=60, deadline=None)
@example(494, [10, 37], "double", 1, True)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(1, 40), max_size=12),
    st.sampled_from(["double", "rounded", "single"]),
    st.integers(1, 3),
    st.booleans(),
)
def test_any_trees_give_the_bits_of_a_plain_walk(seed: int, sizes: list[int], mode: str, w: int, special: bool) -> None:
    random = np.random.default_rng(seed)
    scores = w + int(random.integers(0, 2))
    trees = [grown(random, n, w, special=special, first=int(random.integers(scores - w + 1))) for n in sizes]
    base = random.normal(size=scores)
    single, rounded = mode == "single", mode == "rounded"
    matrix = drawn(random, 70, [*trees, grown(random, 9)])
    built = Trees.build(trees, base, single=single, rounded=rounded, width=COLUMNS)
    expected = walked(trees, base, matrix, single=single, rounded=rounded)
    assert same(scored(built, matrix), expected)
    for size in (1, 7, 9):
        assert same(np.concatenate([scored(built, matrix[i : i + size]) for i in range(0, 70, size)]), expected)


@pytest.mark.parametrize("leaves", [1, 2, 8, 9, 64, 65, WIDEST, WIDEST + 1, 900])
@pytest.mark.parametrize("mode", ["double", "rounded", "single"])
def test_trees_of_every_size_give_the_same_bits_in_every_batch(leaves: int, mode: str) -> None:
    random = np.random.default_rng(leaves)
    trees = [grown(random, max(1, leaves - place)) for place in range(9)]
    matrix = drawn(random, 1100, trees)
    single, rounded = mode == "single", mode == "rounded"
    built = Trees.build(trees, np.array([0.25]), single=single, rounded=rounded, width=COLUMNS)
    assert built.nodes.dtype == (WIDE if mode == "double" else NARROW)
    whole = scored(built, matrix)
    assert same(whole[:40], walked(trees, np.array([0.25]), matrix[:40], single=single, rounded=rounded))
    for size in SIZES:
        parts = [scored(built, matrix[i : i + size]) for i in range(0, len(matrix), size)]
        assert same(np.concatenate(parts), whole), size


def test_many_thresholds_of_one_column_are_told_apart() -> None:
    """More than a byte holds, and more than two."""
    random = np.random.default_rng(3)
    trees = [replace(grown(random, 30, special=False), categories={}) for _ in range(60)]
    trees = [replace(tree, threshold=random.normal(size=len(tree.feature))) for tree in trees]
    matrix = np.concatenate([drawn(random, 300, trees), np.sort(random.normal(size=(300, COLUMNS)), axis=0)])
    built = Trees.build(trees, np.zeros(1), width=COLUMNS)
    assert max(map(len, built.thresholds().values())) > 300
    assert same(scored(built, matrix), walked(trees, np.zeros(1), matrix, single=False, rounded=False))


def test_more_columns_than_a_narrow_node_can_tell_make_wide_ones() -> None:
    random = np.random.default_rng(4)
    trees = [
        replace(STUMP, feature=np.array([k, -1, -1]), threshold=random.normal(size=3), value=random.normal(size=(3, 1)))
        for k in range(5000)
    ]
    built = Trees.build(trees, np.zeros(1), rounded=True)
    assert built.nodes.dtype == WIDE
    matrix = random.normal(size=(60, 5000))
    seen = matrix.astype(np.float32)
    expected = np.zeros((60, 1))
    for k, tree in enumerate(trees):
        expected[:, 0] += np.where(seen[:, k] <= tree.threshold[0], tree.value[1, 0], tree.value[2, 0])
    assert same(scored(built, matrix), expected)
    assert same(np.concatenate([scored(built, matrix[i : i + 1]) for i in range(60)]), expected)


@pytest.mark.parametrize("registers", [16, 32, 64])
@pytest.mark.parametrize(
    ("mode", "special"), [("double", True), ("rounded", False), ("rounded", None), ("single", True)]
)
def test_registers_of_every_width_give_the_same_bits(registers: int, mode: str, special: bool | None) -> None:
    """special None: missing values have rules, and nothing else."""
    random = np.random.default_rng(15)
    for sizes in ((3, 31, 64, 8), (WIDEST, 100, 1), (WIDEST + 200, 30)):
        trees = [grown(random, leaves, special=bool(special)) for leaves in sizes]
        if special is None:
            trees = [replace(tree, nan_left=random.random(len(tree.feature)) < 0.5) for tree in trees]
        matrix = drawn(random, 1300, trees)
        built = Trees.build(trees, np.zeros(1), single=mode == "single", rounded=mode == "rounded", width=COLUMNS)
        scores = np.empty((1300, 1), np.float32 if mode == "single" else float)
        built.kernel.score(matrix, scores, registers)
        one_by_one = np.concatenate([scored(built, matrix[i : i + 1]) for i in range(1300)])
        assert same(scores, one_by_one)


def test_threads_side_by_side_give_the_same_bits() -> None:
    random = np.random.default_rng(5)
    trees = [grown(random, leaves) for leaves in (10, 200, 30)]
    matrix = drawn(random, 5000, trees)
    for built in (
        Trees.build(trees, np.zeros(1), width=5),
        Trees.build([*trees, grown(random, 600)], np.zeros(1), width=5),
    ):
        whole = scored(built, matrix)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _, built=built: scored(built, matrix), range(12)))
        assert all(same(each, whole) for each in found)


def test_floor32_is_the_last_float32_that_is_not_above() -> None:
    random = np.random.default_rng(6)
    values = np.concatenate([random.normal(size=500), [n for n in NUMBERS if n == n], random.normal(size=99) * 1e-42])
    low = floor32(values)
    assert (low <= values).all()
    with np.errstate(over="ignore"):
        assert (np.nextafter(low, np.float32(np.inf))[values < np.inf] > values[values < np.inf]).all()


def test_thresholds_are_told_by_prepared_column() -> None:
    tree = Tree(
        np.array([3, 1, -1, -1, 3, -1, -1]),
        np.array([2.5, 0.0, 0, 0, -1.0, 0, 0]),
        np.array([1, 2, -1, -1, 5, -1, -1]),
        np.array([4, 3, -1, -1, 6, -1, -1]),
        np.ones(7, bool),
        np.zeros((7, 1)),
        categories={1: frozenset({7, 40})},
    )
    found = Trees.build([tree], np.zeros(1), width=6).thresholds()
    assert {column: values.tolist() for column, values in found.items()} == {1: [7.0, 40.0], 3: [-1.0, 2.5]}


@pytest.mark.parametrize(
    ("refuses", "value", "taken"),
    [
        ("", math.inf, True), ("", math.nan, True), ("infinite", math.nan, True), ("infinite", math.inf, False),
        ("infinite", 1e300, False), ("infinite", 3.4028235e38, True), ("missing", math.nan, False),
        ("missing", -math.inf, False), ("missing", 3.4028235677973366e38, False),
    ],
)  # fmt: skip
def test_what_the_library_refuses_is_refused(refuses: str, value: float, taken: bool) -> None:
    built = Trees.build([grown(np.random.default_rng(7), 9)], np.zeros(1), rounded=True, refuses=refuses, width=COLUMNS)
    for rows in (1, 7, 64, 600):
        matrix = np.zeros((rows, COLUMNS))
        matrix[-1, 2] = value
        if taken:
            assert len(scored(built, matrix)) == rows
        else:
            with pytest.raises(ModelFailed, match="not finite"):
                scored(built, matrix)


def test_told_and_retold_is_the_same() -> None:
    random = np.random.default_rng(8)
    trees = [grown(random, leaves, 2) for leaves in (10, 20, 5)]
    matrix = drawn(random, 100, trees)
    for mode in ("double", "rounded", "single"):
        built = Trees.build(
            trees, np.zeros(2), width=COLUMNS, rounded=mode == "rounded", single=mode == "single", refuses="infinite"
        )
        built = replace(built, refuses="")
        again = Trees.retold(*built.told())
        assert again.told()[0] == built.told()[0]
        assert same(scored(again, matrix), scored(built, matrix))


def test_a_damaged_table_is_refused_or_harmless() -> None:
    """Any byte may change: either it is noticed, or every answer still comes from within the tables."""
    random = np.random.default_rng(9)
    sizes = ((10, 20, 5), (400, 3))
    refused = 0
    for turn in range(600):
        trees = [grown(random, leaves, 2) for leaves in sizes[turn % 2]]
        values, arrays = Trees.build(trees, np.zeros(2), width=COLUMNS, rounded=turn % 3 == 0).told()
        name = sorted(arrays)[turn % len(arrays)]
        damaged = np.array(arrays[name])
        flat = damaged.view(np.uint8).reshape(-1)
        flat[random.integers(len(flat))] ^= 1 << int(random.integers(8))
        if turn % 5 == 0:
            damaged = damaged[: len(damaged) // 2]
        try:
            made = Trees.retold(values, arrays | {name: damaged})
        except ValueError:
            refused += 1
        else:
            assert len(scored(made, drawn(random, 90, trees))) == 90
            assert len(scored(made, drawn(random, 3, trees))) == 3
    assert refused > 200


def _told(**changes: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    values, arrays = Trees.build([grown(np.random.default_rng(1), 6)], np.zeros(1), width=COLUMNS).told()
    return values, arrays | changes


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nodes", lambda a: np.where(np.arange(len(a)) == 0, np.array((0.0, 99, 1), WIDE), a)),  # a column
        ("nodes", lambda a: np.where(np.arange(len(a)) == 0, np.array((0.0, 0, 10), WIDE), a)),  # out of the tree
        ("nodes", lambda a: np.where(np.arange(len(a)) == 0, np.array((0.0, 0, 2**32 - 1), WIDE), a)),  # back
        ("nodes", lambda a: np.where(np.arange(len(a)) == 0, np.array((0.0, 0, 0), WIDE), a)),  # a leaf without a row
        ("nodes", lambda a: a[:0]),
        ("nodes", lambda a: a.astype(np.dtype([("threshold", "<f8"), ("column", "<u4"), ("other", "<u4")]))),
        ("roots", lambda a: a[::-1].copy()),
        ("roots", lambda a: a - 1),
        ("roots", lambda a: a.astype("i4")),
        ("firsts", lambda a: a + 1),
        ("firsts", lambda a: a - 1),
        ("columns", lambda a: a + 99),
        ("columns", lambda a: a - 99),
        ("columns", lambda a: a[:1]),
        ("values", lambda a: a[:2]),
        ("values", lambda a: a.reshape(-1)),
        ("values", lambda a: a.astype("f2")),
        ("values", lambda a: np.repeat(a, 3, axis=1)),
        ("base", lambda a: a[:0]),
        ("kinds", lambda a: a[:-1]),
        ("offsets", lambda a: a + 1),
        ("offsets", lambda a: a[:0]),
        ("words", lambda a: np.append(a, a)[:-1]),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused(name: str, change: Any) -> None:
    values, arrays = _told()
    with pytest.raises(ValueError):
        Trees.retold(values, arrays | {name: change(arrays[name])})


def test_a_missing_table_is_refused() -> None:
    values, arrays = _told()
    with pytest.raises(KeyError):
        Trees.retold(values, {name: array for name, array in arrays.items() if name != "roots"})
    with pytest.raises(ValueError):
        Trees.retold(values | {"refuses": "everything"}, arrays)
    with pytest.raises(ValueError):
        Trees.retold(values | {"width": -1}, arrays)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"left": np.array([0, -1, -1])}, "several parents"),  # a circle
        ({"left": np.array([9, -1, -1])}, "out of its tree"),
        ({"right": np.array([-2, -1, -1])}, "out of its tree"),
        ({"first": 1}, "not there"),
        ({"threshold": np.full(3, np.nan)}, "no number"),
        ({"categories": {0: frozenset({-1})}}, "out of range"),
        ({"categories": {0: frozenset({1 << 24})}}, "out of range"),
    ],
)
def test_a_tree_that_is_none_is_not_compiled(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotCompiled, match=reason):
        Trees.build([replace(STUMP, **change)], np.zeros(1), width=1)


def test_a_matrix_of_another_width_is_refused() -> None:
    built = Trees.build([grown(np.random.default_rng(2), 9)], np.zeros(1), width=COLUMNS)
    with pytest.raises(ModelFailed):
        scored(built, np.zeros((3, COLUMNS + 1)))
