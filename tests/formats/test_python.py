"""Models written in Python: classes, objects, functions, with hints and without."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

from bimodal import formats
from bimodal.errors import MissingCode, ModelError, ModelFailed, ModelNotFound
from bimodal.field import Field
from bimodal.formats.contract import Loaded, Source
from bimodal.rows import Dictionary, Rows
from tests.formats.test_fitted import as_csv, asked, rows_of
from tests.models import CASES


def written(text: str, folder: Path, name: str = "Model", **told: Any) -> Loaded:
    """A module of this text, in a file of a name of its own, loaded."""
    file = folder / f"written_{folder.name.replace('-', '_')}.py"
    file.write_text(textwrap.dedent(text))
    path = f"{file}:{name}"
    return formats.recognise(path).load(Source(path, **told))


HINTED = """
    import datetime
    from typing import Literal, TypedDict
    import numpy as np

    class Row(TypedDict):
        hour: int
        distance: float
        carrier: Literal["AA", "UA"]
        note: str | None
        late: bool
        when: datetime.datetime
        track: list[float]

    class Model:
        def load(self):
            self.factor = 2.0
        def predict(self, rows: list[Row]):
            assert rows["note"].dtype == object
            return {"prediction": rows["distance"] * self.factor, "seen": [text or "none" for text in rows["note"]]}
"""


def test_hints_are_the_signature(tmp_path: Path) -> None:
    loaded = written(HINTED, tmp_path)
    told = {each.name: each for each in loaded.signature.inputs}
    assert [each.type for each in told.values()] == [
        "int64",
        "float64",
        "string",
        "string",
        "bool",
        "timestamp",
        "float64",
    ]
    assert told["note"].nullable
    assert not told["distance"].nullable
    assert told["carrier"].closed
    assert told["carrier"].categories == ("AA", "UA")
    assert told["track"].shape == (-1,)
    assert [(each.name, each.type) for each in loaded.signature.outputs] == [
        ("prediction", "float64"),
        ("seen", "string"),
    ]
    assert loaded.signature.named
    assert loaded.warnings == ()


def test_arguments_with_plain_types_are_columns(tmp_path: Path) -> None:
    text = """
        class Model:
            def predict(self, x: float, plan: str, factor: float = 2.0) -> float:
                assert x.ndim == 1
                return [each * factor if name == "basic" else 0.0 for each, name in zip(x, plan)]
    """
    loaded = written(text, tmp_path)
    assert [(each.name, each.type) for each in loaded.signature.inputs] == [("x", "float64"), ("plan", "string")]
    assert not loaded.signature.open
    rows = Rows({"x": np.array([1.5, 2.0]), "plan": np.array(["basic", "full"], object)})
    assert loaded.runtime.run(rows, ["prediction"]).array("prediction").tolist() == [3.0, 0.0]
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    "arguments", ["self, x: float, other", "self, x: list", "self, *x: float", "self, *, x: float"]
)
def test_other_arguments_are_no_columns(arguments: str, tmp_path: Path) -> None:
    loaded = written(f"class Model:\n    def predict({arguments}):\n        return [0.0 for _ in x]\n", tmp_path)
    assert loaded.signature.open


def test_text_is_decoded_for_predict(tmp_path: Path) -> None:
    loaded = written(HINTED, tmp_path)
    row = {
        "hour": 1,
        "distance": 2.5,
        "carrier": "AA",
        "note": None,
        "late": True,
        "when": "2024-05-01",
        "track": [1.0],
    }
    rows, good, problems = loaded.signature.check([row, {**row, "note": "x"}])
    assert good.all(), problems
    rows = Rows({**rows, "note": Dictionary.encode([None, "x"])})
    answer = loaded.runtime.run(rows, ["prediction", "seen"])
    assert answer.array("prediction").tolist() == [5.0, 5.0]
    assert answer.array("seen").tolist() == ["none", "x"]


@pytest.mark.parametrize(
    "kind",
    [
        "@dataclasses.dataclass\nclass Row:\n    a: float\n    b: float | None\n",
        "class Row(msgspec.Struct):\n    a: float\n    b: float | None\n",
        "class Row(typing.NamedTuple):\n    a: float\n    b: float | None\n",
        "class Row(typing.TypedDict):\n    a: float\n    b: typing.Optional[float]\n",
    ],
)
def test_every_kind_of_row_type_is_read(kind: str, tmp_path: Path) -> None:
    text = f"import dataclasses, msgspec, typing\n\n{kind}\ndef model(rows: Row):\n    return rows['a']\n"
    loaded = written(text, tmp_path, "model")
    assert [(each.name, each.type, each.nullable) for each in loaded.signature.inputs] == [
        ("a", "float64", False),
        ("b", "float64", True),
    ]


def test_inputs_and_outputs_may_be_attributes(tmp_path: Path) -> None:
    text = """
        import numpy as np
        class Model:
            inputs = {"a": float, "city": str, "size": "int32"}
            outputs = ["prediction", "probability"]
            classes = ("no", "yes")
            def predict(self, rows):
                return {"prediction": rows["a"] > 0, "probability": np.column_stack([rows["a"], 1 - rows["a"]])}
    """
    signature = written(text, tmp_path).signature
    assert [each.type for each in signature.inputs] == ["float64", "string", "int32"]
    assert [(each.name, each.type, each.shape) for each in signature.outputs] == [
        ("prediction", "bool", ()),
        ("probability", "float64", (2,)),
    ]
    assert signature.classes == ("no", "yes")


def test_without_a_signature_it_is_open_with_a_warning(tmp_path: Path) -> None:
    loaded = written("class Model:\n    def predict(self, rows):\n        return rows.sum(axis=1)\n", tmp_path)
    assert loaded.signature.open
    assert any("2-D float64 array" in each for each in loaded.warnings)
    values = np.arange(6.0).reshape(2, 3)
    assert loaded.runtime.run(Rows({"input": values}), ["prediction"]).array("prediction").tolist() == [3.0, 12.0]


@pytest.mark.parametrize("name", ["function", "thing", "Model", "callable_thing"])
def test_a_class_an_object_and_a_function_are_models(name: str, tmp_path: Path) -> None:
    text = """
        def function(rows):
            return rows[:, 0]
        class Model:
            def predict(self, rows):
                return list(rows[:, 0])
        class Called:
            def __call__(self, rows):
                return rows[:, 0]
        thing = Model()
        callable_thing = Called()
    """
    loaded = written(text, tmp_path, name)
    assert loaded.runtime.run(Rows({"input": np.ones((2, 2))}), ["prediction"]).array("prediction").tolist() == [
        1.0,
        1.0,
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("rows[:1, 0]", "1 answers .* 2 rows"),
        ("rows.sum()", "no list"),
        ("None", "returned nothing"),
        ("{}", "gave nothing"),
        ("{'other': rows[:, 0]}", "gave no prediction"),
    ],
)
def test_a_wrong_answer_is_a_failure(answer: str, said: str, tmp_path: Path) -> None:
    text = f"class Model:\n    def predict(self, rows):\n        return {answer} if rows[0, 0] == 7 else rows[:, 0]\n"
    loaded = written(text, tmp_path)
    with pytest.raises(ModelFailed, match=said):
        loaded.runtime.run(Rows({"input": np.full((2, 2), 7.0)}), ["prediction"])


def test_what_predict_raises_is_told_without_the_data(tmp_path: Path) -> None:
    text = "class Model:\n    def predict(self, rows):\n        raise ValueError(f'bad {rows}')\n"
    loaded = written(text, tmp_path)
    with pytest.raises(ModelFailed, match=r"the model raised ValueError on these rows") as raised:
        loaded.runtime.run(Rows({"input": np.full((1, 1), 12345.0)}), ["prediction"])
    assert "12345" not in str(raised.value)
    assert any("made-up row" in each for each in loaded.warnings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Model:\n    def predict(self, rows):\n        yield 1\n", "a predict\\(\\) that yields"),
        ("class Model:\n    async def predict(self, rows):\n        return 1\n", "coroutine"),
        ("class Model:\n    pass\n", "without predict"),
        ("class Model:\n    def __init__(self):\n        1 / 0\n", "ZeroDivisionError"),
        (
            "class Model:\n    def load(self):\n        open('nowhere')\n    def predict(self, rows): return rows\n",
            "FileNotFoundError",
        ),
        ("class Modell:\n    pass\n", "did you mean Modell"),
        ("1 +\n", "SyntaxError"),
    ],
)
def test_what_is_no_model_says_why(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        written(text, tmp_path)


def test_a_missing_import_is_missing_code(tmp_path: Path) -> None:
    with pytest.raises(MissingCode, match="no_such_module_here"):
        written("import no_such_module_here\n", tmp_path)


def test_a_file_of_two_classes_without_an_attribute_names_one(tmp_path: Path) -> None:
    one = "class {}:\n    def predict(self, rows): return rows\n"
    (tmp_path / "m.py").write_text(one.format("Fraud") + one.format("Churn"))
    with pytest.raises(ModelError, match=r"m\.py:(Fraud|Churn)"):
        formats.recognise(str(tmp_path / "m.py")).load(Source(str(tmp_path / "m.py")))


def test_a_file_without_a_class_is_told_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("x = 1\n")
    with pytest.raises(ModelError, match=r"no class with predict\(\) in it; write one \(class Model: "):
        formats.recognise(str(tmp_path / "m.py")).load(Source(str(tmp_path / "m.py")))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="there is no file"):
        formats.named("python").load(Source(f"{tmp_path}/nowhere.py:Model"))


def test_a_module_is_found_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "fraud.py").write_text("def model(rows):\n    return rows[:, 0]\n")
    script = "from bimodal import formats; from bimodal.formats.contract import Source; p = 'shop.fraud:model';"
    script += "print(formats.recognise(p).name, formats.recognise(p).load(Source(p)).signature.open)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "python True"


class Duck:
    """An object with predict(), as somebody has it in a notebook."""

    def predict(self, data: Any) -> Any:
        return (np.asarray(data)[:, 0] > 1).astype(int)


class Tabular:
    """One that wants a frame."""

    def predict(self, data: Any) -> Any:
        return data["city"].str.upper()


def test_a_pickled_object_with_predict_is_a_model(tmp_path: Path) -> None:
    path = tmp_path / "duck.pkl"
    path.write_bytes(cloudpickle.dumps(Duck()))
    loaded = formats.recognise(str(path)).load(Source(str(path)))
    assert loaded.signature.open
    assert loaded.runtime.run(Rows({"input": np.array([[0.0], [2.0]])}), ["prediction"]).array(
        "prediction"
    ).tolist() == [0, 1]


def test_with_a_sample_it_gets_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "tabular.pkl"
    path.write_bytes(cloudpickle.dumps(Tabular()))
    sample = (Field("city", "string", nullable=True, example="Oslo"),)
    loaded = formats.recognise(str(path)).load(Source(str(path), sample=sample))
    answer = loaded.runtime.run(Rows({"city": np.array(["Lima", "Pune"], object)}), ["prediction"])
    assert answer.array("prediction").tolist() == ["LIMA", "PUNE"]


def test_a_frame_hint_gets_a_frame(tmp_path: Path) -> None:
    text = """
        import pandas as pd
        class Model:
            inputs = {"a": float, "b": str}
            def predict(self, rows: pd.DataFrame):
                assert isinstance(rows, pd.DataFrame)
                return rows[["a", "b"]].rename(columns={"a": "prediction"})
    """
    loaded = written(text, tmp_path)
    assert [(each.name, each.type) for each in loaded.signature.outputs] == [("prediction", "float64"), ("b", "string")]
    assert pd is not None


@pytest.mark.parametrize("kind", ["list", "set", "list[set]"])
def test_a_type_that_no_column_has_is_told_with_those_there_are(tmp_path: Path, kind: str) -> None:
    text = f"""
        class Model:
            inputs = {{"l": {kind}}}
            def predict(self, rows):
                return [0.0 for _ in rows]
    """
    with pytest.raises(ModelError, match=r"'l' has a type .* \(list\[float\]\), or dict and list\[dict\] for JSON"):
        written(text, tmp_path)


def test_features_name_an_open_models_columns(tmp_path: Path) -> None:
    loaded = written("def model(rows):\n    return rows[:, 1]\n", tmp_path, "model", features=("a", "b"))
    rows = Rows({"a": np.array([1.0]), "b": np.array([2.0])})
    assert loaded.runtime.run(rows, ["prediction"]).array("prediction").tolist() == [2.0]


FLIPS = """
    class Model:
        {outputs}
        def predict(self, rows):
            return {{"prediction": rows[:, 0].astype(int) if rows[0, 0] == 0 else rows[:, 0]}}
"""


def test_an_answer_of_another_type_is_never_bent(tmp_path: Path) -> None:
    loaded = written(FLIPS.format(outputs=""), tmp_path)
    assert loaded.signature.outputs[0].type == "int64"
    assert loaded.runtime.run(Rows({"input": np.array([[2.0]])}), ["prediction"]).array("prediction").tolist() == [2]
    with pytest.raises(ModelFailed, match="float64 with a fraction or out of range where int64 was promised"):
        loaded.runtime.run(Rows({"input": np.array([[0.5]])}), ["prediction"])


def test_a_declared_output_has_its_declared_type(tmp_path: Path) -> None:
    loaded = written(FLIPS.format(outputs="outputs = {'prediction': float}"), tmp_path)
    assert loaded.runtime.run(Rows({"input": np.array([[0.5]])}), ["prediction"]).array("prediction").tolist() == [0.5]


def test_text_that_becomes_a_number_is_a_failure(tmp_path: Path) -> None:
    text = "class Model:\n    def predict(self, rows):\n        return ['a' if row[0] == 0 else 5 for row in rows]\n"
    loaded = written(text, tmp_path)
    with pytest.raises(ModelFailed, match="of several types where text was promised"):
        loaded.runtime.run(Rows({"input": np.array([[1.0]])}), ["prediction"])


class Wrapped:
    """A class of one's own around a pipeline, as many people save it."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.version = "7"

    def predict(self, data: Any) -> Any:
        return [f"customer {label}" for label in self.pipeline.predict(data)]


@pytest.mark.parametrize("name", ["mixed", "logistic", "forest"])
def test_an_object_around_one_estimator_takes_its_columns(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = tmp_path / "wrapped.pkl"
    path.write_bytes(cloudpickle.dumps(Wrapped(case.model)))
    loaded = formats.recognise(str(path)).load(Source(str(path)))
    assert not loaded.signature.open
    assert loaded.warnings == ()
    text = as_csv(case)
    answer = loaded.runtime.run(rows_of(loaded, text), ["prediction"])
    assert answer.array("prediction").tolist() == Wrapped(case.model).predict(asked(case, text))
