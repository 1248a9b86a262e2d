"""AsyncClient: the Client of programs on asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from bimodal.client.address import Address, Shown, sendable, trust
from bimodal.client.connections import Connections
from bimodal.client.failure import failure
from bimodal.client.given import options_of
from bimodal.client.loops import Homes
from bimodal.client.patience import Cut, Patience, checked
from bimodal.client.question import JSON, Answer, Conversation, Question
from bimodal.client.sync import CONNECTIONS, RETRIES
from bimodal.client.words import Words
from bimodal.errors import BimodalError, Overloaded, ServerUnreachable, Unavailable
from bimodal.formats.library import library

T = TypeVar("T")


class Way(Protocol):
    """How questions get to the server."""

    async def ask(self, question: Question, patience: Patience) -> Answer:
        """One try. Raises Cut, and the error that is answered."""

    def stream(self, question: Question, patience: Patience) -> AsyncGenerator[bytes, None]:
        """One try of an answer in pieces, of which the first is empty."""

    async def close(self) -> None: ...


class AsyncClient:
    """A client of one server; many tasks may share it. Each event loop that it is used from has connections of its own,
    which close with it. The arguments are those of Client.

    async with AsyncClient(url) as client: await client.predict(rows)
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        timeout: float = 10.0,
        retries: int = RETRIES,
        connections: int = CONNECTIONS,
        key: str | None = None,
        verify: bool | str | ssl.SSLContext = True,
        cert: Shown | None = None,
    ) -> None:
        address, key = Address.of(url), sendable(key)
        self._timeout = checked(timeout)
        self._retries = retries
        self._place = f"{address.host}:{address.port}"
        self._words: Any
        if address.remote:
            remote = library("bimodal.client.remote")
            self._words, make = remote.Words(), remote.channels(address, key, verify, cert)
        else:
            context = trust(verify, cert) if address.secure else None
            self._words = Words(self._place)
            make = partial(_Http, address, key, context, connections)
        self._homes: Homes[Way] = Homes(make)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, once the calls under way have ended. Nothing can be asked then."""
        await self._homes.close()

    async def predict(
        self,
        data: Any,
        *,
        model: str | None = None,
        outputs: Sequence[str] | None = None,
        threshold: float | None = None,
        keep: bool | Sequence[str] = False,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the server's deadline too
    ) -> Any:
        """As Client.predict."""
        options = options_of(outputs, threshold, keep)
        return await self._talk(self._words.predict(data, model, options), self._patience(timeout))

    async def stream(
        self,
        row: Any,
        *,
        model: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the server's deadline too
    ) -> AsyncGenerator[dict[str, Any], None]:
        """As Client.stream."""
        patience = self._patience(timeout)
        events = self._words.events(self._place)
        async with await self._homes.here() as way:
            streaming = self._words.streaming(row, model, outputs, patience.timeout)
            question = await self._converse(way, streaming, patience)
            async with aclosing(await self._begun(way, question, patience)) as pieces:
                with patience.telling():
                    async for data in pieces:
                        for piece in events.feed(data):
                            yield piece
                            patience.renew()
                events.finish()

    async def _begun(self, way: Way, question: Question, patience: Patience) -> AsyncGenerator[bytes, None]:
        """An answer whose head is there."""
        while True:
            pieces = way.stream(question, patience)
            try:
                await anext(pieces)
            except (Cut, Overloaded, Unavailable) as error:
                wait = patience.again(error, safe=question.safe)
            else:
                return pieces
            await asyncio.sleep(wait)

    async def lookup(
        self,
        key: Any,
        row: Any = None,
        *,
        model: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the server's deadline too
    ) -> Any:
        """As Client.lookup."""
        return await self._talk(self._words.lookup(key, row, model, outputs), self._patience(timeout))

    async def models(self) -> list[str]:
        """The names of the models that the server has."""
        return await self._talk(self._words.models())

    async def metadata(self, model: str | None = None) -> dict[str, Any]:
        """As Client.metadata."""
        return await self._talk(self._words.metadata(model))

    async def ready(self) -> bool:
        """Whether the server is there and takes requests. It is asked once."""
        try:
            await self._talk(self._words.ready(), self._patience(None, retries=0))
        except (ServerUnreachable, Unavailable):
            return False
        return True

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = JSON,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the server's deadline too
    ) -> bytes:
        """As Client.request."""
        headers = (("idempotency-key", idempotency_key),) if idempotency_key else ()
        safe = method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS") or bool(idempotency_key)
        asked = Question(method, path, body, content_type, headers, safe)
        patience = self._patience(timeout)
        async with await self._homes.here() as way:
            return (await self._ask(way, asked, patience)).body

    def _patience(self, timeout: float | None, retries: int | None = None) -> Patience:
        """That of one call. Raises UsageError."""
        seconds = self._timeout if timeout is None else checked(timeout)
        return Patience(seconds, self._retries if retries is None else retries, self._place)

    async def _talk(self, conversation: Conversation[T], patience: Patience | None = None) -> T:
        patience = patience or self._patience(None)
        async with await self._homes.here() as way:
            return await self._converse(way, conversation, patience)

    async def _converse(self, way: Way, conversation: Conversation[T], patience: Patience) -> T:
        """Ask what the conversation asks, up to its result."""
        try:
            question = next(conversation)
            while True:
                try:
                    answer = await self._ask(way, question, patience)
                except BimodalError as error:
                    question = conversation.throw(error)
                else:
                    question = conversation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _ask(self, way: Way, question: Question, patience: Patience) -> Answer:
        while True:
            try:
                return await way.ask(question, patience)
            except (Cut, Overloaded, Unavailable) as error:
                wait = patience.again(error, safe=question.safe)
            await asyncio.sleep(wait)


class _Http:
    """Questions over HTTP/1.1."""

    def __init__(self, address: Address, key: str | None, context: ssl.SSLContext | None, most: int) -> None:
        self._connections = Connections(address, key, context, most)
        self.stream = self._connections.stream

    async def ask(self, question: Question, patience: Patience) -> Answer:
        answer = await self._connections.ask(question, patience)
        if not 200 <= answer.status < 300:
            raise failure(answer, patience.place)
        return answer

    async def close(self) -> None:
        self._connections.close()
