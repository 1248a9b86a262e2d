"""Probes: made from the model, and every one a row that the model's signature takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bimodal.compile import probes
from bimodal.compile.probes import Edges, Probes
from bimodal.errors import NotCompiled
from bimodal.field import Field
from bimodal.rows import Dictionary, Rows
from bimodal.signature import Signature
from tests.compile.models import load
from tests.models import CASES

FORKS: Edges = {("x", None): np.array([0.1, 3.0]), ("n", None): np.array([2.5])}
MIXED = Signature(
    (
        Field("x", "float64", nullable=True, example=1.0),
        Field("n", "int64", example=1),
        Field("few", "float64", most=100.0, example=1.0),
        Field("endless", "float64", finite=False, example=1.0),
        Field("city", "string", nullable=True, categories=("Oslo", "Lima"), example="Oslo"),
        Field("plan", "string", categories=("free", "pro"), closed=True, example="pro"),
        Field("member", "bool", example=True),
    ),
    (),
)


@pytest.fixture(scope="module")
def made() -> Probes:
    return probes.make(MIXED, FORKS, seed=3, most=4000)


@pytest.mark.parametrize("name", ["mixed", "closed", "integers", "by_position", "objects", "boosting", "text"])
def test_every_probe_is_a_row_that_the_signature_takes(name: str, tmp_path: Path) -> None:
    signature = load(CASES[name].model, tmp_path).signature
    rows = probes.make(signature, {}, most=2000).rows
    lists = [rows.array(each.name).tolist() for each in signature.inputs]
    _, good, problems = signature.check([dict(zip(rows, row, strict=True)) for row in zip(*lists, strict=True)])
    assert good.all(), problems[:3]
    assert len(good) >= 1500


def test_each_threshold_stands_there_with_its_neighbours(made: Probes) -> None:
    x = set(made.rows.array("x").tolist())
    for edge in (0.1, 3.0):
        single = np.float32(edge)
        for direction in (np.inf, -np.inf):
            assert float(np.nextafter(edge, direction)) in x
            assert float(np.nextafter(single, np.float32(direction))) in x
        assert edge in x
        assert (float(single) + float(np.nextafter(single, np.float32(np.inf)))) / 2 in x
    assert {2, 3} <= set(made.rows.array("n").tolist())


def test_what_breaks_conversions_stands_there_where_the_column_takes_it(made: Probes) -> None:
    x, few, endless = (made.rows.array(name) for name in ("x", "few", "endless"))
    assert {0.0, 5e-324, 2.0**24 + 1, 2.0**53, 1.7976931348623157e308} <= set(x.tolist())
    assert np.signbit(x[x == 0]).any()
    assert not np.signbit(x[x == 0]).all()
    assert np.isnan(x).any()
    assert np.abs(few).max() == 100
    assert not np.isnan(few).any()
    assert {np.inf, -np.inf} <= set(endless.tolist())
    assert np.isfinite(x[~np.isnan(x)]).all()
    assert {2**24 + 1, 2**53 + 1, 2**63 - 1, -(2**63)} <= set(made.rows.array("n").tolist())
    assert set(made.rows.array("member").tolist()) == {True, False}


def test_categories_known_and_unknown_and_nulls(made: Probes) -> None:
    cities = set(made.rows.array("city").tolist())
    assert {"Oslo", "Lima", None, probes.UNKNOWN, "Oslo ", "OSLO", ""} <= cities
    assert set(made.rows.array("plan").tolist()) == {"free", "pro"}
    nulls = np.array([value is None for value in made.rows.array("city")])
    assert (np.isnan(made.rows.array("x")) & nulls).any()


def test_single_values_stand_in_rows_that_are_otherwise_ordinary(made: Probes) -> None:
    (rows,) = [each.rows for each in made.groups if each.name == "one value"]
    wild = [np.abs(rows.array(name)) > 1e15 for name in ("x", "endless")]
    assert wild[0].any()
    assert not (wild[0] & wild[1]).any()


def test_their_number_is_bounded_and_told() -> None:
    many: Edges = {("x", None): np.linspace(0, 1, 50_000)}
    drawn = probes.make(MIXED, many, seed=1, most=3000)
    assert drawn.count <= 3000
    assert drawn.wanted > 800_000
    assert sum(drawn.counts().values()) == drawn.count


def test_the_same_seed_makes_the_same_rows(made: Probes) -> None:
    again = probes.make(MIXED, FORKS, seed=3, most=4000).rows
    other = probes.make(MIXED, FORKS, seed=4, most=4000).rows
    np.testing.assert_array_equal(again.array("x"), made.rows.array("x"))
    assert not np.array_equal(other.array("x"), made.rows.array("x"), equal_nan=True)


def test_the_users_rows_are_among_them_as_they_are_and_mixed() -> None:
    sample = Rows(
        {
            "x": np.array([101.5, 102.5]),
            "n": np.array([7, 8]),
            "few": np.array([1.5, 2.5]),
            "endless": np.array([1e3, 1e4]),
            "city": Dictionary.encode(["Lima", "Bergen"]),
            "plan": Dictionary.encode(["pro", "free"]),
            "member": np.array([True, False]),
        }
    )
    made = probes.make(MIXED, FORKS, sample, most=4000)
    (own,) = [each.rows for each in made.groups if each.name == "sample"]
    assert own.array("x").tolist() == [101.5, 102.5]
    assert own.array("city").tolist() == ["Lima", "Bergen"]
    (mixed,) = [each.rows for each in made.groups if each.name == "columns of the sample mixed"]
    assert {(101.5, 8), (102.5, 7)} & set(zip(mixed.array("x").tolist(), mixed.array("n").tolist(), strict=True))


def test_a_vectors_thresholds_stand_at_their_place() -> None:
    vector = Signature((Field("input", "float64", (3,), example=[0.0, 0.0, 0.0]),), (), named=False)
    edges: Edges = {("input", 1): np.array([0.3])}
    rows = probes.make(vector, edges, most=2000).rows.array("input")
    assert rows.shape[1:] == (3,)
    assert float(np.nextafter(0.3, 1)) in rows[:, 1]
    assert float(np.nextafter(0.3, 1)) not in rows[:, 0]


def test_a_model_that_does_not_say_its_width_has_none() -> None:
    vague = Signature((Field("input", "float64", (-1,), example=[0.0]),), (), named=False, open=True)
    with pytest.raises(NotCompiled, match="length"):
        probes.make(vague, {})


def test_texts_encoded_share_their_values() -> None:
    rows = probes.encoded(Rows({"city": np.array(["a", None, "b", "a"], object), "x": np.zeros(4)}))
    city = rows["city"]
    assert isinstance(city, Dictionary)
    part = city[1:]
    assert part.values is city.values
    assert city.decode().tolist() == ["a", None, "b", "a"]
