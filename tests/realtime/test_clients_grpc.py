"""The public gRPC clients against a real server: tritonclient, health, reflection, stubs that know nothing of us."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import Queue
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

import bimodal
from bimodal.realtime.server import Server
from tests.models import CASES, IRIS
from tests.realtime.shelf import loaded

ROWS = np.ascontiguousarray(IRIS[::7])
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with bimodal.serve(loaded("logistic", "flowers"), port=0) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened


@pytest.fixture(scope="module")
def triton(server: Server) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


def sent(rows: Any) -> list[InferInput]:
    tensor = InferInput("input", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows)
    return [tensor]


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tritonclient_gets_the_model_s_answers(triton: InferenceServerClient, compression: str | None) -> None:
    answer = triton.infer("flowers", sent(ROWS), request_id="7", compression_algorithm=compression)
    assert answer.get_response().id == "7"
    np.testing.assert_array_equal(answer.as_numpy("prediction"), CASES["logistic"].model.predict(ROWS))
    best = triton.infer("flowers", sent(ROWS), outputs=[InferRequestedOutput("probability", class_count=1)])
    places = [int(each.decode().split(":")[1]) for each in best.as_numpy("probability").reshape(-1)]
    assert places == CASES["logistic"].model.predict_proba(ROWS).argmax(axis=1).tolist()


def test_tritonclient_finds_its_way(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("flowers")
    assert "statistics" in triton.get_server_metadata().extensions
    assert triton.get_model_metadata("flowers").inputs[0].datatype == "FP64"
    assert triton.get_model_config("flowers").config.max_batch_size == 10_000
    assert [each.name for each in triton.get_model_repository_index().models] == ["flowers"]
    assert triton.get_inference_statistics("flowers").model_stats[0].name == "flowers"
    with pytest.raises(InferenceServerException, match="did you mean 'flowers'"):
        triton.infer("flower", sent(ROWS))
    with pytest.raises(InferenceServerException, match="no repository"):
        triton.load_model("flowers")


def test_too_much_metadata_fails_its_call_alone(triton: InferenceServerClient) -> None:
    for _ in range(2):
        with pytest.raises(InferenceServerException) as caught:
            triton.is_server_live(headers={"x-long": "x" * 200_000})
        assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
        assert triton.is_server_live(headers={"x-short": "x" * 20_000})


def test_tritonclient_streams(triton: InferenceServerClient) -> None:
    answers: Queue[Any] = Queue()
    triton.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(200):
        triton.async_stream_infer("flowers", sent(ROWS[:1]), request_id=str(number))
    triton.async_stream_infer("flowers", sent(ROWS[:, :2].copy()))
    got = [answers.get(timeout=60) for _ in range(201)]
    assert [result.get_response().id for result, _ in got[:200]] == [str(number) for number in range(200)]
    assert "4 features are needed" in str(got[200][1])
    triton.stop_stream()


def test_a_client_made_by_reflection_calls(channel: Any) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "grpc.health.v1.Health" in database.get_services()
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName("inference.GRPCInferenceService").FindMethodByName("ModelInfer")
    request = message_factory.GetMessageClass(method.input_type)(model_name="flowers")
    request.inputs.add(name="x", datatype="FP64", shape=ROWS.shape).contents.fp64_contents.extend(ROWS.reshape(-1))
    response = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", type(request).SerializeToString, response.FromString
    )
    answer, told = call.with_call(request, timeout=60)
    assert list(answer.outputs[0].contents.int64_contents) == CASES["logistic"].model.predict(ROWS).tolist()
    assert dict(told.initial_metadata())["x-model"].startswith("flowers/")


def test_an_error_has_its_status_and_trailers(channel: Any) -> None:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"\xff\xff", timeout=60, metadata=[("x-request-id", "mine")])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailers = dict(refused.value.trailing_metadata())
    assert (trailers["x-error-code"], trailers["x-request-id"]) == ("malformed", "mine")


def test_a_watch_hears_of_the_end(channel: Any, server: Server) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "flowers", "inference.GRPCInferenceService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status == SERVING
    heard: list[int] = []
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="flowers"))
    heard.append(next(watch).status)
    listener = threading.Thread(target=lambda: heard.extend(each.status for each in watch))
    listener.start()
    start = time.monotonic()
    server.close()
    listener.join(60)
    assert time.monotonic() - start < 25  # a drain waits 30 s for those who do not hear
    assert heard == [SERVING, NOT_SERVING]
