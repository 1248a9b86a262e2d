"""What models of tensors (ONNX, PyTorch, Keras) have in common: a signature from their ports and a made-up row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from bimodal.errors import ModelError, ModelFailed
from bimodal.field import INTEGERS, Field, listed
from bimodal.formats.contract import Loaded, Source
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.portions import Portions
from bimodal.runtimes.ports import Port
from bimodal.runtimes.tensors import Tensors
from bimodal.signature import Signature

OPEN = (
    "it does not say how many features it takes: rows of numbers of any one width are taken; "
    "--sample FILE or --features a,b,c tells it"
)
log = logging.getLogger("bimodal.model")


def port(name: str, kind: str, shape: Sequence[int]) -> Port:
    """An input of this type and shape, the batch first; -1 where any size is taken. `[n, 1]` is a plain column."""
    column = tuple(shape[1:]) == (1,)
    batch = shape[0] if shape[0] > 0 else None
    return Port(name, Field(name, kind, () if column else tuple(shape[1:])), column, batch)


def as_vector(ports: Sequence[Port]) -> list[Port]:
    """One column of numbers that is all the model takes is a vector of one."""
    if len(ports) != 1 or not ports[0].scalar or ports[0].field.type == "string":
        return list(ports)
    (only,) = ports
    return [replace(only, field=replace(only.field, shape=(1,)), column=False, bare=not only.column)]


def one_batch(ports: Sequence[Port], path: str) -> int | None:
    """The number of rows that the model insists on; None where it takes any."""
    fixed = {each.batch for each in ports} - {None}
    if len(fixed) > 1:
        raise ModelError(f"{path} takes inputs of several fixed batch sizes; export it with a free batch dimension")
    return fixed.pop() if fixed else None


def signed(ports: Sequence[Port]) -> Signature:
    """The inputs as a signature. Several go by name; one vector of any width is open."""
    fields = tuple(with_example(each.field) for each in ports)
    named = len(fields) > 1
    return Signature(fields, (), named=named, open=not named and fields[0].shape == (-1,))


def with_example(each: Field) -> Field:
    """The field with an example, where it has none."""
    if each.example is not None:
        return each
    text = each.type == "string"
    one: Any = "text" if text else False if each.type == "bool" else 0 if each.dtype.kind in "iu" else 0.0
    shape = [max(n, 1) for n in each.shape]
    return replace(each, example=np.full(shape, one, object).tolist() if each.shape else one)


def made_up(signature: Signature, count: int = 2) -> Rows:
    """The example, as rows."""
    return Rows({each.name: _repeated(each, count) for each in signature.inputs})


def _repeated(each: Field, count: int) -> Array:
    column: Array = np.empty((count, *(max(n, 1) for n in each.shape)), each.dtype)
    column[:] = each.example
    return column


def output(name: str, values: Array) -> Field:
    """An output as its values show it."""
    return Field(name, "string" if values.dtype.kind in "OUS" else values.dtype.name, values.shape[1:])


def with_nulls(signature: Signature, runtime: Runtime, outputs: Sequence[str]) -> Signature:
    """A missing number is taken where the answers stay numbers."""
    rows = made_up(signature)
    holes = {name: np.full_like(array, np.nan) for name, array in _floats(rows)}
    nullable = bool(holes) and _is_finite(runtime, Rows({**rows, **holes}), outputs)
    inputs = (replace(each, nullable=nullable) if each.name in holes else each for each in signature.inputs)
    return replace(signature, inputs=tuple(inputs))


def _floats(rows: Rows) -> list[tuple[str, Array]]:
    return [(name, rows.array(name)) for name in rows if rows.array(name).dtype.kind == "f"]


def _is_finite(runtime: Runtime, rows: Rows, outputs: Sequence[str]) -> bool:
    try:
        answer = runtime.run(rows, outputs)
    except ModelFailed:
        return False
    return all(values.dtype.kind != "f" or bool(np.isfinite(values).all()) for values in map(answer.array, answer))


def of_width(signature: Signature, width: int) -> Signature:
    """A model that takes any width, once its columns are named."""
    (only,) = signature.inputs
    if only.shape != (-1,):
        return signature
    return replace(signature, inputs=(replace(only, shape=(width,), example=[0.0] * width),), open=False)


@contextmanager
def quietly() -> Iterator[None]:
    """What a model says of made-up rows is not its user's business."""
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def loaded(
    runtime: Tensors, features: Sequence[str] | None, versions: Mapping[str, str], facts: Mapping[str, Any]
) -> Loaded:
    """A model of tensors, its outputs as seen on a made-up row. features: names for the columns of its one vector."""
    signature = signed(runtime.ports)
    vector = signature.vector is not None
    if features and vector:
        signature = of_width(signature, len(features))
    with quietly():
        runtime, signature, told = _settled(runtime, signature)
    if features and vector:
        signature, runtime = signature.with_features(features), runtime.with_columns(features)
    return Loaded(runtime, signature, dict(versions), told, dict(facts))


def _settled(runtime: Tensors, signature: Signature) -> tuple[Tensors, Signature, tuple[str, ...]]:
    """Outputs, nulls, and whether a lone row has to be given company. Raises ModelError where nothing is an answer."""
    try:
        seen = runtime.answer(made_up(signature))
    except ModelFailed as error:
        told = OPEN if signature.open else f"it answers no made-up row ({error.message}); its outputs are not known yet"
        return runtime, replace(signature, outputs=(Field("prediction", "any"),)), (told,)
    rowwise = {name: values for name, values in seen.items() if values.ndim and len(values) == 2}
    if not rowwise:
        raise ModelError(f"the model gives no output with one answer for each row; it gives {', '.join(seen)}")
    signature = replace(signature, outputs=tuple(output(name, values) for name, values in rowwise.items()))
    runtime = _in_company(runtime, signature)
    other = [name for name in seen if name not in rowwise]
    told_of = [f"outputs without one answer for each row are left out: {', '.join(other)}"] if other else []
    if not _repeats(runtime, signature):
        told_of.append("it answers the same row differently each time; export it in evaluation mode: model.eval()")
    return runtime, with_nulls(signature, runtime, list(rowwise)), tuple(told_of)


def _in_company(runtime: Tensors, signature: Signature) -> Tensors:
    """A model that was traced with several rows may drop the batch dimension of one: it gets that row twice."""
    names = [each.name for each in signature.outputs]
    try:
        alone = runtime.run(made_up(signature, 1), names)
    except ModelFailed:
        return Tensors(runtime.call, runtime.ports, Portions(2, runtime.portions.most))
    if all(alone.array(each.name).shape[1:] == each.shape for each in signature.outputs):
        return runtime
    return Tensors(runtime.call, runtime.ports, Portions(2, runtime.portions.most))


def _repeats(runtime: Tensors, signature: Signature) -> bool:
    """Whether two calls give the same: rows of random numbers, since nothing is dropped out of zeros."""
    random = np.random.default_rng(0)
    rows = made_up(signature, 8)
    drawn = {name: random.normal(size=array.shape).astype(array.dtype) for name, array in _floats(rows)}
    rows = Rows({**rows, **drawn})
    names = [each.name for each in signature.outputs]
    try:
        first, second = runtime.run(rows, names), runtime.run(rows, names)
    except ModelFailed:
        return True
    return all(np.array_equal(first.array(name), second.array(name), equal_nan=True) for name in names)


# -- what says nothing of itself: by a sample, or open ---------------------------------------------------------------


def guessed(
    runtime: Callable[[Sequence[Port]], Tensors], names: Sequence[str], source: Source, floats: str
) -> tuple[Tensors, tuple[str, ...] | None]:
    """The runtime with ports by the sample's columns or `--features`; one tensor of any width where there are none.

    floats: the type of the model's own numbers. Also the names of the columns. Raises ModelError where several inputs
    are not known.
    """
    if len(names) > 1:
        return runtime(_by_name(names, source, floats)), None
    columns = source.features or tuple(each.name for each in source.sample or ())
    whole = [Port(names[0], Field(names[0], kind, (len(columns) or -1,))) for kind in _kinds(source, floats)]
    tries = [runtime([port]) for port in whole]
    if len(columns) == 1:
        tries += [runtime([replace(port, bare=True)]) for port in whole]
    with quietly():
        found = next((tried for tried in tries if columns and _answers(tried)), tries[0])
    return found, columns or None


def _kinds(source: Source, floats: str) -> list[str]:
    """Types to try: an embedding takes integers alone, and a model of floats takes no others."""
    whole = source.sample is not None and all(each.type in INTEGERS for each in source.sample)
    return [floats, "int64"] if whole or source.sample is None else [floats]


def _by_name(names: Sequence[str], source: Source, floats: str) -> list[Port]:
    columns = {each.name: each for each in source.sample or ()}
    absent = [name for name in names if name not in columns]
    if absent:
        raise ModelError(
            f"{source.path} takes {listed(list(names))} and does not say what they look like; give rows with columns "
            f"of these names (--sample FILE), or export it so that it says so"
        )
    return [Port(name, _column(columns[name], floats)) for name in names]


def _column(each: Field, floats: str) -> Field:
    kind = each.type if each.type in INTEGERS or each.type == "bool" else floats
    return Field(each.name, kind, each.shape)


def _answers(tried: Tensors) -> bool:
    try:
        tried.answer(made_up(signed(tried.ports)))
    except ModelFailed:
        return False
    return True
