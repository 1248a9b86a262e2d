"""https:// and grpcs://: whose certificate is taken, and whose is not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bimodal import AsyncClient, Client
from bimodal.errors import ServerUnreachable, UsageError
from tests.client.flaky import Flaky, answer

GOOD = answer(body=b'{"prediction":[1]}')


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of localhost, signed by itself, and its key in the file `both.pem` beside it."""
    folder = tmp_path_factory.mktemp("secure")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    told = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    made = told.add_extension(names, critical=False).sign(key, hashes.SHA256())
    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = made.public_bytes(serialization.Encoding.PEM)
    (folder / "both.pem").write_bytes(key.private_bytes(*kinds) + public)
    (folder / "public.pem").write_bytes(public)
    return folder / "public.pem"


def plainly(url: str, **options: Any) -> Any:
    """What a Client answers, the second time too."""
    with Client(url, **options) as client:
        return [client.predict([[1.0]]) for _ in range(2)][-1]


def in_a_loop(url: str, **options: Any) -> Any:
    """The same of an AsyncClient."""

    async def run() -> Any:
        async with AsyncClient(url, **options) as client:
            return [await client.predict([[1.0]]) for _ in range(2)][-1]

    return asyncio.run(run())


@pytest.mark.parametrize("ask", [plainly, in_a_loop])
def test_a_certificate_is_judged(authority: Path, ask: Callable[..., Any]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.with_name("both.pem"))
    with Flaky(GOOD, context=context) as server:
        url = f"https://localhost:{server.port}"
        for verify in (str(authority), ssl.create_default_context(cafile=authority), False):
            assert ask(url, verify=verify, key="secret") == [{"prediction": 1}]
        assert all(b"authorization: Bearer secret" in each for each in server.requests)
        count = len(server.requests)
        for other in (url, f"https://127.0.0.1:{server.port}"):
            with pytest.raises(ServerUnreachable, match=r"certificate of the server at .* is not trusted"):
                ask(other, verify=True if other == url else str(authority), retries=0)
        assert len(server.requests) == count


def test_over_grpc_it_is_always_judged(authority: Path) -> None:
    for verify in (False, ssl.create_default_context()):
        with pytest.raises(UsageError, match="always judged"):
            Client("grpcs://localhost:1", verify=verify)
    with Client("grpcs://localhost:1", verify=str(authority), retries=0) as client:
        assert client.ready() is False
