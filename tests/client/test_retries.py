"""What is tried again and what is not, within the caller's deadline: a server counts what it gets, both clients ask."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bimodal import AsyncClient, Client
from bimodal.client.failure import failure, seconds
from bimodal.client.patience import Patience
from bimodal.client.question import Answer
from bimodal.errors import (
    DeadlineExceeded,
    ModelNotFound,
    Overloaded,
    ServerUnreachable,
    Unavailable,
    UsageError,
)
from tests.client.flaky import PATIENCE, Flaky, and_leave, answer, half, hang_up, refuse, reset, stall
from tests.ports import free_port

GOOD = answer(body=b'{"prediction":[1]}')
FULL = refuse("429 Too Many Requests", "overloaded", "retry-after: 0")
Asking = Callable[..., Any]


def plainly(url: str, name: str, *values: Any, times: int = 1, **options: Any) -> Any:
    """What the last of some calls of a Client answers."""
    asked = {key: options.pop(key) for key in ("idempotency_key",) if key in options}
    with Client(url, **options) as client:
        return [getattr(client, name)(*values, **asked) for _ in range(times)][-1]


def in_a_loop(url: str, name: str, *values: Any, times: int = 1, **options: Any) -> Any:
    """The same of an AsyncClient."""
    asked = {key: options.pop(key) for key in ("idempotency_key",) if key in options}

    async def run() -> Any:
        async with AsyncClient(url, **options) as client:
            return [await getattr(client, name)(*values, **asked) for _ in range(times)][-1]

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [plainly, in_a_loop])


@both
@pytest.mark.parametrize(
    "bad", [hang_up, reset, FULL, refuse("503 Service Unavailable", "unavailable", "retry-after: 0")]
)
def test_a_prediction_is_asked_again(ask: Asking, bad: Any) -> None:
    with Flaky(bad, bad, GOOD) as server:
        assert ask(server.url, "predict", [[1.0]]) == [{"prediction": 1}]
        assert len(server.requests) == 3
        assert len({request.partition(b"\r\n\r\n")[2] for request in server.requests}) == 1


@both
def test_not_more_often_than_is_said(ask: Asking) -> None:
    with Flaky(FULL) as server:
        with pytest.raises(Overloaded, match="why"):
            ask(server.url, "predict", [[1.0]], retries=2)
        assert len(server.requests) == 3
    with Flaky(hang_up) as server:
        with pytest.raises(ServerUnreachable, match="closed the connection without an answer"):
            ask(server.url, "predict", [[1.0]], retries=1)
        assert len(server.requests) == 2


@both
def test_an_answer_that_broke_off_is_not_asked_for_again(ask: Asking) -> None:
    with Flaky(half, GOOD) as server:
        with pytest.raises(ServerUnreachable, match="in the middle"):
            ask(server.url, "predict", [[1.0]])
        assert len(server.requests) == 1


@both
@pytest.mark.parametrize("bad", [hang_up, FULL])
def test_what_may_do_something_is_sent_once_without_an_idempotency_key(ask: Asking, bad: Any) -> None:
    with Flaky(bad, GOOD) as server:
        with pytest.raises((ServerUnreachable, Overloaded)):
            ask(server.url, "request", "POST", "/jobs/nightly/runs", b"{}")
        assert len(server.requests) == 1
        assert ask(server.url, "request", "POST", "/jobs/nightly/runs", b"{}") == b'{"prediction":[1]}'
    with Flaky(bad, GOOD) as server:
        ask(server.url, "request", "POST", "/jobs/nightly/runs", b"{}", idempotency_key="seven")
        assert len(server.requests) == 2
        assert all(b"idempotency-key: seven" in request for request in server.requests)


@both
def test_retry_after_is_waited_for(ask: Asking) -> None:
    with Flaky(refuse("429 Too Many Requests", "overloaded", "retry-after: 1"), GOOD) as server:
        began = time.monotonic()
        ask(server.url, "predict", [[1.0]])
        assert time.monotonic() - began >= 1


@both
def test_a_wait_beyond_the_deadline_is_not_begun(ask: Asking) -> None:
    with Flaky(refuse("503 Service Unavailable", "unavailable", "retry-after: 300")) as server:
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            ask(server.url, "predict", [[1.0]], timeout=100)
        assert (caught.value.retry_after, len(server.requests)) == (300, 1)
        assert time.monotonic() - began < 90


@both
def test_the_deadline_holds_over_all_tries_and_is_told(ask: Asking) -> None:
    with Flaky(FULL, stall) as server:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"did not answer within 2 s"):
            ask(server.url, "predict", [[1.0]], timeout=2)
        assert time.monotonic() - began < PATIENCE  # when the server would have left
        told = [int(re.findall(rb"x-request-timeout-ms: (\d+)", each)[0]) for each in server.requests]
    assert 0 < told[1] < told[0] <= 2000
    assert told[0] > 20, "they are milliseconds"


@both
def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(ask: Asking) -> None:
    with Flaky(and_leave(GOOD)) as server:
        ask(server.url, "predict", [[1.0]], times=4, retries=0)
        assert len(server.requests) == 4
    with Flaky(GOOD) as server:
        ask(server.url, "predict", [[1.0]], times=4)
        assert server.connections == 1


@both
def test_nobody_there_is_tried_again_and_told(ask: Asking) -> None:
    began = time.monotonic()
    with pytest.raises(ServerUnreachable, match="is `bimodal serve` running"):
        ask(f"http://127.0.0.1:{free_port()}", "request", "POST", "/jobs/a/runs", b"{}", retries=2)
    assert 0.07 <= time.monotonic() - began < PATIENCE
    assert ask(f"http://127.0.0.1:{free_port()}", "ready") is False


@both
def test_a_proxy_in_between_is_understood(ask: Asking) -> None:
    with Flaky(answer("503 Service Unavailable", b"<html>", "retry-after: 0"), GOOD) as server:
        assert ask(server.url, "predict", [[1.0]]) == [{"prediction": 1}]


HTML = "content-type: text/html"
STRANGE = {
    "a proxy's error": answer("502 Bad Gateway", b"<html>", HTML),
    "an error of others": answer("404 Not Found", b'{"error": {"message": "why", "code": null}}', HTML),
    "a page to log in": answer("200 OK", b"<html>", HTML),
    "the way to a page": answer("302 Found", b"", HTML, "location: /login"),
    "nothing": answer("204 No Content", b"", HTML),
    "a list": answer("200 OK", b"[1]", HTML),
    "an object": answer("200 OK", b'{"a": 1}', HTML),
}
ASKED: dict[str, tuple[Any, ...]] = {
    "records": ("predict", [[1.0]]),
    "a frame": ("predict", pd.DataFrame({"a": [1.0]})),
    "an array": ("predict", np.ones((100, 4))),
    "models": ("models",),
    "metadata": ("metadata",),
    "lookup": ("lookup", 7),
}


@both
@pytest.mark.parametrize(
    ("strange", "asked"),
    [(one, two) for one in STRANGE for two in ASKED if (one, two) != ("an object", "metadata")],  # which any may be
)
def test_what_is_no_answer_of_ours_is_told_with_its_address(ask: Asking, strange: str, asked: str) -> None:
    with Flaky(STRANGE[strange]) as server, pytest.raises(ServerUnreachable) as caught:
        ask(server.url, *ASKED[asked])
    said = rf"127\.0\.0\.1:{server.port} answered \d+ \(text/html\), .*is the address right, and does a proxy"
    assert re.search(said, str(caught.value))


@both
@pytest.mark.parametrize("strange", ["a page to log in", "the way to a page", "nothing", "a list"])
def test_who_is_not_bimodal_is_not_ready(ask: Asking, strange: str) -> None:
    with Flaky(STRANGE[strange]) as server:
        assert ask(server.url, "ready") is False


@pytest.mark.parametrize("strange", ["a page to log in", "the way to a page", "a proxy's error"])
def test_a_stream_is_none_where_something_else_answers(strange: str) -> None:
    with Flaky(STRANGE[strange]) as server, Client(server.url) as client, pytest.raises(ServerUnreachable) as plain:
        list(client.stream([1.0]))
    assert "text/html" in str(plain.value)

    async def pieces(url: str) -> list[Any]:
        async with AsyncClient(url) as client:
            return [piece async for piece in client.stream([1.0])]

    with Flaky(STRANGE[strange]) as server, pytest.raises(ServerUnreachable, match="text/html"):
        asyncio.run(pieces(server.url))


@both
def test_an_error_in_openais_shape_is_understood(ask: Asking) -> None:
    body = b'{"error": {"message": "there is none", "type": "a", "param": null, "code": "model_not_found"}}'
    with Flaky(answer("404 Not Found", body)) as server, pytest.raises(ModelNotFound, match="there is none"):
        ask(server.url, "request", "GET", "/v1/models/a")


def test_retry_after_is_understood_as_seconds_and_as_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=90)
    plain = soon.replace(tzinfo=None)
    for date in (
        format_datetime(soon, usegmt=True),
        f"{plain:%A, %d-%b-%y %H:%M:%S} GMT",
        f"{plain:%a %b %d %H:%M:%S %Y}",
    ):
        assert 60 <= seconds(date) <= 90
    assert seconds("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    assert [seconds(each) for each in ("7", "007", "9" * 400, "9" * 5000)] == [7, 7, 10**8, 10**8]
    far = "Sun, 06 Nov 9999 08:49:37 GMT"
    assert seconds(far) == 10**8
    for other in ("", "soon", "-1", "1.5", "\xb2", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT"):
        assert seconds(other) == 0


@both
@pytest.mark.parametrize("told", ["9" * 400, "Sun, 06 Nov 2094 08:49:37 GMT"])
def test_a_far_retry_after_is_an_error_at_once(ask: Asking, told: str) -> None:
    with Flaky(refuse("503 Service Unavailable", "unavailable", f"retry-after: {told}")) as server:
        with pytest.raises(Unavailable):
            ask(server.url, "predict", [[1.0]], timeout=60)
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_without_retry_after_the_first_wait_is_short(status: int) -> None:
    for body in (b"<html>", b'{"error":"why","code":"overloaded"}'):
        patience = Patience(60, 3, "there")
        waits = [patience.again(failure(Answer(status, {}, body), "there"), safe=True) for _ in range(3)]
        assert all(wait <= most for wait, most in zip(waits, (0.05, 0.1, 0.2), strict=True))


@both
def test_a_key_is_taken_as_a_file_has_it(ask: Asking) -> None:
    with Flaky(GOOD) as server:
        ask(server.url, "predict", [[1.0]], key=" secret\r\n")
        assert b"authorization: Bearer secret\r\n" in server.requests[0]


@both
def test_a_key_is_sent_and_headers_cannot_be_smuggled_in(ask: Asking) -> None:
    with Flaky(GOOD) as server:
        ask(server.url, "predict", [[1.0]], key="secret")
        assert b"authorization: Bearer secret\r\n" in server.requests[0]
        for key in ("a\r\nb: c", "a b", "ä"):
            with pytest.raises(UsageError, match="key is no API key: one is printable ASCII"):
                ask(server.url, "predict", [[1.0]], key=key)
        for key in ("", " \n"):
            with pytest.raises(UsageError, match="key is empty"):
                ask(server.url, "predict", [[1.0]], key=key)
        for path in ("/a b", "/a\r\nb: c", "/ä"):
            with pytest.raises(UsageError, match="path of a request"):
                ask(server.url, "request", "GET", path)
        assert len(server.requests) == 1


def test_threads_share_a_bounded_pool() -> None:
    def slow(connection: Any) -> bool:
        time.sleep(0.02)
        return GOOD(connection)

    with Flaky(slow) as server, Client(server.url, connections=3) as client:
        threads = [threading.Thread(target=lambda: client.predict([[1.0]])) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 12
        assert server.connections <= 3


def test_tasks_share_a_bounded_pool_and_one_that_leaves_harms_nobody() -> None:
    three, left = threading.Barrier(4), threading.Event()

    def slow(connection: Any) -> bool:
        if not left.is_set():
            three.wait(PATIENCE)
            left.wait(PATIENCE)
        return GOOD(connection)

    async def run(server: Flaky) -> list[Any]:
        async with AsyncClient(server.url, connections=3) as client:
            tasks = [asyncio.create_task(client.predict([[1.0]])) for _ in range(12)]
            await asyncio.to_thread(three.wait, PATIENCE)  # so many are under way
            for task in (tasks[0], tasks[1], tasks[7]):
                task.cancel()
            left.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    with Flaky(slow) as server:
        answers = asyncio.run(run(server))
        assert sum(each == [{"prediction": 1}] for each in answers) == 9
        assert server.most <= 5  # those that were left are closed, others take their places
