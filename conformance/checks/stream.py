"""ModelStreamInfer: many requests and many answers over one call, as Triton wraps them.

No extension names it, and MLServer has another method of the same name, so nothing here is a must.
"""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import SHOULD, Absent, check
from conformance.checks.datatypes import request
from conformance.target import SERVICE, Target, check_equal, expect
from conformance.tensors import from_message, tensor

SOURCE = "Triton, grpc_service.proto, ModelStreamInfer"


def _streamed(target: Target, requests: list[Any]) -> list[Any]:
    """The answers of a stream. Raises Absent where the server has no such call."""
    open_stream = target.channel.stream_stream(
        f"{SERVICE}ModelStreamInfer",
        request_serializer=messages.ModelInferRequest.SerializeToString,
        response_deserializer=messages.ModelStreamInferResponse.FromString,
    )
    try:
        return list(open_stream(iter(requests), timeout=target.timeout))
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise Absent("the server has no ModelStreamInfer") from None
        expect(False, f"the stream ended with {error.code().name}: {error.details()}")
        raise


def _requests(target: Target, count: int) -> list[Any]:
    """Requests with their number as id."""
    subject = target.subject
    return [request(subject, subject.sample(_rows(target), seed), as_raw=True, id=str(seed)) for seed in range(count)]


def _rows(target: Target) -> int:
    """Two; a model that answers piece by piece may take one row at a time."""
    return 1 if target.decoupled else 2


@check("stream/answers", SHOULD, SOURCE, "each request gets its answer, or its pieces, with its id", grpc=True)
def answers(target: Target) -> None:
    told = _streamed(target, _requests(target, 5))
    for each in told:
        expect(not each.error_message, f"an error: {each.error_message}")
    seen = {each.infer_response.id for each in told}
    expect(seen == set("01234"), f"the requests 0 to 4 got answers to {', '.join(sorted(seen))}")
    expect(len(told) == 5 or target.decoupled, f"five requests got {len(told)} answers")
    for each in told if not target.decoupled else ():
        seed = int(each.infer_response.id)
        wanted = target.answers(target.subject, target.subject.sample(_rows(target), seed=seed))
        check_equal(from_message(each.infer_response), wanted, f"answer {seed}")


@check("stream/errors", SHOULD, SOURCE, "a bad request gets an error_message; the others their answers", grpc=True)
def errors(target: Target) -> None:
    requests = _requests(target, 3)
    requests[1].inputs[0].datatype = "FP128"
    told = _streamed(target, requests)
    failed = sum(bool(each.error_message) for each in told)
    good = {each.infer_response.id for each in told if not each.error_message}
    expect(failed == 1 and good == {"0", "2"}, f"answered are {', '.join(sorted(good))}, with an error {failed}")


@check("stream/final", SHOULD, SOURCE, "the last answer says triton_final_response where that is asked", grpc=True)
def final(target: Target) -> None:
    requests = _requests(target, 1)
    requests[0].parameters["triton_enable_empty_final_response"].bool_param = True
    told = _streamed(target, requests)
    expect(told[-1].infer_response.parameters["triton_final_response"].bool_param, "it does not say so")


@check("stream/pieces", SHOULD, SOURCE, "a model that answers piece by piece sends several answers", grpc=True)
def pieces(target: Target) -> None:
    subject = target.needs("words")
    given = tensor("text_input", "BYTES", tuple(abs(each) for each in subject.inputs[0]["shape"]), ["one two three"])
    told = _streamed(target, [request(subject, [given], as_raw=True, id="w")])
    texts = [from_message(each.infer_response) for each in told if each.infer_response.outputs]
    joined = b"".join(outputs[0].values[0] for outputs in texts)
    expect(len(texts) > 1, f"{len(texts)} answer")
    expect(joined.split() == [b"one", b"two", b"three"], f"joined they are {joined!r}")
