"""The public client, tritonclient: HTTP and gRPC, plain and asyncio, as people use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio

from conformance.catalogue import MUST, OPTIONAL, SHOULD, Check, Fault, add
from conformance.target import Subject, Target, expect
from conformance.tensors import Tensor

SOURCE = "tritonclient, as it asks"
BINARY = "binary_tensor_data"


def _array(each: Tensor) -> Any:
    kind = np.object_ if each.datatype == "BYTES" else np.asarray(each.values).dtype
    return np.array(each.values, dtype=kind).reshape(each.shape)


def _inputs(client: Any, subject: Subject, **form: Any) -> list[Any]:
    made = []
    for each in subject.sample(2):
        given = client.InferInput(each.name, list(each.shape), each.datatype)
        given.set_data_from_numpy(_array(each), **form)
        made.append(given)
    return made


def _wanted(target: Target, subject: Subject) -> dict[str, Any]:
    """The outputs as raw HTTP gave them in JSON."""
    return {each.name: _array(each) for each in target.answers(subject, subject.sample(2))}


def _compare(result: Any, wanted: dict[str, Any]) -> None:
    for name, array in wanted.items():
        seen = result.as_numpy(name)
        if seen is None or not _alike(seen, array):
            raise Fault(f"{name} is {seen}, over raw HTTP it was {array}"[:400])


def _alike(seen: Any, wanted: Any) -> bool:
    if seen.dtype == object:  # the client gives text out of JSON as str, out of bytes as bytes
        texts = [each.encode() if isinstance(each, str) else each for each in seen.flat]
        return bool(seen.shape == wanted.shape and texts == wanted.reshape(-1).tolist())
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(seen, wanted))
    return seen.shape == wanted.shape and bool(np.allclose(seen, wanted, rtol=1e-5, equal_nan=True))


def _http(*, binary: bool) -> Callable[[Target], None]:
    def run(target: Target) -> None:
        subject, client = target.subject, http_client.InferenceServerClient(target.address)
        try:
            expect(client.is_server_live() and client.is_server_ready(), "not live and ready")
            expect(client.is_model_ready(subject.name), "the model is not ready")
            expect(client.get_model_metadata(subject.name)["name"] == subject.name, "another model's metadata")
            wanted = _wanted(target, subject)
            asked = [http_client.InferRequestedOutput(name, binary_data=binary) for name in wanted]
            inputs = _inputs(http_client, subject, binary_data=binary)
            result = client.infer(subject.name, inputs, outputs=asked, request_id="client")
            expect(result.get_response().get("id") == "client", "another id")
            _compare(result, wanted)
        finally:
            client.close()

    return run


def _http_aio(*, binary: bool) -> Callable[[Target], None]:
    async def ask(target: Target, subject: Subject, wanted: dict[str, Any]) -> None:
        client = http_aio.InferenceServerClient(target.address)
        try:
            expect(await client.is_server_live() and await client.is_model_ready(subject.name), "not live and ready")
            inputs = _inputs(http_client, subject, binary_data=binary)
            asked = [http_client.InferRequestedOutput(name, binary_data=binary) for name in wanted]
            results = await asyncio.gather(*(client.infer(subject.name, inputs, outputs=asked) for _ in range(8)))
        finally:
            await client.close()
        for result in results:
            _compare(result, wanted)

    return _run(ask)


def _run(ask: Callable[[Target, Subject, dict[str, Any]], Coroutine[Any, Any, None]]) -> Callable[[Target], None]:
    return lambda target: asyncio.run(ask(target, target.subject, _wanted(target, target.subject)))


def _defaults(target: Target) -> None:
    subject, client = target.subject, http_client.InferenceServerClient(target.address)
    try:
        _compare(client.infer(subject.name, _inputs(http_client, subject)), _wanted(target, subject))
    finally:
        client.close()


def _compressed(way: str) -> Callable[[Target], None]:
    def run(target: Target) -> None:
        subject, client = target.subject, http_client.InferenceServerClient(target.address)
        try:
            inputs = _inputs(http_client, subject, binary_data=False)
            asked = [http_client.InferRequestedOutput(each["name"], binary_data=False) for each in subject.outputs]
            result = client.infer(subject.name, inputs, outputs=asked or None, **{way: "gzip"})
            _compare(result, _wanted(target, subject))
        finally:
            client.close()

    return run


def _grpc(target: Target) -> None:
    subject, client = target.subject, grpc_client.InferenceServerClient(str(target.grpc_address))
    try:
        expect(client.is_server_live() and client.is_server_ready(), "not live and ready")
        expect(client.is_model_ready(subject.name), "the model is not ready")
        expect(client.get_model_metadata(subject.name).name == subject.name, "another model's metadata")
        wanted = _wanted(target, subject)
        result = client.infer(subject.name, _inputs(grpc_client, subject), request_id="client")
        expect(result.get_response().id == "client", "another id")
        _compare(result, wanted)
        asked = [grpc_client.InferRequestedOutput(name) for name in wanted]
        _compare(client.infer(subject.name, _inputs(grpc_client, subject), outputs=asked), wanted)
    finally:
        client.close()


async def _ask_grpc(target: Target, subject: Subject, wanted: dict[str, Any]) -> None:
    client = grpc_aio.InferenceServerClient(str(target.grpc_address))
    try:
        expect(await client.is_server_live() and await client.is_model_ready(subject.name), "not live and ready")
        inputs = _inputs(grpc_client, subject)
        results = await asyncio.gather(*(client.infer(subject.name, inputs) for _ in range(8)))
    finally:
        await client.close()
    for result in results:
        _compare(result, wanted)


def _register() -> None:
    """What an extension makes right must be understood; else a server may ask for another form."""
    told = "HTTP with JSON tensors, sent without a content type: probes, metadata, infer"
    add(Check("clients/http", SHOULD, SOURCE, told, _http(binary=False)))
    told = "asyncio over HTTP, JSON tensors sent as application/octet-stream, eight at once"
    add(Check("clients/http-aio", SHOULD, SOURCE, told, _http_aio(binary=False)))
    add(Check("clients/http-binary", MUST, SOURCE, "HTTP with binary tensors", _http(binary=True), BINARY))
    add(Check("clients/http-aio-binary", MUST, SOURCE, "asyncio over HTTP, binary", _http_aio(binary=True), BINARY))
    add(Check("clients/http-defaults", MUST, SOURCE, "HTTP with the client's own defaults", _defaults, BINARY))
    for way in ("request", "response"):
        run = _compressed(f"{way}_compression_algorithm")
        add(Check(f"clients/http-gzip-{way}", OPTIONAL, SOURCE, f"a {way} compressed with gzip", run))
    told = "gRPC: probes, metadata, infer; it reads raw outputs alone"
    add(Check("clients/grpc", SHOULD, SOURCE, told, _grpc, grpc=True))
    add(Check("clients/grpc-aio", SHOULD, SOURCE, "asyncio over gRPC, eight at once", _run(_ask_grpc), grpc=True))


_register()
