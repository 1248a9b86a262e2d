"""`answer_once`: one request through the app that a server would have, without a port or a worker process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bimodal import keys
from bimodal.errors import DeadlineExceeded
from bimodal.realtime import wiring
from bimodal.realtime.exchange import Request, Response
from bimodal.realtime.head import unquoted
from bimodal.realtime.keeper import stocked
from bimodal.realtime.limits import Limits
from bimodal.realtime.serving import SETTINGS, limits_of, prepare


def answer_once(
    models: Sequence[Any], method: str, target: str, body: bytes = b"", *, loading: Mapping[str, Any], **options: Any
) -> Response:
    """What the server would answer to one request: no socket, no worker process."""
    prepared = prepare(models, {name: options.get(name) for name in SETTINGS}, loading)
    spec, told = prepared.spec(metrics=None), prepared.told  # `prepared` holds what was fetched, until the answer
    if spec["guard"]["keys"] is not None:
        keys.load(spec["guard"]["keys"])  # what is wrong with them is told before a model is loaded
    stock = None  # which keeps the copies of a repository's models, until the answer
    if spec["repository"] is not None:
        stock, spec["stock"] = stocked(spec["repository"])
    path, _, query = target.partition("?")
    headers = {b"content-type": b"application/json", b"host": b"localhost"}
    answer = asyncio.run(_answer(spec, limits_of(told), (method, unquoted(path), query, headers, body)))
    del stock
    return answer


async def _answer(
    spec: dict[str, Any], limits: Limits, asked: tuple[str, str, str, dict[bytes, bytes], bytes]
) -> Response:
    loop = asyncio.get_running_loop()
    wired = await wiring.build(spec, limits, 0)
    answered: asyncio.Future[Response] = loop.create_future()
    request = Request(*asked, received=time.monotonic())
    wired.app(request, answered.set_result)
    try:
        response = await asyncio.wait_for(answered, limits.deadline)
        if wired.observer is not None:
            wired.observer.saw_alone(request, response)
        return response
    except TimeoutError:
        raise DeadlineExceeded(f"no answer within {limits.deadline:g} s") from None
    finally:
        await wired.close()
