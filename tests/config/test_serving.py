"""`bimodal serve bimodal.toml`: the models of the file with its [server]; options and the environment count more."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient

import bimodal
from bimodal import settings
from bimodal.cli import main
from bimodal.errors import ConfigError, UsageError
from bimodal.realtime.server import Server
from bimodal.realtime.serving import prepare

FLOWERS, KINDS = load_iris(return_X_y=True)
TEXT = """\
[server]
port = 0
row_limit = 2
outputs = "prediction"

[models.iris]
path = "saved/my_model.pkl"
runtime = "native"

[models.careful]
path = "saved/my_model.pkl"
runtime = "native"
outputs = ["prediction", "probability"]
threshold = 0.999
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "saved").mkdir()
    two = KINDS < 2
    joblib.dump(LogisticRegression().fit(FLOWERS[two], KINDS[two]), tmp_path / "saved" / "my_model.pkl")
    path = tmp_path / "bimodal.toml"
    path.write_text(TEXT)
    return path


def ask(server: Server, target: str, body: Any) -> Any:
    request = urllib.request.Request(server.url + target, json.dumps(body).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_each_model_is_served_under_its_name_with_its_own_settings(file: Path) -> None:
    row = {"input": [FLOWERS[80].tolist()]}
    with bimodal.serve(file, deadline=20.0) as server:
        assert server.models == ("iris", "careful")
        plain = ask(server, "/models/iris/predict", row)
        careful = ask(server, "/models/careful/predict", row)
        with pytest.raises(HTTPError, match="413"):
            ask(server, "/predict", {"input": FLOWERS[:3].tolist()})
    assert set(plain) == {"prediction"}
    assert set(careful) == {"prediction", "probability"}
    share = careful["probability"][0][1]
    assert 0.5 <= share < 1
    assert plain["prediction"] == [1]
    assert careful["prediction"] == [int(share >= 0.999)]


def test_an_option_counts_more_than_the_environment_and_that_more_than_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare([file], {}, {}).told["row_limit"] == 2
    assert prepare([file], {}, {}).told["body_limit"] == 16 * 2**20
    monkeypatch.setenv("BIMODAL_ROW_LIMIT", "3")
    assert prepare([file], {}, {}).told["row_limit"] == 3
    assert prepare([file], {"row_limit": 4}, {}).told["row_limit"] == 4
    assert prepare([file], {}, {}).defaults["careful"]["outputs"] == ("prediction", "probability")
    assert prepare([file], {"outputs": ["prediction"]}, {}).defaults["careful"]["outputs"] == ["prediction"]
    limit = settings.table(settings.SERVE)["row_limit"]
    assert settings.resolve(limit, environment={}, file={"row_limit": 5}) == 5
    assert settings.resolve(limit, environment={}, file={}) == 10_000


def test_the_file_is_mounted_in_an_application_too(file: Path) -> None:
    application = bimodal.asgi(file)
    with TestClient(application) as client:
        row = {"input": [FLOWERS[80].tolist()]}
        assert set(client.post("/models/careful/predict", json=row).json()) == {"prediction", "probability"}


def test_what_is_said_of_a_model_stands_in_the_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"--features .* \[models.NAME\]"):
        prepare([file], {}, {"features": ["a"]})
    file.write_text("")
    with pytest.raises(UsageError, match="names no model"):
        prepare([file], {}, {})
    file.write_text("[models.iris]\npth = 'x'")
    with pytest.raises(ConfigError, match="did you mean path"):
        prepare([file], {}, {})
    assert main(["serve", str(file), "--get", "/health/ready"]) == 2
    assert "bimodal.toml:2: models.iris.pth" in capsys.readouterr().err


def test_one_request_without_a_port(file: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["serve", str(file), "--get", "/v2/models/careful"]) == 0
    assert json.loads(capfdbinary.readouterr().out)["name"] == "careful"
