"""Files that hold a model, files that do not, and models that need their user's own code."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bimodal import formats
from bimodal.errors import BimodalError, ModelError, ModelFailed, ModelNotFound, UsageError
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.sklearn import DATA, Sklearn
from bimodal.rows import Rows
from bimodal.runtimes.estimator import Estimator
from tests.formats.test_fitted import load
from tests.models import CASES, IRIS, IRIS_FRAME, SPECIES


def opened(path: Path, **told: Any) -> Loaded:
    return formats.recognise(str(path)).load(Source(str(path), **told))


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("m.joblib", joblib.dump),
        ("m.pkl", lambda model, path: Path(path).write_bytes(pickle.dumps(model))),
        ("m.pickle", lambda model, path: Path(path).write_bytes(pickle.dumps(model, protocol=2))),
        ("m.cloud.pkl", lambda model, path: Path(path).write_bytes(cloudpickle.dumps(model))),
        ("m.z.joblib", lambda model, path: joblib.dump(model, path, compress=3)),
        ("m.pkl.gz", lambda model, path: joblib.dump(model, path)),
        ("m.pkl.bz2", lambda model, path: joblib.dump(model, path)),
        ("m.pkl.xz", lambda model, path: joblib.dump(model, path)),
        ("model", joblib.dump),
    ],
)
def test_it_does_not_matter_how_a_model_was_saved(name: str, save: Any, tmp_path: Path) -> None:
    model = CASES["logistic"].model
    save(model, tmp_path / name)
    answer = opened(tmp_path / name).runtime.run(Rows({"input": IRIS}), ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), model.predict(IRIS))


def test_a_model_trained_on_arrays_takes_names(tmp_path: Path) -> None:
    loaded = load(CASES["logistic"].model, tmp_path, features=("d", "c", "b", "a"))
    assert [each.name for each in loaded.signature.inputs] == ["d", "c", "b", "a"]
    assert loaded.signature.named
    rows = Rows({"a": IRIS[:, 3], "b": IRIS[:, 2], "c": IRIS[:, 1], "d": IRIS[:, 0]})
    answer = loaded.runtime.run(rows, ["probability"])
    np.testing.assert_array_equal(answer.array("probability"), CASES["logistic"].model.predict_proba(IRIS))


def test_features_settle_a_model_that_cannot_say_its_width(tmp_path: Path) -> None:
    loaded = load(CASES["own"].model, tmp_path, features=("a", "b", "c", "d"))
    assert not loaded.signature.open
    rows = Rows({name: IRIS[:, place] for place, name in enumerate("abcd")})
    answer = loaded.runtime.run(rows, ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), CASES["own"].model.predict(IRIS))


def test_texts_take_a_name(tmp_path: Path) -> None:
    loaded = load(CASES["text"].model, tmp_path, features=("review",))
    answer = loaded.runtime.run(Rows({"review": np.array(["good", "bad"], object)}), ["prediction"])
    assert answer.array("prediction").tolist() == [1, 0]


def test_a_model_of_unknown_width_is_open_and_says_so(tmp_path: Path) -> None:
    loaded = load(CASES["own"].model, tmp_path)
    assert loaded.signature.open
    assert any("--sample" in each for each in loaded.warnings)


def test_every_part_runs_one_job_a_call(tmp_path: Path) -> None:
    loaded = load(make_pipeline(StandardScaler(), CASES["voting"].model), tmp_path)
    assert isinstance(loaded.runtime, Estimator)
    voting = loaded.runtime.model[-1]
    assert [each.n_jobs for each in voting.estimators_] == [None, 1]


def test_what_the_model_raises_is_told_without_the_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded = load(CASES["closed"].model, tmp_path)
    rows = Rows({"plan": np.array(["very secret"], object), "income": np.array([1.0])})
    with pytest.raises(ModelFailed) as raised:
        loaded.runtime.run(rows, ["prediction"])
    assert "secret" not in str(raised.value)
    assert "ValueError" in str(raised.value)
    assert "very secret" in caplog.text


def test_read_only_memory_is_no_obstacle(tmp_path: Path) -> None:
    values = IRIS.copy()
    values.flags.writeable = False
    for name in ("forest", "boosting", "neighbours", "svm"):
        assert load(CASES[name].model, tmp_path).runtime.run(Rows({"input": values}), ["prediction"]).count == len(IRIS)


def test_another_version_of_the_library_is_told(tmp_path: Path) -> None:
    state = pickle.dumps(LogisticRegression(max_iter=2000).fit(IRIS, SPECIES), protocol=4)
    import sklearn

    now = sklearn.__version__
    other = "1" + now[1:-1] + "0" if not now.endswith("0") else now[:-1] + "1"
    (tmp_path / "old.pkl").write_bytes(state.replace(now.encode(), other.encode()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = opened(tmp_path / "old.pkl")
    assert any(other in each and now in each for each in loaded.warnings)


# -- what is no model --------------------------------------------------------------------------------------------------


def test_a_clusterer_that_cannot_predict_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="DBSCAN, which cannot predict new rows"):
        load(DBSCAN().fit(IRIS), tmp_path)


def test_an_unfitted_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not fitted"):
        load(make_pipeline(StandardScaler(), LogisticRegression()), tmp_path)


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ({"model": LogisticRegression(), "score": 0.9}, r"saved\['model'\]"),
        ((StandardScaler(), {"a": 1}), r"saved\[0\]"),
        ({"a": 1}, "type dict"),
        (IRIS_FRAME, "type DataFrame"),
        (IRIS, "type ndarray"),
        (3.0, "type float"),
        (None, "type NoneType"),
    ],
)
def test_a_pickle_of_something_else_says_what_it_is(thing: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        load(thing, tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("compress", [0, 3])
def test_a_truncated_file_says_so(share: float, compress: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.joblib"
    joblib.dump(CASES["forest"].model, path, compress=compress)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ModelError, match="truncated"):
        opened(path)


def test_a_flipped_byte_raises_nothing_but_our_own_errors(tmp_path: Path) -> None:
    whole = pickle.dumps(CASES["logistic"].model)
    for place in range(0, len(whole), 23):
        broken = bytearray(whole)
        broken[place] ^= 0x5A
        (tmp_path / "broken.pkl").write_bytes(broken)
        with contextlib.suppress(BimodalError):
            opened(tmp_path / "broken.pkl")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.pkl", b"hello, I am no model\n", "is not a pickle"),
        ("zip.pkl", b"PK\x03\x04" + b"\0" * 60, "zip archive"),
        ("lfs.joblib", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "Git LFS"),
        ("gz.pkl", gzip.compress(b"a,b\n1,2\n", mtime=0), "damaged|not a pickle"),
        ("data.csv", b"a,b\n1,2\n", "is not a model"),
        ("empty.pkl", b"", "is empty"),
    ],
)
def test_a_file_that_is_no_model_says_what_it_is_not(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        opened(tmp_path / name)


def test_a_file_that_is_not_there_names_the_near_one(tmp_path: Path) -> None:
    joblib.dump(CASES["logistic"].model, tmp_path / "my_model.pkl")
    with pytest.raises(ModelNotFound, match=r"did you mean .*my_model\.pkl"):
        opened(tmp_path / "mymodel.pkl")


# -- the user's own code, in processes of their own --------------------------------------------------------------------

TRAIN = """
    import sys, joblib, numpy as np
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    class Halve(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.n_features_in_ = X.shape[1]
            return self
        def transform(self, X):
            return X / 2

    if __name__ == "__main__":
        X = np.arange(12.0).reshape(6, 2)
        joblib.dump(make_pipeline(Halve(), LinearRegression()).fit(X, X.sum(axis=1)), sys.argv[1])
        print("trained")
"""
PREDICT = """
    import sys, numpy as np
    from bimodal import formats
    from bimodal.errors import BimodalError
    from bimodal.formats.contract import Source
    from bimodal.rows import Rows

    path, *code = sys.argv[1:]
    try:
        loaded = formats.recognise(path).load(Source(path, tuple(code)))
        answer = loaded.runtime.run(Rows({"input": np.array([[1.0, 2.0]])}), ["prediction"])
        print(answer.array("prediction").round(6).tolist())
    except BimodalError as error:
        print(error.code, error)
"""


def python(script: str, *arguments: str | Path, cwd: Path) -> str:
    """What a script prints, run in a process of its own."""
    file = cwd / f"run{abs(hash(script))}.txt"
    file.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(file), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.py, which saved model.pkl with a class of its own `__main__`; m.pkl has the module's."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "code").mkdir()
    (folder / "work").mkdir()
    script = folder / "code" / "train.py"
    script.write_text(textwrap.dedent(TRAIN))
    subprocess.run(
        [sys.executable, str(script), str(folder / "work" / "model.pkl")], check=True, stdout=subprocess.DEVNULL
    )
    save = "import train, numpy as np, joblib; X = np.ones((4, 2)) * np.arange(4)[:, None];"
    save += "joblib.dump(train.make_pipeline(train.Halve(), train.LinearRegression()).fit(X, X[:, 0]), 'm.pkl')"
    subprocess.run([sys.executable, "-c", save], cwd=folder / "code", check=True)
    return folder


@pytest.fixture
def trained(training: Path, tmp_path: Path) -> Path:
    """The same for one test alone."""
    return shutil.copytree(training, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def test_a_missing_class_is_named_with_the_option(trained: Path) -> None:
    said = python(PREDICT, trained / "work" / "model.pkl", cwd=trained / "work")
    assert said.startswith("model_code_missing")
    assert "Halve" in said
    assert "which was defined in the script or notebook that saved it" in said
    assert "--code FILE" in said


def test_the_file_that_defines_the_class_is_found(trained: Path) -> None:
    said = python(PREDICT, trained / "work" / "model.pkl", cwd=trained / "code")
    assert f"--code {trained / 'code' / 'train.py'}" in said


def test_a_code_file_stands_for_main_and_its_main_part_does_not_run(trained: Path) -> None:
    said = python(PREDICT, trained / "work" / "model.pkl", trained / "code" / "train.py", cwd=trained / "work")
    assert said == "[3.0]"


@pytest.mark.parametrize("where", [pytest.param("folder", marks=pytest.mark.soak), "file", "beside"])
def test_a_module_of_ones_own_is_found(where: str, trained: Path) -> None:
    model = trained / "code" / "m.pkl"
    if where != "beside":
        model = model.rename(trained / "work" / "m.pkl")
        assert "module train" in python(PREDICT, model, cwd=trained / "work")
    code = {"folder": [trained / "code"], "file": [trained / "code" / "train.py"], "beside": []}[where]
    assert python(PREDICT, model, *code, cwd=trained / "work").startswith("[")


def test_a_missing_library_is_named_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04ccategory_encoders\nTargetEncoder\n.")
    said = python(PREDICT, tmp_path / "m.pkl", cwd=tmp_path)
    assert "pip install category-encoders" in said


def test_code_that_cannot_be_imported_says_why(trained: Path) -> None:
    (trained / "code" / "broken.py").write_text("1 / 0\n")
    said = python(PREDICT, trained / "work" / "model.pkl", trained / "code" / "broken.py", cwd=trained / "work")
    assert "ZeroDivisionError" in said


def test_code_that_is_not_there_is_a_wrong_option(tmp_path: Path) -> None:
    joblib.dump(CASES["logistic"].model, tmp_path / "m.pkl")
    with pytest.raises(UsageError, match="--code"):
        Sklearn().load(Source(str(tmp_path / "m.pkl"), ("nowhere.py",)))


def test_importing_bimodal_imports_no_library() -> None:
    libraries = "('sklearn', 'pandas', 'onnxruntime', 'joblib', 'scipy')"
    code = f"import sys, bimodal.formats; print([each for each in {libraries} if each in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_a_frame_and_its_csv_are_answered_alike(tmp_path: Path) -> None:
    case = CASES["mixed"]
    assert isinstance(case.rows, pd.DataFrame)
    loaded = load(case.model, tmp_path)
    names = [each.name for each in loaded.signature.inputs]
    rows = Rows({name: case.rows[name].to_numpy(object if case.rows[name].dtype == "str" else float) for name in names})
    answer = loaded.runtime.run(rows, ["prediction", "probability"])
    np.testing.assert_array_equal(answer.array("prediction"), case.model.predict(case.rows))
    np.testing.assert_array_equal(answer.array("probability"), case.model.predict_proba(case.rows))


class Harm:
    """A pickle of it touches a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("ending", [*DATA, ".GGUF", ".h5.gz", ".csv.xz"])
def test_a_pickle_under_a_false_name_is_not_read(ending: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "harmed", tmp_path / f"model{ending}"
    joblib.dump(Harm(mark), file, compress={".gz": ("gzip", 3), ".xz": ("xz", 3)}.get(file.suffix, 0))
    with pytest.raises(ModelError):  # not for what it calls: that is trusted
        formats.recognise(str(file)).load(Source(str(file), trust=("cloudpickle",)))
    assert not mark.exists()


@pytest.mark.parametrize("ending", [".bin", ".ckpt", ".dat", ".v2", ""])
def test_a_pickle_under_a_customary_or_no_ending_is_judged_name_by_name(ending: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "harmed", tmp_path / f"model{ending}"
    joblib.dump(Harm(mark), file)
    with pytest.raises(ModelError, match=r"wants to call pathlib\.\S*touch|wants to call builtins\.getattr"):
        formats.recognise(str(file)).load(Source(str(file)))
    assert not mark.exists()


def test_the_documents_name_the_endings_of_data() -> None:
    (row,) = [
        line
        for line in (Path(__file__).parents[2] / "docs/model_files.md").read_text().splitlines()
        if line.startswith("| a pickle under the ending")
    ]
    assert tuple(re.findall(r"`(\.\w+)`", row)) == DATA
