"""AsyncClient: the Client of programs on asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol, Self, TypeVar

from bimodal.client.address import Address, Shown, sendable, trust
from bimodal.client.connections import Connections
from bimodal.client.failure import failure
from bimodal.client.given import options_of
from bimodal.client.patience import CLOSED, Cut, Patience, checked
from bimodal.client.question import JSON, Answer, Conversation, Question
from bimodal.client.sync import CONNECTIONS, RETRIES
from bimodal.client.words import Words
from bimodal.errors import BimodalError, DeadlineExceeded, Overloaded, ServerUnreachable, Unavailable, UsageError
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
    """A client of one server on one event loop; many tasks may share it. The arguments are those of Client.

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
        self._closed = False
        self._retries = retries
        self._place = f"{address.host}:{address.port}"
        self._words: Any
        self._way: Way
        if address.remote:
            remote = library("bimodal.client.remote")
            self._words, self._way = remote.Words(), remote.AsyncChannel(address, key, verify, cert)
        else:
            context = trust(verify, cert) if address.secure else None
            self._words, self._way = Words(self._place), _Http(Connections(address, key, context, connections))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Nothing can be asked then."""
        self._closed = True
        await self._way.close()

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
        question = await self._talk(self._words.streaming(row, model, outputs, patience.timeout), patience)
        events = self._words.events(self._place)
        async with aclosing(await self._begun(question, patience)) as pieces:
            try:
                async for data in pieces:
                    for piece in events.feed(data):
                        yield piece
                        patience.renew()
            except Cut as cut:
                raise patience.broken(cut) from cut
            except DeadlineExceeded as error:
                raise patience.stopped(error) from None
            events.finish()

    async def _begun(self, question: Question, patience: Patience) -> AsyncGenerator[bytes, None]:
        """An answer whose head is there."""
        while True:
            pieces = self._way.stream(question, patience)
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
        return (await self._ask(asked, self._patience(timeout))).body

    def _patience(self, timeout: float | None, retries: int | None = None) -> Patience:
        """That of one call. Raises UsageError where there can be none."""
        if self._closed:
            raise UsageError(CLOSED)
        seconds = self._timeout if timeout is None else checked(timeout)
        return Patience(seconds, self._retries if retries is None else retries, self._place)

    async def _talk(self, conversation: Conversation[T], patience: Patience | None = None) -> T:
        """Ask what the conversation asks, up to its result."""
        patience = patience or self._patience(None)
        try:
            question = next(conversation)
            while True:
                try:
                    answer = await self._ask(question, patience)
                except BimodalError as error:
                    question = conversation.throw(error)
                else:
                    question = conversation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _ask(self, question: Question, patience: Patience) -> Answer:
        while True:
            try:
                return await self._way.ask(question, patience)
            except (Cut, Overloaded, Unavailable) as error:
                wait = patience.again(error, safe=question.safe)
            await asyncio.sleep(wait)


class _Http:
    """Questions over HTTP/1.1."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.stream = connections.stream

    async def ask(self, question: Question, patience: Patience) -> Answer:
        answer = await self._connections.ask(question, patience)
        if not 200 <= answer.status < 300:
            raise failure(answer, patience.place)
        return answer

    async def close(self) -> None:
        self._connections.close()
