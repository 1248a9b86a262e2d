"""skops files: the same answers as the model itself, no type that is not trusted, nothing harmful carried out."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn import ensemble, feature_selection, gaussian_process, linear_model, model_selection, neighbors, svm
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from bimodal import formats
from bimodal.errors import ModelError
from bimodal.formats import estimators
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.skops import Skops
from bimodal.formats.trusted import TRUSTED
from bimodal.model import load
from bimodal.rows import Rows
from tests.formats.test_fitted import as_csv, asked, dense, rows_of
from tests.models import CASES, DIABETES, IRIS, NAMES, PROGRESS, SPECIES

FOREIGN = ("custom", "function_text", "own")  # cases with code of their own


def saved(model: Any, folder: Path) -> Path:
    skops.io.dump(model, folder / "model.skops")
    return folder / "model.skops"


def opened(path: Path) -> Loaded:
    kind = formats.recognise(str(path))
    assert isinstance(kind, Skops)
    return kind.load(Source(str(path)))


@pytest.mark.parametrize("name", [name for name in CASES if name not in FOREIGN])
def test_the_answers_are_the_models_own(name: str, tmp_path: Path) -> None:
    case, text = CASES[name], as_csv(CASES[name])
    own = copy.deepcopy(case.model)
    estimators.one_job(own)  # several jobs are not repeatable
    loaded = opened(saved(case.model, tmp_path))
    answer = loaded.runtime.run(rows_of(loaded, text), [each.name for each in loaded.signature.outputs])
    data = asked(case, text)
    if "prediction" not in answer:
        ours = np.column_stack([answer.array(each) for each in answer])
        np.testing.assert_array_equal(ours, dense(own.transform(data)))
        return
    prediction = answer.array("prediction")
    np.testing.assert_array_equal(prediction, np.asarray(own.predict(data)).reshape(prediction.shape))
    if "probability" in answer:
        np.testing.assert_array_equal(answer.array("probability"), own.predict_proba(data))


BOOSTED: dict[str, Callable[[], Any]] = {
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=4, max_depth=3).fit(IRIS, SPECIES),
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=4, verbose=-1).fit(IRIS, NAMES),
    "neighbours in a ball tree": lambda: neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="cityblock").fit(
        IRIS, NAMES
    ),
    "a search rated by a score": lambda: model_selection.GridSearchCV(
        make_pipeline(feature_selection.SelectKBest(feature_selection.f_classif, k=3), svm.SVC()),
        {"svc__C": [1, 2]},
        scoring="balanced_accuracy",
        cv=model_selection.KFold(3, shuffle=True, random_state=0),
    ).fit(IRIS, NAMES),
    "a gaussian process": lambda: gaussian_process.GaussianProcessClassifier(random_state=0).fit(IRIS[::3], NAMES[::3]),
    "isolation": lambda: ensemble.IsolationForest(n_estimators=5, random_state=0).fit(IRIS),
    "a function of NumPy": lambda: make_pipeline(FunctionTransformer(np.log1p), linear_model.Ridge()).fit(
        IRIS, SPECIES
    ),
}


@pytest.mark.parametrize("name", BOOSTED)
def test_what_is_beyond_the_defaults_of_skops_is_trusted(name: str, tmp_path: Path) -> None:
    model = BOOSTED[name]()
    answer = opened(saved(model, tmp_path)).runtime.run(Rows({"input": IRIS}), ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), model.predict(IRIS))


@pytest.mark.parametrize("name", FOREIGN)
def test_a_type_of_ones_own_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'tests\.models\.\w+'.*joblib\.dump"):
        opened(saved(CASES[name].model, tmp_path))


def test_it_serves_from_its_own_process(tmp_path: Path) -> None:
    path = saved(CASES["mixed"].model, tmp_path)
    with load(path) as model:
        assert model.format == "skops"
        ours = model.predict(CASES["mixed"].rows)["prediction"]
    np.testing.assert_array_equal(ours, CASES["mixed"].model.predict(CASES["mixed"].rows))


# -- harm ------------------------------------------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The archive with its schema changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    change(schema)
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _calls(module: str, name: str, text: str) -> dict[str, Any]:
    """A node that calls a function on one text."""
    said = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "is_json": True}
    arguments = {
        "__class__": "tuple",
        "__module__": "builtins",
        "__loader__": "TupleNode",
        "content": [{**said, "content": json.dumps(text)}],
    }
    return {
        "__class__": name,
        "__module__": module,
        "__loader__": "ConstructorFromReduceNode",
        "content": arguments,
    }


HARM = {
    "a command": ("os", "system", "touch {}"),
    "a command under its own name": ("posix", "system", "touch {}"),
    "an expression": ("builtins", "eval", "open({!r}, 'w')"),
    "a program": ("subprocess", "getoutput", "touch {}"),
    "a file": ("builtins", "open", "{}"),
    "a pickle": ("joblib", "load", "{}"),
    "a dotted way to it": ("numpy", "mean.__globals__", "{}"),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_would_do_harm_is_refused_and_not_done(harm: str, tmp_path: Path) -> None:
    path, mark = saved(CASES["logistic"].model, tmp_path), tmp_path / "harmed"
    module, name, text = HARM[harm]

    def poison(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["C"] = _calls(module, name, text.format(mark))

    rewritten(path, poison)
    with pytest.raises(ModelError, match=rf"'{module}\.{name}"):
        opened(path)
    assert not mark.exists()


def test_a_function_that_does_harm_when_asked_is_refused(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(np.log1p), linear_model.Ridge()).fit(IRIS, SPECIES)
    path = saved(model, tmp_path)
    with zipfile.ZipFile(path) as archive:
        schema = archive.read("schema.json").decode()
    assert '"__class__": "log1p"' in schema
    for module, name in (("os", "system"), ("builtins", "exec")):
        crafted = json.loads(schema.replace('"__class__": "log1p"', f'"__class__": "{name}"'))
        rewritten(saved(model, tmp_path), _all_modules(crafted, name, module))
        with pytest.raises(ModelError, match=rf"{module}\.{name}"):
            opened(path)


def _all_modules(crafted: dict[str, Any], name: str, module: str) -> Callable[[dict[str, Any]], None]:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("__class__") == name:
                node["__module__"] = module
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    def change(schema: dict[str, Any]) -> None:
        walk(crafted)
        schema.clear()
        schema.update(crafted)

    return change


def test_nothing_in_the_list_of_trusted_names_reaches_the_system() -> None:
    roots = {name.partition(".")[0] for name in TRUSTED}
    assert roots == {"sklearn", "numpy", "scipy", "collections", "functools", "xgboost", "lightgbm", "catboost"}
    assert not any(word in name for name in TRUSTED for word in ("*", "load", "open", "read", "exec", "eval", "PyFunc"))


def test_a_tree_that_leads_out_of_itself_is_refused(tmp_path: Path) -> None:
    for case, column, value in (("tree", "left_child", 10**9), ("tree", "feature", 99), ("tree", "right_child", 0)):
        model = copy.deepcopy(CASES[case].model)
        state = model.tree_.__getstate__()
        state["nodes"][column][0] = value
        model.tree_.__setstate__(state)
        with pytest.raises(ModelError, match="leads out of itself"):
            opened(saved(model, tmp_path))
    for column, value in (("left", 2**31), ("feature_idx", 99), ("right", 0)):
        model = copy.deepcopy(CASES["boosting"].model)
        model._predictors[1][0].nodes[column][0] = value
        with pytest.raises(ModelError, match="leads out of itself"):
            opened(saved(model, tmp_path))


# -- files that are none ----------------------------------------------------------------------------------------------


def test_a_pickle_under_a_false_name_is_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_bytes(pickle.dumps(CASES["logistic"].model))
    with pytest.raises(ModelError, match="a pickle under a false name"):
        opened(tmp_path / "model.skops")


def test_it_is_known_by_its_content_under_any_name(tmp_path: Path) -> None:
    saved(CASES["logistic"].model, tmp_path).rename(tmp_path / "model.bin")
    assert opened(tmp_path / "model.bin").signature.width == 4


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    whole = saved(CASES["labelled"].model, tmp_path).read_bytes()
    random = np.random.default_rng(3)
    for size in random.integers(1, len(whole) - 100, 20):
        (tmp_path / "model.skops").write_bytes(whole[:size])
        with pytest.raises(ModelError):
            opened(tmp_path / "model.skops")
    (tmp_path / "model.skops").write_bytes(b"")
    with pytest.raises(ModelError, match="is empty"):
        formats.recognise(str(tmp_path / "model.skops"))


def test_a_zip_of_something_else_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as archive:
        archive.writestr("data.txt", "no model")
    with pytest.raises(ModelError, match=r"without schema\.json"):
        opened(tmp_path / "model.skops")


def test_an_archive_that_unpacks_to_far_more_than_it_is_refused(tmp_path: Path) -> None:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}")
        with archive.open("zeros.npy", "w", force_zip64=True) as member:
            for _ in range(400):
                member.write(bytes(2**20))
    (tmp_path / "model.skops").write_bytes(stored.getvalue())
    with pytest.raises(ModelError, match=r"would unpack to 0\.4 GiB"):
        opened(tmp_path / "model.skops")


def test_a_deeply_nested_schema_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as archive:
        archive.writestr("schema.json", "[" * 100_000 + "]" * 100_000)
    with pytest.raises(ModelError, match="RecursionError"):
        opened(tmp_path / "model.skops")


def test_another_version_of_the_library_is_told(tmp_path: Path) -> None:
    path = saved(linear_model.LinearRegression().fit(DIABETES, PROGRESS), tmp_path)

    def older(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["_sklearn_version"]["content"] = json.dumps("1.4.0")

    rewritten(path, older)
    assert "saved under scikit-learn 1.4.0" in opened(path).warnings[0]
