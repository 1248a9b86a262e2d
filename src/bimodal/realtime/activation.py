"""Sockets that were opened by whoever started this process, and what that one is told.

A supervisor (systemd, or any program) opens the listening sockets, keeps them, and hands them to each server that it
starts: so a restart refuses nobody, whether the next server starts before the last one has ended or after. The protocol
is that of sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES; that of sd_notify(3) tells when it is ready.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from bimodal.errors import UsageError
from bimodal.realtime.hosts import is_loopback

FIRST = 3  # the descriptor of the first one
GRPC = "grpc"  # the name of those that are for gRPC
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True)
class Inherited:
    """Listening sockets by address: those of HTTP first, those of gRPC after them. Between several of one address
    (SO_REUSEPORT) the system balances.
    """

    ports: Sequence[Sequence[socket.socket]]

    @classmethod
    def take(cls) -> Inherited | None:
        """Those that are meant for this process; None where there are none. They are taken once: the environment of
        children says nothing of them. Raises UsageError.
        """
        told = {name: os.environ.get(name) for name in _VARIABLES}
        if told["LISTEN_PID"] != str(os.getpid()) or not told["LISTEN_FDS"]:
            return None
        for name in _VARIABLES:
            os.environ.pop(name, None)
        try:
            count = int(told["LISTEN_FDS"])
        except ValueError:
            raise UsageError("LISTEN_FDS is no number of sockets") from None
        names = (told["LISTEN_FDNAMES"] or "").split(":")
        found: dict[tuple[bool, object], list[socket.socket]] = {}
        with contextlib.ExitStack() as opened:
            for number in range(count):
                taken = opened.enter_context(_taken(FIRST + number))
                is_grpc = number < len(names) and names[number] == GRPC
                found.setdefault((is_grpc, taken.getsockname()), []).append(taken)
            opened.pop_all()
        return cls([found[each] for each in sorted(found, key=lambda key: key[0])]) if found else None

    def close(self) -> None:
        """Serve on none of them: they stay open where they came from."""
        for port in self.ports:
            for each in port:
                each.close()

    @property
    def host(self) -> str:
        """The address that lets in most: one beyond this machine, where there is one, else that of HTTP."""
        hosts = [str(each[0].getsockname()[0]) for each in self.ports]
        return next((host for host in hosts if not is_loopback(host)), hosts[0])

    def deal(self, workers: int) -> list[tuple[socket.socket, ...]]:
        """Those of each worker. Each socket has a worker; where there are fewer of them than workers, they share."""
        return [
            tuple(each for port in self.ports for each in _share(port, number, workers)) for number in range(workers)
        ]


def notify(state: str) -> None:
    """Tell the supervisor: READY=1, STOPPING=1. Where nobody wants to know, or listens any more, nothing is told."""
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, contextlib.suppress(OSError):
        told.connect("\0" + place[1:] if place[0] == "@" else place)
        told.send(state.encode())


def _share(port: Sequence[socket.socket], number: int, workers: int) -> Sequence[socket.socket]:
    return port[number::workers] or [port[number % len(port)]]


def _taken(fd: int) -> socket.socket:
    wrong = UsageError(
        f"file descriptor {fd}, handed over by LISTEN_FDS, is no listening TCP socket; in a systemd socket unit "
        "ListenStream=127.0.0.1:8000 makes one"
    )
    try:
        os.set_inheritable(fd, False)
        taken = socket.socket(fileno=fd)
    except OSError:
        raise wrong from None
    listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens or taken.family not in (socket.AF_INET, socket.AF_INET6) or taken.type != socket.SOCK_STREAM:
        taken.close()
        raise wrong
    return taken
