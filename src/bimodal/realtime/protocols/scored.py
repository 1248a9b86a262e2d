"""`/invocations` where a table comes or goes: CSV, an Arrow stream, Parquet, and JSON on one of the two sides."""

from __future__ import annotations

from typing import Any

import msgspec

from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.exchange import JSON
from bimodal.realtime.protocols.instances import predictions
from bimodal.realtime.protocols.invocations import InvocationsDoor
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.protocols.tables import TableDoor, written
from bimodal.realtime.service import Served
from bimodal.table import flat


class ScoredTable(TableDoor):
    """Tables of one kind, answered in one kind. header: what the caller says of its CSV; None is recognised."""

    route = "invocations"
    mirrors = True

    def __init__(self, served: Served, kind: bytes, answers: bytes, *, header: bool | None) -> None:
        super().__init__(served, kind, header=header)
        self.content_type = answers
        self._json = msgspec.json.Encoder(enc_hook=plain).encode

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        if self.content_type != JSON:
            return super().encode(work, answer, start, stop)
        kept, _ = work.extra
        columns: dict[str, Any] = {} if kept is None else kept.to_pydict()
        columns |= {name: values[start:stop] for name, values in answer.lists}
        return self._json({"predictions": predictions(columns)})


class RowsToTable(InvocationsDoor):
    """JSON, answered by a table."""

    def __init__(self, served: Served, answers: bytes) -> None:
        super().__init__(served)
        self.content_type = answers

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        return written(flat(answer.outputs.slice(start, stop), self.served.signature), self.content_type)
