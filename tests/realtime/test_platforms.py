"""What platforms say to their containers: SageMaker's port and folder, Vertex AI's port and routes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import joblib
import pytest

from bimodal import Client, settings
from bimodal.errors import UsageError
from tests.documents import wait_for
from tests.models import CASES, IRIS
from tests.ports import free_port
from tests.realtime.desk import Desk
from tests.realtime.shelf import onnx

PORT = settings.table(settings.SERVE)["port"]
ENTRY = "exec python -m bimodal serve {folder} --host 0.0.0.0 --insecure"  # as docs/contracts.md has it


@contextmanager
def container(folder: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """The entry of the image, run as `docker run IMAGE serve` runs it; its address."""
    port = str(free_port())
    told = {name: port if value == "PORT" else value for name, value in environment.items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIP_")}
    command = ["sh", "-c", ENTRY.format(folder=folder).replace("python", sys.executable), *arguments]
    process = subprocess.Popen(command, env={**inherited, **told}, stdout=subprocess.DEVNULL)
    try:
        wait_for(int(port), process)
        url = f"http://127.0.0.1:{port}"
        with Client(url, timeout=60, retries=600) as client:
            client.request("GET", "/ping")  # 503 until the model is loaded: platforms ask until it is 200
        yield url
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


def posted(url: str, body: bytes, kind: str) -> bytes:
    with urlopen(Request(url, body, {"Content-Type": kind}), timeout=60) as response:
        return bytes(response.read())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/ml/model, as SageMaker unpacks an archive with one saved model."""
    folder = tmp_path_factory.mktemp("opt") / "model"
    folder.mkdir()
    joblib.dump(CASES["logistic"].model, folder / "model.joblib")
    return folder


def test_the_entry_serves_what_sagemaker_and_vertex_ask(folder: Path) -> None:
    routes = {"AIP_PREDICT_ROUTE": "/v1/endpoints/7:predict", "AIP_HEALTH_ROUTE": "/v1/endpoints/7/health"}
    with container(folder, "serve", SAGEMAKER_BIND_TO_PORT="PORT", **routes) as url:
        assert urlopen(f"{url}/ping", timeout=60).status == 200
        assert posted(f"{url}/invocations", b"5.1,3.5,1.4,0.2\n6,3,5,2\n", "text/csv") == b"0\n2\n"
        body = json.dumps({"instances": IRIS[:2].tolist(), "parameters": {}}).encode()
        assert urlopen(f"{url}/v1/endpoints/7/health", timeout=60).status == 200
        assert json.loads(posted(f"{url}/v1/endpoints/7:predict", body, "application/json")) == {"predictions": [0, 0]}


def test_the_ports_of_platforms_count_less_than_ours() -> None:
    both = {"AIP_HTTP_PORT": "7", "SAGEMAKER_BIND_TO_PORT": "8"}
    assert settings.resolve(PORT, environment=both) == 8
    assert settings.resolve(PORT, environment={"AIP_HTTP_PORT": "7"}, file={"port": 6}) == 7
    assert settings.resolve(PORT, environment={**both, "BIMODAL_PORT": "9"}) == 9
    assert settings.resolve(PORT, 10, both) == 10
    with pytest.raises(UsageError, match="AIP_HTTP_PORT='x'"):
        settings.resolve(PORT, environment={"AIP_HTTP_PORT": "x"})


def test_routes_of_the_callers_choice() -> None:
    desk = Desk(onnx(), spec={"routes": {"predict": "/ask", "health": "/well"}})
    try:
        assert desk.answer({"instances": IRIS[:1].tolist()}, "/ask") == {"predictions": [0]}
        assert desk.get("/well").status == 200
    finally:
        desk.close()


def test_predict_itself_speaks_the_words_of_vertex_where_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/predict")
    route = settings.resolve(settings.table(settings.SERVE)["predict_route"])
    desk = Desk(onnx(), spec={"routes": {"predict": route, "health": None}})
    try:
        assert desk.answer({"instances": IRIS[:1].tolist()}) == {"predictions": [0]}
    finally:
        desk.close()


def test_routes_that_say_the_same_already_stay_as_they_are() -> None:
    routes = {"predict": "/v1/models/absent:predict", "health": "/ping"}
    plain, desk = Desk(onnx()), Desk(onnx(), spec={"routes": routes})
    try:
        assert desk.answer({"instances": IRIS[:1].tolist()}, "/v1/models/absent:predict") == {"predictions": [0]}
        desk.wired.service.drain()
        plain.wired.service.drain()
        assert desk.get("/ping").body == plain.get("/ping").body
    finally:
        desk.close()
        plain.close()
