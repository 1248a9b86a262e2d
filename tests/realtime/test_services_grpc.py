"""The gRPC services beside ModelInfer: streams, health, reflection, metadata, the repository."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

import bimodal
from bimodal.errors import NotFound, Overloaded
from bimodal.realtime.batcher import Work
from bimodal.realtime.calls import Status
from bimodal.realtime.protocols import streams_grpc
from bimodal.realtime.protocols.description import EXTENSIONS
from tests.models import CASES, IRIS
from tests.realtime.callers import SERVICE, Caller, FakeCall, Refused, request, told
from tests.realtime.desk import Desk
from tests.realtime.shelf import onnx

HEALTH, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
STREAM = f"{SERVICE}/ModelStreamInfer"
ROWS = IRIS[::7].tolist()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk(onnx())
    yield desk
    desk.close()


@pytest.fixture
def caller(desk: Desk) -> Caller:
    return Caller(desk)


def vectors(rows: Any, **options: Any) -> Any:
    return request("inline", {"input": ("FP64", rows)}, **options)


# -- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_answers_each_request_in_its_order(caller: Caller) -> None:
    asks = [vectors([row], id=str(number)) for number, row in enumerate(ROWS * 10)]
    answers = caller.stream("ModelStreamInfer", asks)
    assert [each.infer_response.id for each in answers] == [each.id for each in asks]
    labels = [told(each.infer_response)["prediction"][0] for each in answers]
    assert labels == CASES["logistic"].model.predict(ROWS * 10).tolist()


def test_requests_of_a_stream_that_come_together_share_a_call(caller: Caller) -> None:
    caller.stream("ModelStreamInfer", [vectors([row]) for row in ROWS])
    text = caller.desk.wired.service.metrics.text().decode()
    assert 'bimodal_batch_rows_count{model="inline"} 1\n' in text


def test_a_bad_request_of_a_stream_is_answered_by_its_error_and_the_stream_goes_on(caller: Caller) -> None:
    asks = [vectors(ROWS[:1]), vectors([[1.0]], id="7"), b"\xff", request("other", {}), vectors(ROWS[1:2])]
    answers = caller.stream("ModelStreamInfer", asks)
    assert [bool(each.error_message) for each in answers] == [False, True, True, True, False]
    assert answers[1].error_message.startswith("row 1: 4 features are needed")
    assert answers[1].infer_response.id == "7"
    codes = [each.infer_response.parameters["error_code"].string_param for each in answers[1:4]]
    assert codes == ["wrong_width", "malformed", "model_not_found"]


def test_the_last_answer_says_so_where_that_is_asked(caller: Caller) -> None:
    asked = vectors(ROWS[:1])
    asked.parameters["triton_enable_empty_final_response"].bool_param = True
    first, second = caller.stream("ModelStreamInfer", [asked, vectors(ROWS[:1])])
    assert first.infer_response.parameters["triton_final_response"].bool_param is True
    assert "triton_final_response" not in second.infer_response.parameters
    assert told(first.infer_response) == told(second.infer_response)


def test_while_the_caller_does_not_read_no_more_is_read(caller: Caller) -> None:
    async def asked() -> None:
        call = FakeCall(STREAM)
        messages = caller.methods.streaming[STREAM](call)
        call.room.clear()
        data = vectors(ROWS[:1]).SerializeToString()
        for _ in range(3 * streams_grpc.OPEN):
            messages.feed(data)
        await asyncio.sleep(0.01)
        assert call.is_held()
        assert len(call.written) == 1  # the reader takes no second one
        call.room.set()
        await asyncio.sleep(0.05)
        assert not call.is_held()
        assert len(call.written) == 3 * streams_grpc.OPEN
        messages.finish()
        await call.over

    caller.desk.run(asked)


def test_a_stream_waits_where_the_model_has_no_room(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    served = caller.desk.wired.service.find("inline")
    caller.infer(vectors(ROWS[:1]))
    door = next(each for each in served._doors.values() if getattr(each, "route", "") == "grpc infer")
    submit, refusals = door.submit, iter([Overloaded("full"), Overloaded("full")])

    def full(work: Work) -> None:
        error = next(refusals, None)
        if error is not None:
            raise error
        submit(work)

    monkeypatch.setattr(door, "submit", full)
    answers = caller.stream("ModelStreamInfer", [vectors(ROWS[:1]), vectors(ROWS[1:2])])
    assert [bool(each.error_message) for each in answers] == [False, False]
    assert next(refusals, None) is None


def test_a_stream_whose_caller_leaves_stops(caller: Caller) -> None:
    async def asked() -> None:
        call = FakeCall(STREAM)
        messages = caller.methods.streaming[STREAM](call)
        messages.feed(vectors(ROWS[:1]).SerializeToString())
        messages.abort()
        await asyncio.sleep(0.01)
        assert call.written == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    caller.desk.run(asked)


# -- health ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "inline", "inference.GRPCInferenceService", "grpc.health.v1.Health"])
def test_health_knows_the_server_its_services_and_its_models(caller: Caller, name: str) -> None:
    asked = health_pb2.HealthCheckRequest(service=name)
    assert caller.ask(HEALTH, asked, health_pb2.HealthCheckResponse).status == health_pb2.HealthCheckResponse.SERVING
    caller.desk.wired.service.drain()
    answer = caller.ask(HEALTH, asked, health_pb2.HealthCheckResponse)
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_of_what_is_not_there_is_not_found(caller: Caller) -> None:
    with pytest.raises(Refused, match="did you mean 'inline'") as refused:
        caller.ask(HEALTH, health_pb2.HealthCheckRequest(service="inlime"))
    assert refused.value.status is Status.NOT_FOUND


def test_a_watch_is_told_of_every_change_and_ends_with_the_server(caller: Caller) -> None:
    service = caller.desk.wired.service

    async def asked() -> list[int]:
        calls = [FakeCall(WATCH), FakeCall(WATCH)]
        for call, name in zip(calls, ("", "strange"), strict=True):
            messages = caller.methods.streaming[WATCH](call)
            messages.feed(health_pb2.HealthCheckRequest(service=name).SerializeToString())
            messages.finish()
        await asyncio.sleep(0.15)
        assert [len(call.written) for call in calls] == [1, 1]
        service.drain()
        await asyncio.wait_for(asyncio.gather(*[call.over for call in calls]), 60)
        return [health_pb2.HealthCheckResponse.FromString(each).status for call in calls for each in call.written]

    assert caller.desk.run(asked) == [1, 2, 3]


def test_health_lists_everything(caller: Caller) -> None:
    told = caller.together("/grpc.health.v1.Health/List", [b""])[0]
    for name in (b"inline", b"inference.GRPCInferenceService", b"grpc.reflection.v1.ServerReflection"):
        assert name in told


# -- reflection ------------------------------------------------------------------------------------------------------


def reflected(caller: Caller, *asks: dict[str, Any]) -> list[Any]:
    requests = [reflection_pb2.ServerReflectionRequest(host="h", **each) for each in asks]
    return caller.stream(REFLECTION, requests, reflection_pb2.ServerReflectionResponse)


def test_reflection_gives_files_from_which_a_client_can_be_made(caller: Caller) -> None:
    (answer,) = reflected(caller, {"file_containing_symbol": "inference.GRPCInferenceService.ModelInfer"})
    assert (answer.valid_host, answer.original_request.host) == ("h", "h")
    pool = descriptor_pool.DescriptorPool()
    for data in reversed(answer.file_descriptor_response.file_descriptor_proto):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelInferRequest"))
    data = made(model_name="inline", id="7").SerializeToString()
    assert service_pb2.ModelInferRequest.FromString(data).id == "7"


def test_reflection_answers_every_question(caller: Caller) -> None:
    listed, file, strange, numbers, extension, nothing = reflected(
        caller,
        {"list_services": ""},
        {"file_by_filename": "grpc/health/v1/health.proto"},
        {"file_by_filename": "../../etc/passwd"},
        {"all_extension_numbers_of_type": "inference.ModelInferRequest"},
        {"file_containing_extension": {"containing_type": "inference.ModelInferRequest", "extension_number": 9}},
        {},
    )
    names = [each.name for each in listed.list_services_response.service]
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= set(
        names
    )
    assert len(file.file_descriptor_response.file_descriptor_proto) == 1
    assert numbers.all_extension_numbers_response.base_type_name == "inference.ModelInferRequest"
    assert [each.error_response.error_code for each in (strange, extension, nothing)] == [5, 5, 3]


# -- metadata and the repository -------------------------------------------------------------------------------------


def test_the_server_and_its_model_tell_of_themselves(caller: Caller) -> None:
    assert caller.ask("ServerLive", service_pb2.ServerLiveRequest()).live
    assert caller.ask("ServerReady", service_pb2.ServerReadyRequest()).ready
    server = caller.ask("ServerMetadata", service_pb2.ServerMetadataRequest())
    assert (server.name, server.version) == ("bimodal", bimodal.__version__)
    assert list(server.extensions) == [each for each in EXTENSIONS if each != "model_repository"]
    model = caller.ask("ModelMetadata", service_pb2.ModelMetadataRequest(name="inline"))
    assert [(each.datatype, list(each.shape)) for each in model.inputs] == [("FP64", [-1, 4])]
    assert list(model.versions) == [onnx().version]
    config = caller.ask("ModelConfig", service_pb2.ModelConfigRequest(name="inline")).config
    assert (config.name, config.max_batch_size, list(config.input[0].dims)) == ("inline", 10_000, [4])


def test_statistics_count_what_was_predicted(caller: Caller) -> None:
    caller.together("ModelInfer", [vectors(ROWS[:2]), vectors(ROWS[:3])])
    with pytest.raises(Refused):
        caller.infer(vectors([[1.0]]))
    for asked in (service_pb2.ModelStatisticsRequest(name="inline"), service_pb2.ModelStatisticsRequest()):
        (stats,) = caller.ask("ModelStatistics", asked).model_stats
        assert (stats.name, stats.inference_count, stats.execution_count) == ("inline", 5, 1)
        assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (2, 1)
        assert stats.inference_stats.success.ns > 0
        assert 0 < stats.inference_stats.fail.ns < 60e9
    caller.stream("ModelStreamInfer", [vectors([[1.0]])])
    (later,) = caller.ask("ModelStatistics", service_pb2.ModelStatisticsRequest()).model_stats
    assert later.inference_stats.fail.count == 2
    assert stats.inference_stats.fail.ns < later.inference_stats.fail.ns < 60e9


@pytest.mark.parametrize(("name", "ready"), [("inline", True), ("other", False)])
def test_a_model_that_is_not_there_is_not_ready(caller: Caller, name: str, ready: bool) -> None:
    assert caller.ask("ModelReady", service_pb2.ModelReadyRequest(name=name)).ready is ready


@pytest.mark.parametrize("package", [SERVICE, "/inference.model_repository.ModelRepositoryService"])
def test_the_repository_is_asked_as_over_http(caller: Caller, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = f"{package}/RepositoryIndex"
    asked = service_pb2.RepositoryIndexRequest(ready=True)
    answer = caller.ask(index, asked, service_pb2.RepositoryIndexResponse)
    assert [(each.name, each.state) for each in answer.models] == [("inline", "READY")]
    loaded: list[tuple[str, Any]] = []

    async def load(name: str, parameters: Any = None) -> None:
        if name == "strange":
            raise NotFound("there is none")
        loaded.append((name, parameters))

    monkeypatch.setattr(caller.desk.wired.service, "load", load)
    made = service_pb2.RepositoryModelLoadRequest(model_name="inline")
    if package == SERVICE:
        made.parameters["file:1/model.pkl"].bytes_param = b"\0"
    caller.ask(f"{package}/RepositoryModelLoad", made, service_pb2.RepositoryModelLoadResponse)
    assert loaded == [("inline", {"file:1/model.pkl": b"\0"} if package == SERVICE else {})]
    with pytest.raises(Refused) as refused:
        caller.ask(f"{package}/RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name="strange"))
    assert refused.value.status is Status.NOT_FOUND
    with pytest.raises(Refused, match="bimodal serve FOLDER") as refused:  # there is no repository
        caller.ask(f"{package}/RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name="inline"))
    assert refused.value.status is Status.FAILED_PRECONDITION
