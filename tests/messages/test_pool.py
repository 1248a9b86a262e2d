"""The protobuf messages: what is compiled is what is written, the numbers are the public ones, and no pool clashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

from bimodal.messages import pool as messages

LEFT_OUT = ("SharedMemory", "Trace", "Log")  # of the public service: they belong to one machine or one server


def test_the_compiled_descriptors_are_those_of_the_files(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    names = sorted(str(path.relative_to(messages.PROTO)) for path in messages.PROTO.rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{messages.PROTO}", f"--descriptor_set_out={made}"]
    subprocess.run([*command, *names], check=True)
    fresh = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes())
    assert fresh == descriptor_pb2.FileDescriptorSet.FromString(messages.DESCRIPTORS.read_bytes())
    assert sorted(each.name for each in fresh.file) == names


def told(file: Any) -> dict[str, dict[str, Any]]:
    """Every field of every message of a file, as its number, type and label; every method."""
    written = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(written)
    found: dict[str, dict[str, Any]] = {}

    def add(message: Any, name: str) -> None:
        found[name] = {
            each.name: (each.number, each.type, each.type_name.rpartition(".")[2], each.label) for each in message.field
        }
        for inner in message.nested_type:
            add(inner, f"{name}.{inner.name}")

    for each in written.message_type:
        add(each, each.name)
    for service in written.service:
        found[f"service {service.name}"] = {
            each.name: (each.input_type, each.output_type, each.client_streaming, each.server_streaming)
            for each in service.method
        }
    return found


@pytest.mark.parametrize(
    ("public", "name"),
    [
        (service_pb2, "inference.proto"),
        (service_pb2.model__config__pb2, "model_config.proto"),
        (health_pb2, "grpc/health/v1/health.proto"),
        (reflection_pb2, "grpc/reflection/v1alpha/reflection.proto"),
    ],
)
def test_fields_and_methods_are_those_of_the_public_clients(public: Any, name: str) -> None:
    ours, theirs = told(messages.pool().FindFileByName(name)), told(public.DESCRIPTOR)
    for message, fields in ours.items():
        if message.startswith("HealthList"):
            assert message not in theirs  # newer than the client
            continue
        for field, number in fields.items():
            if field != "List":
                assert theirs[message][field] == number, (message, field)
    if name == "inference.proto":
        more = set(theirs["service GRPCInferenceService"]) - set(ours["service GRPCInferenceService"])
        assert all(any(part in each for part in LEFT_OUT) for each in more)
        assert all(theirs[each].keys() == ours[each].keys() for each in ours if not each.startswith("service"))


def test_a_message_of_a_public_client_is_ours() -> None:
    theirs = service_pb2.ModelInferRequest(model_name="m", id="7", raw_input_contents=[b"\0" * 8])
    theirs.parameters["a"].uint64_param = 2**64 - 1
    theirs.parameters["b"].double_param = 0.5
    theirs.inputs.add(name="x", datatype="FP64", shape=[1, 1]).contents.fp64_contents.append(-0.0)
    ours = messages.message("inference.ModelInferRequest").FromString(theirs.SerializeToString())
    assert str(ours) == str(theirs)


@pytest.mark.parametrize("order", [("tritonclient.grpc", "bimodal"), ("bimodal", "tritonclient.grpc")])
def test_a_client_library_in_the_same_process_does_not_clash(order: tuple[str, str]) -> None:
    module = {
        "tritonclient.grpc": "import tritonclient.grpc, grpc_health.v1.health_pb2",
        "bimodal": "from bimodal.messages.pool import message; message('inference.ModelInferRequest')",
    }
    done = subprocess.run([sys.executable, "-c", "; ".join(module[each] for each in order)], check=False)
    assert done.returncode == 0
