"""Link: a worker's end of the control socket, once it serves. All methods are called from the loop's thread."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from bimodal.errors import NoRepository, Unavailable, retold
from bimodal.realtime import control
from bimodal.realtime.catalogue import Catalogue
from bimodal.realtime.control import (
    Adopt,
    Ask,
    Done,
    Drop,
    Known,
    Leave,
    Order,
    Prepare,
    Prepared,
    Show,
    Shown,
    States,
    Switch,
    Switched,
)
from bimodal.realtime.repository import Found, Repository
from bimodal.realtime.states import LOADING, NO_REPOSITORY, READY, UNAVAILABLE, entry

log = logging.getLogger("bimodal.realtime")

NOT_LOADED = "it is not loaded"


class Link:
    """Does what the parent orders, asks it for what callers want, and knows what it told of the repository.

    told: the server's repository, as its spec has it; None where there is none. opened: set when callers may come.
    """

    def __init__(
        self,
        socket_: socket.socket | None,
        catalogue: Catalogue,
        told: Mapping[str, Any] | None,
        opened: asyncio.Event | None = None,
    ) -> None:
        self._socket, self._catalogue = socket_, catalogue
        self._repository = None if told is None else Repository(told["path"])
        self.settled = told is None or socket_ is None
        self.absent: Sequence[str] = ()
        self._opened = opened
        self._states: dict[tuple[str, str], tuple[str, str]] = {}
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._numbers = count(1)
        self._work: set[asyncio.Task[None]] = set()

    # -- as the service's Control -----------------------------------------------------------------------------------

    async def ask(self, verb: str, name: str) -> None:
        if self._repository is None:
            raise NoRepository(NO_REPOSITORY)
        if self._socket is None:
            raise Unavailable("models are loaded and unloaded by a running server; here is one request alone")
        number = next(self._numbers)
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        self._say(Ask(number, verb, name))
        try:
            await answered
        finally:
            del self._asked[number]

    @property
    def loading(self) -> bool:
        """Whether some model is about to be there: also before anything is known of them."""
        return any(state == LOADING for state, _ in self._states.values()) or not (self.settled or self._states)

    def entries(self, served: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
        """What stands in the folder now, with what is known of it, and what is served though it is gone from there."""
        told = {key: entry(*key, *self._states.get((key[0], ""), (READY, ""))) for key in served}
        for each in self._found():
            same = [key for key in served if key[0] == each.name and each.version in ("", key[1])]
            if not same:
                known = self._states.get((each.name, each.version), (UNAVAILABLE, each.reason or NOT_LOADED))
                told[each.name, each.version] = entry(each.name, each.version, *known)
            elif self._states.get((each.name, each.version)):
                told[same[0]] = entry(*same[0], *self._states[each.name, each.version])
        return [told[key] for key in (*served, *sorted(told.keys() - set(served)))]

    def _found(self) -> list[Found]:
        if self._repository is None:
            return []
        return [each for versions in self._repository.look().values() for each in versions]

    # -- what the parent says ---------------------------------------------------------------------------------------

    def take(self, line: bytes) -> None:
        """One line of the parent."""
        told: Order = control.order(line)
        if isinstance(told, Prepare):
            task = asyncio.get_running_loop().create_task(self._prepare(told))
            self._work.add(task)
            task.add_done_callback(self._work.discard)
        elif isinstance(told, Switch):
            self._catalogue.switch(told)
            self._say(Switched(told.change))
        elif isinstance(told, Drop):
            self._catalogue.drop(told.change)
        elif isinstance(told, States):
            self._states = {(name, version): (state, reason) for name, version, state, reason in told.states}
            self.settled, self.absent = told.settled, told.absent
            if told.opened and self._opened is not None:
                self._opened.set()
            self._say(Known(told.number))
        elif isinstance(told, Show):
            self._say(Shown(self._catalogue.example()))
        elif not isinstance(told, Adopt | Leave):  # of sockets, which are the listener's
            self._answer(told)

    async def _prepare(self, told: Prepare) -> None:
        self._say(Prepared(told.change, *await self._catalogue.prepare(told)))

    def _answer(self, told: Done) -> None:
        answered = self._asked.get(told.ask)
        if answered is None or answered.done():
            return  # the caller left
        if told.error is None:
            answered.set_result(None)
        else:
            answered.set_exception(retold(told.error))

    def _say(self, told: control.Word) -> None:
        assert self._socket is not None
        try:
            self._socket.sendall(control.line(told))
        except OSError:
            log.warning("the parent process is gone")
