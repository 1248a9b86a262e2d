"""Sockets that are handed over, as sd_listen_fds(3) has it, and what the supervisor is told."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bimodal.errors import UsageError
from bimodal.realtime import activation
from bimodal.realtime.activation import Inherited, notify
from bimodal.realtime.server import Server
from tests.realtime.wire import PATIENCE, Client

TRY_OUT = {"app": "tests.realtime.wire:app"}


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(opened: ExitStack, host: str = "127.0.0.1", port: int = 0, *, shared: bool = False) -> socket.socket:
    return opened.enter_context(socket.create_server((host, port), reuse_port=shared))


def handed(patch: pytest.MonkeyPatch, *sockets: socket.socket, names: str = "") -> None:
    """Sockets in a row of descriptors, meant for this process, as a supervisor leaves them."""
    first = 200  # free in a process of tests
    for number, each in enumerate(sockets):
        os.dup2(each.fileno(), first + number)
    patch.setattr(activation, "FIRST", first)
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
    for name, value in told.items():
        patch.setenv(name, value)


def test_without_any_the_server_opens_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Inherited.take() is None
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert Inherited.take() is None
    monkeypatch.setenv("LISTEN_PID", "1")  # they are another's
    assert Inherited.take() is None
    assert os.environ["LISTEN_FDS"] == "1"


def test_a_server_on_sockets_that_it_was_given(monkeypatch: pytest.MonkeyPatch, opened: ExitStack) -> None:
    """They are taken once; the port that it is told is not opened; those of gRPC are known by their name."""
    calls, pages = listening(opened), listening(opened)
    handed(monkeypatch, calls, pages, names="grpc:http")
    with Server(TRY_OUT, port=1, workers=2) as server:
        assert (server.port, server.grpc_port) == (pages.getsockname()[1], calls.getsockname()[1])
        assert "LISTEN_FDS" not in os.environ
        for port in (server.port, server.grpc_port):
            with Client(port) as client:
                assert client.get("/nothing").answer().status == 204
    with Client(server.port) as late:  # whoever holds it: nobody is refused
        late.get("/nothing")


def test_each_socket_has_a_worker_and_each_worker_one(monkeypatch: pytest.MonkeyPatch, opened: ExitStack) -> None:
    first = listening(opened, shared=True)
    port = first.getsockname()[1]
    others = [listening(opened, port=port, shared=True) for _ in range(2)]
    single = listening(opened)
    handed(monkeypatch, first, *others, single, names="http:http:http:grpc")
    inherited = Inherited.take()
    assert inherited is not None
    assert [len(port) for port in inherited.ports] == [3, 1]
    for workers in (1, 2, 3, 4):
        dealt = inherited.deal(workers)
        assert len(dealt) == workers
        assert {each.fileno() for one in dealt for each in one} == {200, 201, 202, 203}
        for one in dealt:
            assert {each.getsockname()[1] for each in one} == {port, single.getsockname()[1]}
    for port in inherited.ports:
        for each in port:
            each.close()


def test_the_address_that_lets_in_most_counts(monkeypatch: pytest.MonkeyPatch, opened: ExitStack) -> None:
    handed(monkeypatch, listening(opened), listening(opened, "0.0.0.0"))
    with pytest.raises(UsageError, match=r"host 0\.0\.0\.0 can be reached from other machines"):
        Server(TRY_OUT)


def test_what_is_no_listening_socket_is_named(monkeypatch: pytest.MonkeyPatch, opened: ExitStack) -> None:
    one, other = (opened.enter_context(each) for each in socket.socketpair())
    datagrams = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for wrong in (one, datagrams):
        handed(monkeypatch, wrong)
        with pytest.raises(UsageError, match="file descriptor 200, handed over by LISTEN_FDS, is no listening TCP"):
            Inherited.take()
    handed(monkeypatch, other)
    monkeypatch.setenv("LISTEN_FDS", "many")
    with pytest.raises(UsageError, match="LISTEN_FDS is no number"):
        Inherited.take()


def test_the_supervisor_is_told(monkeypatch: pytest.MonkeyPatch, opened: ExitStack) -> None:
    folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="bm"))
    for place, name in ((f"{folder}/told", f"{folder}/told"), ("\0bimodal-told", "@bimodal-told")):
        told = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        told.bind(place)
        told.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        with Server(TRY_OUT):
            assert told.recv(100) == b"READY=1"
        assert told.recv(100) == b"STOPPING=1"
    monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/nobody")
    notify("READY=1")
