"""Answers in pieces: what both clients see of a model that streams, and what the model sees of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from bimodal import AsyncClient, Client, serve
from bimodal.errors import BimodalError, DeadlineExceeded, InputError, ModelFailed, ModelNotFound, ServerUnreachable
from bimodal.realtime.server import Server
from tests.client.flaky import PATIENCE, Act, Flaky, answer, hang_up, stall
from tests.ports import free_port
from tests.talkative import TALK, note

Ask = Callable[..., list[Any]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b'event: end\ndata: {"pieces":1}\n\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "talk.py").write_text(TALK)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serve(f"{folder}/talk.py:Talk", port=0) as server:
        yield server


def plainly(url: str, row: Any, most: int = 1000, **options: Any) -> list[Any]:
    """The pieces that a Client gives, no more than `most`."""
    taken: list[Any] = []
    with Client(url) as client, closing(client.stream(row, **options)) as pieces:
        for piece in pieces:
            taken.append(piece)
            if len(taken) == most:
                break
    return taken


def in_a_loop(url: str, row: Any, most: int = 1000, **options: Any) -> list[Any]:
    """The same of an AsyncClient."""

    async def run() -> list[Any]:
        taken: list[Any] = []
        async with AsyncClient(url) as client, aclosing(client.stream(row, **options)) as pieces:
            async for piece in pieces:
                taken.append(piece)
                if len(taken) == most:
                    break
        return taken

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [plainly, in_a_loop])
wires = pytest.mark.parametrize("wire", ["http", "grpc"])


def over(wire: str, server: Server) -> str:
    return server.url.replace("http", wire)


def chunks(*pieces: bytes, whole: bool = True, pause: float = 0.01) -> Act:
    """Events in chunks as they are given; whole: the answer has its end."""

    def act(connection: Any) -> bool:
        connection.sendall(HEAD)
        for piece in pieces:
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(pause)
        connection.sendall(b"0\r\n\r\n" if whole else b"")
        return whole

    return act


@wires
@both
def test_the_pieces_come_in_their_order(server: Server, ask: Ask, wire: str) -> None:
    pieces = ask(over(wire, server), {"prompt": "hello", "count": 3})
    assert pieces == [{"text": f"hello {step};", "step": step} for step in range(3)]
    assert ask(over(wire, server), ["hello", 2], outputs=["step"]) == [{"step": 0}, {"step": 1}]


@wires
@both
def test_leaving_stops_the_model(server: Server, folder: Path, ask: Ask, wire: str) -> None:
    (folder / "slow.closed").unlink(missing_ok=True)
    assert len(ask(over(wire, server), {"prompt": "slow", "count": 10_000}, most=2)) == 2
    assert note(folder, "slow.closed") < 9_999


@wires
@both
def test_much_comes_whole(server: Server, ask: Ask, wire: str) -> None:
    pieces = ask(over(wire, server), {"prompt": "wide", "count": 40})
    assert [len(each["text"]) for each in pieces] == [100_000] * 40


@wires
@both
def test_errors_are_the_models_before_the_first_piece_and_after(server: Server, ask: Ask, wire: str) -> None:
    for count in ("many", 2**70):
        with pytest.raises(InputError) as caught:
            ask(over(wire, server), {"prompt": "hello", "count": count})
        assert (caught.value.row, caught.value.column) == (1, "count")
    with pytest.raises(BimodalError) as failed:
        ask(over(wire, server), {"prompt": "fail", "count": 5})
    assert failed.value.code == "model_failed"
    with pytest.raises(ModelNotFound):
        ask(over(wire, server), {"prompt": "hello", "count": 1}, model="nothing")


@wires
@both
def test_a_model_that_falls_silent_is_told_with_the_pieces_that_had_come(
    server: Server, folder: Path, ask: Ask, wire: str
) -> None:
    with pytest.raises(DeadlineExceeded, match=r"; 1 piece had come; timeout= is for each"):
        ask(over(wire, server), {"prompt": "stuck", "count": 3}, timeout=2)
    (folder / "free").touch()  # else it keeps its place
    note(folder, "stuck.closed")
    for name in ("free", "stuck.closed"):
        (folder / name).unlink()


@both
def test_a_grpc_stream_of_nobody_is_told(ask: Ask) -> None:
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        ask(f"grpc://127.0.0.1:{free_port()}", {"prompt": "hello", "count": 1}, timeout=3)


def before_the_error(url: str, row: Any, taken: list[Any]) -> None:
    with Client(url) as client, closing(client.stream(row)) as pieces:
        taken.extend(pieces)


def before_the_error_in_a_loop(url: str, row: Any, taken: list[Any]) -> None:
    async def run() -> None:
        async with AsyncClient(url) as client, aclosing(client.stream(row)) as pieces:
            async for piece in pieces:
                taken.append(piece)

    asyncio.run(run())


@pytest.mark.parametrize("take", [before_the_error, before_the_error_in_a_loop])
def test_what_came_before_an_error_is_handed_out(take: Callable[[str, Any, list[Any]], None]) -> None:
    fault = b'event: error\ndata: {"error":"it failed","code":"model_failed"}\n\n'
    events = b"".join(b'data: {"a":%d}\n\n' % number for number in range(3)) + fault

    def at_once(connection: Any) -> bool:
        connection.sendall(HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(events), events))
        return True

    def cut_at_once(connection: Any) -> bool:
        connection.sendall(HEAD + b"%x\r\n%b" % (len(events), events.removesuffix(fault)))
        return False

    for act, error in ((at_once, ModelFailed), (cut_at_once, ServerUnreachable)):
        taken: list[Any] = []
        with Flaky(act) as server, pytest.raises(error):
            take(server.url, [1], taken)
        assert taken == [{"a": 0}, {"a": 1}, {"a": 2}]


@both
def test_a_stream_is_asked_for_again_only_before_its_first_byte(ask: Ask) -> None:
    good = chunks(b'data: {"a":1}\n', b"\n" + END)
    with Flaky(hang_up, good) as server:
        assert ask(server.url, [1]) == [{"a": 1}]
        assert len(server.requests) == 2
        assert b"accept: text/event-stream" in server.requests[0]
    for broken in (chunks(b'data: {"a":1}\n\n', whole=False), chunks(b'data: {"a":1}\n\n'), chunks(whole=False)):
        with Flaky(broken) as server:
            with pytest.raises(ServerUnreachable, match="in the middle"):
                ask(server.url, [1])
            assert len(server.requests) == 1
    with Flaky(
        answer("429 Too Many Requests", b'{"error":"full","code":"overloaded"}', "retry-after: 0"), good
    ) as server:
        assert ask(server.url, [1]) == [{"a": 1}]


@both
def test_the_timeout_is_for_the_first_piece_and_for_each_further_one(ask: Ask) -> None:
    many = chunks(*[b'data: {"a":1}\n\n'] * 60, END, pause=0.04)
    with Flaky(hang_up, many) as server:
        assert len(ask(server.url, [1], timeout=2)) == 60
        assert all(b"x-request-timeout-ms: 2000\r\n" in request for request in server.requests)


LATE = b'event: error\ndata: {"error":"nothing more within the deadline","code":"deadline_exceeded"}\n\n'


def falls_silent(connection: Any) -> bool:
    chunks(*[b'data: {"a":1}\n\n'] * 2, b": no piece\n\n", whole=False)(connection)
    return stall(connection)


@both
@pytest.mark.parametrize(
    ("act", "why"),
    [
        (falls_silent, "did not give another piece within 1 s; 2 pieces had come; timeout= is for each"),
        (
            chunks(b'data: {"a":1}\n\n', LATE),
            "nothing more within the deadline; 1 piece had come; timeout= is for each",
        ),
        (stall, "did not answer within 1 s"),
    ],
)
def test_a_piece_that_does_not_come_in_time_is_told_with_those_that_had_come(ask: Ask, act: Act, why: str) -> None:
    began = time.monotonic()
    with Flaky(act) as server, pytest.raises(DeadlineExceeded, match=re.escape(why)):
        ask(server.url, [1], timeout=1)
    assert time.monotonic() - began < PATIENCE  # when the server would have left
