"""Questions over gRPC, by grpcio: one channel, many calls at once on its one connection."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from bimodal.client import calls
from bimodal.client.address import Address, Shown, shown, trust
from bimodal.client.failure import made, waiting
from bimodal.client.patience import NO_TLS, UNSURE, Cut, Patience, unknown, unwelcome
from bimodal.client.question import Answer, Question
from bimodal.errors import (
    BimodalError,
    InputError,
    ModelNotFound,
    Overloaded,
    ServerUnreachable,
    Unavailable,
    UsageError,
)

Words = calls.Words
Verify = bool | str | ssl.SSLContext
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
KINDS: dict[Any, type[BimodalError]] = {  # of servers that give no code of ours
    grpc.StatusCode.INVALID_ARGUMENT: InputError,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
}
UNRESOLVED = ("DNS resolution failed", "errors resolving", "address lookup failed")
READY = f"{calls.SERVICE}ServerReady"


class Channel:
    """Of a Client."""

    def __init__(self, address: Address, key: str | None, verify: Verify = True, cert: Shown | None = None) -> None:
        self._metadata = _metadata(key)
        self._secure = address.secure
        if address.secure:
            self._channel = grpc.secure_channel(address.authority, _credentials(verify, cert), OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address.authority, OPTIONS)
        self._methods: dict[str, Any] = {}

    def ask(self, question: Question, patience: Patience) -> Answer:
        try:
            body = self._method(question)(question.body, timeout=patience.left, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _failure(error, patience, secure=self._secure) from None
        return _answer(question, body)

    def stream(self, question: Question, patience: Patience) -> Generator[bytes]:
        """One try: first nothing, once a message is there, then the messages. Closing it cancels the call."""
        call = self._channel.stream_stream(question.path)(iter((question.body,)), metadata=self._metadata)
        try:
            data = self._next(call, patience)
            yield b""
            while data is not None:
                yield data
                data = self._next(call, patience, begun=True)
        finally:
            call.cancel()

    def _next(self, call: Any, patience: Patience, *, begun: bool = False) -> bytes | None:
        """The next message, None at the end."""
        alarm = threading.Timer(patience.left, call.cancel)
        alarm.daemon = True
        alarm.start()
        try:
            message: bytes | None = next(call, None)
        except grpc.RpcError as error:
            raise _failure(error, patience, secure=self._secure, begun=begun) from None
        finally:
            alarm.cancel()
        return message

    def _method(self, question: Question) -> Any:
        found = self._methods.get(question.path)
        if found is None:
            _require(question)
            found = self._methods[question.path] = self._channel.unary_unary(question.path)
        return found

    def close(self) -> None:
        self._channel.close()


class AsyncChannel:
    """Of an AsyncClient, on one event loop. It is opened by the first question."""

    def __init__(self, address: Address, key: str | None, credentials: Any) -> None:
        self._metadata = _metadata(key)
        self._secure = address.secure
        self._address = address
        self._credentials = credentials
        self._channel: Any = None
        self._methods: dict[str, Any] = {}

    async def ask(self, question: Question, patience: Patience) -> Answer:
        try:
            body = await self._method(question)(question.body, timeout=patience.left, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _failure(error, patience, secure=self._secure) from None
        return _answer(question, body)

    async def stream(self, question: Question, patience: Patience) -> AsyncGenerator[bytes, None]:
        """As Channel.stream."""
        method = self._opened().stream_stream(question.path)
        call = method(iter((question.body,)), metadata=self._metadata)
        messages = aiter(call)
        try:
            data = await self._next(messages, patience)
            yield b""
            while data is not None:
                yield data
                data = await self._next(messages, patience, begun=True)
        finally:
            call.cancel()

    async def _next(self, messages: AsyncIterator[bytes], patience: Patience, *, begun: bool = False) -> bytes | None:
        try:
            async with asyncio.timeout(patience.left):
                return await anext(messages, None)
        except TimeoutError:
            raise patience.late() from None
        except grpc.RpcError as error:
            raise _failure(error, patience, secure=self._secure, begun=begun) from None

    def _opened(self) -> Any:
        if self._channel is None:
            place = self._address.authority
            self._channel = (
                grpc.aio.insecure_channel(place, OPTIONS)
                if self._credentials is None
                else grpc.aio.secure_channel(place, self._credentials, OPTIONS)
            )
        return self._channel

    def _method(self, question: Question) -> Any:
        found = self._methods.get(question.path)
        if found is None:
            _require(question)
            found = self._methods[question.path] = self._opened().unary_unary(question.path)
        return found

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def channels(address: Address, key: str | None, verify: Verify, cert: Shown | None) -> Callable[[], AsyncChannel]:
    """What makes the channel of an event loop. Raises UsageError."""
    return partial(AsyncChannel, address, key, _credentials(verify, cert) if address.secure else None)


def _require(question: Question) -> None:
    if question.method:
        raise UsageError("that is asked over HTTP; give the client the http:// address of the same port")


def _answer(question: Question, body: bytes) -> Answer:
    if question.path == READY and not body:  # `ready: false` is an empty message
        raise Unavailable("the server is not ready")
    return Answer(200, {}, body)


def _metadata(key: str | None) -> Sequence[tuple[str, str]]:
    return () if key is None else (("authorization", f"Bearer {key}"),)


def _credentials(verify: Verify, cert: Shown | None) -> Any:
    if verify is not True and not isinstance(verify, str):
        raise UsageError("over gRPC a certificate is always judged: verify is True, or the path of the authorities")
    trust(verify, cert)  # its errors name the file, which those of gRPC do not
    authorities = Path(verify).read_bytes() if isinstance(verify, str) else None
    if cert is None:
        return grpc.ssl_channel_credentials(authorities)
    public, private = shown(cert)
    return grpc.ssl_channel_credentials(authorities, Path(private or public).read_bytes(), Path(public).read_bytes())


def _unreached(sentence: str, patience: Patience, *, secure: bool = False) -> Exception:
    """What the library says of a server that it cannot reach, in our words."""
    if "CERTIFICATE_VERIFY_FAILED" in sentence:
        told = f"the certificate of the server at {patience.place} is not trusted"
        return ServerUnreachable(f"{told}; verify=PATH names the authorities that are")
    refused = unwelcome(sentence)
    if refused is not None:
        return refused
    host = patience.place.rpartition(":")[0]
    unresolved = any(words in sentence for words in UNRESOLVED)
    why = unknown(host) if unresolved else NO_TLS if "handshake failed" in sentence else None
    if secure and why is None and "failed to connect" in sentence and "refused" not in sentence:
        return Cut(sentence, sent=False, why=UNSURE)
    return Cut(sentence, sent=why is None and "failed to connect" not in sentence, why=why)


def _failure(error: Any, patience: Patience, *, secure: bool = False, begun: bool = False) -> Exception:
    """The error that the call's end tells: of our server by its code, of others by their status. begun: a part of the
    answer is there.
    """
    trailers = {str(name): value for name, value in error.trailing_metadata() or ()}
    status, sentence = error.code(), error.details() or ""
    retry, code = trailers.get("retry-after", ""), trailers.get("x-error-code")
    if code is not None:
        row, column = trailers.get("x-error-row"), trailers.get("x-error-column")
        place = None if row is None else int(row)
        return made(code, sentence, place, None if column is None else unquote(column), retry)
    cancelled = status == grpc.StatusCode.CANCELLED and monotonic() >= patience.deadline  # by the alarm of a stream
    if cancelled or status == grpc.StatusCode.DEADLINE_EXCEEDED:
        return patience.late()
    if status == grpc.StatusCode.UNAVAILABLE and begun:
        return Cut(sentence, begun=True)
    if status == grpc.StatusCode.UNAVAILABLE:
        return _unreached(sentence, patience, secure=secure)
    return waiting(KINDS.get(status, BimodalError)(f"the server answered {status.name}: {sentence}"), retry)
