"""Who may reach a server: the start-up matrix of addresses; real servers with keys, and the clients that ask them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import bimodal
from bimodal import AsyncClient, Client, keys
from bimodal.cli import main
from bimodal.errors import ConfigError, Forbidden, Unauthenticated, UsageError
from bimodal.realtime import serving
from bimodal.realtime.entrance import Entrance
from bimodal.realtime.guard import guard_of
from bimodal.realtime.once import answer_once
from bimodal.realtime.server import Server
from bimodal.realtime.states import entry
from tests.realtime.desk import Desk, told
from tests.realtime.shelf import onnx
from tests.test_keys import damaged

ROW = [[5.1, 3.5, 1.4, 0.2]]
LOCAL = ("127.0.0.1", "localhost", "::1", "127.8.8.8")
NAMED = "models.shop.example"
WIDE = ("0.0.0.0", "::", "10.0.0.5", NAMED)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def lets_start(**told: Any) -> bool:
    try:
        Entrance(**told).check()
    except UsageError:
        return False
    return True


def test_the_start_up_matrix(file: Path, tmp_path: Path) -> None:
    """Address × keys (none, live, all ended) × certificates × --insecure."""
    keys.add(file, "shop")
    ended = tmp_path / "ended.json"
    keys.add(ended, "shop", expires=1e-6)
    for host in (*LOCAL, *WIDE):
        for path, live in ((None, False), (str(file), True), (str(ended), False)):
            for mutual in (False, True):
                for insecure in (False, True):
                    starts = lets_start(host=host, keys=path, secure=mutual, mutual=mutual, insecure=insecure)
                    assert starts is (host in LOCAL or live or mutual or insecure), (host, path, mutual, insecure)


@pytest.mark.parametrize("host", [each for each in WIDE if each != NAMED])
def test_another_address_is_refused_with_the_three_remedies(host: str) -> None:
    with pytest.raises(UsageError, match=r"keys add NAME.*--tls-client-ca FILE.*--insecure"):
        Server({"app": "tests.realtime.wire:app"}, host=host)


@pytest.mark.parametrize("host", [*LOCAL[:1], *WIDE[:1]])
def test_keys_that_cannot_be_read_keep_a_server_from_starting(file: Path, host: str) -> None:
    with pytest.raises(UsageError, match="there is no file of keys"):
        Entrance(host, str(file)).check()
    keys.add(file, "shop")
    for data in damaged(file)[:3]:
        file.write_bytes(data)
        with pytest.raises(ConfigError, match="damaged"):
            Entrance(host, str(file), insecure=True).check()


def test_where_it_listens_is_told_where_that_is_everywhere() -> None:
    def listens(host: str, port: int = 8000, grpc_port: int = 8000) -> str | None:
        server = Server.__new__(Server)
        server.host, server.port, server.grpc_port = host, port, grpc_port
        return server.listens

    assert listens("127.0.0.1") is None
    assert listens("10.0.0.5") is None  # as the URL says
    assert listens("0.0.0.0") == "0.0.0.0:8000 (all interfaces)"
    assert listens("::", 8000, 9000) == "[::]:8000 and 9000 (all interfaces)"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the model /srv/models of ours/churn/2/model.pkl cannot be loaded", "the model model.pkl cannot be loaded"),
        ("/srv/a/b.pkl: no such file; see '/etc/x/y.json'", "b.pkl: no such file; see 'y.json'"),
        ("/v2/models/stats is the statistics of all models", "/v2/models/stats is the statistics of all models"),
        (
            "see https://example.org/a/b, or and/or models/churn/1",
            "see https://example.org/a/b, or and/or models/churn/1",
        ),
        ("1/2 of it, not loaded", "1/2 of it, not loaded"),
    ],
)
def test_callers_are_told_no_folders_of_the_server(reason: str, told: str) -> None:
    assert entry("churn", "2", "UNAVAILABLE", reason)["reason"] == told


def test_the_operator_is_warned(file: Path) -> None:
    keys.add(file, "shop")
    path = str(file)
    assert Entrance("127.0.0.1").warnings() == Entrance("127.0.0.1", path, insecure=True).warnings() == []
    assert Entrance("10.0.0.5", path, secure=True).warnings() == []
    (clear,) = Entrance("10.0.0.5", path).warnings()
    assert "clear text to 10.0.0.5" in clear
    (open_,) = Entrance("10.0.0.5", insecure=True).warnings()
    assert "any machine that reaches 10.0.0.5" in open_
    assert Entrance("10.0.0.5", mutual=True, secure=True).warnings() == []
    file.chmod(0o644)
    assert f"chmod 600 {path}" in Entrance("127.0.0.1", path).warnings()[0]
    keys.revoke(file, "shop")
    assert "no key in" in Entrance("127.0.0.1", path).warnings()[0]


def test_an_open_server_says_so_where_everybody_looks() -> None:
    open_ = Entrance("10.0.0.5", insecure=True).guard({})
    desk = Desk(onnx(), spec={"guard": open_})
    assert "without a key (--insecure)" in told(desk.get("/health/ready"))["warning"]
    assert "insecure" in told(desk.get("/v2"))["extensions"]
    desk.close()
    desk = Desk(onnx(), spec={"guard": Entrance("127.0.0.1").guard({})})
    assert told(desk.get("/health/ready")) == {"status": "ready"}
    assert "insecure" not in told(desk.get("/v2"))["extensions"]
    desk.close()


def test_a_client_certificate_opens_infer_alone() -> None:
    guard = guard_of(Entrance("10.0.0.5", mutual=True).guard({}))
    headers = {b"host": b"10.0.0.5:8000"}
    assert guard.request("POST", "/predict", headers).error is None
    for path in ("/metrics", "/jobs"):
        error = guard.request("GET", path, headers).error
        assert isinstance(error, Forbidden)
        assert "a client certificate has the scope infer alone" in error.message


def test_a_certificate_and_keys_are_both_needed(file: Path) -> None:
    key = keys.add(file, "shop")
    guard = guard_of(Entrance("10.0.0.5", str(file), mutual=True).guard({"keys": file}))
    headers = {b"host": b"10.0.0.5:8000"}
    assert isinstance(guard.request("POST", "/predict", headers).error, Unauthenticated)
    assert guard.request("POST", "/predict", {**headers, b"x-api-key": key.encode()}).error is None


def test_the_description_tells_of_keys_where_there_are_some(file: Path) -> None:
    keys.add(file, "shop")
    desk = Desk(onnx(), spec={"guard": {"keys": str(file)}})
    document = told(desk.get("/openapi.json"))
    desk.close()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    predict, ping, metrics = (document["paths"][path] for path in ("/predict", "/ping", "/metrics"))
    assert {"401", "403"} <= set(predict["post"]["responses"])
    assert ping["get"]["security"] == []
    assert "401" not in ping["get"]["responses"]
    assert "`metrics`" in metrics["get"]["description"]
    desk = Desk(onnx())
    assert "securitySchemes" not in told(desk.get("/openapi.json"))["components"]
    desk.close()


# -- a real server -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keyed")


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    return keys.add(folder / "keys.json", "shop")


@pytest.fixture(scope="module")
def server(folder: Path, key: str) -> Iterator[Server]:
    with bimodal.serve(onnx(), host="0.0.0.0", port=0, keys=folder / "keys.json") as server:
        yield server


def ask(scheme: str, server: Server, key: str | None, work: Callable[[Any], Any], *, later: bool) -> Any:
    url = f"{scheme}://127.0.0.1:{server.port}"
    if not later:
        with Client(url, key=key) as client:
            return work(client)

    async def asked() -> Any:
        async with AsyncClient(url, key=key) as client:
            return await work(client)

    return asyncio.run(asked())


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_clients_send_their_key_and_raise_what_refuses_them(server: Server, key: str, scheme: str, later: bool) -> None:
    def predict(client: Any) -> Any:
        return client.predict(ROW)

    assert ask(scheme, server, key, predict, later=later) == [{"prediction": 0}]
    for wrong, sentence in ((None, "needs an API key"), ("bmk_wrong", "none of this server's")):
        with pytest.raises(Unauthenticated, match=sentence):
            ask(scheme, server, wrong, predict, later=later)
        assert ask(scheme, server, wrong, lambda client: client.ready(), later=later)


def test_a_client_is_told_the_scope_that_it_lacks(server: Server, key: str) -> None:
    with Client(server.url, key=key) as client, pytest.raises(Forbidden, match="a key with the scope metrics"):
        client.request("GET", "/metrics")


def test_a_running_server_takes_up_new_keys_and_lets_go_of_old_ones(server: Server, folder: Path) -> None:
    new = keys.add(folder / "keys.json", "guest")
    until(lambda: accepted(server, new))
    keys.revoke(folder / "keys.json", "guest")
    until(lambda: not accepted(server, new))


def accepted(server: Server, key: str) -> bool:
    with Client(server.url, key=key) as client:
        try:
            client.models()
        except Unauthenticated:
            return False
        return True


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


# -- where keys are looked for -----------------------------------------------------------------------------------------


def test_the_file_beside_the_configuration_counts_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BIMODAL_KEYS", "BIMODAL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def named(given: str | None = None, config: str | None = None) -> str | None:
        told = serving.guarded(serving.resolved({"keys": given}), config)
        return None if told["keys"] is None else str(Path(told["keys"]).relative_to(tmp_path))

    (tmp_path / "site").mkdir()
    assert named() is None
    keys.add(keys.beside(), "here")
    keys.add(keys.beside("site/bimodal.toml"), "there")
    assert named() == "bimodal-keys.json"
    assert named(config="site/bimodal.toml") == "site/bimodal-keys.json"
    assert named("other.json", "site/bimodal.toml") == "other.json"
    assert named("") is None
    monkeypatch.setenv("BIMODAL_KEYS", "env.json")
    assert named() == "env.json"


def test_one_request_without_a_port_is_the_operators_own(file: Path) -> None:
    keys.add(file, "shop")
    response = answer_once([onnx()], "GET", "/models", loading={}, keys=str(file))
    assert response.status == 200
    assert msgspec.json.decode(response.body)[0]["name"] == "inline"


def test_serve_refuses_the_world_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sums.py").write_text("class Sums:\n    def predict(self, rows):\n        return rows.sum(axis=1)\n")
    with caplog.at_level(logging.ERROR):
        assert main(["serve", f"{tmp_path}/sums.py:Sums", "--host", "0.0.0.0", "--port", "0"]) == 2
    printed = capsys.readouterr().err
    assert "host 0.0.0.0 can be reached from other machines" in printed
    assert printed.count("error:") == 1
