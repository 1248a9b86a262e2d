"""Keras models on the PyTorch backend: the model's own answers."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bimodal
from bimodal import formats
from bimodal.errors import InputError, MissingCode, ModelError
from bimodal.field import Field
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.keras import Keras
from bimodal.model import Model
from bimodal.rows import Rows
from tests.models import IRIS, SPECIES

os.environ.setdefault("KERAS_BACKEND", "torch")
FLOWERS = IRIS.astype(np.float32)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of those who train


@pytest.fixture(scope="module")
def keras() -> Any:
    """Imported once, and only where a test of this file runs: it takes seconds."""
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def flower(keras: Any) -> Any:
    """A small classifier, really trained."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,), name="flower"), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    model.fit(FLOWERS, SPECIES, epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def served(flower: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The classifier in a child process, as everybody gets it."""
    path = tmp_path_factory.mktemp("served") / "flower.keras"
    flower.save(path)
    with bimodal.load(path) as model:
        yield model


def own(model: Any, given: Any) -> Any:
    return model(given, training=False)


def array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()


def load(model: Any, folder: Path, name: str = "model.keras", **told: Any) -> Loaded:
    path = folder / name
    model.save(path)
    kind = formats.recognise(str(path))
    assert isinstance(kind, Keras)
    return kind.load(Source(str(path), **told))


def test_a_model_says_what_it_takes_and_gives(served: Model) -> None:
    (field,) = served.signature.inputs
    assert (field.name, field.type, field.shape, field.nullable) == ("flower", "float32", (4,), False)
    assert [(each.name, each.shape) for each in served.signature.outputs] == [("prediction", (3,))]
    assert served.facts == {"kind": "Sequential", "backend": "torch"}
    assert set(served.versions) == {"python", "numpy", "keras", "torch"}


def test_its_answers_are_the_models(served: Model, flower: Any) -> None:
    given = served.predict(FLOWERS)
    np.testing.assert_array_equal(given, array(own(flower, FLOWERS)))
    np.testing.assert_allclose(given, flower.predict(FLOWERS, verbose=0), rtol=1e-5)
    with pytest.raises(InputError, match="4 features are needed, 2 were given"):
        served.predict([[1.0, 2.0]])


@pytest.fixture(scope="module")
def several(keras: Any) -> Any:
    """Three inputs of several types, in a dict; two outputs."""
    keras.utils.set_random_seed(1)
    sizes, age = keras.Input((3,), name="sizes"), keras.Input((1,), name="age")
    code, image = keras.Input((), name="code", dtype="int32"), keras.Input((4, 4, 2), name="image")
    parts = [sizes, age, keras.layers.Embedding(5, 2)(code), keras.layers.GlobalAveragePooling2D()(image)]
    whole = keras.layers.Dropout(0.5)(keras.layers.Concatenate()(parts))
    outputs = {"risk": keras.layers.Dense(1, "sigmoid")(whole), "kind": keras.layers.Dense(3)(whole)}
    return keras.Model({"sizes": sizes, "age": age, "code": code, "image": image}, outputs)


def test_inputs_and_outputs_keep_names_types_and_shapes(several: Any, tmp_path: Path) -> None:
    loaded = load(several, tmp_path)
    assert {each.name: (each.type, each.shape) for each in loaded.signature.inputs} == {
        "sizes": ("float32", (3,)),
        "age": ("float32", ()),
        "code": ("int32", ()),
        "image": ("float32", (4, 4, 2)),
    }
    assert {each.name: each.shape for each in loaded.signature.outputs} == {"kind": (3,), "risk": ()}
    random = np.random.default_rng(0)
    rows = {
        "sizes": random.normal(size=(6, 3)).astype(np.float32),
        "age": random.normal(size=6).astype(np.float32),
        "code": random.integers(0, 5, 6).astype(np.int32),
        "image": random.normal(size=(6, 4, 4, 2)).astype(np.float32),
    }
    answer = loaded.runtime.run(Rows(rows), ["risk", "kind"])
    right = own(several, {**rows, "age": rows["age"][:, None]})
    np.testing.assert_array_equal(answer.array("risk"), array(right["risk"])[:, 0])
    np.testing.assert_array_equal(answer.array("kind"), array(right["kind"]))


def test_a_list_of_inputs_and_outputs_goes_by_the_layers_names(keras: Any, tmp_path: Path) -> None:
    first, second = keras.Input((2,), name="first"), keras.Input((3,), name="second")
    dense = keras.layers.Dense
    model = keras.Model([second, first], [dense(2, name="one")(first), dense(2, name="two")(second)])
    loaded = load(model, tmp_path)
    assert [each.name for each in loaded.signature.inputs] == ["second", "first"]
    rows = {"first": FLOWERS[:5, :2], "second": FLOWERS[:5, :3]}
    answer = loaded.runtime.run(Rows(rows), ["one", "two"])
    for name, right in zip(("one", "two"), own(model, [rows["second"], rows["first"]]), strict=True):
        np.testing.assert_array_equal(answer.array(name), array(right))


def test_a_fixed_batch_is_filled_up(keras: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input(batch_shape=(4, 2)), keras.layers.Dense(1)])
    answer = load(model, tmp_path).runtime.run(Rows({"input_layer": FLOWERS[:7, :2]}), ["prediction"])
    right = np.concatenate([array(own(model, FLOWERS[:4, :2])), array(own(model, FLOWERS[[4, 5, 6, 6], :2]))])
    np.testing.assert_array_equal(answer.array("prediction"), right[:7, 0])


def test_the_older_form_is_read_too(flower: Any, tmp_path: Path) -> None:
    loaded = load(flower, tmp_path, "model.h5")
    answer = loaded.runtime.run(Rows({"flower": FLOWERS}), ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), array(own(flower, FLOWERS)))


def test_weights_alone_are_refused(flower: Any, tmp_path: Path) -> None:
    path = tmp_path / "flower.weights.h5"
    flower.save_weights(path)
    with pytest.raises(ModelError, match="weights alone"):
        Keras().load(Source(str(path)))


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_lambda_layer_is_refused_and_never_run(name: str, keras: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)])
    with pytest.raises(ModelError, match="Lambda layer, whose Python code would run"):
        load(model, tmp_path, name)


OWN = textwrap.dedent("""
    import keras

    class Doubled(keras.layers.Layer):
        def call(self, x):
            return x * 2

    class Model(keras.Model):
        def __init__(self, **told):
            super().__init__(**told)
            self.doubled = Doubled()

        def call(self, x):
            return self.doubled(x)
""")


def test_layers_of_ones_own_come_out_of_the_users_code(keras: Any, tmp_path: Path) -> None:
    (tmp_path / "own_layers.py").write_text(OWN)
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(OWN, scope)
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((2,)), scope["Doubled"]()]).save(path)
    with pytest.raises(MissingCode, match=r"needs Doubled.*--code .*own_layers\.py"):
        Keras().load(Source(str(path)))
    subclassed = scope["Model"]()
    subclassed(FLOWERS[:1, :2])
    subclassed.save(path)
    with bimodal.load(path, code=tmp_path / "own_layers.py", features=("a", "b")) as model:
        assert model.predict([{"a": 1.5, "b": 2.0}]) == [{"prediction": [3.0, 4.0]}]


@pytest.mark.parametrize("share", [0.2, 0.7, 0.99])
def test_a_truncated_file_is_refused(share: float, flower: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    flower.save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    kind = formats.recognise(str(path))
    with pytest.raises(ModelError, match="damaged, or no Keras model"):
        kind.load(Source(str(path)))


def test_a_sample_names_no_column_of_a_model_that_knows_its_inputs(flower: Any, tmp_path: Path) -> None:
    loaded = load(flower, tmp_path, sample=(Field("x", "float64"),))
    assert [each.shape for each in loaded.signature.inputs] == [(4,)]
