"""Certificates for the tests: an authority, and what it signs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
USES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


class Pair(NamedTuple):
    """Files of a certificate and its key."""

    cert: Path
    key: Path

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.cert.read_bytes()).serial_number

    def replace(self, other: Pair) -> None:
        """Put another pair in its place, as programs that renew do: file by file."""
        for mine, theirs in zip(self, other, strict=True):
            beside = mine.with_suffix(".new")
            beside.write_bytes(theirs.read_bytes())
            beside.rename(mine)


class Authority:
    """Signs certificates, whose files stand in `folder`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        told = _begun(self._name, self._name, self._key, 1)
        made = told.add_extension(x509.BasicConstraints(True, None), critical=True).sign(self._key, hashes.SHA256())
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(made.public_bytes(PEM))

    def issue(
        self,
        name: str,
        names: Sequence[str] = (),
        *,
        days: float = 90,
        use: str = "server",
        password: bytes | None = None,
        key: Key | None = None,
    ) -> Pair:
        """A certificate that ends in so many days. names: of hosts, and addresses. key: one of elliptic curves where
        none is given.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        told = _begun(_named(name), self._name, key, days)
        told = told.add_extension(x509.ExtendedKeyUsage([USES[use]]), critical=False)
        if names:
            told = told.add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
        made = told.sign(self._key, hashes.SHA256())
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        pair.cert.write_bytes(made.public_bytes(PEM))
        kind = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pair.key.touch(0o600)
        pair.key.write_bytes(key.private_bytes(PEM, PKCS8, kind))
        return pair


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(name: x509.Name, issuer: x509.Name, key: Key, days: float) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + timedelta(days)
    begin = min(datetime.now(UTC), end) - timedelta(1)
    return x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number(), begin, end)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
