"""Promise 13: what is exactly at a limit is taken, one more is refused, before more than the limit is read or held.

Heads, fields, bodies by length, chunks and counts of connections: `tests/realtime/test_limits.py`.
"""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bimodal.errors import TooLarge
from bimodal.model import load
from bimodal.realtime.http2.compression import deflate, inflate
from bimodal.realtime.limits import MIB, Limits
from tests.fire.slow import memory
from tests.realtime.desk import Desk
from tests.realtime.wire import HOST, Running, serving

MODEL = """
import numpy as np

class Long:
    outputs = {"prediction": float}

    def predict(self, rows):
        return {"prediction": np.asarray(rows)[:, 0]}
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("model")
    (folder / "long.py").write_text(MODEL)
    with load(f"{Path(folder, 'long.py')}:Long", features=["x"], name="m") as model:
        desk = Desk(model, limits=Limits(rows=50, depth=8))
        yield desk
        desk.close()


@pytest.mark.parametrize(("count", "status"), [(50, 200), (51, 413)])
@pytest.mark.parametrize("shape", ["rows", "input", "columns", "csv", "ndjson", "infer", "instances"])
def test_rows_of_a_request(desk: Desk, shape: str, count: int, status: int) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [count], "data": [1.0] * count}
    paths = {"infer": "/v2/models/m/infer", "instances": "/v1/models/m:predict"}
    bodies = {
        "rows": {"rows": [{"x": 1.0}] * count},
        "input": {"input": [[1.0]] * count},
        "columns": {"columns": {"x": [1.0] * count}},
        "csv": b"x\n" + b"1\n" * count,
        "ndjson": b'{"x": 1.0}\n' * count,
        "infer": {"inputs": [tensor]},
        "instances": {"instances": [{"x": 1.0}] * count},
    }
    kinds = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
    path, kind = paths.get(shape, "/predict"), kinds.get(shape, "application/json")
    expected = 200 if shape == "ndjson" else status  # each line is a row of its own: a stream has no number of rows
    assert desk.ask(path, bodies[shape], kind=kind).status == expected


@pytest.mark.parametrize(("depth", "good"), [(8, True), (9, False)])
def test_depth_of_json(desk: Desk, depth: int, good: bool) -> None:
    """What is too deep is told as that; what is not is told as what it is: no row."""
    nested = b"[" * (depth - 1) + b"1" + b"]" * (depth - 1)
    told = json.loads(desk.ask("/predict", b'{"input": ' + nested + b"}").body)
    assert ("deeper than 8" in told["error"]) != good
    deep = desk.ask("/predict", b'{"input": ' + b"[" * 250_000)
    assert deep.status == 400


def test_a_compressed_request_is_told_that_it_is_not_understood(desk: Desk) -> None:
    bomb = gzip.compress(bytes(64 * MIB), 1)
    before = memory([os.getpid()])
    for path in ("/predict", "/v2/models/m/infer", "/invocations", "/v1/models/m:predict"):
        answer = desk.ask(path, bomb, headers={"content-encoding": "gzip"})
        assert answer.status == 415, path
    assert memory([os.getpid()]) - before < 16 * MIB


@pytest.mark.parametrize(("size", "good"), [(1000, True), (1001, False)])
def test_a_compressed_message_of_grpc_is_inflated_up_to_the_limit(size: int, good: bool) -> None:
    packed = deflate(bytes(size), b"gzip")
    if good:
        assert len(inflate(packed, b"gzip", 1000)) == size
    else:
        with pytest.raises(TooLarge, match="1000"):
            inflate(packed, b"gzip", 1000)


def test_a_body_over_the_limit_costs_the_server_no_more_than_the_limit() -> None:
    """Eight callers at once send twice the limit, without a length: each is refused, and memory stays bounded."""
    limits = Limits(body_bytes=4 * MIB)
    before = memory([os.getpid()])
    seen: list[int] = []
    statuses: list[int] = []
    piece = b"x" * 65536

    def send(server: Running) -> None:
        with server.connect() as client:
            client.send(b"POST /echo HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
            for _ in range(128):
                client.send(b"10000\r\n", piece, b"\r\n")
                seen.append(memory([os.getpid()]))
            statuses.append(client.answer().status)

    with serving(limits) as server:
        threads = [threading.Thread(target=send, args=(server,)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert statuses == [413] * 8
    assert max(seen) - before < 8 * limits.body_bytes + 16 * MIB
