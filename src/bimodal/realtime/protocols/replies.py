"""Methods that answer one message with another: from the bytes to the message and back, errors told and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bimodal.messages.pool import message, pool
from bimodal.realtime import failure
from bimodal.realtime.calls import Call, Cancel, Unary
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import statuses
from bimodal.realtime.protocols.tensor_messages import parsed


def unary(service: str, name: str, answer: Callable[[Any], Mapping[str, Any]], metrics: Metrics) -> Unary:
    """A method of a service. answer: from the request to the fields of the response; it raises what is told."""
    taken, given = _messages(service, name)

    def handle(call: Call, data: bytes) -> None:
        try:
            told = given(**answer(parsed(taken, data))).SerializeToString()
        except Exception as error:
            metrics.other(failure.status(error))
            statuses.fail(call, error)
        else:
            metrics.other(200)
            call.respond(told)

    return handle


def later(service: str, name: str, work: Callable[[Any], Awaitable[None]], metrics: Metrics) -> Unary:
    """A method that takes its time and whose response is empty. It goes on when the caller leaves."""
    taken, given = _messages(service, name)
    running: set[asyncio.Task[None]] = set()

    async def done(call: Call, data: bytes) -> None:
        try:
            await work(parsed(taken, data))
        except Exception as error:
            metrics.other(failure.status(error))
            statuses.fail(call, error)
        else:
            metrics.other(200)
            call.respond(given().SerializeToString())

    def handle(call: Call, data: bytes) -> Cancel | None:
        task = asyncio.get_running_loop().create_task(done(call, data))
        running.add(task)  # the loop alone would not keep it
        task.add_done_callback(running.discard)
        return None

    return handle


def _messages(service: str, name: str) -> tuple[Any, Any]:
    """The classes of a method's request and response."""
    method = pool().FindServiceByName(service).FindMethodByName(name)
    return message(method.input_type.full_name), message(method.output_type.full_name)
