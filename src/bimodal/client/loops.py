"""Loops: connections belong to one event loop; a client that is used from another one has others there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from bimodal.client.patience import CLOSED
from bimodal.errors import UsageError


class Closable(Protocol):
    def close(self) -> Awaitable[None]: ...


W = TypeVar("W", bound=Closable)


class Home(Generic[W]):
    """What is open on one event loop; an `async with` block is a call of it. over: it is closed."""

    def __init__(self, make: Callable[[], W]) -> None:
        self.way = make()
        self._calls = 0
        self._leaving = False
        self.over = False
        self._life = self._live()

    async def _live(self) -> AsyncGenerator[None, None]:
        """A loop closes its generators before it ends (asyncio.run does so), and with this one the connections."""
        try:
            yield
        finally:
            self.over = True
            await self.way.close()

    async def open(self) -> None:
        await anext(self._life)

    async def __aenter__(self) -> W:
        self._calls += 1
        return self.way

    async def __aexit__(self, *_: object) -> None:
        self._calls -= 1
        if self._leaving and not self._calls:
            await self._life.aclose()

    async def leave(self) -> None:
        """Close it, once no call is under way."""
        self._leaving = True
        if not self._calls:
            await self._life.aclose()


class Homes(Generic[W]):
    """Of a client, one on each event loop that it is used from."""

    def __init__(self, make: Callable[[], W]) -> None:
        self._make = make
        self._homes: dict[asyncio.AbstractEventLoop, Home[W]] = {}
        self._closed = False

    async def here(self) -> Home[W]:
        """That of the running loop. Raises UsageError once it is closed."""
        if self._closed:
            raise UsageError(CLOSED)
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None or home.over:
            for each in [each for each in list(self._homes) if each.is_closed()]:
                self._homes.pop(each, None)
            home = self._homes[loop] = Home(self._make)
            await home.open()
        return home

    async def close(self) -> None:
        """No call begins any more; those that have begun end as they would. What is open on other loops closes with
        them.
        """
        self._closed = True
        home = self._homes.pop(asyncio.get_running_loop(), None)
        if home is not None:
            await home.leave()
