"""Answers in pieces over HTTP: events of /predict, and Open Inference's generate."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bimodal
from bimodal.realtime.limits import Limits
from bimodal.realtime.server import Server
from tests.realtime.desk import Ask, Collected, Desk
from tests.realtime.shelf import loaded
from tests.realtime.wire import Answer, Client
from tests.talkative import TALK, note

ENDLESS = 10**9
ACCEPT = b"accept: text/event-stream\r\n"
JSON = b"content-type: application/json\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("talkative")
    (made / "talk.py").write_text(TALK)
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with bimodal.serve(f"{folder}/talk.py:Talk", port=0) as running:
        yield running


def ask(server: Server, path: str, body: Any, *fields: bytes) -> Answer:
    with Client(server.port) as client:
        return client.post(path, json.dumps(body).encode(), JSON, *fields).answer()


def events(body: bytes) -> list[tuple[str | None, Any]]:
    """Names and JSON of the events, by the rules of the format."""
    found = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event"), json.loads(lines["data"])))
    return found


def row(prompt: str, count: int = 3) -> dict[str, Any]:
    return {"input": {"prompt": prompt, "count": count}}


def test_each_piece_is_an_event_and_the_end_has_one(server: Server) -> None:
    answer = ask(server, "/models/Talk/predict", row("a"), ACCEPT)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    pieces = [(None, {"text": f"a {step};", "step": step}) for step in range(3)]
    assert events(answer.body) == [*pieces, ("end", {"pieces": 3})]


def test_outputs_are_chosen_as_ever(server: Server) -> None:
    answer = ask(server, "/predict?outputs=step", row("a"), ACCEPT)
    assert [piece for _, piece in events(answer.body)] == [{"step": 0}, {"step": 1}, {"step": 2}, {"pieces": 3}]


def test_without_events_the_answer_is_whole(server: Server) -> None:
    assert ask(server, "/predict", row("a")).json == {"text": ["a 0;a 1;a 2;"], "step": [2]}


def test_what_fails_before_the_first_piece_has_its_own_status(server: Server) -> None:
    for body, status, code in (
        ({"input": {"prompt": "a", "count": "many"}}, 400, "wrong_type"),
        ({"input": [row("a")["input"]] * 2}, 400, "invalid_input"),
        (row("strange"), 500, "model_failed"),
    ):
        answer = ask(server, "/predict", body, ACCEPT)
        assert (answer.status, answer.json["code"]) == (status, code)
    answer = ask(server, "/predict", {"input": "x" * 17_000_000}, ACCEPT)
    assert (answer.status, answer.json["code"]) == (413, "too_large")


def test_what_fails_later_is_an_event_without_data_of_the_request(server: Server) -> None:
    *pieces, (name, last) = events(ask(server, "/predict", row("fail"), ACCEPT, b"x-request-id: mine\r\n").body)
    assert last["request_id"] == "mine"
    assert [piece["step"] for _, piece in pieces] == [0, 1]
    assert (name, last["code"]) == ("error", "model_failed")
    assert "4711" not in last["error"]


def test_a_caller_who_leaves_stops_the_model(server: Server, folder: Path) -> None:
    with Client(server.port) as client:
        client.post("/predict", json.dumps(row("leaving", ENDLESS)).encode(), JSON, ACCEPT)
        assert client.socket.recv(100).startswith(b"HTTP/1.1 200")
    note(folder, "leaving.closed")


def test_a_reader_who_does_not_read_holds_the_model_up(server: Server, folder: Path) -> None:
    """The model yields what fits the sockets on the way, and no more; no memory grows meanwhile."""
    with Client(server.port) as client:
        client.post("/predict", json.dumps(row("wide", ENDLESS)).encode(), JSON, ACCEPT)
        client.socket.recv(1)
        yielded, memory = -1, 0
        while (now := note(folder, "wide")) != yielded:
            assert now < 300  # pieces of 100 kB
            yielded, memory = now, resident(server)
            time.sleep(0.6)
        assert resident(server) - memory < 2**20
    note(folder, "wide.closed")


def resident(server: Server) -> int:
    """Bytes of memory of the workers, and of the models' processes."""
    pids = [str(pid) for pid in server.pids]
    pids += [child for pid in server.pids for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids)


def test_more_answers_than_places_are_refused_at_once(server: Server, folder: Path) -> None:
    callers = [Client(server.port) for _ in range(3)]
    try:
        for place, caller in enumerate(callers):
            caller.post("/predict", json.dumps(row(f"busy{place}", ENDLESS)).encode(), JSON, ACCEPT)
            caller.socket.recv(1)
        refused = ask(server, "/predict", row("a"), ACCEPT)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert ask(server, "/v2/models/Talk/generate", {"text_input": "a", "count": 1}).status == 429
    finally:
        for caller in callers:
            caller.socket.close()
    for place in range(3):
        note(folder, f"busy{place}.closed")
    until = time.monotonic() + 60  # a place is free a moment after the generator is closed
    while (status := ask(server, "/predict", row("a"), ACCEPT).status) == 429 and time.monotonic() < until:
        time.sleep(0.02)
    assert status == 200


def test_a_model_that_yields_nothing_has_said_an_empty_text(server: Server) -> None:
    none = row("none", 0)
    for fields in ((), (ACCEPT,)):
        answer = ask(server, "/predict", none, *fields)
        assert (answer.status, answer.json["error"]) == (500, "the model yielded no step, which `outputs` promises")
    assert ask(server, "/predict?outputs=text", none).json == {"text": [""]}
    answer = ask(server, "/predict?outputs=text", none, ACCEPT)
    assert events(answer.body) == [(None, {"text": ""}), ("end", {"pieces": 1})]


def test_generate_answers_whole(server: Server) -> None:
    body = {"id": "7", "text_input": "a", "parameters": {"count": 2}}
    told = ask(server, "/v2/models/Talk/generate", body).json
    version = told.pop("model_version")
    assert told == {"id": "7", "model_name": "Talk", "text_output": "a 0;a 1;", "step": 1}
    assert ask(server, f"/v2/models/Talk/versions/{version}/generate", body).json["text_output"] == "a 0;a 1;"


def test_a_whole_answer_is_due_at_the_deadline(server: Server, folder: Path) -> None:
    for prompt, path, body in (
        ("late_1", "/v2/models/Talk/generate", {"text_input": "late_1", "count": ENDLESS}),
        ("late_2", "/v1/completions", {"model": "Talk", "prompt": "late_2", "count": ENDLESS}),
        ("late_3", "/predict", row("late_3", ENDLESS)),
    ):
        answer = ask(server, path, body, b"x-request-timeout-ms: 300\r\n")
        assert answer.status == 504, answer.body
        note(folder, f"{prompt}.closed")


def test_generate_stream_answers_in_events(server: Server) -> None:
    answer = ask(server, "/v2/models/Talk/generate_stream", {"text_input": "a", "parameters": {"count": 2}})
    told = [value for _, value in events(answer.body)]
    assert [(each["text_output"], each["done"]) for each in told] == [("a 0;", False), ("a 1;", False), ("", True)]
    assert {each["model_name"] for each in told} == {"Talk"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"parameters": {"count": 2}}, 422),
        ({"text_input": 7}, 422),
        ({"text_input": "a", "parameters": 7}, 422),
        ({"text_input": "a", "parameters": {"count": 2, "heat": 1}}, 422),
        ([], 422),
        ({"text_input": "strange", "parameters": {"count": 2}}, 424),
        ({"text_input": "fail", "parameters": {"count": 5}}, 424),
    ],
)
def test_generate_has_statuses_of_its_own(body: Any, status: int, server: Server) -> None:
    answer = ask(server, "/v2/models/Talk/generate", body)
    assert answer.status == status
    assert "4711" not in answer.json["error"]


def test_an_error_after_the_first_event_is_an_object_of_its_own(server: Server) -> None:
    answer = ask(server, "/v2/models/Talk/generate_stream", {"text_input": "fail", "count": 5})
    *pieces, (_, last) = events(answer.body)
    assert answer.status == 200
    assert [piece["step"] for _, piece in pieces] == [0, 1]
    assert set(last) >= {"error", "code"}


async def streamed(desk: Desk, body: Any) -> list[tuple[str | None, Any]]:
    """The events of the app without a socket."""
    writer = Collected()
    request = Ask("/predict", body, headers={"accept": "text/event-stream"}).request()
    intake = desk.app.stream(request, writer)
    assert intake is not None
    intake.feed(request.body)
    intake.finish()
    await asyncio.wait_for(writer.ended.wait(), 60)
    return events(b"".join(writer.pieces))


def test_an_ordinary_model_answers_in_one_event() -> None:
    desk = Desk(loaded("logistic"), limits=Limits())
    try:
        body = {"input": loaded("logistic").signature.example()}
        plain = desk.answer(body)
        assert desk.run(lambda: streamed(desk, body)) == [(None, plain), ("end", {"pieces": 1})]
        assert desk.ask("/v2/models/logistic/generate", {"text_input": "a"}).status == 404
    finally:
        desk.close()
