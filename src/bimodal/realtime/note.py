"""Note: what is known of how a request was answered, for who watches the server from outside."""

from __future__ import annotations

import msgspec

Stages = tuple[float, float, float, float, float]


class Note(msgspec.Struct, eq=False):
    """The answers of one batch share one. code: of the error. stages: seconds, in the order of `measures.STAGES`; None
    where no model was called. timing: the same, as the header Server-Timing has it. line: what the access
    log says of it, made once.
    """

    model: str = ""
    version: str = ""
    code: str = ""
    stages: Stages | None = None
    timing: bytes = b""
    line: bytes = b""


NOTHING = Note()
