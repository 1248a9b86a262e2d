"""MLflow's folders: read by the format of their data, or by MLflow itself; models by their address in a registry."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import catboost
import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression

from bimodal import formats, sample
from bimodal.errors import MissingLibrary, ModelError, ModelNotFound, UsageError
from bimodal.formats import registry
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.mlflow import Mlflow
from bimodal.formats.trusted import TRUSTED
from bimodal.model import load
from bimodal.rows import Rows
from bimodal.table import Binding, from_frame
from tests.models import CASES, IRIS, IRIS_FRAME, NAMES, SPECIES, customers

with warnings.catch_warnings():  # MLflow warns of its own type hints when it is imported
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.catboost
    import mlflow.lightgbm
    import mlflow.pyfunc
    import mlflow.pytorch
    import mlflow.sklearn
    import mlflow.xgboost
    from mlflow.models import Model as MlModel
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types.schema import ColSpec, DataType, TensorSpec
    from mlflow.types.schema import Schema as MlSchema

MIXED = ["age", "income", "visits", "city", "plan"]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow's advice on how to save is no part of the tests, and nobody is told that they ran."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def opened(path: Path, **told: Any) -> Loaded:
    kind = formats.recognise(str(path))
    assert isinstance(kind, Mlflow)
    return kind.load(Source(str(path), **told))


def taken(loaded: Loaded, frame: pd.DataFrame) -> Rows:
    """The frame's rows as the model takes them, none refused."""
    table = from_frame(frame)
    rows, good, problems = Binding.bind(loaded.signature, table.column_names).rows(table)
    assert good.all(), problems
    return rows


def sklearn_folder(model: Any, path: Path, **told: Any) -> Path:
    told = {"pip_requirements": ["scikit-learn"], "serialization_format": "cloudpickle", **told}
    mlflow.sklearn.save_model(model, path, **told)
    return path


def pyfunc_folder(model: Any, path: Path, **told: Any) -> Path:
    mlflow.pyfunc.save_model(path, python_model=model, **{"pip_requirements": ["numpy"], **told})
    return path


def changed(folder: Path, text: str, other: str) -> Path:
    file = folder / "MLmodel"
    assert text in file.read_text()
    file.write_text(file.read_text().replace(text, other))
    return folder


# -- flavors that another format reads --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cloudpickle", "pickle", "skops"])
def test_a_pipeline_is_read_as_if_it_lay_alone(how: str, tmp_path: Path) -> None:
    model, rows = CASES["mixed"].model, customers()
    signature = infer_signature(rows[MIXED], model.predict(rows))
    folder = sklearn_folder(
        model, tmp_path / "m", signature=signature, serialization_format=how, skops_trusted_types=list(TRUSTED)
    )
    loaded = opened(folder)
    answer = loaded.runtime.run(taken(loaded, rows), ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), model.predict(rows))
    assert sorted(each.name for each in loaded.signature.inputs) == sorted(MIXED)
    assert loaded.signature.input("age").nullable
    assert loaded.signature.classes == ("leaves", "stays")


def test_it_serves_from_its_own_process(tmp_path: Path) -> None:
    model, rows = CASES["mixed"].model, customers()
    with load(sklearn_folder(model, tmp_path / "m"), runtime="native") as loaded:
        assert (loaded.format, loaded.name) == ("mlflow", "m")
        np.testing.assert_array_equal(loaded.predict(rows)["prediction"], model.predict(rows))


def test_the_files_own_list_of_trusted_types_counts_for_nothing(tmp_path: Path) -> None:
    model = CASES["own"].model
    folder = sklearn_folder(
        model, tmp_path / "m", serialization_format="skops", skops_trusted_types=["tests.models.Nearest"]
    )
    with pytest.raises(ModelError, match=r"tests\.models\.Nearest"):
        opened(folder)


def test_a_pickle_that_is_declared_as_skops_is_not_unpickled(tmp_path: Path) -> None:
    folder = sklearn_folder(CASES["logistic"].model, tmp_path / "m", serialization_format="skops")
    joblib.dump(CASES["logistic"].model, folder / "model.skops")
    with pytest.raises(ModelError, match="a pickle under a false name"):
        opened(folder)


def test_the_signature_names_the_columns_of_a_model_trained_on_arrays(tmp_path: Path) -> None:
    model = CASES["logistic"].model
    named = pd.DataFrame(IRIS, columns=["sepal", "width", "petal", "breadth"])
    folder = sklearn_folder(model, tmp_path / "m", signature=infer_signature(named, model.predict(IRIS)))
    loaded = opened(folder)
    assert [each.name for each in loaded.signature.inputs] == list(named)
    rows = Rows({name: named[name].to_numpy() for name in reversed([*named.columns.astype(str)])})
    np.testing.assert_array_equal(loaded.runtime.run(rows, ["prediction"]).array("prediction"), model.predict(IRIS))
    plain = opened(sklearn_folder(model, tmp_path / "plain"))
    assert plain.signature.vector is not None


def test_the_signature_settles_what_own_code_hides(tmp_path: Path) -> None:
    case = CASES["custom"]
    folder = sklearn_folder(
        case.model, tmp_path / "m", signature=infer_signature(case.rows, case.model.predict(case.rows))
    )
    loaded = opened(folder)
    types = {each.name: each.type for each in loaded.signature.inputs}
    assert (types["year"], types["plan"]) == ("int64", "string")
    assert not any("--sample" in each for each in loaded.warnings)


FLOWERS = IRIS_FRAME.set_axis([*"abcd"], axis=1)
WRAPPED: dict[str, tuple[Callable[[], Any], Callable[..., None]]] = {
    "xgboost classifier": (
        lambda: xgboost.XGBClassifier(n_estimators=4, max_depth=2).fit(FLOWERS, SPECIES),
        mlflow.xgboost.save_model,
    ),
    "xgboost of two classes": (
        lambda: xgboost.XGBClassifier(n_estimators=4, max_depth=2).fit(FLOWERS, SPECIES == 1),
        mlflow.xgboost.save_model,
    ),
    "xgboost regressor": (
        lambda: xgboost.XGBRegressor(n_estimators=4, max_depth=2).fit(FLOWERS, SPECIES),
        mlflow.xgboost.save_model,
    ),
    "lightgbm": (
        lambda: lightgbm.LGBMClassifier(n_estimators=4, verbose=-1).fit(FLOWERS, NAMES),
        mlflow.lightgbm.save_model,
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_boosters_in_scikit_learns_manner_answer_as_themselves(name: str, tmp_path: Path) -> None:
    make, save = WRAPPED[name]
    model = make()
    save(model, tmp_path / "m", pip_requirements=["numpy"])
    loaded = opened(tmp_path / "m")
    assert [each.name for each in loaded.signature.inputs] == list(FLOWERS)
    rows = Rows({name: FLOWERS[name].to_numpy() for name in "abcd"})
    answer = loaded.runtime.run(rows, [each.name for each in loaded.signature.outputs])
    np.testing.assert_array_equal(answer.array("prediction"), model.predict(FLOWERS))
    if "probability" in answer:
        np.testing.assert_array_equal(answer.array("probability"), model.predict_proba(FLOWERS))


BARE: dict[str, tuple[Callable[[], Any], Callable[..., None], Callable[[Any], Any]]] = {
    "catboost": (
        lambda: catboost.CatBoostClassifier(iterations=4, verbose=0, allow_writing_files=False).fit(IRIS, NAMES),
        mlflow.catboost.save_model,
        lambda model: model.predict(IRIS).ravel(),
    ),
    "a booster of lightgbm": (
        lambda: lightgbm.train({"verbose": -1, "num_iterations": 4}, lightgbm.Dataset(IRIS, SPECIES.astype(float))),
        mlflow.lightgbm.save_model,
        lambda model: model.predict(IRIS),
    ),
    "a booster of xgboost": (
        lambda: xgboost.train({"max_depth": 2}, xgboost.DMatrix(IRIS, SPECIES), 4),
        mlflow.xgboost.save_model,
        lambda model: model.predict(xgboost.DMatrix(IRIS)),
    ),
}


@pytest.mark.parametrize("name", BARE)
def test_boosters_are_read_from_their_own_files(name: str, tmp_path: Path) -> None:
    make, save, ask = BARE[name]
    model = make()
    save(model, tmp_path / "m", pip_requirements=["numpy"])
    loaded = opened(tmp_path / "m")
    assert loaded.facts.get("estimator") != "PyFuncModel.predict"
    answer = loaded.runtime.run(Rows({loaded.signature.inputs[0].name: IRIS}), ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), ask(model))


def test_an_exported_program_of_pytorch_is_read_as_one(tmp_path: Path) -> None:
    model, rows = torch.nn.Linear(4, 1), IRIS.astype(np.float32)
    mlflow.pytorch.save_model(model, tmp_path / "m", pip_requirements=["numpy"], input_example=rows[:3])
    loaded = opened(tmp_path / "m")
    assert loaded.facts["kind"] == "exported program"
    answer = loaded.runtime.run(Rows({loaded.signature.inputs[0].name: rows}), ["prediction"]).array("prediction")
    np.testing.assert_array_equal(answer, model(torch.tensor(rows)).detach().numpy().ravel())


def test_an_onnx_folder_is_read_by_onnx_runtime(tmp_path: Path) -> None:
    model = CASES["logistic"].model
    folder = tmp_path / "m"
    folder.mkdir()
    made = to_onnx(model, IRIS[:1].astype(np.float64), options={"zipmap": False})
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    written = MlModel()
    written.add_flavor("onnx", data="model.onnx", onnx_version="1.19.0", providers=["CPUExecutionProvider"], code=None)
    written.add_flavor("python_function", loader_module="mlflow.onnx", data="model.onnx", env={}, python_version="3")
    written.save(folder / "MLmodel")
    loaded = opened(folder)
    answer = loaded.runtime.run(Rows({loaded.signature.inputs[0].name: IRIS}), ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), model.predict(IRIS))


# -- flavors that MLflow reads itself ----------------------------------------------------------------------------------


PYTHON_MODEL: Any = mlflow.pyfunc.PythonModel


class Spends(PYTHON_MODEL):  # type: ignore[misc]  # a class without types
    """A model of one's own, which looks at its frame's columns."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow warns of hints
        seasoned = model_input["age"].fillna(40.0) * 2 + model_input["visits"]
        return np.where(model_input["plan"] == "pro", seasoned, -seasoned)


def test_a_python_model_gets_its_columns_as_they_were_told(tmp_path: Path) -> None:
    frame = customers()[["age", "visits", "plan"]]
    own = spent(frame)
    loaded = opened(pyfunc_folder(Spends(), tmp_path / "m", signature=infer_signature(frame, own)))
    types = {each.name: (each.type, each.nullable) for each in loaded.signature.inputs}
    assert types == {"age": ("float64", True), "visits": ("int64", False), "plan": ("string", False)}
    assert [(each.name, each.type) for each in loaded.signature.outputs] == [("prediction", "float64")]
    rows, _, problems = loaded.signature.check(json.loads(frame.to_json(orient="records")))
    assert not problems
    for each in (rows, taken(loaded, frame)):
        np.testing.assert_array_equal(loaded.runtime.run(each, ["prediction"]).array("prediction"), own)


def spent(frame: pd.DataFrame) -> Any:
    """What it says of the frame itself, without MLflow."""
    predict: Any = Spends().predict
    return predict(None, frame)


class Kinds(PYTHON_MODEL):  # type: ignore[misc]  # a class without types
    """Tells the type that each column came in."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow warns of hints
        said = " ".join(str(each) for each in model_input.dtypes)
        return pd.DataFrame({"kinds": [said] * len(model_input), "filled": model_input.notna().sum(axis=1)})


def test_every_type_of_mlflows_signature_passes_its_own_checks(tmp_path: Path) -> None:
    kinds = [DataType.boolean, DataType.integer, DataType.long, DataType.float, DataType.double, DataType.string]
    columns: list[Any] = [ColSpec(kind, kind.name) for kind in (*kinds, DataType.datetime)]
    columns += [ColSpec(kind, f"{kind.name}_or_null", required=False) for kind in (*kinds, DataType.datetime)]
    folder = pyfunc_folder(Kinds(), tmp_path / "m", signature=ModelSignature(MlSchema(columns)))
    loaded = opened(folder)
    values = {
        "boolean": True,
        "integer": 3,
        "long": 2**40,
        "float": 0.5,
        "double": 0.1,
        "string": "a",
        "datetime": "2024-05-01",
    }
    whole = {**values, **{f"{name}_or_null": value for name, value in values.items()}}
    held = [name for name in values if name not in ("integer", "long")]  # MLflow itself takes no null in these
    holes = {**whole, **{f"{name}_or_null": None for name in held}}
    rows, _, problems = loaded.signature.check([whole, holes])
    assert not problems
    answer = loaded.runtime.run(rows, ["kinds", "filled"])
    assert answer.array("filled").tolist() == [14, 9]
    assert answer.array("kinds")[0].startswith("bool int32 int64 float32 float64")
    for name in ("long", "long_or_null", "double"):
        _, _, problems = loaded.signature.check([{**whole, name: None}])
        assert [(each.code, each.column) for each in problems] == [("null", name)]


class Sums(PYTHON_MODEL):  # type: ignore[misc]  # a class without types
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow warns of hints
        assert isinstance(model_input, np.ndarray)
        return model_input.sum(axis=1)


def test_a_tensor_comes_as_an_array(tmp_path: Path) -> None:
    signature = ModelSignature(MlSchema([TensorSpec(np.dtype("float32"), (-1, 4))]))
    loaded = opened(pyfunc_folder(Sums(), tmp_path / "m", signature=signature))
    assert loaded.signature.inputs[0].shape == (4,)
    values = IRIS.astype(np.float32)
    answer = loaded.runtime.run(Rows({"input": values}), ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), values.sum(axis=1))


def test_a_type_that_no_row_can_carry_is_told(tmp_path: Path) -> None:
    signature = ModelSignature(MlSchema([ColSpec(DataType.binary, "image")]))
    with pytest.raises(ModelError, match="'image' is of MLflow's type binary"):
        opened(pyfunc_folder(Kinds(), tmp_path / "m", signature=signature))


def test_without_a_signature_a_python_model_takes_a_sample(tmp_path: Path) -> None:
    frame = customers()[["age", "visits", "plan"]]
    folder = pyfunc_folder(Spends(), tmp_path / "m")
    loaded = opened(folder, sample=sample.fields(frame))
    answer = loaded.runtime.run(taken(loaded, frame), ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), spent(frame))


def test_code_that_was_saved_with_the_model_is_found(tmp_path: Path) -> None:
    (tmp_path / "pricing").mkdir()
    (tmp_path / "pricing" / "__init__.py").write_text("")
    (tmp_path / "pricing" / "rates.py").write_text("RATE = 3.0\n")
    (tmp_path / "priced.py").write_text(
        "import mlflow.pyfunc\n"
        "from pricing.rates import RATE\n"
        "class Priced(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input['x'] * RATE\n"
        "mlflow.models.set_model(Priced())\n"
    )
    script = (
        "import mlflow.pyfunc, mlflow.models, pandas as pd, sys\n"
        "signature = mlflow.models.infer_signature(pd.DataFrame({'x': [1.0]}), [3.0])\n"
        "mlflow.pyfunc.save_model('saved', python_model='priced.py', code_paths=['pricing'], signature=signature,"
        " pip_requirements=['numpy'])\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "pricing").rename(tmp_path / "elsewhere")
    kind = formats.recognise(str(tmp_path / "saved"))
    digest = formats.digest(str(tmp_path / "saved"), kind)
    with load(tmp_path / "saved", runtime="native") as loaded:
        assert loaded.predict([{"x": 2.0}]) == [{"prediction": 6.0}]
    assert formats.digest(str(tmp_path / "saved"), kind) == digest  # running it left nothing that counts


# -- what is told ------------------------------------------------------------------------------------------------------


def test_another_minor_version_of_a_library_is_told_with_the_command(tmp_path: Path) -> None:
    folder = sklearn_folder(
        CASES["logistic"].model,
        tmp_path / "m",
        pip_requirements=["scikit-learn==1.2.2", f"numpy=={np.__version__}", "no-such-package==1.0"],
    )
    first = opened(folder).warnings[0]
    assert first.startswith("saved with scikit-learn 1.2.2, here is scikit-learn ")
    assert first.endswith("pip install scikit-learn==1.2.2")


@pytest.mark.parametrize("place", ["../outside.pkl", "/etc/passwd", "../../x"])
def test_data_outside_the_folder_is_not_read(place: str, tmp_path: Path) -> None:
    folder = sklearn_folder(CASES["logistic"].model, tmp_path / "m")
    (folder / "model.pkl").rename(tmp_path / "outside.pkl")
    with pytest.raises(ModelError, match="outside the model's folder"):
        opened(changed(folder, "pickled_model: model.pkl", f"pickled_model: {place}"))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = sklearn_folder(CASES["logistic"].model, tmp_path / "m")
    (folder / "model.pkl").rename(tmp_path / "outside.pkl")
    (folder / "model.pkl").symlink_to(tmp_path / "outside.pkl")
    with pytest.raises(ModelError, match="outside the model's folder"):
        opened(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flavors",
        "flavors: 3",
        "flavors: {sklearn: 1}",
        "a: [",
        "flavors: !!python/object/apply:os.system [touch harmed]",
    ],
)
def test_an_mlmodel_file_that_is_none_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(ModelError, match="MLmodel"):
        opened(tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_a_signature_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    frame = IRIS_FRAME
    folder = sklearn_folder(CASES["frame_logistic"].model, tmp_path / "m", signature=infer_signature(frame))
    with pytest.raises(ModelError, match="its signature cannot be read"):
        opened(changed(folder, '"type": "double"', '"type" "double"'))


def test_a_flavor_that_nothing_reads_is_told(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {crate: {version: 1}}\n")
    with pytest.raises(ModelError, match="no flavor that Bimodal can load; it has crate"):
        opened(tmp_path)


def test_recognising_a_folder_imports_nothing(tmp_path: Path) -> None:
    sklearn_folder(CASES["logistic"].model, tmp_path / "m")
    script = (
        "import sys; from bimodal import formats; print(formats.recognise(sys.argv[1]).name); "
        "print([name for name in ('mlflow', 'yaml', 'sklearn', 'skops', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["mlflow", "[]"]


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with one registered model, and the run that made it; made in a process of its own."""
    folder = tmp_path_factory.mktemp("mlflow") / "store"
    script = (
        "import mlflow, mlflow.sklearn, sys\n"
        "from sklearn.linear_model import LinearRegression\n"
        "for slope in (1.0, 2.0):\n"
        "    with mlflow.start_run() as run:\n"
        "        model = LinearRegression().fit([[0.0], [1.0]], [0.0, slope])\n"
        "        mlflow.sklearn.log_model(model, name='model', registered_model_name='churn',"
        " pip_requirements=['scikit-learn'])\n"
        "client = mlflow.MlflowClient()\n"
        "client.set_registered_model_alias('churn', 'champion', 2)\n"
        "print(run.info.run_id)\n"
    )
    environment = {**registry._settings(), "MLFLOW_TRACKING_URI": folder.as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=folder.parent, check=True, capture_output=True, text=True, env=environment)
    return folder.as_uri(), done.stdout.split()[-1]


@pytest.fixture
def configured(store: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store[0])
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return store[1]


def test_an_alias_a_version_and_a_run_lead_to_their_models(configured: str, tmp_path: Path) -> None:
    answers = {}
    addresses = ("models:/churn@champion", "models:/churn/1", "models:/churn/2", f"runs:/{configured}/model")
    for place, uri in enumerate(addresses):
        loaded = opened(Path(registry.fetch(uri, tmp_path / str(place))))
        answers[uri] = loaded.runtime.run(Rows({"input": np.array([[3.0]])}), ["prediction"]).array("prediction")[0]
        if uri.startswith("models"):
            assert loaded.facts["registered"] == f"churn version {1 if uri.endswith('/1') else 2}"
    assert [round(answers[uri]) for uri in addresses] == [6, 3, 6, 6]
    kinds = formats.recognise(str(tmp_path / "0"))
    digests = [formats.digest(str(tmp_path / str(place)), kinds) for place in range(3)]
    assert digests[0] == digests[2] != digests[1]  # the alias is its version


def test_an_address_is_loaded_like_a_path(configured: str) -> None:
    with load("models:/churn@champion", runtime="native") as model:
        assert model.name == "churn"
        assert model.predict([[3.0]]) == [{"prediction": pytest.approx(6.0)}]


@pytest.mark.parametrize(
    "uri", ["models:/churn@challenger", "models:/churn/9", "models:/nothing/1", "runs:/0123456789abcdef/model"]
)
def test_an_address_that_leads_nowhere_is_told(uri: str, configured: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=f"{uri} is not in the store of MLflow"):
        registry.fetch(uri, tmp_path)


def test_without_a_store_the_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in registry.STORES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="export MLFLOW_TRACKING_URI="):
        registry.resolve("models:/churn@champion", tmp_path)


def test_a_store_that_does_not_answer_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ModelError, match=r"\(http://127\.0\.0\.1:9\) gave no answer") as raised:
        registry.fetch("models:/churn@champion", tmp_path)
    assert "secret" not in str(raised.value)


def test_a_store_in_a_database_names_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ModelError, match="pip install mlflow"):
        registry.fetch("models:/churn@champion", tmp_path)


@pytest.mark.parametrize(
    ("uri", "name"), [("models:/churn@champion", "churn"), ("models:/churn/3", "churn"), ("runs:/1a/best", "best")]
)
def test_an_address_names_its_model(uri: str, name: str) -> None:
    assert registry.is_uri(uri)
    assert registry.stem(uri) == name


def test_an_address_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="models:/NAME@ALIAS"):
        registry.resolve("models:/", tmp_path)
    assert not registry.is_uri("my_models:/x.pkl")


def test_without_mlflow_the_install_command_is_told(
    configured: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.py").write_text("raise ModuleNotFoundError(\"No module named 'mlflow'\", name='mlflow')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingLibrary, match=r'pip install "bimodal\[mlflow\]"'):
        registry.resolve("models:/churn@champion", tmp_path)


def test_a_model_made_here_needs_no_store(tmp_path: Path) -> None:
    tracking: Any = mlflow
    assert not tracking.is_tracking_uri_set()  # no test of this file leaves a store behind
    model = LinearRegression().fit(IRIS, SPECIES)
    assert opened(sklearn_folder(model, tmp_path / "m")).signature.width == 4
