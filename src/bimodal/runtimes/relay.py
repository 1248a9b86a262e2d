"""The model's side of its streams: a thread for each, which gives a piece when it may and ends when its reader left."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

from bimodal.errors import BimodalError, ModelFailed, refused_by_model, told
from bimodal.rows import Rows
from bimodal.runtimes import wire
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.own import Own
from bimodal.runtimes.streams import WINDOW

log = logging.getLogger("bimodal.model")


def relay(control: Own, runtime: Runtime) -> None:
    """Begin a stream for each socket that comes in over `control`, until its other end is gone."""
    while True:
        try:
            _, found, _, _ = socket.recv_fds(control, 1, 1)
        except OSError:
            return
        if not found:
            return
        threading.Thread(target=_answer, args=(Own(found[0]), runtime), daemon=True).start()


def fault(error: Exception) -> dict[str, Any]:
    """What a model raised, as the values of a message. Whatever its code raises is its failure, told by the type."""
    if isinstance(error, BimodalError) and not isinstance(error, ModelFailed):
        return {"error": told(error)}
    if not isinstance(error, ModelFailed):
        log.error("the model failed", exc_info=error)
        error = refused_by_model(error, f"the model raised {type(error).__name__} on these rows")
    return {"error": {**told(error), "said": error.said, "where": error.where}}


def _answer(channel: Own, runtime: Runtime) -> None:
    with channel, contextlib.suppress(OSError, EOFError):  # the reader is gone
        header, rows = wire.receive(channel)
        if rows is None:
            return
        pieces = runtime.stream(rows, header["outputs"])
        try:
            if _give(channel, pieces):
                wire.send(channel, {"end": True})
        except OSError:
            raise
        except Exception as error:
            wire.send(channel, fault(error))
        finally:
            _close(pieces)


def _give(channel: Own, pieces: Iterator[Rows]) -> bool:
    """Send the pieces; False where the reader leaves before the last."""
    credit = WINDOW
    for piece in pieces:
        credit = _credit(channel, credit)
        if not credit:
            return False
        wire.send(channel, {"piece": True}, piece)
        credit -= 1
    return True


def _credit(channel: socket.socket, left: int) -> int:
    """How many pieces may go; waits where there is none. 0: the reader has left."""
    try:
        more = channel.recv(256, socket.MSG_DONTWAIT if left else 0)
    except BlockingIOError:
        return left
    return left + sum(more) if more else 0


def _close(pieces: Iterator[Rows]) -> None:
    """End the generator where it stands; its own `finally` runs."""
    try:
        pieces.close()  # type: ignore[attr-defined]  # streams are generators
    except Exception:
        log.exception("the model failed when its stream was closed")
