"""`infer` over REST in everything that it can ask: binary tensors, classifications, validities, content types."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import msgspec

from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.exchange import JSON, Request, Respond
from bimodal.realtime.protocols import binary, choice, terms
from bimodal.realtime.protocols.inference import judged, outputs_of
from bimodal.realtime.protocols.media import require_plain
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.service import Served
from bimodal.rows import Rows

Cancel = Callable[[], None]


class WholeDoor:
    """Requests of one model, whatever they hold. `InferDoor` is the quick way of the plain ones; their keys are equal,
    so that they share calls.
    """

    route = "infer"
    content_type = JSON

    def __init__(self, served: Served) -> None:
        self.served = served
        self._encode = msgspec.json.Encoder(enc_hook=plain).encode
        self._head = {"model_name": served.model.name, "model_version": served.model.version}

    def work(self, request: Request, respond: Respond) -> Work:
        """The request as work for the model. Raises InputError, UsageError."""
        start = monotonic()
        require_plain(request)
        served = self.served
        most = choice.seconds(request.headers, served.limits.deadline)
        asked = binary.asked(request, served.limits.depth)
        terms.stateless(asked.parameters)
        rows = judged(served, asked)
        key = terms.chosen(served, asked.parameters, asked.wanted)
        reply = binary.Reply(asked, binary.names(asked, key[0]))
        deadline = terms.deadline(asked.parameters, start, most)
        rank = terms.rank(asked.parameters)
        now = monotonic()
        return Work(
            self,
            request,
            reply.over(respond),
            gather.ready,
            [rows],
            rows.count,
            served.lane(key, rows),
            deadline,
            now,
            now - start,
            reply,
            rank,
            request.alone,
        )

    def recheck(self, work: Work) -> Rows:
        """The verdict once more."""
        return judged(self.served, work.extra.asked)

    def fail(self, work: Work, error: BaseException) -> None:
        self.served.refuse(self.route, work.request, work.respond, error)

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        """The response: JSON, and behind it the bytes of the outputs that are asked for so."""
        reply: binary.Reply = work.extra
        for name in answer.outputs:
            if name not in reply.binary:
                answer.array(name)  # JSON tells no NaN, no infinity
        spoken = [name for name in answer.outputs if name not in reply.binary]
        given = outputs_of(self.served, answer, start, stop, reply.asked, spoken=spoken)
        head = self._head if reply.asked.id is None else {**self._head, "id": reply.asked.id}
        return reply.told(head, given, self._encode)
