"""What the process of a model may not do, and what it does not get."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

import bimodal
from bimodal import config
from bimodal.errors import ConfigError
from bimodal.hidden import hide
from bimodal.realtime.tls import Files
from bimodal.runtimes.children import environment, is_secret
from tests.runtimes.test_process import rows

pytestmark = pytest.mark.usefixtures("started_anew")
TELLING = """
import json, os, resource

class Telling:
    inputs = {"x": float}
    outputs = {"prediction": str}

    def predict(self, rows):
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        told = {
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "rights": status["NoNewPrivs"].strip(),
            "first": open("/proc/self/oom_score_adj").read().strip(),
            "files": sorted(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in FILES()),
            "names": sorted(name for name in os.environ if name.startswith(("BIMODAL_", "OTHER_"))),
        }
        return [json.dumps(told)] * len(rows["x"])

def FILES():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        found.append(fd)
    return found
"""


def test_the_process_has_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIMODAL_TLS_PASSWORD", "no model is to read it")
    monkeypatch.setenv("OTHER_PASSWORD", "the model's own")
    monkeypatch.setenv("OTHER_REFERRED", "the server's")
    monkeypatch.setenv("BIMODAL_HIDDEN", "")
    hide("postgresql://ann:env:OTHER_REFERRED@db.example/shop#t")
    (tmp_path / "telling.py").write_text(TELLING)
    file = os.open(tmp_path / "telling.py", os.O_RDONLY)
    os.set_inheritable(file, True)
    try:
        with bimodal.load(f"{tmp_path}/telling.py:Telling") as model:
            told: dict[str, Any] = json.loads(model.run(rows(1), ("prediction",)).array("prediction")[0])
    finally:
        os.close(file)
    assert told["core"] == [0, 0]
    assert told["rights"] == "1"
    assert int(told["first"]) >= 500
    assert "BIMODAL_TLS_PASSWORD" not in told["names"]
    assert "OTHER_PASSWORD" in told["names"]
    assert "OTHER_REFERRED" not in told["names"]
    assert not [each for each in told["files"] if each.endswith("telling.py")]
    assert told["files"].count("socket") == 1


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("BIMODAL_KEYS", True),
        ("BIMODAL_TLS_KEY", True),
        ("BIMODAL_TLS_PASSWORD", True),
        ("BIMODAL_TOKEN", True),
        ("BIMODAL_CACHE", False),
        ("DATABASE_PASSWORD", False),
    ],
)
def test_what_is_secret_of_our_own_is_left_out(name: str, secret: bool) -> None:
    assert is_secret(name) is secret
    assert (name not in environment({name: "x"})) is secret


CONFIGURED = """
state = "env:STATE_URL"
[server]
tls_cert = "cert.pem"
tls_password = "env:KEY_PASSWORD"
[models.shop]
path = "shop.pkl"
[models.shop.store]
url = "postgresql://ann:env:STORE_PASSWORD@db.example/shop"
[jobs.nightly]
model = "shop"
input = "postgresql://db.example/shop?user=ann&password=env:READ_PASSWORD#customers"
output = "env:OUT_URL#scores"
[[jobs.nightly.notify]]
webhook = "https://hooks.example/run"
secret = "env:HOOK_SECRET"
"""
REFERRED = {"STATE_URL", "KEY_PASSWORD", "STORE_PASSWORD", "READ_PASSWORD", "OUT_URL", "HOOK_SECRET"}


def test_what_settings_refer_to_as_secret_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIMODAL_HIDDEN", "")
    for each in REFERRED:
        monkeypatch.setenv(each, "x")
    (tmp_path / "bimodal.toml").write_text(CONFIGURED)
    with contextlib.suppress(ConfigError):  # what else is wrong with it
        config.read(tmp_path / "bimodal.toml")
    left = environment(os.environ)
    assert REFERRED.isdisjoint(left)
    assert left["PATH"] == os.environ["PATH"]


def test_the_password_of_a_key_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIMODAL_HIDDEN", "")
    monkeypatch.setenv("PW", "x")
    Files("cert.pem", password="env:PW")
    assert "PW" not in environment(os.environ)
    assert "PW" in os.environ  # a certificate that is renewed needs it
