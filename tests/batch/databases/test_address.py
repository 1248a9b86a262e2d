"""Addresses: what a URL means, where passwords stand, and that none of them is ever told."""

from __future__ import annotations

import copy
import os
import pickle
import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.batch.databases.address import Address, is_address
from bimodal.batch.databases.contract import TableName
from bimodal.batch.databases.mysql import MySQL
from bimodal.errors import BimodalError, MissingLibrary, UsageError

SECRET = "hunter2-geheim"
T = TableName


@pytest.mark.parametrize(
    ("text", "kind", "host", "port", "user", "database", "table"),
    [
        ("sqlite:///shop.db#customers", "sqlite", None, None, None, "shop.db", T("customers")),
        ("sqlite:////abs/shop.db#t", "sqlite", None, None, None, "/abs/shop.db", T("t")),
        ("sqlite:///a%20b%23.db", "sqlite", None, None, None, "a b#.db", None),
        ("duckdb:///x.duckdb#main.t", "duckdb", None, None, None, "x.duckdb", T("t", "main")),
        ("postgres://ann@db.example/shop#sales.t", "postgresql", "db.example", None, "ann", "shop", T("t", "sales")),
        ("postgresql:///shop?host=/run/pg&port=6000#t", "postgresql", "/run/pg", 6000, None, "shop", T("t")),
        ("postgresql://[::1]:5433/shop", "postgresql", "::1", 5433, None, "shop", None),
        ("MySQL://a%40b@db:3307/caf%C3%A9#%22a.b%22", "mysql", "db", 3307, "a@b", "café", T("a.b")),
        ("mysql+pymysql://db/shop#s.%22say%20%22%22hi%22%22%22", "mysql", "db", None, None, "shop", T('say "hi"', "s")),
        ("mariadb://db/shop?user=ann#my table", "mariadb", "db", None, "ann", "shop", T("my table")),
        ("oracle+oracledb://ann@db/?service_name=x#T", "oracle", "db", None, "ann", "", T("T")),
    ],
)
def test_what_a_url_means(
    text: str, kind: str, host: str | None, port: int | None, user: str | None, database: str, table: TableName | None
) -> None:
    assert is_address(text)
    found = Address.parse(text)
    assert (found.kind, found.host, found.port, found.user, found.database, found.table) == (
        kind, host, port, user, database, table,
    )  # fmt: skip
    assert found.notes == ()
    assert found.password() is None


@given(st.text(min_size=1), st.none() | st.text(min_size=1))
def test_any_name_of_a_table_can_be_written(name: str, schema: str | None) -> None:
    address = Address.parse("sqlite:///x.db").at(T(name, schema))
    assert pickle.loads(pickle.dumps(address)).table == T(name, schema)
    assert Address.parse("sqlite:///y.db").table is None


@pytest.mark.parametrize(
    "text",
    [
        "shop.csv",
        "s3://bucket/a.parquet",
        "gs://b/c",
        "file:///a.csv",
        "https://a.example/b.csv",
        "-",
        "C:\\a.csv",
        "a#b",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mysq://db/shop", r"mysq is no known kind of database \(did you mean mysql\?\): there are .*'sqlite'"),
        ("nonsense", "this is no database URL"),
        ("postgresql://db/", "names no database"),
        ("sqlite:///:memory:", "names no database: write sqlite:///shop.db"),
        ("sqlite://shop.db", "three slashes"),
        ("mysql://db:70000/shop", "no host and port"),
        ("mysql://a,b/shop", "several hosts"),
        ("mysql://db/shop#a.b.c", "no table"),
        ("mysql://db/shop#a.", "no table"),
        ("mysql://db/shop?a=1&a=2", "the option a stands twice"),
        ("mysql://ann:env:NO_SUCH@db/shop", "environment variable NO_SUCH is not set"),
        ("env:NO_SUCH#t", "environment variable NO_SUCH is not set; it should hold the database's URL"),
        ("env:EMPTY#t", "environment variable EMPTY is empty"),
        ("mysql://db/shop?password=file:/no/such", "the file /no/such cannot be read .*: No such file"),
        ("env:AGAIN", "holds a reference again"),
        ("mysql://ann:env:EMPTY2@db/shop?password=env:AGAIN", "two passwords|EMPTY2"),
    ],
)
def test_what_is_wrong_is_told(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("AGAIN", "env:OTHER")
    with pytest.raises(UsageError, match=said):
        Address.parse(text)


def test_a_table_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"names no table: add #table, or --query .* or --into"):
        _ = Address.parse("mysql://db/shop").named


def references(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same address, with its password in each place where it may stand."""
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    monkeypatch.setenv("SHOP_URL", f"mysql://ann:{SECRET}@db/shop")
    for name, text in (("password", SECRET), ("url", f"mysql://ann:{SECRET}@db/shop\n")):
        (folder / name).write_text(text + "\n" * (name == "password"))
        (folder / name).chmod(0o600)
    return [
        "mysql://ann:env:SHOP_PASSWORD@db/shop#t",
        "mysql://ann@db/shop?password=env:SHOP_PASSWORD#t",
        f"mysql://ann:file:{folder}/password@db/shop#t",
        f"mysql://ann@db/shop?password=file:{folder}/password#t",
        "env:SHOP_URL#t",
        f"file:{folder}/url#t",
        f"mysql://ann:{SECRET}@db/shop#t",
        f"mysql://ann@db/shop?password={SECRET}#t",
    ]


def test_passwords_are_found_and_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, text in enumerate(references(tmp_path, monkeypatch)):
        address = Address.parse(text)
        assert address.password() == SECRET
        assert (address.user, address.host, address.database, address.table) == ("ann", "db", "shop", T("t"))
        assert (address.name, address.identity) == ("mysql://db/shop#t", "mysql://db:3306/shop")
        shown = [str(address), repr(address), repr(vars(address)), address.name, address.identity, *address.notes]
        shown += [repr(copy.deepcopy(address)), str(address.settings()), repr(address.at(None))]
        plain = place >= 6
        if plain:
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(address)
        else:
            kept = pickle.dumps(address)
            assert pickle.loads(kept).password() == SECRET
            shown.append(kept.decode("latin-1"))
        assert not [each for each in shown if SECRET in each]
        assert len(address.notes) == plain
        assert all("env:NAME" in note for note in address.notes)


def test_a_secret_file_that_everybody_reads_is_told(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(SECRET)
    path.chmod(0o644)
    address = Address.parse(f"mysql://db/shop?password=file:{path}")
    assert address.notes == (f"{path} can be read by everybody: chmod 600 {path}",)


def test_options_that_look_secret_are(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("sslpassword", "ssl_key_password", "token", "client_secret", "passfile_pwd", "odbc_connect")
    for name in names:
        address = Address.parse(f"mssql+x://db/shop?{name}={SECRET}&timeout=3")
        assert address.settings() == {name: SECRET, "timeout": "3"}
        assert SECRET not in repr(vars(address))
        assert dict(address.options) == {"timeout": "3"}


def told(text: str, password: str) -> str:
    """All that is told of an address, which is refused or has that password."""
    try:
        address = Address.parse(text)
    except UsageError as error:
        return "".join(traceback.format_exception(error))
    assert address.password() == password
    return repr(vars(address)) + address.name + address.identity


@pytest.mark.parametrize("mark", ["#", "/", "?", "@", ":", "#1@", "/2/", "?x=1/"])
def test_a_password_with_bare_marks_is_never_told(mark: str) -> None:
    for password in (f"{SECRET}{mark}12", f"12{mark}{SECRET}", f"{SECRET}{mark}{SECRET}"):
        for scheme in ("postgresql", "mysql", "mssql+x"):
            shown = told(f"{scheme}://ann:{password}@db.example/shop#t", password)
            assert SECRET not in shown


def attempts(folder: Path) -> list[tuple[str, str]]:
    """Addresses where nobody listens, with their passwords; one for each driver."""
    return [
        (f"mysql://ann:{SECRET}@127.0.0.1:1/shop", "mysql"),
        (f"mysql://ann@127.0.0.1:1/shop?password={SECRET}&ssl_key_password={SECRET}", "mysql"),
        (f"postgresql://ann:{SECRET}@127.0.0.1:1/shop?connect_timeout=2", "postgresql"),
        (f"postgresql://ann@127.0.0.1:1/shop?password={SECRET}&sslpassword={SECRET}&no_such_option=1", "postgresql"),
        (f"mssql+pymysql://ann:{SECRET}@127.0.0.1:1/shop", "general"),
        (f"sqlite+pysqlite:///{folder}/no/folder/x.db", "general"),
        (f"sqlite:///{folder}/no/folder/x.db?token={SECRET}", "sqlite"),
    ]


def test_a_login_that_fails_tells_no_secret(tmp_path: Path) -> None:
    for text, driver in attempts(tmp_path):
        with pytest.raises((BimodalError, MissingLibrary)) as caught:
            Address.parse(text).open().session()
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value)
        assert SECRET not in shown, driver


def test_a_password_in_the_drivers_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".my.cnf").write_text(f"[client]\nuser = bob\npassword = {SECRET}\n")
    asked: list[dict[str, object]] = []

    def connect(**given: object) -> _Closed:
        asked.append(given)
        return _Closed()

    monkeypatch.setattr("pymysql.connect", connect)
    MySQL(Address.parse("mysql://db/shop"))
    assert (asked[0]["user"], asked[0]["password"], asked[0]["host"]) == ("bob", SECRET, "db")
    (tmp_path / ".my.cnf").write_text(f"password {SECRET} [\n")
    with pytest.raises(UsageError, match="cannot be read as an option file") as caught:
        MySQL(Address.parse("mysql://db/shop"))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


class _Closed:
    """A connection that answers nothing."""

    def query(self, statement: str) -> None:
        assert re.match("SET ", statement)

    def close(self) -> None:
        assert os.environ["HOME"]


def test_an_option_that_the_driver_has_not() -> None:
    with pytest.raises(UsageError, match=r"the option ssl_cat is not known \(did you mean ssl_ca\?\)"):
        Address.parse("mysql://db/shop?ssl_cat=x").open()


def test_who_is_the_same_database() -> None:
    one = Address.parse("mysql://ann@DB/shop#t").identity
    assert one == Address.parse("mariadb://bob@db:3306/shop#s").identity
    assert one != Address.parse("mysql://ann@db/other").identity
    assert Address.parse("sqlite:///a/../x.db").identity == Address.parse(f"sqlite:///{Path.cwd()}/x.db").identity
