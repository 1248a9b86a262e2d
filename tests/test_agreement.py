"""verify: equal answers through every door are told equal, others are found and shown."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

import bimodal
from bimodal import scenes, scenes_grpc
from bimodal.agreement import SHOWN, verify
from bimodal.batch.columns import Columns
from bimodal.batch.scoring import Scorer
from bimodal.batch.sources.inputs import open_input
from bimodal.client import calls
from bimodal.drawn import Drawn
from bimodal.errors import InputError, UsageError
from bimodal.field import Field
from bimodal.model import load
from bimodal.realtime.answer import Answer
from bimodal.realtime.limits import Limits
from bimodal.realtime.protocols.inference import Asked, judged, outputs_of
from bimodal.realtime.protocols.tensor_messages import asked_of, response_of
from bimodal.realtime.service import Served
from bimodal.rows import Rows
from bimodal.signature import Signature
from bimodal.spread import Spread
from tests.models import CASES, customers
from tests.talkative import TALK


def company() -> Any:
    class Company:
        """A model that no server should batch: the answer to a row depends on its neighbours."""

        def predict(self, rows: Any) -> Any:
            return rows["age"].fillna(0).to_numpy() + len(rows)

    return Company()  # a class of a function is saved by value: its process imports none of the tests


def texts_told() -> Any:
    class Texts:
        """Its answer is the text that it got, or how it got none."""

        def predict(self, rows: Any) -> Any:
            return [f"<{text}>" if isinstance(text, str) else "none" for text in rows["text"]]

    return Texts()


GAPS = """
from typing import Optional

class Gaps:
    inputs = {"n": Optional[int], "s": str}
    outputs = {"n2": Optional[int], "s2": Optional[str]}

    def predict(self, rows):
        numbers = [None if n is None or n != n else int(n) for n in rows["n"]]
        return [{"n2": n, "s2": s or None} for n, s in zip(numbers, rows["s"])]
"""


def names(found: Any) -> list[tuple[str, str]]:
    return [(door.name, door.runtime) for door in found.doors]


@pytest.mark.parametrize("case", [pytest.param("forest", marks=pytest.mark.soak), "mixed"])
def test_a_model_answers_alike_through_every_door(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIMODAL_RUNTIME", "auto")
    rows = customers().head(80) if case == "mixed" else CASES[case].rows
    found = verify(CASES[case].model, sample=rows)
    assert found.equal
    assert found.total == 0
    assert found.rows == len(rows)
    assert names(found)[1:3] == [("in process", "exact"), ("in process, one by one", "exact")]
    assert {name for name, _ in names(found)[3:]} == {
        "batch, CSV", "batch, Parquet", "HTTP, one by one", "HTTP, all in one", "HTTP, 64 at once",
        "gRPC, one by one", "gRPC, all in one", "gRPC, 64 at once",
        "gRPC client, one by one", "gRPC client, all in one",
    }  # fmt: skip
    assert {door.rule for door in found.doors[1:]} == {"bits" if case == "forest" else "rounding"}
    assert all(door.rows == found.rows for door in found.doors)


def test_columns_that_may_be_left_out_and_are_go_through_no_door(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(TALK)
    sample = tmp_path / "sample.jsonl"
    lines = [{"messages": [{"role": "user", "content": f"well met {number}"}]} for number in range(2)]
    for told in (lines, [{**lines[0], "max_tokens": 1}, lines[1]]):
        sample.write_text("".join(f"{json.dumps(each)}\n" for each in told))
        found = verify(f"{tmp_path}/talk.py:Chat", sample=str(sample))
        assert found.equal
        assert (found.rows, found.refused) == (2, 0)
        assert {door.rows for door in found.doors} == {2}


def test_nulls_that_a_client_loses_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gaps.py").write_text(GAPS)
    rows = [{"n": None, "s": "x"}, {"n": 3, "s": ""}, {"n": 4, "s": "y"}]
    found = verify(f"{tmp_path}/gaps.py:Gaps", sample=rows)
    assert found.equal
    assert {door.name for door in found.doors if "client" in door.name and door.skipped is None} == {
        "gRPC client, one by one",
        "gRPC client, all in one",
    }
    monkeypatch.setattr(calls, "_gapped", lambda array, _: array)
    found = verify(f"{tmp_path}/gaps.py:Gaps", sample=rows)
    assert {(door.name, door.differing) for door in found.doors if door.differing} == {
        ("gRPC client, one by one", 2),
        ("gRPC client, all in one", 2),
    }
    assert {(each.output, each.native, each.other) for each in found.differences} == {("n2", None, 0), ("s2", None, "")}


def test_answers_that_depend_on_their_neighbours_are_found() -> None:
    found = verify(company(), sample=customers()[["age"]].head(12))
    assert not found.equal
    assert found.doors[0].name == "native, one by one"
    assert found.doors[0].differing == 12
    first = found.differences[0]
    assert (first.row, first.output, first.door) == (1, "prediction", "native, one by one")
    assert first.native - first.other == 11
    assert found.total == 12


def test_the_first_differences_are_shown_and_all_are_counted() -> None:
    class Forgetful:
        """Answers a row differently when it comes again."""

        def __init__(self) -> None:
            self.calls = 0

        def predict(self, rows: Any) -> Any:
            self.calls += 1
            return np.full(len(rows), float(self.calls))

    found = verify(Forgetful(), sample=customers()[["age"]].head(30))
    assert found.total > SHOWN
    assert len(found.differences) == SHOWN
    assert found.total == sum(door.differing for door in found.doors)
    assert {door.name for door in found.doors if door.differing} >= {"native, one by one", "batch, CSV"}


def test_texts_of_every_kind_reach_the_model_through_every_door() -> None:
    texts = ["plain", "", " padded ", "NA", "null", "a,b", 'say "hi"', "two\nlines", "naïve ☃", "1.50", "true", None]
    found = verify(texts_told(), sample=[{"text": text} for text in texts])
    assert list(found.differences) == []
    assert found.rows == len(texts)


def test_rows_that_are_refused_are_counted(tmp_path: Path) -> None:
    frame = customers()[["age", "income", "city", "plan", "visits"]].head(20).astype({"income": object})
    frame.loc[3, "income"] = "much"
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with load(CASES["mixed"].model, background=False) as model:
        drawn = Drawn.of(model.signature, tmp_path / "rows.csv", 1000)
        assert (drawn.rows.count, drawn.refused) == (19, 1)
        assert drawn.reason is not None
        assert drawn.reason.column == "income"
        assert Drawn.of(model.signature, tmp_path / "rows.csv", 5).rows.count == 5
        frame.head(0).to_csv(tmp_path / "none.csv", index=False)
        with pytest.raises(InputError, match="no rows"):
            Drawn.of(model.signature, tmp_path / "none.csv", 5)


def test_without_grpcio_its_doors_say_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    found = verify(company(), sample=customers()[["age"]].head(3))
    skipped = [door.skipped for door in found.doors if door.name.startswith("gRPC")]
    assert skipped == ['grpc is not installed; install it with: pip install "bimodal[grpc]"'] * 5


@pytest.mark.parametrize("raw", [True, False])
def test_tensors_carry_every_kind_of_column(raw: bool) -> None:
    rows = Rows(
        {
            "number": np.array([0.1, math.nan, 5e-324, -0.0]),
            "whole": np.array([2**62, None, 0, -7], object),
            "truth": np.array([True, False, True, True]),
            "when": np.array(["2020-01-01", "NaT", "2021-01-01T12:00:00.000001", "1999-12-31"], "datetime64[us]"),
            "text": np.array(["", None, "naïve ☃", "null"], object),
        }
    )
    fields = (
        Field("number", "float64", nullable=True), Field("whole", "int64", nullable=True), Field("truth", "bool"),
        Field("when", "timestamp", nullable=True), Field("text", "string", nullable=True),
    )  # fmt: skip
    signature = Signature(fields, fields)
    asked = scenes_grpc.request("m", rows, signature, [], raw=raw)
    served = SimpleNamespace(signature=signature, limits=Limits())
    taken = judged(cast(Served, served), asked_of(asked))
    for name in rows:
        assert repr(taken.array(name).tolist()) == repr(rows.array(name).tolist())
    given = outputs_of(cast(Served, served), Answer(rows, rows), 0, 4, Asked(()))
    told = scenes_grpc.read(response_of("m", "1", given, Asked(()), raw=raw), signature)
    for name in rows:
        assert repr(told[name].tolist()) == repr(rows.array(name).tolist())


def test_it_needs_rows() -> None:
    with pytest.raises(UsageError, match="--sample"):
        verify(CASES["forest"].model)
    with pytest.raises(UsageError, match="one row"):
        verify(CASES["forest"].model, sample=CASES["forest"].rows, rows=0)


def spread(*answers: list[Any]) -> Spread:
    return Spread.of([pa.table({"prediction": each}) for each in answers])


@pytest.mark.parametrize(
    ("known", "given", "exact", "share", "other"),
    [
        ([[1.0, 2.0]], [1.0, 2.0], True, 0.0, []),
        ([[1.0, 2.0]], [1.0, np.nextafter(2.0, 3.0)], True, 0.0, [1]),
        ([[0.0, math.nan]], [-0.0, math.nan], True, 0.0, [0]),
        ([[0.0, math.nan]], [-0.0, math.nan], False, 0.0, []),
        ([[1.0, 2.0], [1.5, 2.0]], [1.2, 2.0], False, 0.0, []),
        ([[1.0, 2.0], [1.5, 2.0]], [1.6, 2.0], False, 1e-9, [0]),
        ([[1.0, 2.0]], [1.0 + 1e-12, 2.0 + 1e-7], False, 1e-9, [1]),
        ([[math.inf, 1.0]], [math.inf, math.nan], False, 1e-9, [1]),
        ([["a", "b"], ["a", "c"]], ["a", "c"], False, 0.0, []),
        ([["a", "b"], ["a", "c"]], ["d", "b"], False, 0.0, [0]),
        ([["a", None]], ["a", None], True, 0.0, []),
        ([[1, 2]], [1, 3], True, 0.0, [1]),
        ([[1.0, 2.0]], [1, 2], True, 0.0, [0, 1]),
    ],
)
def test_what_is_another_answer(known: Any, given: Any, exact: bool, share: float, other: list[int]) -> None:
    found, _ = spread(*known).compare(pa.table({"prediction": given}), share, exact=exact)
    assert [place for _, places in found for place in places.tolist()] == other


def test_an_output_more_or_less_is_another_answer() -> None:
    known = spread([1.0, 2.0])
    found, _ = known.compare(pa.table({"prediction": [1.0, 2.0], "more": [1, 1]}), 0.0, exact=True)
    assert [name for name, _ in found] == ["more"]
    found, _ = known.compare(pa.table({"other": [1.0, 2.0]}), 0.0, exact=True)
    assert [name for name, _ in found] == ["prediction", "other"]


def test_a_file_brings_the_rows_as_they_are(tmp_path: Path) -> None:
    rows = Rows(
        {
            "number": np.array([0.1, math.nan, 5e-324, -0.0]),
            "whole": np.array([2**62, -1, 0, 7]),
            "when": np.array(["2020-01-01", "NaT", "2021-01-01T12:00:00.000001", "1999-12-31"], "datetime64[us]"),
            "text": np.array(["NA", None, "#N/A", "null"], object),
        }
    )
    fields = (
        Field("number", "float64", nullable=True), Field("whole", "int64"), Field("when", "timestamp", nullable=True),
        Field("text", "string", nullable=True),
    )  # fmt: skip
    signature = Signature(fields, ())
    for kind in ("csv", "parquet"):
        null = scenes.write(rows, signature, tmp_path / f"rows.{kind}")
        assert null not in ("NA", "#N/A", "null")
        drawn = read_back(tmp_path / f"rows.{kind}", signature, null)
        for name in rows:
            assert repr(drawn.array(name).tolist()) == repr(rows.array(name).tolist())


def read_back(path: Path, signature: Signature, null: str) -> Rows:
    """The rows that a batch run would give to a model."""
    source = open_input(path)
    columns = Columns.find(signature, source, keep="none", missing=[null])
    (chunk,) = source.chunks(columns.reading)
    rows, good, problems = Scorer(columns, ()).judge(chunk)
    assert good.all(), problems
    return rows


def test_rows_that_cannot_go_a_way_are_said_not_to(tmp_path: Path) -> None:
    rows = Rows({"x": np.array([1.0, math.inf])})
    with load(CASES["linear"].model) as model, pytest.raises(scenes.Unfit, match="infinity"):
        scenes.over_http(model, Rows({"input": np.full((2, 10), math.inf)}), ["prediction"], 1, 1)
    image = Signature((Field("image", "float64", shape=(2, 2)), Field("x", "float64")), ())
    with pytest.raises(scenes.Unfit, match="lists"):
        scenes.write(Rows({"image": np.zeros((2, 2, 2)), **rows}), image, tmp_path / "rows.csv")


def test_bimodal_names_it() -> None:
    assert bimodal.verify is verify
