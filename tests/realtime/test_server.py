"""The running server: ports, addresses, its beginning and its end."""

from __future__ import annotations

import re
import socket
import threading
import time

import pytest

from bimodal.errors import PortTaken, UsageError
from bimodal.realtime.hosts import is_loopback
from bimodal.realtime.server import Server, listen
from tests.ports import free_port
from tests.realtime.wire import PATIENCE, Client

TRY_OUT = {"app": "tests.realtime.wire:app"}


def test_it_serves_from_its_making_to_its_close() -> None:
    server = Server(TRY_OUT)
    assert server.url == f"http://127.0.0.1:{server.port}"
    with Client(server.port) as client:
        assert client.get("/nothing").answer().status == 204
    server.close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        Client(server.port)


def test_a_port_can_be_chosen_and_used_again_at_once() -> None:
    port = free_port()
    for workers in (1, 2):
        with Server(TRY_OUT, port=port, workers=workers) as server:
            assert server.port == port
            with Client(port) as client:
                assert client.get("/nothing").answer().status == 204


@pytest.mark.parametrize("workers", [1, 2])
def test_a_taken_port_names_the_next_free_one(workers: int) -> None:
    with Server(TRY_OUT, port=free_port(), workers=workers) as server:
        with pytest.raises(PortTaken) as taken:
            Server(TRY_OUT, port=server.port, workers=workers)
        told = re.fullmatch(r"port (\d+) is taken; (\d+) is free: add --port \2", taken.value.message)
        assert told is not None
        assert int(told[1]) == server.port
        with Server(TRY_OUT, port=int(told[2])) as other:
            assert other.port == int(told[2])


def test_a_taken_port_for_grpc_names_its_own_option() -> None:
    with Server(TRY_OUT) as server:
        with pytest.raises(PortTaken, match=r"add --grpc-port \d+$"):
            Server(TRY_OUT, grpc_port=server.port)
        port = free_port()
        with pytest.raises(UsageError, match="leave --grpc-port out"):
            Server(TRY_OUT, port=port, grpc_port=port)


def test_a_port_taken_by_another_program_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortTaken):
        Server(TRY_OUT, port=other.getsockname()[1])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", ""])
def test_an_address_beyond_this_machine_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="--insecure"):
        Server(TRY_OUT, host=host)


def test_it_can_be_insisted_on() -> None:
    with Server(TRY_OUT, host="0.0.0.0", insecure=True) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        with Client(server.port) as client:
            assert client.get("/nothing").answer().status == 204


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_addresses_are_known(host: str) -> None:
    assert is_loopback(host)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1, port"):
        Server(TRY_OUT, host="192.0.2.1", insecure=True)


@pytest.mark.parametrize("insecure", [False, True])
def test_an_unknown_host_is_one_sentence(insecure: bool) -> None:
    with pytest.raises(UsageError, match=r"host nowhere\.invalid: there is no address of that name"):
        Server(TRY_OUT, host="nowhere.invalid", insecure=insecure)


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_number_that_is_no_port_is_one_sentence(port: int) -> None:
    with pytest.raises(UsageError, match=f"port {port} does not exist"):
        Server(TRY_OUT, port=port)


def test_workers_must_be_some() -> None:
    with pytest.raises(UsageError, match="workers"):
        Server(TRY_OUT, workers=0)


def test_sockets_of_one_port_are_one_each() -> None:
    sockets = listen("127.0.0.1", 0, 3, 10)
    assert len({each.getsockname() for each in sockets}) == 1
    assert len(sockets) == 3
    for each in sockets:
        each.close()


def test_wait_blocks_until_another_thread_closes() -> None:
    server = Server(TRY_OUT)
    begun = time.monotonic()
    threading.Timer(0.2, server.close).start()
    server.wait()
    assert time.monotonic() - begun >= 0.15


def test_wait_works_outside_the_main_thread() -> None:
    server = Server(TRY_OUT)
    waiter = threading.Thread(target=server.wait)
    waiter.start()
    server.close()
    waiter.join(PATIENCE)
    assert not waiter.is_alive()


def test_close_answers_what_is_in_flight() -> None:
    with Server(TRY_OUT) as server, Client(server.port) as client:
        client.in_hand("/later0.3?done")
        server.close()
        assert client.answer().body == b"done"
