"""Scenes over gRPC: Rows as tensors, by grpcio or our own client to a server of this process, and what it answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from bimodal.client import AsyncClient
from bimodal.errors import BimodalError
from bimodal.field import Field
from bimodal.formats.library import library
from bimodal.model import Model
from bimodal.realtime import wiring
from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener
from bimodal.realtime.protocols import tensors
from bimodal.realtime.protocols.inference import DATATYPES, VALIDITY, Tensor, texts
from bimodal.realtime.protocols.tensor_messages import CONTENTS, Request, Response, plain
from bimodal.rows import Array, Rows
from bimodal.scenes import PATIENCE, Lent, Unfit, table
from bimodal.signature import Signature

METHOD = "/inference.GRPCInferenceService/ModelInfer"
LARGEST = 2**31 - 1  # bytes of a message
UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def over_grpc(
    model: Model,
    rows: Rows,
    outputs: Sequence[str],
    size: int,
    together: int,
    *,
    raw: bool,
    threshold: float | None = None,
) -> Rows:
    """The answers of a server on a free port of this machine: `size` rows a request, `together` requests at once.

    raw: the tensors go as bytes, else as typed contents. Raises Unfit where tensors cannot carry the rows,
    MissingLibrary without grpcio, BimodalError with what a request was told.
    """
    grpc = library("grpc")
    parts = [rows.slice(start, start + size) for start in range(0, rows.count, size)]
    asked = [request(model.name, part, model.signature, outputs, raw=raw) for part in parts]
    if threshold is not None:
        for each in asked:
            each.parameters["threshold"].double_param = threshold
    answers = asyncio.run(_asked(grpc, model, rows.count, asked, together))
    told = [read(each, model.signature) for each in answers]
    return Rows({name: np.concatenate([each[name] for each in told]) for name in outputs})


def by_client(model: Model, rows: Rows, outputs: Sequence[str], size: int) -> pa.Table:
    """The answers of such a server to our own client, as a program sees them: tables of `size` rows there and back.

    Raises as `over_grpc` does.
    """
    library("grpc")
    parts = [table(rows.slice(start, start + size), model.signature) for start in range(0, rows.count, size)]
    answers = asyncio.run(_predicted(model, rows.count, parts, outputs))
    return pa.concat_tables(answers, promote_options="permissive")


def request(name: str, rows: Rows, signature: Signature, outputs: Sequence[str], *, raw: bool) -> Any:
    """A ModelInferRequest, without the columns that may be left out and are. Raises Unfit."""
    made = Request(model_name=name)
    for each in outputs:
        made.outputs.add(name=each)
    for field in (field for field in signature.inputs if field.name in rows):
        for tensor in _tensors(field, rows.array(field.name)):
            values = np.asarray(tensor.values)
            placed = made.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=list(values.shape))
            if raw:
                made.raw_input_contents.append(tensors.encode(values, tensor.datatype))
            elif tensor.datatype in CONTENTS:
                getattr(placed.contents, CONTENTS[tensor.datatype]).extend(plain(values, tensor.datatype))
            else:
                raise Unfit(f"{tensor.datatype} goes raw alone, as in {field.name!r}")
    return made


def read(response: Any, signature: Signature) -> dict[str, Array]:
    """The outputs of a ModelInferResponse by name, as the model gives them."""
    found: dict[str, Array] = {}
    for place, each in enumerate(response.outputs):
        if response.raw_output_contents:
            values = tensors.decode(each.datatype, each.shape, response.raw_output_contents[place], each.name)
        else:
            values = _held(each, list(getattr(each.contents, CONTENTS[each.datatype])))
        found[each.name] = values
    for name in [each for each in found if each.endswith(VALIDITY)]:
        there = found.pop(name)
        values = found[name.removesuffix(VALIDITY)].astype(object)
        values[~there] = None
        found[name.removesuffix(VALIDITY)] = values
    return {name: _own(signature.output(name), values) for name, values in found.items()}


def _tensors(field: Field, array: Array) -> Iterator[Tensor]:
    """A column as a tensor, and where it has nulls that no value of it can be, which rows have one."""
    datatype = DATATYPES[field.type]
    there = np.ones(len(array), bool)
    if field.type == "any" and len({type(each) for each in array.reshape(-1).tolist()} - {str, type(None)}):
        raise Unfit(f"a tensor has one type, unlike {field.name!r}")
    if array.dtype.kind == "M":
        there = ~np.isnat(array)
    elif array.dtype == object and not field.shape:
        there = np.array([each is not None for each in array])
    if datatype == "BYTES":
        array = texts(array)
    elif array.dtype == object:
        array = np.where(there, array, 0).astype(tensors.DATATYPES[datatype])
    yield Tensor(field.name, datatype, array.shape, array)
    if not there.all():
        yield Tensor(f"{field.name}{VALIDITY}", "BOOL", there.shape, there)


def _held(tensor: Any, values: list[Any]) -> Array:
    dtype = tensors.DATATYPES[tensor.datatype]
    made: Array = np.empty(len(values), dtype)
    made[:] = values
    return made.reshape(list(tensor.shape))


def _own(field: Field, values: Array) -> Array:
    """Texts are str again, times times."""
    if values.dtype != object:
        return values.astype(field.dtype)
    flat = np.empty(values.size, object)
    flat[:] = [each.decode() if isinstance(each, bytes) else each for each in values.reshape(-1)]
    if field.type == "timestamp":
        return np.array(["NaT" if each is None else each for each in flat], field.dtype).reshape(values.shape)
    return flat.reshape(values.shape)


async def _asked(grpc: Any, model: Model, count: int, requests: Sequence[Any], together: int) -> list[Any]:
    """What a caller by grpcio is answered."""
    answers: list[Any] = []
    async with _serving(model, count) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}", UNBOUNDED) as channel:
        ask = channel.unary_unary(METHOD, Request.SerializeToString, Response.FromString)
        try:
            for start in range(0, len(requests), together):
                waiting = [ask(each, timeout=PATIENCE) for each in requests[start : start + together]]
                answers += await asyncio.gather(*waiting)
        except grpc.aio.AioRpcError as error:
            raise BimodalError(f"{error.code().name}: {error.details()}") from None
    return answers


async def _predicted(model: Model, count: int, parts: Sequence[pa.Table], outputs: Sequence[str]) -> list[pa.Table]:
    """What our own client gives back."""
    async with _serving(model, count) as port, AsyncClient(f"grpc://127.0.0.1:{port}", timeout=PATIENCE) as client:
        return [await client.predict(each, outputs=outputs) for each in parts]


@asynccontextmanager
async def _serving(model: Model, count: int) -> AsyncIterator[int]:
    """The port of a server on the caller's loop; it refuses nothing for its size or its waiting."""
    limits = Limits(rows=count, body_bytes=LARGEST, deadline=PATIENCE)
    wired = wiring.wire([Lent(model)], limits, queue_target=PATIENCE)
    with _listening() as listening:
        listener = Listener(wired.app, limits, wired.methods, wired.guard)
        await listener.start(listening)
        try:
            yield listening.getsockname()[1]
        finally:
            await listener.close()
            await wired.close()


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        yield listening
