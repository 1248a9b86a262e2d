"""pandas' own types all the way: frame, records, CSV and Parquet get the answers of the pipeline on the frame."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from bimodal import sample
from bimodal.batch.run import predict_file
from bimodal.errors import InputError
from bimodal.location import Location
from bimodal.model import Model, load
from bimodal.runtimes.process import Report
from bimodal.signature import Signature
from tests.agreement.test_doors import Doors
from tests.realtime.desk import Desk

COUNT = 120


@cache
def shop() -> pd.DataFrame:
    """A column of every type that pandas has of its own, most with missing values."""
    random = np.random.default_rng(1)
    city = pd.Series(random.choice(["Oslo", "Lima", "Pune"], COUNT)).astype(object)
    city[::11] = None
    visits: Any = pd.Series(random.integers(0, 9, COUNT)).astype("Int64")
    visits[::7] = pd.NA
    member: Any = pd.Series(random.random(COUNT) < 0.5).astype("boolean")
    member[::9] = pd.NA
    seen: Any = pd.Series(
        pd.Timestamp("2024-01-01 05:30") + pd.to_timedelta(random.integers(0, 9999, COUNT), unit="min")
    )
    last = seen.copy()
    last[::8] = pd.NaT
    return pd.DataFrame(
        {
            "age": random.uniform(18, 90, COUNT).round(1),
            "plan": pd.Categorical(random.choice(["free", "pro", "team"], COUNT)),
            "size": pd.Categorical(random.choice(["S", "M", "L"], COUNT), categories=["S", "M", "L"], ordered=True),
            "city": city.astype("category"),
            "year": pd.Categorical(random.choice([2021, 2022], COUNT)),
            "visits": visits,
            "key": pd.Series(2**53 + 1 + random.integers(0, 2, COUNT)).astype("Int64"),
            "member": member,
            "maybe": member.astype(object).where(member.notna(), np.nan),
            "paid": random.random(COUNT) < 0.5,
            "name": city.astype("string"),
            "note": pd.Series(random.choice(["likes tea", "likes coffee", "no calls"], COUNT)).astype("string"),
            "seen": seen.astype("datetime64[us]"),
            "exact": seen.astype("datetime64[ns]"),
            "last": last.astype("datetime64[us]"),
            "local": seen.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo").astype("datetime64[us, Asia/Tokyo]"),
        }
    )


@cache
def bought() -> Any:
    frame = shop()
    marked = frame["member"].fillna(False).to_numpy(bool) ^ (frame["plan"] == "pro").to_numpy()
    return np.where((frame["age"] > 50) ^ marked, "buys", "leaves")


class Ranks(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Looks at the codes of categories, in the order of the training."""

    def fit(self, frame: Any, target: Any = None) -> Ranks:
        self.fitted_ = True
        return self

    def transform(self, frame: Any) -> Any:
        return ranks(frame)


def ranks(frame: Any) -> Any:
    return np.column_stack([frame["size"].cat.codes, frame["age"]])


def hours(frame: Any) -> Any:
    return np.column_stack([frame["seen"].dt.hour, frame["seen"].dt.day_of_week])


def since(frame: Any) -> Any:
    """How long ago, with a missing time as the longest."""
    days = (pd.Timestamp("2024-02-01") - frame["last"]).dt.total_seconds() / 86_400
    return days.fillna(99.0).to_numpy().reshape(-1, 1)


def epochs(frame: Any) -> Any:
    """Nanoseconds as numbers: wrong by a thousand where the frame counts in microseconds."""
    return (frame[["exact"]].astype("int64") // 10**9 % 86_400).to_numpy()


def local_hours(frame: Any) -> Any:
    return frame["local"].dt.hour.to_numpy().reshape(-1, 1)


def spelled(frame: Any) -> Any:
    """`3` and `3.0` are two words."""
    return frame["visits"].astype("string").fillna("none").str.len().to_numpy(float).reshape(-1, 1)


def parity(frame: Any) -> Any:
    """Odd or even, of numbers that no float holds."""
    return (frame[["key"]] % 2).to_numpy(float)


def opposite(frame: Any) -> Any:
    """`~` of booleans as numbers is never false."""
    turned = ~frame["member"]
    return np.column_stack([turned.fillna(False).astype(float), turned.isna()])


def unpaid(frame: Any) -> Any:
    return (~frame["paid"]).to_numpy().reshape(-1, 1) * 1.0


def shouted(frame: Any) -> Any:
    return frame["name"].str.upper().fillna("?").str.len().to_numpy(float).reshape(-1, 1)


def tree(*steps: Any) -> Any:
    return make_pipeline(*steps, DecisionTreeClassifier(random_state=0))


def encoded(*columns: str, **told: Any) -> Any:
    encoder = OneHotEncoder(**{"handle_unknown": "ignore", **told})
    return make_pipeline(
        ColumnTransformer([("o", encoder, [*columns]), ("n", "passthrough", ["age"])]),
        LogisticRegression(max_iter=5000),
    )


@dataclass(frozen=True)
class Case:
    """columns: those of the frame. code: somebody's own, in the model, which a sample must tell the types for."""

    make: Callable[[], Any]
    columns: tuple[str, ...]
    code: Callable[[Any], Any] | None = None

    @property
    def sampled(self) -> bool:
        return self.code is not None

    @cached_property
    def frame(self) -> pd.DataFrame:
        return shop()[list(self.columns)]

    @cached_property
    def model(self) -> Any:
        if self.code is None:
            return self.make().fit(self.frame, bought())
        seen = self.code(self.frame)[:, 0]
        return self.make().fit(self.frame, np.where(seen >= seen.mean(), "buys", "leaves"))

    @property
    def right(self) -> list[Any]:
        own: list[Any] = self.model.predict(self.frame).tolist()
        return own

    @property
    def sample(self) -> pd.DataFrame | None:
        return self.frame if self.sampled else None

    def open(self, name: str | None = None) -> Model:
        """Loaded in this process, which is quicker; `test_it_holds_in_a_process_of_its_own` has the real way."""
        location = Location.find(self.model, sample=self.sample, runtime="native", name=name)
        loaded = location.kind.load(location.source)
        report = Report(loaded.signature, loaded.versions, loaded.warnings, loaded.facts, {})
        return Model(location, loaded.runtime, report)


CASES = {
    "categories of the frame": Case(
        lambda: HistGradientBoostingClassifier(max_iter=8, categorical_features="from_dtype", min_samples_leaf=5),
        ("age", "plan", "city", "size"),
    ),
    "integers as categories": Case(
        lambda: HistGradientBoostingClassifier(max_iter=8, categorical_features="from_dtype", min_samples_leaf=5),
        ("age", "year", "visits"),
    ),
    "booleans in boosting": Case(
        lambda: HistGradientBoostingClassifier(max_iter=8, min_samples_leaf=5), ("age", "member", "paid")
    ),
    "categories one-hot": Case(lambda: encoded("plan", "city"), ("age", "plan", "city")),
    "categories of integers one-hot": Case(lambda: encoded("year"), ("age", "year")),
    "ordered categories": Case(
        lambda: tree(ColumnTransformer([("o", OrdinalEncoder(), ["size"]), ("n", "passthrough", ["age"])])),
        ("age", "size"),
    ),
    "nullable integers": Case(
        lambda: make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression()),
        ("age", "visits"),
    ),
    "nullable integers one-hot": Case(lambda: encoded("visits"), ("age", "visits")),
    "nullable booleans one-hot": Case(lambda: encoded("member"), ("age", "member")),
    "booleans beside nulls one-hot": Case(lambda: encoded("maybe"), ("age", "maybe")),
    "booleans beside nulls, no others": Case(lambda: encoded("maybe", handle_unknown="error"), ("age", "maybe")),
    "booleans": Case(lambda: encoded("paid", handle_unknown="error"), ("age", "paid")),
    "texts of pandas": Case(
        lambda: tree(ColumnTransformer([("t", TfidfVectorizer(), "note"), ("n", "passthrough", ["age"])])),
        ("age", "note"),
    ),
    "hours and weekdays": Case(lambda: tree(FunctionTransformer(hours)), ("seen",), hours),
    "hours beside numbers": Case(
        lambda: tree(
            ColumnTransformer([("h", FunctionTransformer(hours), ["seen"]), ("n", StandardScaler(), ["age"])])
        ),
        ("age", "seen"),
        hours,
    ),
    "missing times": Case(lambda: tree(FunctionTransformer(since)), ("last",), since),
    "times as numbers": Case(lambda: tree(FunctionTransformer(epochs)), ("exact",), epochs),
    "times of a place": Case(lambda: tree(FunctionTransformer(local_hours)), ("local",), local_hours),
    "nullable integers in own code": Case(lambda: tree(FunctionTransformer(spelled)), ("visits",), spelled),
    "large nullable integers in own code": Case(lambda: tree(FunctionTransformer(parity)), ("key",), parity),
    "nullable booleans in own code": Case(lambda: tree(FunctionTransformer(opposite)), ("member",), opposite),
    "booleans in own code": Case(lambda: tree(FunctionTransformer(unpaid)), ("paid",), unpaid),
    "texts in own code": Case(lambda: tree(FunctionTransformer(shouted)), ("name",), shouted),
    "codes of categories in own code": Case(lambda: tree(Ranks()), ("size", "age"), ranks),
}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON carries them: times as text, integers as integers, what is missing as null."""
    rows = pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return None if isinstance(value, float) and value != value else value


@pytest.mark.parametrize("name", CASES)
def test_every_door_gives_the_answers_of_the_pipeline_on_the_frame(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    right, frame = case.right, case.frame
    assert len(set(right)) > 1
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    with case.open() as model:
        assert not model.warnings
        assert model.predict(frame)["prediction"].tolist() == right
        rows = records(frame)
        assert [each["prediction"] for each in model.predict(rows)] == right
        alone = [model.predict(rows[place : place + 1])[0]["prediction"] for place in range(12)]
        assert alone == right[:12]  # a row's types do not depend on its neighbours
        table = pa.Table.from_pandas(frame, preserve_index=False)
        assert model.predict(table)["prediction"].to_pylist() == right
        for kind in ("csv", "parquet"):
            out = tmp_path / f"out-{kind}.csv"
            predict_file(model, tmp_path / f"rows.{kind}", out, keep="none")
            assert pd.read_csv(out)["prediction"].tolist() == right, kind


@pytest.mark.parametrize("name", ["times as numbers", "nullable booleans in own code", "categories of the frame"])
def test_it_holds_in_a_process_of_its_own(name: str) -> None:
    case = CASES[name]
    with load(case.model, sample=case.sample, runtime="native") as model:
        assert model.predict(case.frame)["prediction"].tolist() == case.right
        assert [each["prediction"] for each in model.predict(records(case.frame))] == case.right


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].sampled])
def test_the_oracle_agrees_with_itself_on_the_file(name: str) -> None:
    """What pandas reads from the same file gets the same answers from the pipeline itself."""
    case = CASES[name]
    read = pd.read_csv(io.StringIO(case.frame.to_csv(index=False)))
    assert case.model.predict(read).tolist() == case.right


def test_a_sample_in_a_file_of_parquet_tells_as_much_as_the_frame(tmp_path: Path) -> None:
    frame = shop().drop(columns="year")  # a Parquet file does not tell categories of integers
    frame.to_parquet(tmp_path / "sample.parquet")
    assert sample.fields(tmp_path / "sample.parquet") == sample.fields(frame)


def test_what_the_sample_tells() -> None:
    told = {each.name: each for each in sample.fields(shop())}
    kinds = {name: (each.type, each.nullable, each.frame) for name, each in told.items()}
    assert kinds["visits"] == ("int64", True, "Int64")
    assert kinds["member"] == ("bool", True, "boolean")
    assert kinds["maybe"] == ("bool", True, None)
    assert kinds["paid"] == ("bool", False, None)
    assert kinds["exact"] == ("timestamp", False, "datetime64[ns]")
    assert kinds["local"] == ("timestamp", False, "datetime64[us, Asia/Tokyo]")
    assert kinds["size"] == ("string", False, "category")
    assert told["size"].categories == ("S", "M", "L")
    assert kinds["year"] == ("int64", False, "category")
    plain = {each.name: each for each in sample.fields([{"n": 1}, {"n": None}])}
    assert (plain["n"].type, plain["n"].frame) == ("float64", None)  # as pandas reads them


VERDICTS: dict[str, tuple[str, Any, str]] = {
    # the case, a value of its first nullable column, and the code of the verdict in every door
    "a fraction in integers": ("nullable integers in own code", 1.5, "wrong_type"),
    "text in integers": ("nullable integers in own code", "many", "wrong_type"),
    "a number in booleans": ("nullable booleans in own code", 7, "wrong_type"),
    "text in times": ("hours and weekdays", "soon", "wrong_type"),
    "no boolean where none was": ("booleans in own code", None, "null"),
    "a category of no training": ("codes of categories in own code", "XXL", "unknown_category"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_bad_value_gets_one_verdict(name: str, tmp_path: Path) -> None:
    place, value, code = VERDICTS[name]
    case = CASES[place]
    column = case.columns[0]
    row = {**records(case.frame[1:2])[0], column: value}
    pd.DataFrame([row]).to_csv(tmp_path / "rows.csv", index=False)
    with case.open() as model:
        with pytest.raises(InputError) as in_json:
            model.predict([row])
        table = pa.table({key: pa.array([each]) for key, each in row.items()})
        with pytest.raises(InputError) as in_table:
            model.predict(table)
        report = predict_file(model, tmp_path / "rows.csv", tmp_path / "out.csv", max_rejects=1)
        assert report.rejected == 1
    assert (in_json.value.code, in_table.value.code) == (code, code)
    assert in_json.value.message == in_table.value.message
    assert code in (tmp_path / "out.csv.rejects.jsonl").read_text()


def test_a_nullable_integer_keeps_every_digit(tmp_path: Path) -> None:
    with CASES["large nullable integers in own code"].open() as model:
        field = model.signature.input("key")
        assert (field.type, field.nullable) == ("int64", True)
        assert [each["prediction"] for each in model.predict([{"key": 2**53 + 1}, {"key": 2**53 + 2}])] == [
            *CASES["large nullable integers in own code"].model.predict(
                pd.DataFrame({"key": pd.array([2**53 + 1, 2**53 + 2], dtype="Int64")})
            )
        ]
        with pytest.raises(InputError) as raised:
            model.predict([{"key": 2**70}])
        assert raised.value.code == "out_of_range"


def test_a_sample_without_a_single_time_is_a_sample_too(tmp_path: Path) -> None:
    empty = shop()[["last"]].assign(last=pd.Series([pd.NaT] * COUNT, dtype="datetime64[us]"))
    with load(CASES["missing times"].model, sample=empty, runtime="native") as model:
        assert model.signature.input("last").type == "timestamp"
        assert model.predict(CASES["missing times"].frame)["prediction"].tolist() == CASES["missing times"].right


def test_the_signature_crosses_processes_whole() -> None:
    fields = sample.fields(shop())
    assert Signature.retold(Signature(fields, ()).told()).inputs == fields


# -- over HTTP ---------------------------------------------------------------------------------------------------------

WIRES = ("input", "rows", "columns", "lines", "csv", "arrow", "parquet", "records", "frame", "table")
LOSING = ("csv", "frame")  # what pandas makes of large integers beside nulls holds not all their digits


@pytest.fixture(scope="module")
def doors() -> Iterator[dict[str, Doors]]:
    """The ways into each model, all behind one app."""
    models = {name: case.open(re.sub(r"\W+", "_", name)) for name, case in CASES.items()}
    desk = Desk(*models.values())
    yield {name: Doors(desk, model) for name, model in models.items()}
    desk.close()


@pytest.mark.parametrize("name", CASES)
def test_every_wire_gives_the_answers_of_the_pipeline_on_the_frame(doors: dict[str, Doors], name: str) -> None:
    case = CASES[name]
    for wire in WIRES:
        if not (name.startswith("large") and wire in LOSING):
            assert getattr(doors[name], wire)(records(case.frame[:40])) == case.right[:40], wire
