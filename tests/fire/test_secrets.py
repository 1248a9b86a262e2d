"""Secrets stay secret: keys, passwords and the values of requests are in no log, error, metric, page or record.

A server and some commands meet canaries in every place where a caller or an operator puts a secret, through every wire
and every error there is; then everything that they said or wrote is searched for them. What is data by nature stands
apart and is not searched: the answers to good requests, the output of a batch run and its rejects, the prediction log.
A model's own words (what it raises and prints) go to standard error as they are, and nowhere else.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bimodal import keys
from bimodal.table import to_stream
from tests import commands

WORD, NUMBER, BIG = "canary-word-7f3a", 918273645.125, 7_364_518_293_645_182_736
PASSWORD, HEADER, QUERY, KEYED = "canary-pass-91c2", "canary-head-55e0", "canary-query-02bd", "canary-lookup-68af"
WRONG = "bmk_" + "WrongCanary" * 4
VALUES = (WORD, str(NUMBER), str(NUMBER).rstrip("5"), str(BIG))
WORDS = "canary-model-words-13d9"  # that the model itself prints and raises

MODEL = f"""
import os, time
from bimodal import Field

class Shop:
    inputs = [Field("word", "string", example="a"), Field("number", "float64", example=1.0),
              Field("id", "int64", example=1),
              Field("plan", "string", categories=("free",), closed=True, example="free")]
    outputs = [Field("prediction", "float64")]

    def predict(self, rows):
        for word in rows.array("word"):
            if "raise" in word:
                raise ValueError("no answer")
            if "speak" in word:
                print("{WORDS}")
                raise ValueError("{WORDS}")
            if "crash" in word:
                os.kill(os.getpid(), 11)
            if "slow" in word:
                time.sleep(1.5)
            if "short" in word:
                return {{"prediction": []}}
        return {{"prediction": rows.array("number") * 0}}
"""
GOOD = {"word": WORD, "number": NUMBER, "id": BIG, "plan": "free"}
JSON = "application/json"


class Watched:
    """A server, and all that it said to its callers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[tuple[str, bytes]] = []  # to whom it was said, and what
        (folder / "shop.py").write_text(MODEL)
        self.keys = folder / "server-keys.json"
        self.key = keys.add(self.keys, "all", keys.SCOPES)
        (folder / "bimodal.toml").write_text(
            f'[server]\nport = 0\nkeys = "{self.keys}"\naccess_log = "access.jsonl"\nprediction_log = "kept"\n'
            '[models.shop]\npath = "shop.py:Shop"\n'
        )
        self._error = (folder / "stderr.txt").open("wb")
        self._output = (folder / "stdout.txt").open("wb")
        command = [sys.executable, "-m", "bimodal", "serve", "bimodal.toml"]
        self.process = subprocess.Popen(command, cwd=folder, stdout=self._output, stderr=self._error)
        until = time.monotonic() + 150
        while b"  grpc" not in (folder / "stdout.txt").read_bytes():
            if time.monotonic() > until or self.process.poll() is not None:
                self.stop(killed=True)
                pytest.fail((folder / "stderr.txt").read_text())
            time.sleep(0.05)
        self.url = (folder / "stdout.txt").read_text().split()[3]

    def ask(
        self, path: str, body: bytes | None = None, kind: str = JSON, headers: Mapping[str, str] | None = None
    ) -> int:
        """The status. Every answer but a good one is kept, with its headers."""
        told = {"content-type": kind, "authorization": f"Bearer {self.key}", "cookie": HEADER, "x-trace": HEADER}
        asked = urllib.request.Request(self.url + path, body, told | dict(headers or {}))
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                if body is None:
                    self.said.append((path, str(answer.headers).encode() + answer.read()))
                return int(answer.status)
        except urllib.error.HTTPError as error:
            self.said.append((path, str(error.headers).encode() + error.read()))
            error.close()
            return int(error.code)

    def stop(self, *, killed: bool = False) -> None:
        self.process.send_signal(signal.SIGKILL if killed else signal.SIGTERM)
        code = self.process.wait(60)
        self._error.close()
        self._output.close()
        assert killed or code == 0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    server = Watched(tmp_path_factory.mktemp("secrets"))
    yield server
    if server.process.poll() is None:
        server.stop()


def rows(**values: Any) -> bytes:
    return json.dumps({"rows": [GOOD | values]}).encode()


BAD: list[tuple[str, bytes, str, int]] = [
    ("/predict", rows(number=WORD), JSON, 400),
    ("/predict", rows(word=BIG), JSON, 400),
    ("/predict", rows(id=NUMBER), JSON, 400),
    ("/predict", rows(id=BIG * 10), JSON, 400),
    ("/predict", rows(plan=WORD), JSON, 400),
    ("/predict", json.dumps({"rows": [GOOD, [WORD], {"wrod": WORD, "number": NUMBER}]}).encode(), JSON, 400),
    ("/predict", json.dumps({"columns": {"word": [WORD], "number": [NUMBER, 1]}}).encode(), JSON, 400),
    ("/predict", json.dumps({"input": WORD}).encode(), JSON, 400),
    ("/predict", json.dumps({"rows": [GOOD], "threshold": WORD}).encode(), JSON, 400),
    ("/predict", json.dumps({"rows": [GOOD], "outputs": BIG}).encode(), JSON, 400),
    ("/predict", f'{{"rows": [{{"word": "{WORD}", '.encode(), JSON, 400),
    ("/predict", f"{WORD} {NUMBER}".encode(), JSON, 400),
    ("/predict", b"\xff\xfe" + WORD.encode(), JSON, 400),
    ("/predict", rows() + WORD.encode(), JSON, 400),
    (f"/predict?threshold={QUERY}", rows(), JSON, 400),
    ("/predict", f"word,number,id,plan\n{WORD},{WORD},{BIG},free\n".encode(), "text/csv", 400),
    ("/predict", f'word,number\n"{WORD},{NUMBER}\n'.encode(), "text/csv", 400),
    ("/predict", WORD.encode() * 9, "application/vnd.apache.arrow.stream", 400),
    ("/predict", WORD.encode() * 9, "application/vnd.apache.parquet", 400),
    ("/predict", WORD.encode(), "text/strange", 415),
    ("/predict", rows(word=f"{WORD} raise"), JSON, 500),
    ("/predict", rows(word=f"{WORD} speak"), JSON, 500),
    ("/predict", rows(word=f"{WORD} short"), JSON, 500),
    ("/predict", rows(word=f"{WORD} crash"), JSON, 500),
    ("/v1/models/shop:predict", json.dumps({"instances": [GOOD | {"number": WORD}]}).encode(), JSON, 400),
    ("/v1/models/shop:predict", json.dumps({"instances": [{"b64": WORD}]}).encode(), JSON, 400),
    ("/invocations", json.dumps({"dataframe_records": [GOOD | {"plan": WORD}]}).encode(), JSON, 400),
    ("/v2/models/shop/infer", json.dumps({"inputs": [
        {"name": "number", "shape": [1], "datatype": "FP64", "data": [WORD]}]}).encode(), JSON, 400),
    ("/v2/models/shop/infer", json.dumps({"inputs": WORD}).encode(), JSON, 400),
    ("/v2/models/none/infer", rows(), JSON, 404),
    ("/nothing", rows(), JSON, 404),
    ("/models/shop/versions/9/predict", rows(), JSON, 404),
    (f"/models/shop/lookup/{KEYED}", rows(), JSON, 404),
    ("/v2/repository/models/shop/load", json.dumps({"parameters": {"config": WORD}}).encode(), JSON, 400),
    ("/v1/chat/completions", json.dumps({"model": "shop", "messages": [{"role": WORD}]}).encode(), JSON, 400),
    ("/v2/models/shop/generate", json.dumps({"text_input": WORD}).encode(), JSON, 404),
]  # fmt: skip


def test_nothing_of_a_request_is_told_by_a_server(watched: Watched) -> None:
    server = watched
    table = pa.table({name: [value] for name, value in GOOD.items()})
    assert server.ask("/predict", rows()) == 200
    assert server.ask("/predict", to_stream(table), "application/vnd.apache.arrow.stream") == 200
    for path, body, kind, status in BAD:
        code = server.ask(path, body, kind)
        assert code == status or (status >= 400 and code in (404, 422)), (path, body, kind, code, server.said[-1])
    strange = table.set_column(1, "number", pa.array([WORD]))
    assert server.ask("/predict", to_stream(strange), "application/vnd.apache.arrow.stream") == 400
    sink = pa.BufferOutputStream()
    pq.write_table(strange, sink)
    assert server.ask("/predict", sink.getvalue().to_pybytes(), "application/vnd.apache.parquet") == 400
    assert server.ask("/predict", rows(word="slow"), headers={"x-request-timeout-ms": "200"}) == 504
    assert server.ask("/predict", rows(), headers={"x-request-timeout-ms": WORD}) == 400
    assert server.ask("/predict", rows(), headers={"authorization": f"Bearer {WRONG}"}) == 401
    assert server.ask("/predict", rows(), headers={"authorization": f"Basic {PASSWORD}"}) == 401
    lines(server)
    raw(server)
    calls(server)
    for path in ("/metrics", "/health/live", "/health/ready", "/openapi.json", "/models", "/v2/models/shop", "/docs",
                 "/v2/models/stats", "/v2/models/shop/stats", "/v2"):  # fmt: skip
        server.ask(path)
    server.stop()
    told = {f"the answer of {path}": said for path, said in server.said}
    for name in ("stdout.txt", "stderr.txt", "access.jsonl"):
        told[name] = (server.folder / name).read_bytes()
    assert told["access.jsonl"].count(b"\n") > len(BAD)
    kept = [pq.read_table(path) for path in (server.folder / "kept").rglob("*.parquet")]
    assert WORD in pa.concat_tables(kept).column("word").to_pylist(), "the one place where data is kept"
    hits = found(told, (*VALUES, HEADER, QUERY, KEYED, PASSWORD, WRONG, server.key))
    assert hits == []
    assert [name for name, said in told.items() if WORDS.encode() in said] == ["stderr.txt"]
    assert server.key not in server.keys.read_text()


def found(told: Mapping[str, bytes], canaries: tuple[str, ...]) -> list[tuple[str, str]]:
    """Where a canary sits."""
    return [(name, each) for name, said in told.items() for each in canaries if each.encode() in said]


def lines(server: Watched) -> None:
    """NDJSON: the lines of bad rows; those of good ones are answers."""
    body = (
        b"\n".join(json.dumps(each).encode() for each in ({"word": WORD}, GOOD | {"id": WORD}, [NUMBER]))
        + b"\n{"
        + WORD.encode()
    )
    headers = {"content-type": "application/x-ndjson", "authorization": f"Bearer {server.key}"}
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/predict", body, headers), timeout=60) as answer:
        server.said.append(("lines", answer.read()))


def raw(server: Watched) -> None:
    """What is no HTTP, or half of it."""
    host, port = server.url.removeprefix("http://").split(":")
    for data in (
        f"GET /{WORD} {WORD} HTTP/9.9\r\n{HEADER}\r\n\r\n".encode(),
        f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: {WORD}\r\n\r\n{WORD}".encode(),
        f"POST /predict HTTP/1.1\r\nhost: {WORD}\r\nhost: b\r\n\r\n".encode(),
        f"POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{WORD}\r\n".encode(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 1 << 30) + WORD.encode(),
    ):
        with socket.create_connection((host, int(port)), timeout=60) as wire:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            told = b""
            while piece := wire.recv(65536):
                told += piece
            server.said.append(("raw", told))


def calls(server: Watched) -> None:
    """gRPC: statuses, their sentences and trailers."""

    def asked(**given: Any) -> service_pb2.ModelInferRequest:
        made = service_pb2.ModelInferRequest(model_name=given.pop("model", "shop"))
        for name, (kind, values) in given.items():
            tensor = made.inputs.add(name=name, datatype=kind, shape=[1])
            getattr(
                tensor.contents, {"BYTES": "bytes_contents", "FP64": "fp64_contents", "INT64": "int64_contents"}[kind]
            ).extend(values)
        return made

    good = {
        "word": ("BYTES", [WORD.encode()]),
        "number": ("FP64", [NUMBER]),
        "id": ("INT64", [BIG]),
        "plan": ("BYTES", [b"free"]),
    }
    bad = [
        asked(**good | {"number": ("BYTES", [WORD.encode()])}),
        asked(**good | {"plan": ("BYTES", [WORD.encode()])}),
        asked(**good | {"word": ("BYTES", [f"{WORD} raise".encode()])}),
        asked(**good | {"word": ("BYTES", [f"{WORD} speak".encode()])}),
        asked(**good | {"word": ("BYTES", [WORD.encode() + b"\xff"])}),
        asked(model="none", **good),
        asked(word=good["word"]),
    ]
    with grpc.insecure_channel(server.url.removeprefix("http://")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for metadata in (
            [("authorization", f"Bearer {server.key}"), ("x-trace", HEADER)],
            [("authorization", f"Bearer {WRONG}")],
        ):
            for each in bad:
                with pytest.raises(grpc.RpcError) as caught:
                    stub.ModelInfer(each, metadata=metadata, timeout=60)
                error = caught.value
                server.said.append(("gRPC", f"{error.code()} {error.details()} {error.trailing_metadata()}".encode()))


# -- batch -----------------------------------------------------------------------------------------------------------


def test_a_run_and_its_records_tell_no_value_and_no_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rejects hold the rows that were refused, the output its rows: they are data by nature, and nothing else is."""
    (tmp_path / "shop.py").write_text(MODEL)
    header = "word,number,id,plan\n"
    (tmp_path / "in.csv").write_text(header + f"{WORD},{NUMBER},{BIG},free\n{WORD},{WORD},{BIG},{WORD}\n")
    (tmp_path / "poison.csv").write_text(header + f"{WORD} raise,{NUMBER},{BIG},free\n")
    address = f"postgresql://shop:{PASSWORD}@127.0.0.1:1/shop#answers"
    (tmp_path / "bimodal.toml").write_text(
        'state = "sqlite:///state.db"\n[models.shop]\npath = "shop.py:Shop"\n'
        '[jobs.nightly]\nmodel = "shop"\ninput = "in.csv"\n'
        'output = "env:SHOP"\nretries = 0\n'
    )
    environment = {"SHOP": address, "BIMODAL_STATE": str(tmp_path / "runs")}
    alone = [  # each a process of its own, all of whose output is looked at
        (["predict", "shop.py:Shop", "poison.csv", "-o", "failed.csv"], 3),
        (["jobs", "run", "nightly", "--now"], 1),
    ]
    asked = [
        (["predict", "shop.py:Shop", "in.csv", "-o", "out.csv", "--max-rejects", "1"], 0),
        (["predict", "shop.py:Shop", "in.csv", "-o", "none.csv"], 3),
        (["predict", "shop.py:Shop", "in.csv", "-o", address], 1),
        (["predict", "shop.py:Shop", address, "-o", "x.csv"], 1),
        (["config", "show"], 0),
        (["runs", "list"], 0),
    ]
    told: dict[str, bytes] = {}
    for words, code in alone:
        command = [sys.executable, "-m", "bimodal", *words]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | environment, capture_output=True, check=False)
        told[" ".join(words)] = done.stdout + done.stderr
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    for words, code in asked:
        ended, printed = commands.run(tmp_path, *words, environment=environment)
        told[" ".join(words)] = printed.encode()
        assert ended == code, (words, ended, printed)
    told["logged"] = caplog.text.encode()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    data = {"in.csv", "poison.csv", "out.csv", "failed.csv", "none.csv"}
    refused = [path for path in written if ".rejects." in path.name or path.name == "rejects"]  # published, and not yet
    records = [path for path in written if path.name not in data and path not in refused]
    assert any(path.name.endswith(".run.json") for path in records)
    told |= {str(path.relative_to(tmp_path)): path.read_bytes() for path in records if path.suffix != ".py"}
    assert found(told, (*VALUES, PASSWORD)) == []
    assert any(WORD in path.read_text() for path in refused)
