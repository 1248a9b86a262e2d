"""Address: where a server is, and how it is spoken to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from bimodal.errors import UsageError

PORTS = {"http": 80, "https": 443, "grpc": 8000, "grpcs": 443}


@dataclass(frozen=True)
class Address:
    """scheme: one of PORTS. base: a path ahead of all paths, without a slash at its end."""

    scheme: str
    host: str
    port: int
    base: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises UsageError."""
        wrong = UsageError(f"a server's address looks like http://127.0.0.1:8000 or grpc://127.0.0.1:8000, not {url!r}")
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise wrong from None
        base = parts.path.rstrip("/")
        if parts.scheme not in PORTS or not parts.hostname or not plain(base):
            raise wrong
        return cls(parts.scheme, parts.hostname, port or PORTS[parts.scheme], base)

    @property
    def secure(self) -> bool:
        return self.scheme in ("https", "grpcs")

    @property
    def remote(self) -> bool:
        """Whether it speaks gRPC."""
        return self.scheme in ("grpc", "grpcs")

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def plain(path: str) -> bool:
    """Whether a path can stand in the head of a request: printable, without spaces."""
    return path.isascii() and path.isprintable() and " " not in path


def trust(verify: bool | str | ssl.SSLContext) -> ssl.SSLContext:
    """What a certificate is judged by. verify: True for the system's authorities, the path of a file of authorities, a
    context of one's own; False takes every certificate.
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
