"""What the log has of models that fail, and that it is never flooded."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2

from bimodal import serve
from bimodal.client import Client
from bimodal.errors import ModelCrashed, ModelFailed, Overloaded
from bimodal.realtime.faults import KINDS, MOST, SPAN, Faults

MODEL = """
class Raises:
    inputs = {"x": float}
    outputs = {"prediction": float}

    def predict(self, rows):
        return self.look(rows["x"])

    def look(self, x):
        if (x > 5).any():
            raise KeyError("branch 7")
        return x
"""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def failed(where: str = "model.py:4 in predict", said: str = "KeyError: 'branch 7'") -> ModelFailed:
    error = ModelFailed("the model raised KeyError on these rows")
    error.said, error.where, error.model = said, where, "raises 1"
    return error


def test_a_line_says_which_request_and_model_failed_and_how(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    faults.tell(failed(said="KeyError: \x1b[2Jbranch"), "request 17")
    faults.tell(ModelCrashed("the process that ran the model was killed by SIGSEGV"), "request 18")
    faults.tell(Overloaded("the queue of this model is full"), "request 19")
    assert caplog.messages == [
        "request 17: raises 1 failed: KeyError: ?[2Jbranch (model.py:4 in predict)",
        "request 18: the model failed: the process that ran the model was killed by SIGSEGV",
    ]


def test_a_flood_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    faults = Faults(clock)
    for number in range(1000):
        faults.tell(failed(), f"request {number}")
    assert len(caplog.messages) == MOST
    assert caplog.messages[-1].endswith("counted, and told no more, for 60 s")
    faults.tell(failed("model.py:9 in look"), "request 1000")  # another kind
    assert len(caplog.messages) == MOST + 1
    clock.now = SPAN
    faults.tell(failed(), "request 1001")
    assert caplog.messages[-1].endswith(f"; {1000 - MOST} more of this kind were not told")
    for number in range(5 * KINDS):
        faults.tell(failed(f"model.py:{number} in predict"), "request")
    assert len(faults._seen) == KINDS


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_the_log_has_what_the_caller_does_not(tmp_path: Path, capfd: pytest.CaptureFixture[str], wire: str) -> None:
    file = tmp_path / "raises.py"
    file.write_text(MODEL)
    with serve(file, port=0) as server:
        if wire == "http":
            with Client(server.url) as client, pytest.raises(ModelFailed) as told:
                client.predict([{"x": 9.0}])
            said = str(told.value)
        else:
            request = service_pb2.ModelInferRequest(model_name="raises", id="1")
            tensor = request.inputs.add(name="x", datatype="FP64", shape=[1, 1])
            tensor.contents.fp64_contents.append(9.0)
            with grpc.insecure_channel(server.grpc) as channel:
                call = channel.unary_unary(
                    "/inference.GRPCInferenceService/ModelInfer",
                    request_serializer=service_pb2.ModelInferRequest.SerializeToString,
                    response_deserializer=service_pb2.ModelInferResponse.FromString,
                )
                with pytest.raises(grpc.RpcError) as refused:
                    call(request, metadata=[("x-request-id", "mine-7")])
            said = refused.value.details()
    logged = capfd.readouterr().err
    assert "KeyError" in said
    assert "branch" not in said
    line = next(each for each in logged.splitlines() if "raises" in each and " failed: " in each)
    assert "request " in line
    assert f"failed: KeyError: 'branch 7' ({file}:7 in predict, {file}:11 in look)" in line
    assert ("mine-7" in line) == (wire == "grpc")
    assert 'raise KeyError("branch 7")' in logged  # the traceback
