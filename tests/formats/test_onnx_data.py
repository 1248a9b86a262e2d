"""ONNX models whose weights lie in files of their own: beside the model, by plain names, or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bimodal
from bimodal import formats
from bimodal.errors import ModelError
from bimodal.formats.contract import Source
from bimodal.formats.onnx import Onnx, providers
from bimodal.formats.protobuf import outside
from bimodal.rows import Rows

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)
ROWS = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)


def kept_in(location: str) -> TensorProto:
    """The weights, as a tensor that lies elsewhere."""
    tensor = numpy_helper.from_array(WEIGHTS, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=str(WEIGHTS.nbytes))
    return tensor


def value(name: str, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def saved(folder: Path, location: str = "weights.bin", *, data: bool = True) -> Path:
    """x @ w, its weights in `location`."""
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [value("x", "n", 4)], [value("y", "n", 3)]
    )
    made.initializer.append(kept_in(location))
    path = folder / "model.onnx"
    path.write_bytes(_model(made))
    if data:
        (folder / "weights.bin").write_bytes(WEIGHTS.tobytes())
    return path


def _model(made: Any) -> bytes:
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized


def test_weights_beside_the_model_are_read_and_count_as_its_files(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert Onnx().files(path) == (path, tmp_path / "weights.bin")
    with bimodal.load(path) as model:
        np.testing.assert_allclose(model.predict(ROWS), ROWS @ WEIGHTS, rtol=1e-6)
        before = model.digest
    (tmp_path / "weights.bin").write_bytes((WEIGHTS + 1).tobytes())
    assert formats.digest(str(path), Onnx()) != before


def test_a_model_in_one_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", "n", 4)], [value("y", "n", 4)])
    path = tmp_path / "model.onnx"
    path.write_bytes(_model(made))
    assert Onnx().files(path) == (path,)
    assert formats.digest(str(path), Onnx()) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights in weights\.bin, which is not beside it"):
        bimodal.load(saved(tmp_path, data=False))


@pytest.mark.parametrize(
    "location", ["/etc/hostname", "../weights.bin", "sub/weights.bin", "..", ".", "", "C:weights.bin", "sub\\weights"]
)
def test_weights_elsewhere_are_refused_before_anything_reads_them(location: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path.parent / "weights.bin").write_bytes(WEIGHTS.tobytes())
    path = saved(tmp_path, location)
    with pytest.raises(ModelError, match="outside its own folder"):
        Onnx().load(Source(str(path)))
    with pytest.raises(ModelError, match="outside its own folder"):
        Onnx().files(path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = saved(inner, data=False)
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    (inner / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="no plain file of its folder"):
        Onnx().load(Source(str(path)))


def test_a_tensor_is_found_wherever_a_model_may_keep_one(tmp_path: Path) -> None:
    branch = helper.make_graph([], "then", [], [value("w", 4, 3)])
    branch.initializer.append(kept_in("branch.bin"))
    sparse = onnx.SparseTensorProto(values=kept_in("values.bin"), indices=kept_in("indices.bin"), dims=[4, 3])
    nodes = [
        helper.make_node("If", ["c"], ["a"], then_branch=branch, else_branch=branch),
        helper.make_node("Constant", [], ["b"], value=kept_in("constant.bin")),
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
    ]
    function = helper.make_function(
        "own", "f", [], ["b"], [helper.make_node("Constant", [], ["b"], value=kept_in("function.bin"))],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    made = helper.make_graph(nodes, "g", [value("x", "n", 4)], [value("a", 4, 3)])
    made.sparse_initializer.append(sparse)
    model = helper.make_model(made, functions=[function])
    training = model.training_info.add()
    training.algorithm.initializer.append(kept_in("training.bin"))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    names = ("branch", "constant", "function", "indices", "training", "values")
    assert outside(path) == tuple(f"{name}.bin" for name in names)


def test_graphs_nested_a_thousand_deep_are_followed(tmp_path: Path) -> None:
    tensor = kept_in("deep.bin").SerializeToString()
    graph = b"\x2a" + _size(tensor) + tensor  # GraphProto.initializer
    for _ in range(3000):
        attribute = b"\x32" + _size(graph) + graph  # AttributeProto.g
        node = b"\x2a" + _size(attribute) + attribute  # NodeProto.attribute
        graph = b"\x0a" + _size(node) + node  # GraphProto.node
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x3a" + _size(graph) + graph)
    assert outside(path) == ("deep.bin",)


def _size(data: bytes) -> bytes:
    """The length as a varint."""
    size, given = len(data), bytearray()
    while size > 0x7F:
        given.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*given, size])


def test_a_field_number_that_others_would_cut_down_is_refused(tmp_path: Path) -> None:
    """The number of TensorProto.external_data plus 2**29: readers that keep 32 bits take it for external_data."""
    entry = b"\x0a\x08location\x12\x0b/etc/passwd"
    tensor = b"\xea\x80\x80\x80\x10" + _size(entry) + entry
    graph = b"\x2a" + _size(tensor) + tensor
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x3a" + _size(graph) + graph)
    with pytest.raises(ModelError, match="no ONNX model"):
        Onnx().files(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_model_that_ends_early_is_refused(share: float, tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match="no ONNX model"):
        Onnx().load(Source(str(path)))


def test_a_fixed_batch_and_several_calls_agree(tmp_path: Path) -> None:
    path = saved(tmp_path)
    loaded = Onnx().load(Source(str(path)))
    whole = loaded.runtime.run(Rows({"x": ROWS}), ["prediction"]).array("prediction")
    model = onnx.load(path, load_external_data=False)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    path.write_bytes(model.SerializeToString())
    fixed = Onnx().load(Source(str(path)))
    again = fixed.runtime.run(Rows({"x": ROWS}), ["prediction"]).array("prediction")
    np.testing.assert_allclose(again, whole, rtol=1e-6)


class Installed:
    """An ONNX Runtime with these execution providers."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def get_available_providers(self) -> list[str]:
        return self.names


def test_cuda_executes_where_it_is_there_and_wanted() -> None:
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    assert providers(Installed(cpu)) == [cpu]
    assert providers(Installed(cuda, cpu)) == [cuda, cpu]
    assert providers(Installed(cuda, cpu), "cpu") == [cpu]
