"""A setting is judged alike, and before a model is looked at, wherever it is said."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import joblib
import pytest

from bimodal import config, settings
from bimodal.errors import ConfigError, UsageError
from bimodal.realtime.server import Server
from bimodal.realtime.serving import prepare
from tests import commands
from tests.models import CASES
from tests.realtime.desk import Desk
from tests.realtime.shelf import onnx

NAME = "write a name or an address alone"
ORIGIN = "write an origin as browsers send it"
PATH = "write a path of its own, none that the server has"
USELESS = [  # a setting, a value that is of no use, and what is said of it
    ("deadline", "5parsec", "'5parsec' is no time; write it like 500ms, 10s, 15 min, 2h or 1 day"),
    ("deadline", "0s", "write a time such as"),
    ("header_timeout", "0", "write a time such as"),
    ("body_limit", "0", "write a size such as"),
    ("body_limit", "much", "'much' is no size; write it like 2GB or 600MB"),
    ("access_log_sample", "2", "'2' is no share; write it like 0.1 or 10%"),
    ("repository_control", "all", "there is no repository control 'all'; it is one of none, explicit, poll"),
    ("traces", "notaurl", "'notaurl': write the address of a collector"),
    ("hosts", "http://a", f"'http://a': {NAME}"),
    ("hosts", "a,b:80", f"'b:80': {NAME}"),
    ("cors", "shop.example", f"'shop.example': {ORIGIN}"),
    ("cors", "*,https://shop.example:443", f"'https://shop.example:443': {ORIGIN}"),
    ("cors", "https://Shop.example", f"'https://Shop.example': {ORIGIN}"),
    ("predict_route", "/metrics", f"'/metrics': {PATH}"),
    ("predict_route", "x", f"'x': {PATH}, which begins with a slash"),
    ("health_route", "/predict", f"'/predict': {PATH}"),
    ("health_route", "/health/live", f"'/health/live': {PATH}"),
]
NUMBERS = [
    ("workers", "two", "'two' is no whole number"),
    ("workers", "0", "write a whole number from 1 on"),
    ("port", "70000", "write a whole number from 0 to 65535"),
    ("row_limit", "0", "write a whole number from 1 on"),
    ("repository_versions", "0", "write a whole number from 1 on"),
    ("threshold", "half", "'half' is no number"),
]
USEFUL = [
    ("hosts", "models.shop.example,*.shop.example,10.0.0.1,[::1],::1,a_b.local.,*"),
    ("cors", "https://shop.example,http://localhost:8080,https://[::1]:8443,capacitor://localhost,http://a:443,*"),
    ("predict_route", "/v1/endpoints/7:predict"),
    ("predict_route", "/v1/models/other:predict"),
    ("health_route", "/health"),
    ("health_route", "/ping"),
    ("traces", "http://[::1]:4318/v1/traces"),
]


@pytest.mark.parametrize(("name", "text", "said"), USELESS + NUMBERS)
def test_what_is_of_no_use_is_told_in_the_same_words_everywhere(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    setting = settings.table(settings.SERVE)[name]
    served = ("serve", "no_such.pkl")
    assert commands.run(tmp_path, *served, setting.flag, text)[1].startswith(f"error: {setting.flag}: {said}")
    environment = {setting.variable: text}
    assert commands.run(tmp_path, *served, environment=environment)[1].startswith(f"error: {setting.variable}: {said}")
    with pytest.raises(UsageError) as raised:
        prepare(["no_such.pkl"], {name: text}, {})
    assert str(raised.value).startswith(f"{name}: {said}")


@pytest.mark.parametrize(("name", "text", "said"), USELESS)
def test_a_file_is_told_of_in_these_words_too(name: str, text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bimodal.toml"
    path.write_text(f'[server]\n{name} = "{text}"\n')
    with pytest.raises(ConfigError) as raised:
        config.read(path)
    assert str(raised.value).startswith(f"bimodal.toml:2: server.{name}: {said}")


@pytest.mark.parametrize(("name", "text"), USEFUL)
def test_what_is_of_use_is_taken_everywhere(name: str, text: str, tmp_path: Path) -> None:
    setting = settings.table(settings.SERVE)[name]
    value = setting.judge(text)
    path = tmp_path / "bimodal.toml"
    path.write_text(f'[server]\n{name} = "{text}"\n')
    assert config.read(path).server[name] == value
    assert commands.run(tmp_path, "serve", "no_such.pkl", setting.flag, text)[1].startswith("error: there is no ")


def test_no_route_of_the_server_may_be_named_as_ones_own() -> None:
    table = settings.table(settings.SERVE)
    desk = Desk(onnx())
    try:
        app = desk.app
        paths = {path for _, path in (*app.routes, *app.begins)} | set(app.streams)
    finally:
        desk.close()
    paths |= {"/jobs", "/jobs/a/runs", "/runs/1", "/models/a/runs", "/models/a/lookup", "/models/a/lookup/1"}
    for path in paths:
        spoken = path.endswith(":predict") or path == "/predict"  # there its words are Vertex AI's then
        for name, allowed in (("predict_route", spoken), ("health_route", path in settings.READY)):
            if not allowed:
                with pytest.raises(UsageError, match="none that the server has"):
                    table[name].judge(path)


def test_a_repository_that_is_looked_at_needs_one() -> None:
    with pytest.raises(UsageError, match="repository_control poll: there is no repository"):
        prepare(["my_model.pkl"], {"repository_control": "poll"}, {"sample": None, "code": ()})


def test_an_address_may_stand_in_brackets() -> None:
    assert settings.table(settings.SERVE)["host"].judge("[::1]") == "::1"


def test_a_host_that_is_not_there_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*asked: Any, **how: Any) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UsageError, match=r"host nonsense\.invalid: there is no address of that name"):
        Server({}, host="nonsense.invalid")


def test_a_model_is_not_given_less_memory_than_any_process_needs(tmp_path: Path) -> None:
    joblib.dump(CASES["logistic"].model, tmp_path / "my_model.pkl")
    told = commands.run(tmp_path, "serve", "my_model.pkl", "--model-memory", "1", "--get", "/health/live")
    assert told == (2, "error: model_memory 1: a model needs 1 MB at least; write it like 2GB or 600MB\n")
