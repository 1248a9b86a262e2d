"""The access log: a line for each request of every wire, with its id, and nothing of what it holds."""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, cast

import httpx
import pyarrow.parquet as pq
import pytest

from bimodal.errors import UsageError
from bimodal.realtime import access
from bimodal.realtime.access import AccessLog
from bimodal.realtime.asgi import asgi
from bimodal.realtime.exchange import App
from bimodal.realtime.limits import Limits
from bimodal.realtime.note import Note
from bimodal.realtime.observer import Observer
from bimodal.realtime.serving import prepare, serve
from tests.models import CASES
from tests.realtime.services import until
from tests.realtime.test_http import wait_for
from tests.realtime.watched import INFER, ROW, Reply, Watched, watched

SECRET = "Geheimnis4711"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").fullmatch
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
FIELDS = {"time", "request_id", "method", "route", "protocol", "bytes_in", "bytes_out", "ms", "peer"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("log") / "access.log", Limits(body_bytes=4096)) as server:
        yield server


@pytest.fixture(scope="module")
def asked(server: Watched) -> list[tuple[Reply, str, str, str]]:
    """Requests of every kind: what came back, and the protocol, the route and the error that are to be told."""
    good, body = {"input": ROW}, "POST"
    bad = {"input": [SECRET]}
    return [
        (server.http(body, f"/predict?key={SECRET}", good, {"cookie": SECRET}), "HTTP/1.1", "/predict", ""),
        (server.http(body, "/predict", bad, PARENT), "HTTP/1.1", "/predict", "wrong_type"),
        (server.http("GET", f"/nothing/{SECRET}"), "HTTP/1.1", "", "not_found"),
        (server.http(body, "/predict", b"x" * 5000), "HTTP/1.1", "/predict", "too_large"),
        (server.http("GET", "/health/live"), "HTTP/1.1", "/health/live", ""),
        (server.raw(b"GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1", "", "malformed"),
        (server.raw(b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 40_000), "HTTP/1.1", "", "headers_too_large"),
        (server.http2(body, f"/predict?key={SECRET}", good), "HTTP/2", "/predict", ""),
        (server.http2(body, "/predict", bad), "HTTP/2", "/predict", "wrong_type"),
        (server.http2(body, "/predict", b"x" * 5000), "HTTP/2", "/predict", "too_large"),
        (server.infer([ROW, ROW]), "gRPC", INFER, ""),
        (server.infer([ROW], [("x-request-id", "mine-1")]), "gRPC", INFER, ""),
        (server.infer([[1.0]]), "gRPC", INFER, "wrong_width"),
        (server.call(f"/{SECRET}/None", b""), "gRPC", "", "not_implemented"),
        (server.http(body, "/predict", good, {"x-request-id": "mine-2"}), "HTTP/1.1", "/predict", ""),
    ]


def test_each_request_of_every_wire_has_its_line(server: Watched, asked: list[tuple[Reply, str, str, str]]) -> None:
    lines = {line["request_id"]: line for line in server.lines(len(asked))}
    for reply, protocol, route, error in asked:
        line = lines[reply.name]
        assert set(line) >= FIELDS
        assert (line["protocol"], line["route"]) == (protocol, route)
        assert line["grpc_status" if protocol == "gRPC" else "status"] == reply.status
        assert line["peer"] == "127.0.0.1"
        assert STAMP(line["time"])
        assert 0 <= line["ms"] < 120_000
        assert bool(line.get("error")) == bool(error)
        assert error in ("", "wrong_type", "wrong_width") or line["error"] == error


def test_every_answer_has_an_id_of_its_own_or_the_callers(asked: list[tuple[Reply, str, str, str]]) -> None:
    names = [reply.name for reply, *_ in asked]
    assert len(set(names)) == len(names)
    assert {"mine-1", "mine-2"} <= set(names)
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names if not name.startswith("mine"))


def test_nothing_of_a_request_is_told(server: Watched, asked: list[tuple[Reply, str, str, str]]) -> None:
    server.lines(len(asked))
    assert SECRET.encode() not in server.log.read_bytes()


def test_a_line_tells_model_stages_bytes_and_trace(server: Watched, asked: list[tuple[Reply, str, str, str]]) -> None:
    lines = {line["request_id"]: line for line in server.lines(len(asked))}
    good, bad = lines[asked[0][0].name], lines[asked[1][0].name]
    assert (good["model"], good["method"]) == ("inline", "POST")
    assert list(good["stages"]) == ["parse", "check", "queue", "predict", "encode"]
    assert sum(good["stages"].values()) <= good["ms"] + 0.01
    assert good["bytes_in"] == len(json.dumps({"input": ROW}))
    assert good["bytes_out"] == len(asked[0][0].body)
    assert "trace_id" not in good
    assert bad["trace_id"] == TRACE
    assert bad["model"] == "inline"


def test_server_timing_and_the_log_tell_the_same(server: Watched) -> None:
    reply = server.http("POST", "/predict", {"input": ROW})
    timing = dict(part.strip().split(";dur=") for part in reply.headers["server-timing"].split(","))
    line = server.line(reply.name)
    assert {stage: float(told) for stage, told in timing.items()} == line["stages"]


def test_a_stream_is_one_line_with_the_bytes_of_its_answer(server: Watched) -> None:
    body = b"".join([b"%s\n" % json.dumps(ROW).encode() for _ in range(5)])
    reply = server.http("POST", "/predict", body, {"content-type": "application/x-ndjson"})
    assert reply.status == 200
    assert reply.name
    line = server.line(reply.name)
    assert (line["bytes_in"], line["bytes_out"]) == (len(body), len(reply.body))


def test_no_body_is_counted_where_none_is_sent(server: Watched) -> None:
    for wire in (server.http, server.http2):
        for path, status in (("/health/live", 200), ("/nothing", 404)):
            reply = wire("HEAD", path, headers={"x-request-id": f"head-{wire.__name__}-{status}"})
            line = server.line(reply.name)
            assert (line["status"], line["bytes_out"], reply.body) == (status, 0, b"")


def test_asgi_is_told_of_alike(server: Watched) -> None:
    wired = server.wired
    application = asgi(wired.app, observer=wired.observer, metrics=wired.metrics)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=application, client=("192.0.2.1", 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/health/live")

    line = server.line(asyncio.run(ask()).headers["x-request-id"])
    assert (line["route"], line["peer"], line["status"]) == ("/health/live", "192.0.2.1", 200)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Reply], list[dict[str, Any]], list[dict[str, Any]]]:
    """Answers over every wire, most without an id of the caller; the lines of the access log and the rows of the
    prediction log.
    """
    folder = tmp_path_factory.mktemp("joined")
    spec = {"folder": str(folder / "log"), "sample": 1.0, "age": 60.0, "without": [], "models": {}, "alone": True}
    good, lines = {"input": ROW}, b"%s\n" % json.dumps(ROW).encode() * 3
    ndjson = {"content-type": "application/x-ndjson"}
    with watched(folder / "access.log", record=spec) as server:
        replies = [
            server.http("POST", "/predict", good),
            server.http("POST", "/predict", good, {"x-request-id": "mine-1"}),
            server.http("POST", "/predict", lines, ndjson),
            server.http2("POST", "/predict", good),
            server.http2("POST", "/predict", lines, ndjson),
            server.infer([ROW, ROW]),
            server.infer([ROW], [("x-request-id", "mine-2")]),
        ]
        told = server.lines(len(replies))
    rows = [row for path in (folder / "log").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return replies, told, rows


def test_the_answer_the_line_and_the_logged_rows_have_one_id(
    joined: tuple[list[Reply], list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    replies, told, rows = joined
    names = [reply.name for reply in replies]
    assert len(set(names)) == len(names)
    assert {"mine-1", "mine-2"} <= set(names)
    assert sorted(line["request_id"] for line in told) == sorted(names)
    counts = dict(zip(names, (1, 1, 3, 1, 3, 2, 1), strict=True))
    wanted = [(name, number) for name, count in counts.items() for number in range(1, count + 1)]
    assert sorted((row["logged_request_id"], row["logged_row"]) for row in rows) == sorted(wanted)


def test_good_answers_may_be_told_in_part_errors_always_are(tmp_path: Path) -> None:
    with watched(tmp_path / "log", sample=0.0, peers=False) as server:
        for _ in range(3):
            assert server.http("POST", "/predict", {"input": ROW}).status == 200
        name = server.http("POST", "/predict", {"input": [1]}).name
        lines = server.lines(1)
    assert [line["request_id"] for line in lines] == [name]
    assert "peer" not in lines[0]


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_file_that_was_moved_is_opened_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = AccessLog(str(path))
    log.put(b"one\n", 1)
    until(lambda: path.read_bytes() == b"one\n")
    path.rename(old)
    log.put(b"two\n", 1)
    log.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_after_a_rest_a_line_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "PAUSE", 3600.0)
    place = tmp_path / "log"
    log = AccessLog(str(place))
    log.put(b"a line\n", 1)
    wait_for(lambda: place.read_bytes() == b"a line\n")
    log.close()


def test_what_comes_faster_than_it_is_written_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "HELD", 100)
    come, write_all = threading.Event(), AccessLog._write_all
    monkeypatch.setattr(AccessLog, "_write_all", lambda log: come.wait() and write_all(log))
    seen: list[tuple[int, int]] = []
    log = AccessLog(str(tmp_path / "log"), lambda written, dropped: seen.append((written, dropped)))
    for _ in range(20):
        log.put(b"123456789\n", 1)
    come.set()
    log.close()
    assert [sum(each) for each in zip(*seen, strict=True)] == [10, 10]
    assert (tmp_path / "log").read_bytes() == b"123456789\n" * 10


def test_a_reader_who_does_not_read_costs_lines_not_time_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access, "PARTING", 0.2)
    monkeypatch.setattr(access, "HELD", 1 << 20)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    seen: list[tuple[int, int]] = []
    log = AccessLog(str(tmp_path / "pipe"), lambda written, dropped: seen.append((written, dropped)))

    def put() -> None:
        for _ in range(4000):
            log.put(b"x" * 999 + b"\n", 1)  # four times what is held; it returns all the same

    def read() -> bool:
        with suppress(BlockingIOError):
            os.read(reader, 1 << 20)
        return len(caplog.messages) == 2

    put()
    until(lambda: bool(caplog.messages) and sum(each[1] for each in seen) == log._dropped)
    dropped = sum(each[1] for each in seen)
    assert dropped == log._dropped > 2000  # while the thread that writes is held
    until(read)
    put()
    log.close()
    os.close(reader)
    written, lost = [sum(each) for each in zip(*seen, strict=True)]
    assert written + lost == 8000
    why = "1 MiB wait to be written; lines are dropped, and counted, until it can be written"
    ends = [why, f"again; {dropped} lines were dropped", why, f"it ends; {lost - dropped} lines were dropped"]
    assert all(told.endswith(end) for told, end in zip(caplog.messages, ends, strict=True))


def test_a_full_disk_drops_lines_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, int]] = []
    log = AccessLog("/dev/full", lambda written, dropped: seen.append((written, dropped)))
    for lost in (1, 2, 3):
        log.put(b"line\n", 1)
        until(lambda lost=lost: sum(each[1] for each in seen) == lost)  # type: ignore[misc]  # bound at once
    log.close()
    assert [sum(each) for each in zip(*seen, strict=True)] == [0, 3]
    assert len([each for each in caplog.records if "No space" in each.message]) == 1


def test_that_writing_works_again_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: int, text: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    seen: list[tuple[int, int]] = []
    log = AccessLog("/dev/null", lambda written, dropped: seen.append((written, dropped)))

    def counted() -> list[int]:
        return [sum(each) for each in zip((0, 0), *seen, strict=True)]

    with monkeypatch.context() as patch:
        patch.setattr(access, "_write_whole", full)
        for lost in (2, 4):
            log.put(b"line\nline\n", 2)
            until(lambda lost=lost: counted() == [0, lost])  # type: ignore[misc]  # bound at once
    for written in (1, 2):
        log.put(b"line\n", 1)
        until(lambda written=written: counted() == [written, 4])  # type: ignore[misc]  # bound at once
    log.close()
    told = [each.getMessage() for each in caplog.records]
    assert told[0].endswith("lines are dropped, and counted, until it can be written")
    assert told[1:] == ["access log /dev/null: it is written again; 4 lines were dropped"]


def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"access_log .*: No such file or directory; name a file"):
        AccessLog(str(tmp_path / "no" / "log"))


def test_what_is_said_of_the_log_needs_one_that_has_a_name() -> None:
    for name, value in (("access_log_sample", 0.5), ("access_log_peer", False)):
        with pytest.raises(UsageError, match="there is no access log; name its file with --access-log"):
            prepare([CASES["logistic"].model], {name: value}, {}).spec(metrics=None)
    with pytest.raises(UsageError, match="access_log 5: write a path"):
        serve(CASES["logistic"].model, access_log=cast(str, 5))


def fill(path: str, letter: bytes) -> None:
    log = AccessLog(path)
    for _ in range(200):
        log.put((letter * 400 + b"\n") * 20, 20)
        threading.Event().wait(0.0005)
    log.close()


def test_processes_that_share_a_file_write_whole_lines(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fill, args=(path, letter)) for letter in (b"a", b"b", b"c")]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    lines = Path(path).read_bytes().splitlines()
    assert len(lines) == 12_000
    assert all(len(line) == 400 and len(set(line)) == 1 for line in lines)


def test_a_line_tells_the_name_of_a_key_never_the_key() -> None:
    class Verdict:
        key = "shop"

    class Head:
        def __init__(self) -> None:
            self.method, self.path, self.verdict = "GET", "/", Verdict()
            self.headers = {b"authorization": b"Bearer bmk_4711"}
            self.told: Any = None

    class Routes:
        mounted = 0

        def template(self, method: str, path: str) -> str:
            return path

    told = Observer(Routes()).read(Head())
    assert b'"key":"shop"' in told.line
    assert b"4711" not in told.line


class Lines:
    """Takes what an observer tells."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.texts: list[bytes] = []
        self.count = 0

    def put(self, text: bytes, count: int) -> None:
        self.texts += text.splitlines()
        self.told += [json.loads(line) for line in text.splitlines()]
        self.count += count


class Routes:
    """Every path is a route."""

    mounted = 0

    def template(self, method: str, path: str) -> str:
        return path


def test_the_lines_of_one_turn_share_nothing_that_differs() -> None:
    lines = Lines()
    observer = Observer(Routes(), cast(AccessLog, lines))
    first, second = (observer.asked("POST", path, "1.1", {}) for path in ("/predict", "/invocations"))
    good = Note("m", "1", "", (1e-6, 0.0, 2e-3, 1.5, 0.0), b"parse;dur=0.001, check;dur=0.000")
    bad, late = Note("m", "1", "wrong_type"), Note("n%d", "1")
    seen = [
        (first, b"", 200, 10, 20, good),
        (first, b',"peer":"a"', 200, 10, 21, good),
        (first, b',"peer":"b"', 200, 11, 21, good),
        (first, b',"peer":"b"', 499, 11, 21, good),
        (second, b"", 499, 11, 21, good),
        (second, b"", 400, 11, 21, bad),
        (second, b"", 400, 11, 21, late),
        (None, b"", 400, 0, 21, None),
        (None, b"", 431, 0, 21, None),
        (first, b"", 431, 0, 21, None),
    ]

    async def turn() -> None:
        for number, (told, peer, status, taken, sent, note) in enumerate(seen):
            observer.saw(told, peer, monotonic(), status, taken, sent, b"%d" % number, note)
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert lines.count == len(seen)
    for number, (line, (told, peer, status, taken, sent, note)) in enumerate(zip(lines.told, seen, strict=True)):
        wanted = {"request_id": str(number), "status": status, "bytes_in": taken, "bytes_out": sent}
        wanted |= {"method": told.method if told else "", "route": told.route if told else "", "protocol": "HTTP/1.1"}
        wanted |= json.loads(b"{%b}" % peer.removeprefix(b","))
        known = {"error": note.code, "model": note.model, "version": note.version} if note else {}
        wanted |= {name: value for name, value in known.items() if value}
        if note is good:
            wanted["stages"] = {"parse": 0.001, "check": 0.0}
        assert STAMP(line.pop("time"))
        assert 0 <= line.pop("ms") < 60_000
        assert line == wanted


@pytest.mark.parametrize("lasting", [True, False], ids=["own loop", "asgi"])
def test_turns_close_together_are_told_together_where_the_loop_is_ours(
    lasting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bimodal.realtime.observer.GATHER", 60.0)
    lines = Lines()
    observer = Observer(Routes(), cast(AccessLog, lines))
    if not lasting:
        asgi(cast(App, None), observer=observer)
    told = observer.asked("POST", "/predict", "1.1", {})

    async def turns() -> None:
        for _ in range(5):
            observer.saw(told, b"", monotonic(), 200, 0, 0, b"", None)
            await asyncio.sleep(0)

    asyncio.run(turns())
    assert lines.count == (1 if lasting else 5)  # the first at once
    observer.flush()
    assert lines.count == 5


@pytest.mark.parametrize("share", [1.0, 0.999999999], ids=["all", "sifted"])
def test_milliseconds_are_told_to_the_microsecond(share: float) -> None:
    lines = Lines()
    observer = Observer(Routes(), cast(AccessLog, lines), share=share)
    told = observer.asked("POST", "/predict", "1.1", {})
    spans = [0.0, 1e-6, 9.99e-4, 1e-3, 8.191e-3, 0.999999, 1.0, 61.234567]

    spent = []

    async def turn() -> None:
        for span in spans:
            now = monotonic()
            observer.saw(told, b"", now - span, 400, 0, 0, b"", None)
            spent.append(monotonic() - now)
        await asyncio.sleep(0)

    asyncio.run(turn())
    for line, span, more in zip(lines.told, spans, spent, strict=True):
        assert 1e3 * span - 0.001 <= line["ms"] <= 1e3 * (span + more) + 0.001
    assert all(re.search(rb'"ms":\d+\.\d{3}}$', line) for line in lines.texts)


def test_a_head_is_read_anew_when_the_routes_change() -> None:
    class Late:
        mounted = 0

        def template(self, method: str, path: str) -> str:
            return path if self.mounted else ""

    class Head:
        def __init__(self) -> None:
            self.method, self.path = "GET", "/models/late/predict"
            self.headers: dict[bytes, bytes] = {}
            self.told: Any = None

    routes, head = Late(), Head()
    observer = Observer(routes)
    assert observer.read(head).route == ""
    routes.mounted = 1
    assert observer.read(head).route == "/models/late/predict"
