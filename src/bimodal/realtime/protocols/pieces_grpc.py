"""The answer of a model that gives it in pieces, as one ModelInferResponse each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Key
from bimodal.realtime.protocols import inference, terms
from bimodal.realtime.protocols.inference import Asked
from bimodal.realtime.protocols.tensor_messages import asked_of, response_of
from bimodal.realtime.service import Served
from bimodal.rows import Rows


class Pieces:
    """One request of one. Raises InputError, UsageError."""

    def __init__(self, served: Served, request: Any) -> None:
        self._served = served
        self._asked: Asked = asked_of(request)
        terms.stateless(self._asked.parameters)
        self._raw = bool(request.raw_input_contents)
        self._rows: Rows = inference.judged(served, self._asked)
        self._key: Key = terms.chosen(served, self._asked.parameters, self._asked.wanted)
        self.release = served.hold()
        self._open: Any = None

    async def responses(self, deadline: float) -> AsyncIterator[bytes]:
        """A message a piece. Raises ModelFailed, ModelCrashed, DeadlineExceeded, Overloaded."""
        limit = terms.deadline(self._asked.parameters, monotonic(), self._served.limits.deadline)
        self._open = self._served.stream(self._rows, self._key, min(deadline, limit))
        async for piece in self._open:
            yield self._response(piece)

    async def close(self) -> None:
        """Stop the model, where it goes on."""
        self.release()
        if self._open is not None:
            await self._open.aclose()

    @property
    def nothing(self) -> bytes:
        """A response without outputs."""
        model = self._served.model
        told: bytes = response_of(model.name, model.version, (), self._asked, raw=self._raw).SerializeToString()
        return told

    def _response(self, piece: Rows) -> bytes:
        model = self._served.model
        given = inference.outputs_of(self._served, Answer(piece, self._rows), 0, piece.count, self._asked)
        told: bytes = response_of(model.name, model.version, given, self._asked, raw=self._raw).SerializeToString()
        return told
