"""The extensions that are requests' parameters: custom ones, priority and timeout."""

from __future__ import annotations

import time

from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import MUST, SHOULD, check
from conformance.checks.errors import told_error
from conformance.checks.rpc import ask, sleeping
from conformance.target import Target, asking, check_equal, expect, outputs

SOURCE = "Triton, extension_schedule_policy.md"
NAME = "schedule_policy"


@check(
    "parameters/custom", MUST, "Triton, extension_parameters.md", "custom parameters are taken", extension="parameters"
)
def custom(target: Target) -> None:
    outputs(target.infer(target.subject, asking(target.subject.sample(), parameters={"my_custom_parameter": 42})))


@check("parameters/priority", MUST, SOURCE, "a priority changes no answer; 0 is the default", extension=NAME)
def priority(target: Target) -> None:
    inputs = target.subject.sample()
    wanted = target.answers(target.subject, inputs)
    for level in (0, 1, 2):
        reply = target.infer(target.subject, asking(inputs, parameters={"priority": level}))
        check_equal(outputs(reply), wanted, "with a priority", reply)


@check(
    "parameters/timeout", MUST, SOURCE, "a timeout, in microseconds, that is long enough harms nobody", extension=NAME
)
def timeout(target: Target) -> None:
    outputs(target.infer(target.subject, asking(target.subject.sample(), parameters={"timeout": 20_000_000})))


@check(
    "parameters/timed-out", SHOULD, SOURCE, "a request that cannot be done in time ends with an error", extension=NAME
)
def timed_out(target: Target) -> None:
    subject = target.needs("slow")
    inputs = sleeping(subject, 1500)
    start = time.monotonic()
    told_error(target.infer(subject, asking(inputs, parameters={"timeout": 200_000})))
    expect(time.monotonic() - start < 1.4, "the error came later than the answer would have")


@check("parameters/bad-timeout", SHOULD, SOURCE, "a timeout that is no whole number: an error", extension=NAME)
def bad_timeout(target: Target) -> None:
    told_error(target.infer(target.subject, asking(target.subject.sample(), parameters={"timeout": "soon"})))


@check("parameters/grpc", MUST, SOURCE, "priority and timeout are taken over gRPC", extension=NAME, grpc=True)
def over_grpc(target: Target) -> None:
    told = {"priority": messages.InferParameter(uint64_param=1)}
    ask(target, target.subject, target.subject.sample(), parameters=told).good()
    told = {"timeout": messages.InferParameter(int64_param=20_000_000)}
    ask(target, target.subject, target.subject.sample(), parameters=told).good()
