"""Hosts and origins: by which names a server may be asked, and from which pages.

A page of anybody's can have a browser ask a server that only this browser reaches. Two things give it away. It asks by
a name of its own, which it has made to mean our address (DNS rebinding): so names are checked against a list. Or it
says where it comes from (`Origin`, `Sec-Fetch-Site`), which no page can change: so foreign pages are refused. Programs
send neither.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence

ANY = "*"
_PORTS = {b"http": b"80", b"https": b"443"}

_host = re.compile(rb"(\[[^\]]*\]|[^:]*)(?::([0-9]*))?").fullmatch
_origin = re.compile(rb"(https?)://([^/]+)").fullmatch


class Hosts:
    """The names that a server answers to.

    Bound to a loopback address: `localhost`, loopback literals, that address. Bound to another: `localhost`, any
    literal address (a literal cannot be rebound, and the machine may have many), its own host name. Beside them
    `names`, where `*.shop.example` stands for every name below it, and `*` for all names.
    """

    def __init__(self, address: str, names: Sequence[str] = ()) -> None:
        self._local = is_loopback(address)
        self._any = ANY in names
        told = ["localhost", address, *names, *(() if self._local else (socket.gethostname(),))]
        self._names = {_plain(each) for each in told}
        self._ends = tuple(each[1:].lower() for each in names if each.startswith("*."))

    def allows(self, host: bytes | None) -> bool:
        """Whether a `Host`, or an :authority, is one of ours. None: the caller named none, and is no browser."""
        if self._any or host is None:
            return True
        found = _host(host)
        if found is None:
            return False
        name = _plain(found[1].decode("latin-1"))
        if name in self._names or (self._ends and name.endswith(self._ends)):
            return True
        return is_loopback(name) if self._local else _is_literal(name)


class Origins:
    """The pages that may ask: those of the server itself, and of `cors` (`*`: all). secure: it speaks TLS."""

    def __init__(self, cors: Sequence[str] = (), *, secure: bool = False) -> None:
        self._secure = secure
        self._any = ANY in cors
        self._known = {each.rstrip("/").encode("ascii") for each in cors}

    def knows(self, origin: bytes | None) -> bool:
        """Whether it is one of `cors`."""
        return origin is not None and (self._any or origin in self._known)

    def allows(self, method: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request comes from a page that may ask, or from no page. A link that is followed may come from
        anywhere: what it gets is the reader's alone, and GET changes nothing.
        """
        origin = headers.get(b"origin")
        if origin is not None:
            return self.knows(origin) or is_same(origin, headers.get(b"host"), secure=self._secure)
        if headers.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
            return True
        return (
            method in ("GET", "HEAD")
            and headers.get(b"sec-fetch-mode") == b"navigate"
            and headers.get(b"sec-fetch-dest", b"document") == b"document"
        )

    def fields(self, origin: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """What lets a page of `cors` read the answer."""
        return ((b"access-control-allow-origin", b"*" if self._any else origin), (b"vary", b"origin"))


def is_same(origin: bytes, host: bytes | None, *, secure: bool = False) -> bool:
    """Whether an origin is the server itself, as the caller calls it. A page by https may ask a server that speaks
    clear text, since a proxy may have ended TLS in front; one by http never asks a server that speaks TLS (`secure`).
    """
    found = _origin(origin)
    if found is None or host is None or (secure and found[1] == b"http"):
        return False
    usual = _PORTS[found[1]]
    return _place(found[2], usual) == _place(host, usual)


def is_loopback(name: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_any(host: str) -> bool:
    """Whether it stands for all addresses of the machine."""
    return host in ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound


def _place(place: bytes, usual: bytes) -> tuple[str, bytes] | None:
    found = _host(place)
    return None if found is None else (_plain(found[1].decode("latin-1")), found[2] or usual)


def _plain(name: str) -> str:
    """Without brackets, capitals, and the dot that may end a name."""
    return name.removeprefix("[").removesuffix("]").lower().removesuffix(".")


def _is_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
