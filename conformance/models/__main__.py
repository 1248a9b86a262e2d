"""Write the known models into a folder: python -m conformance.models FOLDER [--flat] [--python]

ONNX, one folder a model (NAME/1/model.onnx), as Triton and others read a repository; --flat: NAME.onnx side by side.
`slow` and `words` cannot be ONNX: --python adds them as NAME/1/model.py, a class with predict(). For servers that take
neither, serve what conformance/models/twins.py answers, or leave them out.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, checker, helper

from conformance.models.twins import TWINS, Twin

ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    **{f"{kind}{bits}": getattr(TensorProto, f"{kind}{bits}") for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
PYTHON = ("slow", "words")
GRAPHS = tuple(name for name in TWINS if name not in PYTHON)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--flat", action="store_true", help="NAME.onnx side by side")
    options.add_argument("--python", action="store_true", help="slow and words as Python classes")
    chosen = options.parse_args()
    for place in write(chosen.folder, flat=chosen.flat, python=chosen.python):
        print(place)


def write(folder: Path, *, flat: bool = False, python: bool = False) -> list[Path]:
    """The files of the known models, written."""
    written = []
    for name in GRAPHS:
        place = folder / f"{name}.onnx" if flat else folder / name / "1" / "model.onnx"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(graph(TWINS[name]).SerializeToString())
        written.append(place)
    for name in PYTHON if python else ():
        place = folder / name / "1" / "model.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).with_name(f"{name}.py"), place)
        written.append(place)
    return written


def graph(twin: Twin) -> ModelProto:
    """A known model in ONNX."""
    if twin.name == "pair":
        nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    else:
        nodes = [helper.make_node("Identity", ["x"], ["y"])]
    inside = helper.make_graph(nodes, twin.name, _infos(twin.inputs), _infos(twin.outputs))
    made = helper.make_model(inside, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(made)
    return made


def _infos(ports: Any) -> list[Any]:
    return [helper.make_tensor_value_info(each.name, ELEMENTS[each.datatype], ["rows", *each.shape]) for each in ports]


if __name__ == "__main__":
    main()
