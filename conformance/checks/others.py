"""Extensions with little to them: configuration, shared memory, tracing, logging."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import MUST, check
from conformance.checks.errors import told_error
from conformance.target import Target, expect

CONFIG = "Triton, extension_model_configuration.md"


@check(
    "config/rest",
    MUST,
    CONFIG,
    "the configuration is a JSON object with the model's name",
    extension="model_configuration",
)
def config(target: Target) -> None:
    for path in (target.subject.path, *(f"{target.subject.path}/versions/{each}" for each in target.subject.versions)):
        reply = target.get(f"{path}/config")
        expect(reply.object().get("name") == target.subject.name, "another name", reply)


@check("config/unknown", MUST, CONFIG, "that of an unknown model: an error", extension="model_configuration")
def config_unknown(target: Target) -> None:
    told_error(target.get("/v2/models/no-such-model/config"))


@check("config/grpc", MUST, CONFIG, "ModelConfig tells the same name", extension="model_configuration", grpc=True)
def config_grpc(target: Target) -> None:
    called = target.call("ModelConfig", messages.ModelConfigRequest(name=target.subject.name))
    expect(called.good().config.name == target.subject.name, "another name", called)


def _status(extension: str, path: str) -> None:
    @check(f"others/{extension}", MUST, "Triton, extension of this name", "its status can be read", extension=extension)
    def status(target: Target) -> None:
        reply = target.get(path)
        expect(reply.status == 200, f"the status is {reply.status}", reply)
        reply.json()


_status("system_shared_memory", "/v2/systemsharedmemory/status")
_status("cuda_shared_memory", "/v2/cudasharedmemory/status")
_status("trace", "/v2/trace/setting")
_status("logging", "/v2/logging")
