"""PyTorch models: the module's own answers, from exported programs and from TorchScript."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from torch import nn
from torch.export import Dim

import bimodal
from bimodal import formats
from bimodal.errors import InputError, ModelError, ModelFailed
from bimodal.field import Field
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.device import device
from bimodal.formats.torch import Torch
from bimodal.model import Model
from bimodal.rows import Rows
from tests.models import DIABETES, IRIS, PROGRESS, SPECIES

ROWS = Dim("rows")
FLOWERS = IRIS.astype(np.float32)
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),  # the tests save TorchScript
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(width: int, classes: int, data: Any, target: Any) -> nn.Module:
    """A small network, a hundred steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, classes))
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    loss: nn.Module = nn.CrossEntropyLoss() if classes > 1 else nn.MSELoss()
    for _ in range(100):
        optimizer.zero_grad()
        loss(net(data) if classes > 1 else net(data)[:, 0], target).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained(4, 3, torch.from_numpy(FLOWERS), torch.from_numpy(SPECIES))


def exported(
    module: nn.Module, example: tuple[Any, ...], folder: Path, shapes: Any = "rows", named: Any = None
) -> Path:
    path = folder / "model.pt2"
    dynamic = tuple({0: ROWS} for _ in example) if shapes == "rows" else shapes
    torch.export.save(torch.export.export(module, example, named, dynamic_shapes=dynamic), path)
    return path


def load(path: Path, **told: Any) -> Loaded:
    kind = formats.recognise(str(path))
    assert isinstance(kind, Torch)
    return kind.load(Source(str(path), **told))


def answer(loaded: Loaded, *arrays: Any) -> dict[str, Any]:
    names = [each.name for each in loaded.signature.inputs]
    outputs = [each.name for each in loaded.signature.outputs]
    given = loaded.runtime.run(Rows(dict(zip(names, arrays, strict=True))), outputs)
    return {name: given.array(name) for name in outputs}


def own(module: nn.Module, *arrays: Any) -> Any:
    with torch.inference_mode():
        return module(*[torch.from_numpy(np.array(each)) for each in arrays])


# -- exported programs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The network in a child process, as everybody gets it."""
    path = exported(net, (torch.zeros(2, 4),), tmp_path_factory.mktemp("served"))
    with bimodal.load(path) as model:
        yield model


def test_an_exported_program_says_what_it_takes(served: Model) -> None:
    (field,) = served.signature.inputs
    assert (field.name, field.type, field.shape, field.nullable) == ("input", "float32", (4,), False)
    assert [(each.name, each.type, each.shape) for each in served.signature.outputs] == [
        ("prediction", "float32", (3,))
    ]
    assert served.format == "torch"
    assert served.facts["kind"] == "exported program"
    assert served.versions["torch"] == torch.__version__
    assert served.warnings == ()


def test_its_answers_are_the_modules(served: Model, net: nn.Module) -> None:
    np.testing.assert_array_equal(served.predict(FLOWERS), own(net, FLOWERS).numpy())


def test_a_row_in_json_is_a_list_and_a_short_one_is_told(served: Model, net: nn.Module) -> None:
    (given,) = served.predict([FLOWERS[0].tolist()])
    np.testing.assert_array_equal(given["prediction"], own(net, FLOWERS[:1]).numpy()[0])
    with pytest.raises(InputError, match="4 features are needed, 3 were given"):
        served.predict([[1.0, 2.0, 3.0]])
    with pytest.raises(InputError, match="null where a number is needed"):
        served.predict([[1.0, None, 2.0, 3.0]])


def test_a_vector_comes_as_a_list_column_or_as_columns_in_batch(served: Model, net: nn.Module, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    pyarrow.parquet.write_table(pa.table({"flower": FLOWERS.tolist()}), whole)
    pyarrow.parquet.write_table(pa.table({f"c{i}": FLOWERS[:, i] for i in range(4)}), parts)
    for source in (whole, parts):
        target = tmp_path / f"{source.stem}_out.parquet"
        bimodal.predict_file(served, source, target)
        columns = pyarrow.parquet.read_table(target)
        given = np.column_stack([columns.column(f"prediction_{i}") for i in range(3)])
        np.testing.assert_array_equal(given, own(net, FLOWERS).numpy())


def test_features_name_the_columns(net: nn.Module, tmp_path: Path) -> None:
    loaded = load(exported(net, (torch.zeros(2, 4),), tmp_path), features=tuple("abcd"))
    assert [(each.name, each.type) for each in loaded.signature.inputs] == [(name, "float32") for name in "abcd"]
    given = answer(loaded, *FLOWERS.T)["prediction"]
    np.testing.assert_array_equal(given, own(net, FLOWERS).numpy())


def test_one_number_a_row_is_a_plain_prediction(tmp_path: Path) -> None:
    data, target = torch.from_numpy(DIABETES.astype(np.float32)), torch.from_numpy(PROGRESS.astype(np.float32) / 100)
    module = trained(10, 1, data, target)
    loaded = load(exported(module, (data[:2],), tmp_path))
    assert loaded.signature.outputs[0].shape == ()
    np.testing.assert_array_equal(answer(loaded, data.numpy())["prediction"], own(module, data.numpy())[:, 0].numpy())


class Mixed(nn.Module):
    """Several inputs of several types and shapes, as a dict and by name; several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.cities = nn.Embedding(5, 2)
        self.last = nn.Linear(6, 2)

    def forward(self, features: dict[str, Any], image: Any, *, flag: Any, power: int = 2) -> dict[str, Any]:
        pixels = image.mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0].float()
        parts = [self.cities(features["city"]), features["size"].float(), pixels**power, flag.float()[:, None]]
        scores = self.last(torch.cat([*parts, pixels], 1))
        return {"scores": scores, "label": scores.argmax(1), "sure": scores.amax(1) > 0}


def mixed_rows(count: int) -> tuple[Any, Any, Any, Any]:
    random = np.random.default_rng(1)
    city, size = random.integers(0, 5, count), random.normal(size=(count, 1))
    return city, size, random.normal(size=(count, 4, 4, 3)).astype(np.float32), random.random(count) < 0.5


def test_inputs_keep_names_types_and_shapes_and_outputs_their_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Mixed().eval()
    city, size, image, flag = map(torch.from_numpy, mixed_rows(3))
    free = {0: ROWS}
    shapes = {"features": {"city": free, "size": free}, "image": free, "flag": free, "power": None}
    example = ({"city": city, "size": size}, image)
    loaded = load(exported(module, example, tmp_path, shapes, {"flag": flag, "power": 3}))
    assert loaded.signature.named
    assert [(each.name, each.type, each.shape) for each in loaded.signature.inputs] == [
        ("features_city", "int64", ()),
        ("features_size", "float64", ()),
        ("image", "float32", (4, 4, 3)),
        ("flag", "bool", ()),
    ]
    assert [(each.name, each.type, each.shape) for each in loaded.signature.outputs] == [
        ("scores", "float32", (2,)),
        ("label", "int64", ()),
        ("sure", "bool", ()),
    ]
    city, size, image, flag = mixed_rows(7)
    given = answer(loaded, city, size[:, 0], image, flag)
    features = {"city": torch.from_numpy(city), "size": torch.from_numpy(size)}
    with torch.inference_mode():
        right = module(features, torch.from_numpy(image), flag=torch.from_numpy(flag), power=3)
    for name, values in right.items():
        np.testing.assert_array_equal(given[name], values.numpy())
    row = {"features_city": 1, "features_size": 0.5, "image": image[0].tolist(), "flag": True}
    rows, _, problems = loaded.signature.check([row])
    assert problems == []
    assert rows.array("image").shape == (1, 4, 4, 3)


@pytest.mark.parametrize(("shapes", "size"), [(None, 3), (({0: Dim("some", min=2, max=5)},), 5)])
def test_a_limited_batch_is_filled_up_and_cut(shapes: Any, size: int, net: nn.Module, tmp_path: Path) -> None:
    loaded = load(exported(net, (torch.zeros(3, 4),), tmp_path, shapes))
    for count in (1, 2, 3, size + 1, 3 * size + 2):
        given = answer(loaded, FLOWERS[:count])["prediction"]
        np.testing.assert_allclose(given, own(net, FLOWERS[:count]).numpy(), rtol=1e-5, atol=1e-6)


class Squeezed(nn.Module):
    """Drops the batch dimension of a lone row, as many models do by mistake."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.sum(1, keepdim=True) * torch.ones(2)).squeeze()


def test_a_model_that_loses_the_dimension_of_a_lone_row_gets_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "model.ts"
    torch.jit.save(torch.jit.script(Squeezed()), path)
    loaded = load(path, features=("a", "b"))
    whole = answer(loaded, FLOWERS[:5, 0], FLOWERS[:5, 1])["prediction"]
    alone = answer(loaded, FLOWERS[:1, 0], FLOWERS[:1, 1])["prediction"]
    assert alone.shape == (1, 2)
    np.testing.assert_array_equal(alone[0], whole[0])


class Missing(nn.Module):
    def forward(self, x: Any) -> tuple[Any, Any]:
        return torch.nan_to_num(x, nan=-1.0).sum(1), x.sum()


def test_missing_numbers_are_taken_where_the_answer_stays_a_number(tmp_path: Path) -> None:
    loaded = load(exported(Missing(), (torch.zeros(2, 3),), tmp_path))
    assert loaded.signature.inputs[0].nullable
    assert [each.name for each in loaded.signature.outputs] == ["output_0"]
    assert loaded.warnings == ("outputs without one answer for each row are left out: output_1",)
    row = np.array([[1, np.nan, 2]], np.float32)
    assert answer(loaded, row)["output_0"].tolist() == [2.0]


class Total(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.sum()


def test_a_model_without_an_answer_for_each_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no output with one answer for each row"):
        load(exported(Total(), (torch.zeros(2, 3),), tmp_path))


def test_a_program_that_was_exported_while_training_is_told(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    (told,) = load(exported(module, (torch.zeros(2, 4),), tmp_path)).warnings
    assert "differently each time" in told


class Writing(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mul_(2).sum(1)


def test_a_model_that_writes_into_its_input_leaves_the_rows_alone(tmp_path: Path) -> None:
    loaded = load(exported(Writing(), (torch.ones(2, 3),), tmp_path))
    rows = np.ones((2, 3), np.float32)
    rows.flags.writeable = False
    assert answer(loaded, rows)["prediction"].tolist() == [6.0, 6.0]
    assert rows.max() == 1


class Half(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.to(torch.bfloat16) * 3


def test_half_precision_comes_back_as_float32(tmp_path: Path) -> None:
    loaded = load(exported(Half(), (torch.ones(2, 3),), tmp_path))
    assert loaded.signature.outputs[0].type == "float32"
    values = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(answer(loaded, values)["prediction"], own(Half(), values).float().numpy())


class Scaled(nn.Module):
    def forward(self, x: Any, scale: Any) -> Any:
        return x * scale


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ((torch.ones(2, 3), torch.ones(())), "'scale' without a batch dimension"),
        ((torch.ones(2, 3), torch.ones(2, 3, dtype=torch.complex64)), "'scale' as complex64"),
        ((torch.ones(2, 3), torch.ones(1, 3)), "several fixed batch sizes"),
    ],
)
def test_what_rows_cannot_give_is_refused(example: tuple[Any, ...], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        load(exported(Scaled(), example, tmp_path, None))


class Picky(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 2)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.table(codes).sum(1)
        return pooled


def test_rows_that_the_model_refuses_are_a_failure_without_their_data(tmp_path: Path) -> None:
    loaded = load(exported(Picky(), (torch.zeros((2, 3), dtype=torch.int64),), tmp_path))
    assert loaded.signature.inputs[0].type == "int64"
    with pytest.raises(ModelFailed, match="the model raised IndexError on these rows"):
        answer(loaded, np.full((1, 3), 987))


# -- TorchScript -----------------------------------------------------------------------------------------------------


def scripted(module: nn.Module, folder: Path, note: str | None = None) -> Path:
    path = folder / "model.pt"
    torch.jit.save(torch.jit.script(module), path, _extra_files={"inputs": note} if note else {})
    return path


def test_a_script_with_a_note_says_what_it_takes(net: nn.Module, tmp_path: Path) -> None:
    path = scripted(net.train(), tmp_path, '{"flower": {"type": "float32", "shape": [4]}}')
    net.eval()
    loaded = load(path)
    assert loaded.facts == {"kind": "TorchScript", "device": device()}
    assert [(each.type, each.shape) for each in loaded.signature.inputs] == [("float32", (4,))]
    np.testing.assert_array_equal(answer(loaded, FLOWERS)["prediction"], own(net, FLOWERS).numpy())


def test_a_script_learns_from_a_sample(net: nn.Module, tmp_path: Path) -> None:
    sample = tuple(Field(name, "float64") for name in "abcd")
    loaded = load(scripted(net, tmp_path), sample=sample)
    assert [(each.name, each.type) for each in loaded.signature.inputs] == [(name, "float32") for name in "abcd"]
    np.testing.assert_array_equal(answer(loaded, *FLOWERS.T)["prediction"], own(net, FLOWERS).numpy())


def test_an_embedding_learns_from_a_sample_of_integers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Picky()
    loaded = load(scripted(module, tmp_path), sample=(Field("a", "int64"), Field("b", "int64")))
    assert [each.type for each in loaded.signature.inputs] == ["int64", "int64"]
    codes = np.array([[0, 4], [2, 2]])
    np.testing.assert_array_equal(answer(loaded, *codes.T)["prediction"], own(module, codes).numpy())


class Pair(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


class Bounds(nn.Module):
    def forward(self, middle: torch.Tensor, spread: torch.Tensor) -> Pair:
        return Pair(middle - spread, middle + spread)


def test_several_inputs_go_by_the_names_of_the_sample(tmp_path: Path) -> None:
    path = scripted(Bounds(), tmp_path)
    with pytest.raises(ModelError, match="takes 'middle', 'spread' and does not say what they look like"):
        load(path)
    loaded = load(path, sample=(Field("spread", "int64"), Field("middle", "float64")))
    assert [(each.name, each.type) for each in loaded.signature.inputs] == [("middle", "float32"), ("spread", "int64")]
    given = answer(loaded, np.array([1.5, 2.5], np.float32), np.array([1, 2]))
    assert {name: values.tolist() for name, values in given.items()} == {"low": [0.5, 0.5], "high": [2.5, 4.5]}


def test_a_script_that_nothing_is_known_of_is_open(net: nn.Module, tmp_path: Path) -> None:
    loaded = load(scripted(net, tmp_path))
    assert loaded.signature.open
    assert "--sample" in loaded.warnings[0]
    np.testing.assert_array_equal(answer(loaded, FLOWERS)["prediction"], own(net, FLOWERS).numpy())


@pytest.mark.parametrize("note", ["[]", '{"x": {"type": "text"}}', "{", '{"a": {}, "b": {}}'])
def test_a_wrong_note_is_told(note: str, net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its note `inputs`"):
        load(scripted(net, tmp_path, note))


# -- what is refused -------------------------------------------------------------------------------------------------


def legacy(thing: Any, path: Path) -> None:
    torch.save(thing, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.pkl"])
def test_a_pickled_module_is_refused_with_the_lines_that_export_it(name: str, net: nn.Module, tmp_path: Path) -> None:
    torch.save(net, tmp_path / name)
    with pytest.raises(ModelError, match=r"(?s)pickled module \(torch\.nn\.modules.*torch\.export\.save\(") as caught:
        load(tmp_path / name)
    lines = [line for line in caught.value.message.splitlines() if line.startswith(("rows", "torch"))]
    scope = {"torch": torch, "model": net, "example": torch.zeros(2, 4)}
    exec("\n".join(lines).replace('"model.pt2"', repr(str(tmp_path / "again.pt2"))), scope)
    given = answer(load(tmp_path / "again.pt2"), FLOWERS)["prediction"]
    np.testing.assert_array_equal(given, own(net, FLOWERS).numpy())


@pytest.mark.parametrize("save", [torch.save, legacy])
def test_a_state_dict_is_refused(save: Callable[[Any, Path], None], net: nn.Module, tmp_path: Path) -> None:
    save(net.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=r"(?s)(weights alone|is a pickle).*torch\.export\.save"):
        load(tmp_path / "weights.pt")


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04junk", b"\0" * 100])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(content)
    with pytest.raises(ModelError, match="damaged, or no model of PyTorch"):
        load(tmp_path / "model.pt2")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, net: nn.Module, tmp_path: Path) -> None:
    path = exported(net, (torch.zeros(2, 4),), tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ModelError, match="damaged"):
        load(path)


@pytest.mark.parametrize("save", [lambda net, folder: exported(net, (torch.zeros(2, 4),), folder), scripted])
def test_a_flipped_bit_of_a_weight_is_found(save: Any, net: nn.Module, tmp_path: Path) -> None:
    path = save(net, tmp_path)
    data = bytearray(path.read_bytes())
    weights = next(value.numpy().tobytes() for name, value in net.state_dict().items() if name == "0.weight")
    data[data.index(weights) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        load(path)


def test_machine_code_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.writestr("model/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises(ModelError, match="machine code for one kind of machine"):
        load(tmp_path / "model.pt2")


def test_cuda_is_asked_for_only_where_it_is() -> None:
    assert device("cpu") == "cpu"
    if torch.cuda.is_available():
        assert device() == device("cuda") == "cuda"
    else:
        assert device() == "cpu"
        with pytest.raises(ModelError, match="finds no CUDA device"):
            device("cuda")


class Harm:
    """A pickle of it touches a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("where", ["sample", "weight", "constant"])
def test_a_pickle_within_a_program_is_not_read(where: str, tmp_path: Path) -> None:
    file, mark = tmp_path / "net.pt2", tmp_path / "harmed"
    torch.export.save(torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.zeros(2, 4),)), file)
    pickled = io.BytesIO()
    torch.save(Harm(mark), pickled)
    changed = tmp_path / "changed.pt2"
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(changed, "w") as after:
        for each in before.namelist():
            data = before.read(each)
            if where == "sample" and "sample_inputs" in each and each.endswith(".pt"):
                data = pickled.getvalue()
            if where == "weight" and each.endswith("_weights_config.json"):
                data = data.replace(b'"use_pickle": false', b'"use_pickle": true').replace(
                    b'"use_pickle":false', b'"use_pickle":true'
                )
            if where == "weight" and "data/weights/weight_" in each:
                data = pickled.getvalue()
            after.writestr(each, data)
        if where == "constant":
            after.writestr("net/data/constants/opaque_obj_0", pickle.dumps(Harm(mark)))
    with suppress(ModelError):  # refused, or read without what was put there
        Torch().load(Source(str(changed)))
    assert not mark.exists()
    if where == "constant":
        with pytest.raises(ModelError, match="run code when they are read"):
            Torch().load(Source(str(changed)))
