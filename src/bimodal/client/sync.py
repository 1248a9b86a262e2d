"""Client: ask a running server from Python, with the same `predict` as a model in memory."""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Protocol, Self, TypeVar

from bimodal.client.address import Address, Shown, sendable, trust
from bimodal.client.closing import UnderWay
from bimodal.client.failure import failure
from bimodal.client.given import options_of
from bimodal.client.patience import Cut, Patience, checked
from bimodal.client.pool import Pool
from bimodal.client.question import JSON, Answer, Conversation, Question
from bimodal.client.words import Words
from bimodal.errors import BimodalError, Overloaded, ServerUnreachable, Unavailable
from bimodal.formats.library import library

T = TypeVar("T")
CONNECTIONS = 32
RETRIES = 3


class Way(Protocol):
    """How questions get to the server."""

    def ask(self, question: Question, patience: Patience) -> Answer:
        """One try. Raises Cut, and the error that is answered."""

    def stream(self, question: Question, patience: Patience) -> Generator[bytes]:
        """One try of an answer in pieces, of which the first is empty."""

    def close(self) -> None: ...


class Client:
    """A client of one server; threads may share it. Close it, or use it in a `with` block.

    url: such as http://127.0.0.1:8000, or grpc://127.0.0.1:8000 (the extra `grpc`). timeout: seconds that a call may
    take, all its tries together, at most 1e8; the server is told. retries: how often a call is tried again at most
    where that is safe. connections: the most that are open at once. key: an API key, sent as a bearer's token. verify:
    by what the certificate of an https server is judged (`address.trust`). cert: this caller's own certificate and its
    key, for a server that asks for one (mTLS): the files (certificate, key), or the one that holds both.
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
        self._retries = retries
        self._place = f"{address.host}:{address.port}"
        self._words: Any
        self._way: Way
        if address.remote:
            remote = library("bimodal.client.remote")
            self._words, self._way = remote.Words(), remote.Channel(address, key, verify, cert)
        else:
            context = trust(verify, cert) if address.secure else None
            self._words, self._way = Words(self._place), _Http(Pool(address, key, context, connections))
        self._under_way = UnderWay(self._way.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, once the calls under way have ended. Nothing can be asked then."""
        self._under_way.close()

    def predict(
        self,
        data: Any,
        *,
        model: str | None = None,
        outputs: Sequence[str] | None = None,
        threshold: float | None = None,
        keep: bool | Sequence[str] = False,
        timeout: float | None = None,
    ) -> Any:
        """Predict every row of `data`; the answer is of the kind that was given, as `Model.predict` answers.

        data: a pandas frame, an Arrow table, a list of records (dicts, or lists of values), one record, a dict of
        columns (name to list) or a NumPy array [rows, features]. keep: columns that are no features and are to be
        answered too. Raises what the model would raise: InputError with row and column, Overloaded,
        DeadlineExceeded, ModelFailed.
        """
        options = options_of(outputs, threshold, keep)
        return self._talk(self._words.predict(data, model, options), self._patience(timeout))

    def stream(
        self,
        row: Any,
        *,
        model: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Generator[dict[str, Any]]:
        """The answer to one row (a dict, or a list of values) in pieces, each a dict of the outputs that it holds, as
        Model.stream gives them. Closing the generator stops the model. timeout: seconds to the first piece, and for
        each further one from when it is asked for.

        It is tried again only before the first byte of the answer.
        """
        patience = self._patience(timeout)
        events = self._words.events(self._place)
        with self._under_way:
            question = self._converse(self._words.streaming(row, model, outputs, patience.timeout), patience)
            with closing(self._begun(question, patience)) as pieces:
                with patience.telling():
                    for data in pieces:
                        for piece in events.feed(data):
                            yield piece
                            patience.renew()
                events.finish()

    def _begun(self, question: Question, patience: Patience) -> Generator[bytes]:
        """An answer whose head is there."""
        while True:
            pieces = self._way.stream(question, patience)
            try:
                next(pieces)
            except (Cut, Overloaded, Unavailable) as error:
                wait = patience.again(error, safe=question.safe)
            else:
                return pieces
            time.sleep(wait)

    def lookup(
        self,
        key: Any,
        row: Any = None,
        *,
        model: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """What a job has predicted for a key, or for each of a list of keys, as dicts: the outputs, `source`, `age`.

        row: the key's row (of many keys a list of rows, None where there is none): it is predicted live where there is
        no result, or where it is not the row that was scored. Raises NoPrediction for one key without a result and a
        row; of many keys such a one has the source "miss".
        """
        return self._talk(self._words.lookup(key, row, model, outputs), self._patience(timeout))

    def models(self) -> list[str]:
        """The names of the models that the server has."""
        return self._talk(self._words.models())

    def metadata(self, model: str | None = None) -> dict[str, Any]:
        """Of a model its name, versions, platform, inputs and outputs (Open Inference), these with what our extension
        `bimodal_tabular` tells; without one, the server's name, version and extensions.
        """
        return self._talk(self._words.metadata(model))

    def ready(self) -> bool:
        """Whether the server is there and takes requests. It is asked once."""
        try:
            self._talk(self._words.ready(), self._patience(None, retries=0))
        except (ServerUnreachable, Unavailable):
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = JSON,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """One request over HTTP; the body of the answer, or the error that it tells.

        A POST may do something: once it was sent it is not sent again, unless it has an Idempotency-Key.
        """
        headers = (("idempotency-key", idempotency_key),) if idempotency_key else ()
        safe = method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS") or bool(idempotency_key)
        asked = Question(method, path, body, content_type, headers, safe)
        patience = self._patience(timeout)
        with self._under_way:
            return self._ask(asked, patience).body

    def _patience(self, timeout: float | None, retries: int | None = None) -> Patience:
        """That of one call. Raises UsageError."""
        seconds = self._timeout if timeout is None else checked(timeout)
        return Patience(seconds, self._retries if retries is None else retries, self._place)

    def _talk(self, conversation: Conversation[T], patience: Patience | None = None) -> T:
        patience = patience or self._patience(None)
        with self._under_way:
            return self._converse(conversation, patience)

    def _converse(self, conversation: Conversation[T], patience: Patience) -> T:
        """Ask what the conversation asks, up to its result."""
        try:
            question = next(conversation)
            while True:
                try:
                    answer = self._ask(question, patience)
                except BimodalError as error:
                    question = conversation.throw(error)
                else:
                    question = conversation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _ask(self, question: Question, patience: Patience) -> Answer:
        while True:
            try:
                return self._way.ask(question, patience)
            except (Cut, Overloaded, Unavailable) as error:
                wait = patience.again(error, safe=question.safe)
            time.sleep(wait)


class _Http:
    """Questions over HTTP/1.1."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.stream = pool.stream
        self.close = pool.close

    def ask(self, question: Question, patience: Patience) -> Answer:
        answer = self._pool.ask(question, patience)
        if not 200 <= answer.status < 300:
            raise failure(answer, patience.place)
        return answer
