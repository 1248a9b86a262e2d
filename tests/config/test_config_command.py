"""`bimodal config`: verify, show, schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bimodal.batch.databases.address import PLAIN, Address
from bimodal.cli import main
from bimodal.config.places import file_of, has_secret, is_database, rooted
from bimodal.config.reading import reading
from bimodal.config.schema import schema
from bimodal.config.show import shown
from bimodal.errors import UsageError
from bimodal.keys import NAME, add
from tests.config.test_reading import WHOLE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bimodal.toml").write_text(WHOLE)
    (tmp_path / "models").mkdir()
    for name in ("models/churn.pkl", "train.py", "sample.csv"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIMODAL_CONFIG", raising=False)
    return tmp_path


def test_verify_tells_what_it_found_and_what_it_could_not_look_at(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["config", "verify"]) == 0
    told = capsys.readouterr().out
    assert "1 model, 2 jobs, no fault" in told
    assert "bimodal.toml:1: the variable STATE_PASSWORD is not there" in told
    monkeypatch.setenv("STATE_PASSWORD", "x")
    assert main(["config", "verify", "bimodal.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(folder / "bimodal.toml"),
        "models": ["churn"],
        "jobs": ["nightly", "hourly"],
        "notes": [
            f"bimodal.toml:24: there is no {folder}/more.csv yet, which jobs.nightly reads",
        ],
    }
    (folder / "more.csv").touch()
    assert main(["config", "verify"]) == 0
    assert "there is no" not in capsys.readouterr().out


def test_verify_tells_all_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = WHOLE.replace("sqlite:///shop.db", "sqlite://shop.db").replace("models/", "modles/")
    (folder / "bimodal.toml").write_text(text)
    (folder / "train.py").unlink()
    assert main(["config", "verify"]) == 2
    lines = capsys.readouterr().err.removeprefix("error: ").splitlines()
    assert [each.split(": ")[1] for each in lines] == [
        "models.churn.path",
        "models.churn.code",
        "models.churn.store.rows",
        "jobs.hourly.input",
    ]
    assert lines[0] == f"bimodal.toml:10: models.churn.path: there is no {folder}/modles/churn.pkl"
    assert "three slashes" in lines[2]


def test_verify_looks_at_the_file_of_keys_as_a_server_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told() -> str:
        assert main(["config", "verify"]) == 2
        return capsys.readouterr().err

    (folder / "bimodal.toml").write_text(WHOLE.replace("[server]\n", '[server]\nkeys = "own.json"\n'))
    assert f"server.keys: there is no file of keys {folder}/own.json" in told()
    (folder / "own.json").write_text("{}")
    (folder / "own.json").chmod(0o600)
    assert "server.keys: the file of keys" in told()
    (folder / "own.json").unlink()
    add(folder / "own.json", "shop")
    assert main(["config", "verify"]) == 0
    (folder / "bimodal.toml").write_text(WHOLE)
    assert main(["config", "verify"]) == 0
    (folder / NAME).write_text("")  # where a server looks by itself
    assert "server.keys: the file of keys" in told()


def test_a_fault_of_the_file_is_wrong_usage_for_people_and_machines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bimodal.toml").write_text(WHOLE.replace("schedule", "shedule"))
    assert main(["config", "verify", "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["code"] == "config"
    assert "jobs.nightly.shedule: there is no such key; did you mean schedule?" in told.err
    assert main(["config", "show", "gone.toml"]) == 2


def test_show_tells_each_value_and_where_it_comes_from(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIMODAL_WORKERS", "3")
    monkeypatch.setenv("BIMODAL_QUEUE_TARGET", "1s")
    monkeypatch.setenv("STATE_PASSWORD", "hunter2")
    assert main(["config", "show", "--json"]) == 0
    told = {each["key"]: (each["value"], each["origin"]) for each in json.loads(capsys.readouterr().out)}
    assert told["state"] == ("postgresql://ann:env:STATE_PASSWORD@db.example/state", "bimodal.toml:1")
    assert told["server.port"] == (5000, "bimodal.toml:4")
    assert told["server.workers"] == (3, "BIMODAL_WORKERS")
    assert told["server.queue_target"] == (1.0, "BIMODAL_QUEUE_TARGET")
    assert told["server.host"] == ("127.0.0.1", "default")
    assert told["models.churn.store.max_age"] == (86400.0, "bimodal.toml:19")
    assert told["jobs.nightly.rename"] == ({"kunde": "customer_id"}, "bimodal.toml:27")
    assert told["jobs.nightly.notify[1].secret"] == (f"file:{folder}/secrets/hook", "bimodal.toml:41")
    assert told["jobs.nightly.notify[2].timeout"] == (10.0, "default")
    options = {each.key: each for each in shown(reading("bimodal.toml"), {"port": 1})}
    assert (options["server.port"].value, options["server.port"].origin) == (1, "option")
    assert main(["config", "show"]) == 0
    printed = capsys.readouterr().out
    assert "hunter2" not in printed
    assert len(printed.splitlines()) == len(told)


def test_the_schema_is_printed_or_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
    assert main(["config", "schema", "-o", "schema.json"]) == 0
    assert "#:schema ./schema.json" in capsys.readouterr().out
    assert json.loads((folder / "schema.json").read_text()) == schema()
    assert main(["config", "schema", "-o", "gone/schema.json"]) == 1
    assert "cannot be written" in capsys.readouterr().err


ADDRESSES = [
    "postgresql://ann@db/shop#t",
    "postgresql://ann:pw@db/shop",
    "postgresql://ann:env:PW@db/shop",
    "postgresql://ann:file:pw@db/shop",
    "postgresql://:pw@db/shop",
    "postgresql://db:5432/shop",
    "postgresql://ann@db:5432/shop?password=pw",
    "postgresql://ann@db:5432/shop?password=file:pw",
    "postgresql://ann@db/shop?sslmode=require",
    "postgresql://ann@db/shop?options=password%3Dpw",
    "postgresql://ann:p@w@db/shop",
    "postgresql://ann:pa/ss@db/shop",
    "postgresql://ann:pa#ss@db/shop",
    "mysql://ann:pa?ss@db/shop",
    "sqlite:///a:b@c.db",
    "duckdb:///x.duckdb?token=abc",
    "sqlite:////data/shop.db#t",
]


@pytest.mark.parametrize("text", ADDRESSES)
def test_a_password_is_seen_where_the_databases_see_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pw").write_text("x")
    try:
        seen = PLAIN in Address.parse(text).notes
    except UsageError as error:
        seen = "can be understood" in str(error)  # it may hold one, so it is refused there
    assert has_secret(text) == seen


@pytest.mark.parametrize("text", [each for each in ADDRESSES if not has_secret(each)])
def test_a_place_that_is_taken_from_a_folder_is_the_same_from_everywhere(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a #%b"
    folder.mkdir()
    (folder / "pw").write_text("x")
    (folder / "pw").chmod(0o600)
    monkeypatch.setenv("PW", "x")
    monkeypatch.chdir(folder)
    here = Address.parse(text)
    rootedly = rooted(text, folder)
    monkeypatch.chdir("/")
    there = Address.parse(rootedly)
    assert there.password() == ("x" if "PW" in text or "pw" in text else None)
    assert (there.kind, there.host, there.port, there.table) == (here.kind, here.host, here.port, here.table)
    relative = here.kind in ("sqlite", "duckdb")
    assert there.database == (str(folder / here.database) if relative else here.database)


def test_places_that_are_no_databases(tmp_path: Path) -> None:
    for text in ("s3://bucket/a", "models:/churn@champion", "-", "env:SHOP_URL#t", "/a/b.csv", "https://h/x"):
        assert rooted(text, tmp_path) == text
    assert rooted("./out/", tmp_path) == f"{tmp_path}/out/"
    assert rooted("model.py:Model", tmp_path) == f"{tmp_path}/model.py:Model"
    assert rooted("~/a.csv", tmp_path) == str(Path.home() / "a.csv")
    assert [file_of(each) for each in ("a/m.py:Model", "m.pkl", "models:/m", "s3://b/m")] == [
        "a/m.py",
        "m.pkl",
        None,
        None,
    ]
    assert [is_database(each) for each in ("env:A", "file:a", "file:///a", "s3://b", "a.csv")] == [True, True] + [
        False
    ] * 3
