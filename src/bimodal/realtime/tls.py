"""TLS of a server: its certificate, its key, and whom it lets in; checked at the start, renewed while it runs.

Each change of a file makes a new context, which is used for the connections that come from then on: so a pair that does
not fit changes nothing, and what was allowed by an authority that is gone is allowed no more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

from bimodal.errors import UsageError
from bimodal.hidden import hide
from bimodal.realtime.hosts import is_any

log = logging.getLogger("bimodal.tls")

PACE = 1.0  # seconds between two looks at the files
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated, as RFC 9113 (9.2.2) wants it
PROTOCOLS = ("h2", "http/1.1")
SOON = 14 * 86_400  # seconds before its end at which a certificate is warned of
UNTIMED = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the module ssl has no name for
EXPOSED = "other users of this machine may read {place}, which holds the private key: chmod 600 {path}"
UNFIT = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # the last: no certificate of its type
MISMATCHES = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH

_first_certificate = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL).search


@dataclass(frozen=True)
class Files:
    """What a server's TLS is made of, in PEM. cert: its certificate, then those that sign it. key: its private key;
    None where that stands in the same file. client_ca: authorities of the callers' certificates; with it every caller
    must show one. password: of an encrypted key, by reference (`env:NAME`, `file:PATH`).
    """

    cert: str
    key: str | None = None
    client_ca: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        hide(self.password)

    @classmethod
    def told(cls, settings: Mapping[str, Any]) -> Files | None:
        """Those of the settings tls_cert, tls_key, tls_client_ca, tls_password; None where there is no certificate, or
        an empty one, which is clear text whatever the environment says.
        Raises UsageError.
        """
        cert = settings.get("tls_cert")
        if cert == "":
            return None
        if cert is None:
            for name in ("tls_key", "tls_client_ca", "tls_password"):
                if settings.get(name) is not None:
                    raise UsageError(f"{name} is given without a certificate: add --tls-cert FILE")
            return None
        key, authorities = (_whole(settings.get(name)) for name in ("tls_key", "tls_client_ca"))
        return cls(str(Path(cert).absolute()), key, authorities, settings.get("tls_password"))

    def spec(self) -> dict[str, Any]:
        """For a worker's spec."""
        return asdict(self)

    @property
    def mutual(self) -> bool:
        """Whether callers show a certificate."""
        return self.client_ca is not None

    def stamp(self) -> tuple[object, ...]:
        """Another one when a file has changed."""
        return tuple(_state(path) for path in (self.cert, self.key, self.client_ca) if path is not None)

    def context(self) -> ssl.SSLContext:
        """Raises UsageError that names the file and what to do."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        self._check_private()
        context.set_alpn_protocols(PROTOCOLS)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        self._load(context)
        if self.client_ca is not None:
            self._require(context, self.client_ca)
        return context

    def seal(self) -> Callable[[socket.socket], socket.socket]:
        """What makes the server's end of TLS of an accepted socket that does not block. Raises UsageError."""
        context = self.context()
        context.sslsocket_class = Sealed
        return partial(context.wrap_socket, server_side=True, do_handshake_on_connect=False)

    def _load(self, context: ssl.SSLContext) -> None:
        certificate = _text(self.cert, "tls_cert")
        if not _first_certificate(certificate):
            raise UsageError(
                f"tls_cert {self.cert}: there is no certificate in PEM form (-----BEGIN CERTIFICATE-----) in it; "
                "openssl x509 -inform der turns one in DER form into it"
            )
        place = self._place
        key = certificate if self.key is None else _text(self.key, "tls_key")
        if "PRIVATE KEY-----" not in key:
            raise UsageError(
                f"{place}: there is no private key in PEM form (-----BEGIN PRIVATE KEY-----) in it; "
                "name the file that has it with --tls-key FILE"
            )
        try:
            context.load_cert_chain(self.cert, self.key, self._secret)
        except ssl.SSLError as error:
            self._explain(error, encrypted="ENCRYPTED" in key)

    @property
    def is_exposed(self) -> bool:
        """Whether other users of this machine may read the private key."""
        return sys.platform != "win32" and bool(os.stat(self.key or self.cert).st_mode & stat.S_IROTH)

    def _check_private(self) -> None:
        path = self.key or self.cert
        if sys.platform != "win32" and os.path.exists(path) and os.stat(path).st_mode & stat.S_IWOTH:
            raise UsageError(f"others may write to {self._place}, which holds the private key: chmod 600 {path}")

    @property
    def _place(self) -> str:
        return f"tls_cert {self.cert}" if self.key is None else f"tls_key {self.key}"

    def _secret(self) -> str:
        """The password of the key; asked for only where it is encrypted."""
        reference = self.password
        if reference is None:
            raise UsageError(
                f"{self._place}: the private key is encrypted; say where its password stands "
                "(--tls-password env:NAME or file:PATH), or decrypt it: openssl pkey -in KEY -out PLAIN"
            )
        kind, _, name = reference.partition(":")
        if kind == "file" and name:
            return _text(name, "tls_password").rstrip("\r\n")
        if kind != "env" or not name:
            raise UsageError("tls_password is a reference, never the password itself: env:NAME or file:PATH")
        if name not in os.environ:
            raise UsageError(f"tls_password: the variable {name} is not set")
        return os.environ[name]

    def _explain(self, error: ssl.SSLError, *, encrypted: bool) -> NoReturn:
        reason = (error.reason or "").upper()
        if reason in UNFIT:
            told = (
                f"{self._place} does not fit tls_cert {self.cert}: they are of two pairs; name the key that the "
                "certificate was made for (in a file of several certificates the server's own comes first)"
            )
        elif encrypted and "KEY_TOO_SMALL" not in reason:
            told = f"{self._place}: the private key cannot be decrypted; is tls_password the right one?"
        elif "KEY_TOO_SMALL" in reason or "MD_TOO_WEAK" in reason:
            told = f"tls_cert {self.cert} is too weak ({_words(reason)}); have one made with a longer key and SHA-256"
        else:
            told = (
                f"{self._place} or tls_cert {self.cert} cannot be read ({_words(reason)}); are they whole, in PEM form?"
            )
        raise UsageError(told) from None

    def _require(self, context: ssl.SSLContext, authorities: str) -> None:
        """Let in only those who show a certificate of one of the authorities. A session is not taken up again: each
        connection shows its certificate anew."""
        if not _first_certificate(_text(authorities, "tls_client_ca")):
            raise UsageError(
                f"tls_client_ca {authorities}: no certificate in PEM form (-----BEGIN CERTIFICATE-----) is in it; "
                "name the file of the authority that signs the callers' certificates"
            )
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError as error:
            raise UsageError(
                f"tls_client_ca {authorities} cannot be read ({_words(error.reason)}); is it whole, in PEM form?"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0


class Sealed(ssl.SSLSocket):
    """Has to wait like a socket in clear: the handshake is made as the caller's words come."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error


class Certificate:
    """A server's certificate as a caller sees it: judged by OpenSSL, in a handshake in memory."""

    def __init__(self, files: Files) -> None:
        """Raises UsageError where the files make no TLS, or no caller would take the certificate."""
        self.path = files.cert
        self.mutual = files.mutual
        self._private, self._place = files.key or files.cert, files._place
        self._server = Files(files.cert, files.key, password=files.password).context()
        if files.client_ca is not None:
            files.context()
        self._exposed = files.is_exposed
        leaf = _first_certificate(_text(files.cert, "tls_cert"))
        assert leaf is not None, "the context was made of it"
        self._leaf = leaf[0]
        self._told = self._shown()
        if not self.names:
            raise UsageError(
                f"tls_cert {self.path} names no host (subjectAltName), so no caller takes it, whatever its CN says; "
                "have one made with the name or address that callers use"
            )

    @property
    def names(self) -> list[str]:
        """The host names and addresses that it is for."""
        return [str(name) for kind, name in self._told.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]

    @cached_property
    def begins(self) -> float:
        return float(ssl.cert_time_to_seconds(self._told["notBefore"]))

    @cached_property
    def ends(self) -> float:
        """Seconds since 1970."""
        return float(ssl.cert_time_to_seconds(self._told["notAfter"]))

    def warnings(self, host: str, now: float | None = None) -> list[str]:
        """What callers will not like. host: the address that is listened on."""
        now = time.time() if now is None else now
        told = [EXPOSED.format(place=self._place, path=self._private)] if self._exposed else []
        if now > self.ends:
            told.append(f"tls_cert {self.path} expired {self._told['notAfter']}: callers refuse it; renew it")
        elif now < self.begins:
            told.append(f"tls_cert {self.path} begins {self._told['notBefore']}; is this machine's clock right?")
        elif now > self.ends - SOON:
            told.append(f"tls_cert {self.path} expires {self._told['notAfter']}; renew it (no restart is needed)")
        if not is_any(host) and self.host(host) == host and not self.covers(host):
            told.append(
                f"tls_cert {self.path} is for {', '.join(self.names[:3])}, not for {host}: "
                "callers must use such a name, or they refuse it"
            )
        return told

    def covers(self, host: str) -> bool:
        """Whether callers take it for this host name or address."""
        client = self._client()
        client.verify_flags |= UNTIMED
        client.check_hostname = True
        try:
            _shake(self._server, client, host)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in MISMATCHES:
                return False
            raise
        return True

    def host(self, reached: str) -> str:
        """The name to call the server by, which listens on `reached`: one that the certificate is for, where there is
        one that surely leads there.
        """
        if self.covers(reached):
            return reached
        return "localhost" if reached in ("127.0.0.1", "::1") and self.covers("localhost") else reached

    def is_known(self) -> bool:
        """Whether this system's authorities vouch for it."""
        client = ssl.create_default_context()
        client.check_hostname = False
        try:
            _shake(self._server, client, None)
        except ssl.SSLCertVerificationError:
            return False
        return True

    def caller(self) -> ssl.SSLContext:
        """A context that trusts this certificate alone, for any name and at any time."""
        client = self._client()
        client.verify_flags |= UNTIMED
        return client

    def _client(self) -> ssl.SSLContext:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        client.load_verify_locations(cadata=self._leaf)
        return client

    def _shown(self) -> dict[str, Any]:
        try:
            return _shake(self._server, self.caller(), None)
        except ssl.SSLCertVerificationError as error:
            raise UsageError(
                f"tls_cert {self.path} is not for a server ({error.verify_message}); have one made for one"
            ) from None


class Renewal:
    """Keeps a listener's context to what stands in the files: a changed file is noticed within two looks, so that a
    pair that is being written is whole. What cannot be used leaves the one before, and the log says why.
    """

    def __init__(self, files: Files, use: Callable[[ssl.SSLContext], None], *, tells: bool) -> None:
        """use: takes each context. tells: this process logs."""
        self._files = files
        self._use = use
        self._tells = tells
        self._stamp = self._seen = files.stamp()
        use(files.context())

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the files from now on."""
        loop.call_later(PACE, self._go_on, loop)

    def look(self) -> None:
        """Renew where a file has changed, and has come to rest."""
        before, self._seen = self._seen, self._files.stamp()
        if self._seen == before != self._stamp:
            self.renew()

    def renew(self) -> None:
        """Use what stands in the files now."""
        self._stamp = self._seen = self._files.stamp()
        try:
            self._use(self._files.context())
        except UsageError as error:
            if self._tells:
                log.warning("the certificate stays as it was: %s", error)
        else:
            if self._tells:
                log.info("the certificate of %s is used from now on", self._files.cert)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look()
        self.start(loop)


def _shake(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None) -> dict[str, Any]:
    """A handshake of the two in memory; what the client sees of the certificate. Raises ssl.SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname=host)
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    for each in (theirs, ours, theirs):  # hello; its answer; judged
        try:
            each.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return theirs.getpeercert() or {}


def _whole(path: str | None) -> str | None:
    """Wherever it is looked at from."""
    return None if path is None else str(Path(path).absolute())


def _state(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _text(path: str, setting: str) -> str:
    try:
        return Path(path).read_text("latin-1")
    except FileNotFoundError:
        raise UsageError(f"{setting} {path}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{setting} {path} cannot be read: {error.strerror}") from None


def _words(reason: str | None) -> str:
    return (reason or "no reason is known").lower().replace("_", " ")
