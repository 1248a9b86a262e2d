"""`bimodal keys` prints a key once, and tells of keys without showing them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bimodal import keys
from bimodal.cli import main


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIMODAL_KEYS", raising=False)
    monkeypatch.delenv("BIMODAL_CONFIG", raising=False)
    return tmp_path / keys.NAME


def test_a_new_key_stands_alone_on_standard_output(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "add", "shop", "--scope", "infer,metrics", "--expires", "90d"]) == 0
    printed = capsys.readouterr()
    key = printed.out.removesuffix("\n")
    assert key.startswith("bmk_")
    assert key not in printed.err
    assert "it is not shown again" in printed.err
    (known,) = keys.load(file)
    assert keys.find(key.encode(), [known]) == known
    assert known.scopes == ("infer", "metrics")
    assert known.expires is not None
    assert (known.expires - known.created).days == 90


def test_the_list_tells_all_but_keys_and_digests(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "add", "shop"])
    main(["keys", "rotate", "shop", "--overlap", "24h"])
    first, second = capsys.readouterr().out.split()
    assert main(["keys", "list"]) == 0
    told = capsys.readouterr().out
    head, *lines = told.splitlines()
    assert head.split() == ["name", "scopes", "created", "(UTC)", "expires", "(UTC)", "state"]
    assert [line.split()[0] for line in lines] == ["shop", "shop"]
    assert [("old" in line, "never" in line) for line in lines] == [(True, False), (False, True)]
    assert main(["keys", "list", "--json"]) == 0
    told += capsys.readouterr().out
    assert [json.loads(line)["state"] for line in told.splitlines()[-2:]] == ["old, live", "live"]
    for each in (first, second, *(known.digest for known in keys.load(file))):
        assert each not in told


def test_revoke_says_how_many_have_ended(capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "add", "shop"])
    main(["keys", "rotate", "shop"])
    assert main(["keys", "revoke", "shop", "--old"]) == 0
    assert main(["keys", "revoke", "shop"]) == 0
    told = f"revoked 1 key of shop in {keys.NAME}\n"
    assert capsys.readouterr().out.endswith(2 * told)
    assert main(["keys", "list"]) == 0
    assert "no key in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list"], "there is no file of keys"),
        (["rotate", "shop"], "there is no file of keys"),
        (["add", "shop", "--scope", "all"], "no scope 'all'"),
        (["add", "shop", "--expires", "0"], "longer than no time"),
        (["add", "shop", "--keys", "nowhere/keys.json"], "nowhere of the file of keys cannot be opened"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert printed.err.count("\n") == 1


def test_the_file_is_that_of_the_option_else_of_the_environment(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIMODAL_KEYS", str(tmp_path / "a.json"))
    assert main(["keys", "add", "shop"]) == 0
    assert main(["keys", "add", "shop", "--keys", "b.json"]) == 0
    assert (tmp_path / "a.json").exists()
    assert (tmp_path / "b.json").exists()
    assert not file.exists()


def test_the_file_is_that_which_bimodal_toml_names_for_the_server(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "bimodal.toml").write_text('[server]\nkeys = "own/keys.json"\n')
    own = tmp_path / "own" / "keys.json"
    assert main(["keys", "add", "shop"]) == 0
    assert str(own) in capsys.readouterr().err
    assert [each.name for each in keys.load(own)] == ["shop"]
    assert not file.exists()
    monkeypatch.setenv("BIMODAL_KEYS", str(tmp_path / "other.json"))
    assert keys.place() == tmp_path / "other.json"
    monkeypatch.delenv("BIMODAL_KEYS")
    monkeypatch.chdir(tmp_path / "own")
    monkeypatch.setenv("BIMODAL_CONFIG", str(tmp_path))
    assert main(["keys", "revoke", "shop"]) == 0
    assert str(own) in capsys.readouterr().out
    assert keys.load(own) == []
