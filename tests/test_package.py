"""Packages: whole, or refused before anything is parsed; the answers of the day of packing, or refused."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pytest

import bimodal
from bench.package import environment, installed, serving, worker_memory
from bimodal import golden, package
from bimodal.agreement import verify
from bimodal.errors import (
    AnswersChanged,
    ModelError,
    ModelFailed,
    ModelNotFound,
    NotCompiled,
    OutputExists,
    PackageDamaged,
    UsageError,
)
from bimodal.field import Field
from bimodal.golden import Golden
from bimodal.model import load
from bimodal.package import Package
from bimodal.packing import pack
from bimodal.rows import Dictionary, Rows
from bimodal.runtimes.process import ProcessRuntime
from bimodal.signature import Signature
from tests.models import CASES, IRIS, customers
from tests.packages import Vandal, files, resealed
from tests.saved import SAVED, sample, saved


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages that nobody changes: a compiled one, a native one, one of another format."""
    folder = tmp_path_factory.mktemp("shelf")
    pack(CASES["mixed"].model, folder / "churn.bimodal", sample=customers(), runtime="auto")
    pack(CASES["forest"].model, folder / "iris.bimodal", sample=IRIS, runtime="native")
    pack(saved("onnx", folder), folder / "curve.bimodal", runtime="native")
    return folder


@pytest.fixture
def churn(shelf: Path, tmp_path: Path) -> Path:
    """A copy of its own for a test."""
    return Path(shutil.copytree(shelf / "churn.bimodal", tmp_path / "churn.bimodal"))


def rows_of_every_kind() -> Rows:
    return Rows(
        {
            "number": np.array([0.1, np.nan, -0.0, np.inf]),
            "small": np.array([1, 2, 3, 4], np.float32),
            "whole": np.array([2**62, -1, 0, 1]),
            "truth": np.array([True, False, True, True]),
            "text": Dictionary.encode(["x", None, "y", "x"]),
            "any": np.array([1, None, "s", 2.5], object),
            "when": np.array(["2020-01-01", "NaT", "2021-01-01", "2022-01-01"], "datetime64[us]"),
            "image": np.arange(24, dtype=np.uint8).reshape(4, 3, 2),
        }
    )


# -- golden rows -------------------------------------------------------------------------------------------------------


def test_golden_rows_keep_every_bit(tmp_path: Path) -> None:
    rows = rows_of_every_kind()
    Golden(rows, rows).write(tmp_path / "golden.rows")
    for kept in (Golden.read(tmp_path / "golden.rows").rows, Golden.read(tmp_path / "golden.rows").answers):
        assert list(kept) == list(rows)
        for name in rows:
            assert kept.array(name).dtype == rows.array(name).dtype
            assert kept.array(name).tolist().__repr__() == rows.array(name).tolist().__repr__()


def test_golden_rows_are_spread_over_the_sample() -> None:
    rows = Rows({"x": np.arange(10_000.0)})
    asked = Golden.ask(lambda given, _: Rows({"prediction": given.array("x") * 2}), rows, ["prediction"])
    assert asked.rows.count == golden.MOST
    assert asked.rows.array("x")[[0, -1]].tolist() == [0.0, 9999.0]
    np.testing.assert_array_equal(asked.answers.array("prediction"), asked.rows.array("x") * 2)


def test_rows_that_the_model_fails_on_are_not_golden() -> None:
    def run(rows: Rows, _: Sequence[str]) -> Rows:
        if (rows.array("x") == 2).any():
            raise ModelFailed("it does not like two")
        return Rows({"prediction": rows.array("x")})

    kept = Golden.ask(run, Rows({"x": np.arange(5.0)}), ["prediction"])
    assert kept.rows.array("x").tolist() == [0, 1, 3, 4]
    with pytest.raises(ModelFailed, match="two"):
        Golden.ask(run, Rows({"x": np.array([2.0, 2.0])}), ["prediction"])


@pytest.mark.parametrize(
    ("then", "now", "changed"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-12], []),
        ([1.0, 2.0], [1.0, 2.01], [1]),
        ([math.nan, math.inf], [math.nan, math.inf], []),
        ([math.nan, math.inf], [0.0, math.inf], [0]),
        ([1.0, math.inf], [1.0, -math.inf], [1]),
        (["a", None], ["a", None], []),
        (["a", None], ["a", "b"], [1]),
        ([1, 2], [1, 3], [1]),
        ([[0.1, 0.9], [0.5, 0.5]], [[0.1, 0.9], [0.4, 0.6]], [1]),
        ([0.0, 1.0], [[0.0], [1.0]], [0, 1]),
    ],
)
def test_an_answer_has_changed_when_more_than_rounding_differs(then: Any, now: Any, changed: list[int]) -> None:
    def array(values: Any) -> Any:
        return np.array(values, object if any(isinstance(each, str) for each in values) else None)

    kept = Golden(Rows({"x": np.zeros(2)}), Rows({"prediction": array(then)}))
    assert kept.changed(lambda rows, outputs: Rows({"prediction": array(now)})).tolist() == changed


# -- packing -----------------------------------------------------------------------------------------------------------


def test_a_package_holds_what_the_model_needs(shelf: Path) -> None:
    kept = package.open(shelf / "churn.bimodal")
    assert kept.name == "churn"
    assert kept.digest == hashlib.sha256((kept.folder / "bimodal.json").read_bytes()).hexdigest()
    model = CASES["mixed"].model
    assert [each.name for each in kept.signature.inputs] == ["age", "income", "city", "plan", "visits"]
    assert kept.signature.classes == ("leaves", "stays")
    assert kept.golden is not None
    assert 32 <= kept.golden.rows.count <= 256
    frame = customers().iloc[np.linspace(0, 199, 200).astype(int)]
    assert kept.golden.answers.array("prediction").tolist() == model.predict(frame).tolist()
    np.testing.assert_array_equal(kept.golden.answers.array("probability"), model.predict_proba(frame))
    assert kept.manifest.versions["scikit-learn"] == __import__("sklearn").__version__
    assert subprocess.run(["sha256sum", "-c", "bimodal.sha256"], cwd=kept.folder, check=False).returncode == 0


def test_the_native_model_inside_gives_the_golden_answers(shelf: Path) -> None:
    kept = package.open(shelf / "churn.bimodal")
    assert kept.golden is not None
    native = ProcessRuntime(kept.kind.name, kept.source)
    assert native.report.signature == kept.signature
    answers = native.run(kept.golden.rows, ["probability"])
    native.close()
    np.testing.assert_array_equal(answers.array("probability"), kept.golden.answers.array("probability"))


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    joblib.dump(CASES["logistic"].model, tmp_path / "iris.pkl")
    made = [pack(tmp_path / "iris.pkl", tmp_path / name, sample=IRIS, runtime="native") for name in ("one", "two")]
    assert package.open(made[0]).digest == package.open(made[1]).digest
    assert [each.read_bytes() for each in files(made[0])] == [each.read_bytes() for each in files(made[1])]


def test_without_a_sample_the_model_answers_its_own_example(tmp_path: Path) -> None:
    kept = package.open(pack(CASES["forest"].model, tmp_path / "p", runtime="native"))
    assert kept.name == "p"
    assert kept.golden is not None
    assert kept.golden.rows.count >= 32
    rows = kept.golden.rows.array("input")
    assert kept.golden.answers.array("prediction").tolist() == CASES["forest"].model.predict(rows).tolist()


def test_what_stands_at_the_destination_is_kept(churn: Path, tmp_path: Path) -> None:
    before = package.open(churn).digest
    with pytest.raises(OutputExists, match="--overwrite"):
        pack(CASES["forest"].model, churn, runtime="native")
    assert package.open(churn).digest == before
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExists, match="no package"):
        pack(CASES["forest"].model, tmp_path / "precious", overwrite=True, runtime="native")
    assert files(tmp_path / "precious") == [tmp_path / "precious" / "thesis.tex"]
    pack(CASES["forest"].model, churn, overwrite=True, runtime="native")
    assert package.open(churn).digest != before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["churn.bimodal", "precious"]


def test_a_failure_leaves_nothing_behind(churn: Path, tmp_path: Path) -> None:
    before = package.open(churn).digest
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x04 no pickle")
    for place in (churn, tmp_path / "new"):
        with pytest.raises(ModelError, match="damaged"):
            pack(tmp_path / "bad.pkl", place, overwrite=True)
    assert package.open(churn).digest == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad.pkl", "churn.bimodal"]


def test_a_package_is_not_packed_again(churn: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a package already"):
        pack(churn, tmp_path / "again")


def test_plain_values_survive_json() -> None:
    odd = Field("x", "float64", categories=(math.nan, math.inf, 1.0, "a"), example=-math.inf)
    told = Signature((odd,), (), classes=((1, "a"), (2, "b"))).told()
    kept = package._retold(json.loads(json.dumps(package.told(told), allow_nan=False)))
    assert repr(Signature.retold(kept)) == repr(Signature.retold(told))


# -- the user's own code -----------------------------------------------------------------------------------------------

SCRIPT = """
from sklearn.base import BaseEstimator, ClassifierMixin
from shop.prices import rounded
import numpy as np

class Own(ClassifierMixin, BaseEstimator):
    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, x):
        return self.classes_[(rounded(x[:, 0]) % len(self.classes_)).astype(int)]

if __name__ == "__main__":
    import pickle
    model = Own().fit(np.arange(8.0).reshape(4, 2), np.array(["a", "b", "c", "a"]))
    pickle.dump(model, open("own.pkl", "wb"))
    print(model.predict(np.array([[4.2, 0.0]]))[0])
"""


def test_the_users_code_travels_along(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "shop").mkdir(parents=True)
    (work / "train.py").write_text(SCRIPT)
    (work / "shop" / "__init__.py").write_text("")
    (work / "shop" / "prices.py").write_text("import numpy as np\n\ndef rounded(x):\n    return np.round(x)\n")
    said = subprocess.run([sys.executable, "train.py"], cwd=work, capture_output=True, text=True, check=True).stdout
    made = pack(work / "own.pkl", tmp_path / "own.bimodal", code=work / "train.py", runtime="native")
    shutil.rmtree(work)
    kept = package.open(made)
    names = set(kept.manifest.files)
    assert {"code/1/train.py", "code/found/shop/__init__.py", "code/found/shop/prices.py"} <= names
    native = ProcessRuntime(kept.kind.name, kept.source)
    answer = native.run(Rows({"input": np.array([[4.2, 0.0]])}), ["prediction"]).array("prediction").tolist()
    native.close()
    assert answer == [said.strip()]
    package.open(made)  # loading it has left nothing there, no bytecode either


def test_a_python_model_is_packed_with_the_modules_beside_it(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "rates.py").write_text("FACTOR = 3.0\n")
    (work / "mine.py").write_text(
        textwrap.dedent(
            """
            from rates import FACTOR

            class Mine:
                def predict(self, rows):
                    return rows["x"].to_numpy() * FACTOR
            """
        )
    )
    made = pack(f"{work / 'mine.py'}:Mine", tmp_path / "mine.bimodal", sample=[{"x": 1.0}])
    shutil.rmtree(work)
    kept = package.open(made)
    assert kept.manifest.model == "model/mine.py:Mine"
    native = ProcessRuntime(kept.kind.name, kept.source)
    answer = native.run(Rows({"x": np.array([2.0])}), ["prediction"]).array("prediction").tolist()
    native.close()
    assert answer == [6.0]


# -- damage ------------------------------------------------------------------------------------------------------------


def refuse_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reader of a package's files fails the test when it is reached."""

    def reached(*_: Any, **__: Any) -> Any:
        raise AssertionError("a file of a damaged package was parsed")

    monkeypatch.setattr("bimodal.runtimes.process.Child.__init__", reached)
    for reader in ("golden.Golden.read", "runtimes.exact.program.Program.load", "compile.report.Report.decode"):
        monkeypatch.setattr(f"bimodal.{reader}", reached)
    for reader in ("joblib.load", "pickle.load", "pickle.loads", "numpy.load", "onnxruntime.InferenceSession"):
        monkeypatch.setattr(reader, reached)


def refusal(place: Path) -> str | None:
    """The code with which a package is refused."""
    try:
        load(place)
    except PackageDamaged as error:
        return error.code if "not as it was packed" in error.message else error.message
    return None


def assert_refused(whole: Path, other: Path, place: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vandal = Vandal(whole, other, seed=sum(map(ord, whole.name)))
    refuse_parsing(monkeypatch)
    decode, sealed = msgspec.json.decode, (whole / package.MANIFEST).read_bytes()

    def decode_whole(data: Any, **told: Any) -> Any:
        assert data == sealed, "a damaged manifest was parsed"
        return decode(data, **told)

    monkeypatch.setattr(msgspec.json, "decode", decode_whole)
    for number in range(count):
        done = vandal.damaged(place, number)
        assert refusal(place) == "package_damaged", done


@pytest.mark.parametrize(("name", "other"), [("churn", "iris"), ("curve", "churn")])
def test_a_damaged_package_is_refused_before_anything_is_parsed(
    name: str, other: str, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, theirs = shelf / f"{name}.bimodal", shelf / f"{other}.bimodal"
    assert_refused(whole, theirs, tmp_path / "damaged.bimodal", 30, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("kind", SAVED)
def test_every_format_is_packed_answers_alike_and_is_refused_when_damaged(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIMODAL_RUNTIME", "auto")
    (tmp_path / "work").mkdir()
    path = saved(kind, tmp_path / "work")
    whole = pack(path, tmp_path / "whole.bimodal", sample=sample(kind))
    other = pack(path, tmp_path / "other.bimodal", name="other", runtime="native")
    shutil.rmtree(tmp_path / "work")
    assert package.open(whole).manifest.format == kind
    found = verify(whole)
    assert found.equal, found
    assert found.rows >= 8
    assert_refused(whole, other, tmp_path / "damaged.bimodal", 300, monkeypatch)


def test_the_error_names_the_file_and_what_to_do(churn: Path) -> None:
    (churn / "model" / "churn.pkl").write_bytes(b"other")
    with pytest.raises(PackageDamaged, match=r"model/churn\.pkl is not as it was packed.*pack the model again"):
        package.open(churn)


@pytest.mark.parametrize(
    "name", ["../outside.pkl", "/etc/hostname", "model/../../outside.pkl", "a//b", "./a", "bimodal.json", "a\\b", ""]
)
def test_a_name_that_leaves_the_package_is_refused(name: str, churn: Path) -> None:
    (churn.parent / "outside.pkl").write_bytes(b"x")
    told = json.loads((churn / "bimodal.json").read_bytes())
    told["files"][name] = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    data = json.dumps(told).encode()
    (churn / "bimodal.json").write_bytes(data)
    (churn / "bimodal.sha256").write_bytes(package._seal(hashlib.sha256(data).hexdigest()))
    with pytest.raises(PackageDamaged, match="does not stay in the package"):
        package.open(churn)


def test_a_pipe_or_a_linked_folder_is_refused(churn: Path) -> None:
    moved = churn.parent / "moved"
    (churn / "model").rename(moved)
    (churn / "model").symlink_to(moved)
    with pytest.raises(PackageDamaged, match="model is not as it was packed: it is a link"):
        package.open(churn)
    (churn / "model").unlink()
    moved.rename(churn / "model")
    (churn / "golden.rows").unlink()
    os.mkfifo(churn / "golden.rows")
    with pytest.raises(PackageDamaged, match=r"golden\.rows .* it is no file"):
        package.open(churn)


def test_a_later_layout_is_told_from_damage(churn: Path) -> None:
    with pytest.raises(ModelError, match="upgrade") as caught:
        resealed(churn, package=package.LAYOUT + 1)
    assert not isinstance(caught.value, PackageDamaged)


def test_what_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        package.open(tmp_path / "none")
    assert not package.is_package(tmp_path)
    (tmp_path / "empty.bimodal").mkdir()
    assert package.is_package(tmp_path / "empty.bimodal")
    with pytest.raises(PackageDamaged, match=r"bimodal\.json .* it is missing"):
        package.open(tmp_path / "empty.bimodal")


# -- other versions ----------------------------------------------------------------------------------------------------


def drifted(kept: Package, rows: Sequence[int]) -> Golden:
    """Golden rows that tell of other answers in some rows, as if an older library had given them."""
    assert kept.golden is not None
    probability = kept.golden.answers.array("probability").copy()
    probability[list(rows)] = probability[list(rows)][:, ::-1]
    return replace(kept.golden, answers=Rows({**kept.golden.answers, "probability": probability}))


def older(kept: Package) -> dict[str, str]:
    return {**kept.manifest.versions, "scikit-learn": "1.5.2"}


def test_the_same_minor_version_runs_no_golden_row(shelf: Path) -> None:
    kept = package.open(shelf / "churn.bimodal")
    now = {**kept.manifest.versions, "numpy": f"{kept.manifest.versions['numpy'].rpartition('.')[0]}.999"}

    def run(rows: Rows, outputs: Sequence[str]) -> Rows:
        raise AssertionError("nothing has changed")

    assert kept.check_answers(now, run) == ()


def test_another_minor_version_with_the_same_answers_is_told(churn: Path) -> None:
    kept = resealed(churn, versions=older(package.open(churn)))
    native = ProcessRuntime(kept.kind.name, kept.source)
    (told,) = kept.check_answers(native.report.versions, native.run)
    native.close()
    assert "packed under scikit-learn 1.5.2 (now 1.9" in told
    assert "answered as before" in told


def test_other_answers_are_refused_and_accepted_by_name(churn: Path) -> None:
    kept = package.open(churn)
    kept = resealed(churn, versions=older(kept), golden=drifted(kept, [6, 9]))
    native = ProcessRuntime(kept.kind.name, kept.source)
    with pytest.raises(AnswersChanged) as caught:
        kept.check_answers(native.report.versions, native.run)
    (told,) = kept.check_answers(native.report.versions, native.run, allow_drift=True)
    native.close()
    assert caught.value.code == "answers_changed"
    for part in ("2 of its 200 golden rows", "golden row 7", "now 1.9", 'pip install "scikit-learn==1.5.2"', "--allow"):
        assert part in caught.value.message
    assert "accepted by --allow-drift" in told


def test_a_changed_model_loads_only_where_the_change_is_accepted(churn: Path) -> None:
    kept = package.open(churn)
    resealed(churn, versions=older(kept), golden=drifted(kept, [0]))
    with pytest.raises(AnswersChanged, match="1 of its 200 golden rows"):
        load(churn, runtime="native")
    with load(churn, runtime="native", allow_drift=True) as model:
        assert any("accepted by --allow-drift" in warning for warning in model.warnings)
    with load(churn, runtime="exact") as model:  # the compiled form is the one that was packed: nothing can drift
        assert model.warnings == ()


# -- the compiled form -------------------------------------------------------------------------------------------------

BLOCKED = """
import sys

class Blocked:
    \"\"\"As if the libraries that train models were not installed.\"\"\"

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"sklearn", "scipy", "pandas", "joblib", "threadpoolctl", "onnxruntime"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def test_a_compiled_package_answers_as_the_library_did(shelf: Path) -> None:
    model = CASES["mixed"].model
    with load(shelf / "churn.bimodal", runtime="auto") as loaded:
        assert loaded.runtime.name == "exact"
        assert loaded.digest == package.open(shelf / "churn.bimodal").digest
        answer = loaded.predict(customers(), outputs=["prediction", "probability"])
    assert answer["prediction"].tolist() == model.predict(customers()).tolist()
    np.testing.assert_allclose(
        answer[["probability_leaves", "probability_stays"]], model.predict_proba(customers()), rtol=1e-12, atol=1e-12
    )


def test_a_compiled_package_predicts_and_serves_without_the_training_library(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "BIMODAL_RUNTIME": "auto"}
    frame = customers()
    frame.to_csv(tmp_path / "rows.csv", index=False)

    def bimodal_says(*arguments: str, expect: int = 0) -> str:
        command = [sys.executable, "-m", "bimodal", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == expect, done.stderr
        return done.stdout + done.stderr

    churn = str(shelf / "churn.bimodal")
    bimodal_says("predict", churn, "rows.csv", "-o", "answers.csv")
    labels = [line.rpartition(",")[2] for line in (tmp_path / "answers.csv").read_text().splitlines()[1:]]
    assert labels == CASES["mixed"].model.predict(frame).tolist()
    row: dict[str, Any] = {"age": 30.5, "income": 60_000.0, "city": "Oslo", "plan": "pro", "visits": 3}
    (tmp_path / "row.json").write_text(json.dumps({"rows": [row]}))
    assert json.loads(bimodal_says("serve", churn, "--post", "row.json")) == {
        "prediction": CASES["mixed"].model.predict(customers().head(1).assign(**row)).tolist()
    }
    assert "equal" in bimodal_says("verify", churn)  # beside the answers given at packing
    said = bimodal_says("predict", str(shelf / "iris.bimodal"), "rows.csv", expect=1)
    assert 'pip install "bimodal[sklearn]"' in said


@pytest.mark.soak
def test_the_plain_dependencies_are_enough(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIMODAL_RUNTIME", "auto")
    python = environment(tmp_path)
    assert not {"pyarrow", "scikit-learn", "scipy", "pandas", "joblib"} & set(installed(python))
    assert sum(installed(python).values()) < 250e6
    row = {"age": 30.5, "income": 60_000.0, "city": "Oslo", "plan": "pro", "visits": 3}
    with serving(python, shelf / "churn.bimodal", json.dumps({"rows": [row]}).encode()) as (_, process, _):
        assert worker_memory(process.pid) < 80e6
    subprocess.run([python, "-m", "pip", "install", "-q", "pyarrow"], check=True)  # the extra `batch`
    customers().to_csv(tmp_path / "rows.csv", index=False)
    command = ["-m", "bimodal", "predict", str(shelf / "churn.bimodal"), "rows.csv", "-o", "a.csv"]
    subprocess.run([str(python), *command], cwd=tmp_path, check=True)
    labels = [line.rpartition(",")[2] for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]
    assert labels == CASES["mixed"].model.predict(customers()).tolist()


def test_a_runtime_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine:\n    def predict(self, rows):\n        return rows['x']\n")
    with pytest.raises(NotCompiled, match="python have no compiled form"):
        pack(f"{tmp_path / 'mine.py'}:Mine", tmp_path / "p", sample=[{"x": 1.0}], runtime="exact")
    assert [each.name for each in tmp_path.iterdir()] == ["mine.py"]


def test_bimodal_names_it() -> None:
    assert bimodal.pack is pack
