"""A running server, as `bimodal.serve` returns it: sockets, worker processes, and how to end them."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from bimodal import hangup
from bimodal.errors import PortTaken, UsageError
from bimodal.formats.library import library
from bimodal.realtime.activation import Inherited, notify
from bimodal.realtime.entrance import Entrance
from bimodal.realtime.hosts import is_any
from bimodal.realtime.keeper import Keeper
from bimodal.realtime.limits import Limits
from bimodal.realtime.workers import Workers

log = logging.getLogger("bimodal.server")
_PATIENCE = 10.0  # seconds that what is printed at the start may take
_NEAR = 100  # ports looked at for a free one


class Server:
    """Serves from worker processes, from the moment it is made until `close`.

    `spec` is a plain dict: what `bimodal.realtime.wiring.build` makes the app of in each worker. Port 0 takes a free
    one; grpc_port: one more, with the same behaviour. Where sockets were handed over (`activation`), it serves on those
    instead. Raises PortTaken, UsageError for an address that the world can
    reach (unless `insecure`), and the error that keeps a worker from starting (a model that cannot be loaded, …).
    holds: what must live as long as the server does.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        grpc_port: int | None = None,
        workers: int = 1,
        limits: Limits | None = None,
        insecure: bool = False,
        grace: float = 30.0,
        holds: object = None,
    ) -> None:
        if workers < 1:
            raise UsageError("workers must be at least 1")
        self._tls: Any = None
        if spec.get("tls") is not None:
            tls = library("bimodal.realtime.tls")  # only now: a server without it starts sooner
            self._tls = tls.Certificate(tls.Files(**spec["tls"]))
        inherited = Inherited.take()
        if inherited is None:
            _address(host, port)  # a name that leads nowhere is told as such
        host = host if inherited is None else inherited.host
        keys = (spec.get("guard") or {}).get("keys")
        self._entrance = Entrance(host, keys, secure=self.secure, mutual=self.mutual, insecure=insecure)
        try:
            self._entrance.check()
        except BaseException:
            if inherited is not None:
                inherited.close()
            raise
        self._named = tuple(str(each["name"]) for each in spec.get("models", ()))
        self._holds = holds
        limits = limits or Limits()
        if inherited is None:
            ports = {"--port": port} if grpc_port is None else {"--port": port, "--grpc-port": grpc_port}
            if port and port == grpc_port:
                raise UsageError(f"grpc_port {port} is the port itself, which answers gRPC too: leave --grpc-port out")
            sockets = listen_all(host, ports, workers, limits.backlog)
        else:
            sockets = inherited.deal(workers)
        self.host = host
        self.port: int = sockets[0][0].getsockname()[1]
        self.grpc_port: int = sockets[0][-1].getsockname()[1]
        self._workers = Workers(sockets, self._guarded(spec), limits, grace=grace)
        self._closing = threading.Lock()
        told = spec.get("repository")
        self._keeper = Keeper(told, self._workers, spec.get("models", ()), follows=bool(spec.get("reload")))
        try:
            self._workers.start()
            self._keeper.start()
        except BaseException:  # Ctrl-C too
            self._workers.stop(0)
            raise
        atexit.register(self.close)
        notify("READY=1")
        for warning in [] if self._tls is None else self._tls.warnings(host):
            logging.getLogger("bimodal.tls").warning("%s", warning)
        for warning in self._entrance.warnings():
            logging.getLogger("bimodal.realtime").warning("%s", warning)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that are served."""
        return (*self._named, *self._keeper.names)

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http{'s' if self.secure else ''}://{self._reached}:{self.port}"

    @property
    def listens(self) -> str | None:
        """The address listened on, where it is another than that of `url`."""
        if not is_any(self.host):
            return None
        host = f"[{self.host}]" if ":" in self.host else self.host or "0.0.0.0"  # noqa: S104 - told, not bound
        ports = f"{self.port}" if self.port == self.grpc_port else f"{self.port} and {self.grpc_port}"
        return f"{host}:{ports} (all interfaces)"

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._tls is not None

    @property
    def mutual(self) -> bool:
        """Whether callers must show a certificate."""
        return self._tls is not None and bool(self._tls.mutual)

    @property
    def keys(self) -> str | None:
        """The file of the keys that callers need one of; None where they need none."""
        return self._entrance.keys

    def _guarded(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The spec, with all that a worker's guard goes by."""
        names = [] if self._tls is None else self._tls.names
        return {**spec, "guard": self._entrance.guard(spec.get("guard") or {}, names)}

    @property
    def curl(self) -> str:
        """The command that asks it, with the certificate to trust where this system does not know who signed it."""
        known = self._tls is None or self._tls.is_known()
        return "curl" if known else f"curl --cacert {shlex.quote(self._tls.path)}"

    @property
    def grpc(self) -> str:
        """Where it answers gRPC, as `grpc.insecure_channel` takes it (with TLS `grpc.secure_channel`): on a port of
        its own, or on that of HTTP.
        """
        return f"{self._reached}:{self.grpc_port}"

    @property
    def _reached(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        host = host if self._tls is None else self._tls.host(host)
        return f"[{host}]" if ":" in host else host

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return self._workers.pids

    @property
    def ended(self) -> bool:
        """Whether all workers have ended, which they do only when they are stopped."""
        return self._workers.wait(0)

    def example(self) -> str | None:
        """The body of a request to /predict that works, made from the model's signature; None where it has none."""
        if self.mutual or self.keys is not None:
            return None  # it asks for a certificate, or a key, that nobody has given to this process
        return self._workers.example(_PATIENCE)

    def wait(self) -> None:
        """Block until the server ends. SIGTERM and SIGINT (Ctrl-C) drain it, a second one ends it at once; SIGHUP has
        it serve what has changed in its repository.
        """
        if threading.current_thread() is not threading.main_thread():
            self._workers.wait()
            return
        with _Signals() as signals:
            while not self._workers.wait(0.2):
                if signals.reload:
                    signals.reload = False
                    self.refresh()
                if signals.count:
                    self._drain_under(signals)
        self.close()
        log.info("ended")

    def refresh(self) -> None:
        """Serve what has changed in the repository, and in the places of the models that were named, soon; what cannot
        be served is told in the log and in the index, and what was served before stays.
        A changed certificate is used from now on.
        """
        self._workers.hang_up()
        self._keeper.refresh()

    def replace(self, spec: Mapping[str, Any], holds: object = None) -> None:
        """Serve from another spec (the same models, changed): workers are followed one by one, each by one that is
        ready, and no request is refused. Counters are kept where `spec["workers"]`, here and before, is twice their
        number. Raises what keeps the new ones from starting; the old ones go on then.
        """
        self._keeper.begin(spec.get("models", ()))
        self._workers.replace(self._guarded(spec))
        self._holds = holds or self._holds

    def close(self, grace: float | None = None) -> None:
        """Answer what is in flight (for at most `grace` seconds), then end. Does nothing when it has ended."""
        notify("STOPPING=1")
        with self._closing:
            self._keeper.close()
            self._workers.stop(grace)
        atexit.unregister(self.close)

    def _drain_under(self, signals: _Signals) -> None:
        """Drain in a thread, so that a second signal is noticed."""
        log.info("draining")
        notify("STOPPING=1")
        threading.Thread(target=self._workers.stop, daemon=True).start()
        while not self._workers.wait(0.05):
            if signals.count > 1:
                self._workers.stop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Server {self.url}>"


class _Signals:
    """Counts SIGTERM and SIGINT instead of dying of them."""

    def __init__(self) -> None:
        self.count = 0
        self.reload = False  # whether there was a SIGHUP

    def __enter__(self) -> _Signals:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        if sys.platform != "win32":
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
            self.reload |= hangup.came(self._before[signal.SIGHUP])
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self.reload = True


def listen(host: str, port: int, count: int, backlog: int, option: str = "--port") -> list[socket.socket]:
    """A listening socket for each of `count` workers, on one port: different ones where the system balances between
    them, else the same one. option: that names the port. Raises PortTaken, UsageError."""
    family, address = _address(host, port)
    if port and not _is_free(family, address):
        raise port_taken(family, address, option)
    balanced = count > 1 and sys.platform.startswith("linux")
    sockets: list[socket.socket] = []
    try:
        for _ in range(count if balanced else 1):
            sockets.append(_bound(family, address, shared=balanced))
            address = sockets[0].getsockname()
        for listening in sockets:
            listening.listen(backlog)
    except OSError as error:
        for listening in sockets:
            listening.close()
        if error.errno == errno.EADDRINUSE:
            raise port_taken(family, address, option) from None
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return sockets if balanced else sockets * count


def listen_all(host: str, ports: Mapping[str, int], count: int, backlog: int) -> list[tuple[socket.socket, ...]]:
    """The same on several ports, by their options: those of each worker."""
    with contextlib.ExitStack() as opened:
        sockets = []
        for option, port in ports.items():
            sockets.append(listen(host, port, count, backlog, option))
            opened.callback(_close_all, sockets[-1])
        opened.pop_all()
    return list(zip(*sockets, strict=True))


def _close_all(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()


def port_taken(family: int, address: tuple[Any, ...], option: str) -> PortTaken:
    """The error that names the next free port."""
    host, port, *rest = address
    for other in range(port + 1, min(port + _NEAR, 65536)):
        if _is_free(family, (host, other, *rest)):
            return PortTaken(f"port {port} is taken; {other} is free: add {option} {other}")
    return PortTaken(f"port {port} is taken: add {option} 0 for any free one")


def _address(host: str, port: int) -> tuple[int, tuple[Any, ...]]:
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port} does not exist: ports are 1 to 65535, and 0 is any free one")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise UsageError(f"host {host}: there is no address of that name") from None
    return found[0][0], found[0][4]


def _is_free(family: int, address: tuple[Any, ...]) -> bool:
    """Whether nobody listens there. (With SO_REUSEPORT alone, two servers of one user would share a port unasked.)"""
    try:
        _bound(family, address, shared=False).close()
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _bound(family: int, address: tuple[Any, ...], *, shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound
