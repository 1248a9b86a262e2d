"""Keys: made once, kept as digests, rotated, revoked; a file of them is whole or refused."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal import keys
from bimodal.errors import ConfigError, UsageError

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = 86_400.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_256_random_bits_of_which_the_file_holds_the_digest_alone(file: Path) -> None:
    made = [keys.add(file, f"shop{each}") for each in range(20)]
    assert len(set(made)) == 20
    text = file.read_text()
    for key in made:
        assert key.startswith("bmk_")
        assert len(key) == len("bmk_") + 43  # 32 bytes in base64
        assert key not in text
        assert key[4:] not in text
        assert hashlib.sha256(key.encode()).hexdigest() in text  # as sha256sum tells it


def test_a_file_of_keys_is_its_users_alone_and_nothing_is_left_beside_it(file: Path) -> None:
    keys.add(file, "shop")
    keys.rotate(file, "shop")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == [file.name]


def test_a_key_has_its_scopes_and_its_end(file: Path) -> None:
    key = keys.add(file, "deploy", ["admin", "infer", "admin"], expires=DAY, now=NOW)
    (known,) = keys.load(file)
    assert (known.name, known.scopes, known.created) == ("deploy", ("admin", "infer"), NOW)
    assert known.expires == NOW + timedelta(days=1)
    assert known.live(NOW + timedelta(hours=23))
    assert not known.live(NOW + timedelta(days=1))
    assert keys.find(key.encode(), [known]) == known


@given(st.binary(max_size=60))
def test_nothing_else_is_a_key(guess: bytes) -> None:
    known = [keys.Key("shop", keys.digest(b"bmk_right"), ("infer",), NOW)]
    assert keys.find(guess, known) is (known[0] if guess == b"bmk_right" else None)


def test_a_name_that_is_taken_is_refused_with_what_to_do(file: Path) -> None:
    keys.add(file, "shop")
    with pytest.raises(UsageError, match=r"bimodal keys rotate shop .* bimodal keys revoke shop"):
        keys.add(file, "shop")


def test_rotation_leaves_two_live_keys_until_the_old_one_is_revoked(file: Path) -> None:
    first = keys.add(file, "shop", ["infer", "metrics"])
    second = keys.rotate(file, "shop")
    assert [(each.scopes, each.old) for each in keys.load(file)] == [
        (("infer", "metrics"), True),
        (("infer", "metrics"), False),
    ]
    for key in (first, second):
        assert keys.find(key.encode(), keys.load(file))
    with pytest.raises(UsageError, match="two live keys: bimodal keys revoke shop --old"):
        keys.rotate(file, "shop")
    assert keys.revoke(file, "shop", old=True) == 1
    assert keys.find(first.encode(), keys.load(file)) is None
    assert keys.find(second.encode(), keys.load(file))


def test_an_overlap_ends_the_old_key_by_itself_and_a_life_is_kept(file: Path) -> None:
    keys.add(file, "shop", expires=90 * DAY, now=NOW)
    later = NOW + timedelta(days=80)
    keys.rotate(file, "shop", overlap=DAY, now=later)
    old, new = keys.load(file)
    assert old.expires == later + timedelta(days=1)
    assert new.expires == later + timedelta(days=90)
    assert keys.rotate(file, "shop", now=later + timedelta(days=2))  # the old one has ended, and goes
    assert len(keys.load(file)) == 2


def test_an_overlap_never_lengthens_a_life(file: Path) -> None:
    keys.add(file, "shop", expires=DAY, now=NOW)
    keys.rotate(file, "shop", overlap=30 * DAY, now=NOW)
    assert keys.load(file)[0].expires == NOW + timedelta(days=1)


def test_revoking_ends_all_keys_of_a_name_and_no_others(file: Path) -> None:
    keys.add(file, "shop")
    keys.rotate(file, "shop")
    keys.add(file, "other")
    assert keys.revoke(file, "shop") == 2
    assert [each.name for each in keys.load(file)] == ["other"]


@pytest.mark.parametrize("work", [keys.rotate, keys.revoke])
def test_a_name_that_is_not_there_is_told(file: Path, work: object) -> None:
    keys.add(file, "shop")
    with pytest.raises(UsageError, match="no key named shpo; bimodal keys list"):
        work(file, "shpo")  # type: ignore[operator] # both take a file and a name


def test_without_a_rotation_there_is_no_old_key(file: Path) -> None:
    keys.add(file, "shop")
    with pytest.raises(UsageError, match="no old key"):
        keys.revoke(file, "shop", old=True)


@pytest.mark.parametrize(
    ("name", "scopes", "told"),
    [
        ("sh op", ["infer"], "no name of a key"),
        ("", ["infer"], "no name of a key"),
        ("shop", ["inferr"], "no scope 'inferr'; scopes are infer, metrics, admin"),
        ("shop", [], "needs a scope"),
    ],
)
def test_what_is_no_name_or_scope_is_refused(file: Path, name: str, scopes: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        keys.add(file, name, scopes)
    assert not file.exists()


def test_a_file_that_is_not_there_names_the_command_that_makes_it(file: Path) -> None:
    with pytest.raises(UsageError, match=f"bimodal keys add NAME --keys {file}"):
        keys.load(file)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused(file: Path, mode: int) -> None:
    keys.add(file, "shop")
    file.chmod(mode)
    with pytest.raises(UsageError, match=r"others may write .* chmod 600"):
        keys.load(file)


def test_a_file_that_others_may_read_is_known_for_one(file: Path) -> None:
    keys.add(file, "shop")
    assert not keys.is_exposed(file)
    file.chmod(0o644)
    assert keys.load(file)
    assert keys.is_exposed(file)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge"])
def test_what_is_no_plain_file_of_a_bounded_size_is_refused_at_once(file: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    else:
        with file.open("wb") as made:
            made.truncate(1 << 40)
    with pytest.raises(UsageError, match=r"no plain file|over 1 MiB|Is a directory"):
        keys.load(file)
    with pytest.raises(UsageError, match=r"no plain file|over 1 MiB|Is a directory"):
        keys.add(file, "shop")


def test_a_file_in_a_folder_that_others_may_write_into_is_refused(file: Path) -> None:
    file.parent.chmod(0o777)
    with pytest.raises(UsageError, match=r"others may write into the folder .* chmod go-w"):
        keys.add(file, "shop")
    file.parent.chmod(0o1777)  # as /tmp: nobody replaces what is another's
    keys.add(file, "shop")
    assert keys.load(file)
    file.parent.chmod(0o777)
    with pytest.raises(UsageError, match=r"others may write into the folder"):
        keys.load(file)


def test_a_link_that_others_could_replace_is_refused(file: Path, tmp_path: Path) -> None:
    keys.add(file, "shop")
    (tmp_path / "open").mkdir()
    link = tmp_path / "open" / "keys.json"
    link.symlink_to(file)
    assert keys.load(link)
    link.parent.chmod(0o777)
    with pytest.raises(UsageError, match="others may write into the folder"):
        keys.load(link)


def test_a_folder_of_a_group_is_refused_unless_the_group_is_ones_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.add(file, "shop")
    file.parent.chmod(0o770)
    monkeypatch.setattr(keys, "_is_private", lambda group: True)
    assert keys.load(file)
    monkeypatch.setattr(keys, "_is_private", lambda group: False)
    with pytest.raises(UsageError, match=r"others may write into the folder"):
        keys.load(file)


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.add(file, "shop")
    if os.geteuid() == 0:
        os.chown(file, 65_534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(UsageError, match="belongs to another user"):
        keys.load(file)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"digest": "x"}, r"keys\[1\]\.digest is no SHA-256"),
        ({"scopes": ["everything"]}, r"keys\[1\]\.scopes has one that is not there; scopes are infer, metrics, admin"),
        ({"expires": "soon"}, r"keys\[1\]\.expires is not what it should be"),
        ({"expires": "2027-01-01T00:00:00"}, r"keys\[1\]\.expires has no time zone"),
        ({"more": 1}, r"keys\[1\] has a field that is not known"),
        ({"name": "a b"}, r"keys\[1\]\.name is no name"),
    ],
)
def test_what_is_damaged_is_told_by_its_place_and_never_by_its_value(
    file: Path, change: dict[str, object], told: str
) -> None:
    keys.add(file, "shop")
    keys.add(file, "other")
    good = json.loads(file.read_text())
    good["keys"][1] |= change
    file.write_text(json.dumps(good))
    with pytest.raises(ConfigError, match=told) as raised:
        keys.load(file)
    assert "everything" not in str(raised.value)
    assert "soon" not in str(raised.value)


def damaged(file: Path) -> list[bytes]:
    good = json.loads(file.read_text())
    key = good["keys"][0]
    changes = [
        {"digest": key["digest"][:-1]},
        {"digest": key["digest"].upper()},
        {"scopes": ["everything"]},
        {"expires": "soon"},
        {"expires": "2027-01-01T00:00:00"},
        {"more": 1},
    ]
    texts: list[object] = [{**good, "keys": [{**key, **change}]} for change in changes]
    texts += [{**good, "version": 2}, {"keys": good["keys"]}, [], {**good, "keys": {}}]
    whole = file.read_bytes()
    return [b"", b"\xff\xfe", b"[" * 100_000, whole[: len(whole) // 2], *(json.dumps(each).encode() for each in texts)]


def test_a_damaged_file_is_refused_and_left_as_it_is(file: Path) -> None:
    keys.add(file, "shop")
    for data in damaged(file):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=r"damaged|newer version"):
            keys.load(file)
        with pytest.raises(ConfigError):
            keys.add(file, "other")
        assert file.read_bytes() == data


def test_those_who_change_a_file_at_once_wait_for_each_other(file: Path) -> None:
    work = [threading.Thread(target=keys.add, args=(file, f"shop{each}")) for each in range(12)]
    for each in work:
        each.start()
    for each in work:
        each.join()
    assert sorted(each.name for each in keys.load(file)) == sorted(f"shop{each}" for each in range(12))


def test_a_link_to_a_file_of_keys_stays_one(file: Path, tmp_path: Path) -> None:
    keys.add(file, "shop")
    link = tmp_path / "link.json"
    link.symlink_to(file)
    keys.add(link, "other")
    assert link.is_symlink()
    assert len(keys.load(file)) == 2


def test_a_file_is_looked_for_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIMODAL_CONFIG", raising=False)
    assert keys.beside() == Path("bimodal-keys.json")
    assert keys.beside("a/bimodal.toml") == Path("a/bimodal-keys.json")
    monkeypatch.setenv("BIMODAL_CONFIG", str(tmp_path))
    assert keys.beside() == tmp_path / "bimodal-keys.json"
