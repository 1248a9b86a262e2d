"""Adoption: a worker accepts on the listening sockets of others that are not there.

With a socket for each worker the system goes on dealing new connections to one whose worker has died: they wait in its
queue. So where a worker does not come back soon, those that live take from its queue too, until it is there again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from bimodal.realtime.control import Adopt, Leave
from bimodal.realtime.listener import Listener


class Adoption:
    """Of one worker. Orders that come before it listens itself wait until it does."""

    def __init__(self) -> None:
        self._listener: Listener | None = None
        self._orders: list[tuple[Adopt | Leave, Sequence[socket.socket]]] = []
        self._servers: dict[int, list[asyncio.Server]] = {}
        self._turn = asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()

    def begin(self, listener: Listener) -> None:
        """The worker listens."""
        self._listener = listener
        orders, self._orders = self._orders, []
        for order, sockets in orders:
            self.take(order, sockets)

    def take(self, order: Adopt | Leave, sockets: Sequence[socket.socket]) -> None:
        """An order of the parent, with the sockets that came along. Called in the loop."""
        if self._listener is None:
            self._orders.append((order, sockets))
            return
        task = asyncio.get_running_loop().create_task(self._carry_out(self._listener, order, sockets))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _carry_out(self, listener: Listener, order: Adopt | Leave, sockets: Sequence[socket.socket]) -> None:
        async with self._turn:  # in the order that they came in
            for server in self._servers.pop(order.worker, ()):
                server.close()
            if isinstance(order, Adopt) and not listener.draining:
                self._servers[order.worker] = await listener.accept(*sockets)
        for each in sockets:
            each.close()  # the listener has duplicates
