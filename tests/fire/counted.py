"""A server of an app that writes down each request before it answers: python -m tests.fire.counted.

BIMODAL_TEST_COUNT names the file, which gets a byte for each.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.server import Server
from tests.realtime.services import Services
from tests.realtime.wire import TryOut


class Counted(TryOut):
    """Routes to try a wire with, and gRPC methods."""

    def __init__(self) -> None:
        super().__init__()
        self.methods = Services()
        self._file = os.open(os.environ["BIMODAL_TEST_COUNT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, request: Request, respond: Respond) -> Callable[[], None] | None:
        os.write(self._file, b".")
        self.requests.clear()
        return super().__call__(request, respond)


if __name__ == "__main__":
    Server({"app": "tests.fire.counted:app"}).wait()
else:
    app = Counted()
