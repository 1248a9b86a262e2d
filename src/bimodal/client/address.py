"""Address: where a server is, and how it is spoken to."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
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
        if not isinstance(url, str):
            raise wrong
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


def sendable(key: str | None) -> str | None:
    """An API key as it is sent: without the space around it, as of a file's last line. Raises UsageError."""
    if key is None:
        return None
    key = key.strip()
    if not key:
        raise UsageError("key is empty; leave it out where the server asks for none")
    if not plain(key):
        raise UsageError("key is no API key: one is printable ASCII without spaces, as `bimodal keys add` prints it")
    return key


def plain(path: str) -> bool:
    """Whether a path can stand in the head of a request: printable, without spaces."""
    return path.isascii() and path.isprintable() and " " not in path


Shown = str | tuple[str, str]  # a caller's own certificate: the file of both, or those of certificate and key


def trust(verify: bool | str | ssl.SSLContext, cert: Shown | None = None) -> ssl.SSLContext:
    """What a certificate is judged by. verify: True for the system's authorities, the path of a file of authorities, a
    context of one's own; False takes every certificate. cert: the caller's own certificate and its key. Raises
    UsageError.
    """
    if isinstance(verify, ssl.SSLContext):
        if cert is not None:
            raise UsageError("verify is a context of your own: have it load the certificate (load_cert_chain)")
        return verify
    context = ssl.create_default_context()
    if isinstance(verify, str):
        _load("verify", verify, lambda: context.load_verify_locations(verify))
    if cert is not None:
        files = shown(cert)
        _load("cert", " and ".join(filter(None, files)), lambda: context.load_cert_chain(*files, _encrypted))
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def shown(cert: Shown) -> tuple[str, str | None]:
    """The files of a caller's certificate and of its key. Raises UsageError."""
    if isinstance(cert, str):
        return cert, None
    if isinstance(cert, tuple | list) and len(cert) == 2 and all(isinstance(each, str | PathLike) for each in cert):
        return str(cert[0]), str(cert[1])
    raise UsageError("cert is the path of a file of certificate and key, or the paths (certificate, key)")


def _encrypted() -> str:
    raise UsageError(
        "cert: the key is encrypted; decrypt it (openssl pkey), or give a context of your own as verify, which "
        "load_cert_chain was told the password of"
    )


def _load(name: str, files: str, load: Callable[[], object]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        told = "certificate and key are of two pairs" if error.reason == "KEY_VALUES_MISMATCH" else "no PEM file"
        raise UsageError(f"{name}: {files}: {told}") from None
    except OSError as error:
        raise UsageError(f"{name}: {files} cannot be read: {error.strerror}") from None
