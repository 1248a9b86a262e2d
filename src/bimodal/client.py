"""Client: ask a running server from Python, with the same `predict` as a model in memory."""

from __future__ import annotations

import http.client
import math
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from bimodal.errors import BimodalError, InputError, Overloaded, ServerUnreachable, Unavailable, UsageError, by_code
from bimodal.formats.library import library

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class Client:
    """A client of one server. Connections are kept open, one a thread. Close it, or use it in a `with` block.

    url: such as http://127.0.0.1:8000. timeout: seconds to wait for an answer; it is also sent as the request's
    deadline.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", *, timeout: float = 10.0) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"a server's address looks like http://127.0.0.1:8000, not {url!r}")
        self._address = (parts.hostname, parts.port or 80)
        self._base = parts.path.rstrip("/")
        self._timeout = timeout
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def predict(
        self,
        data: Any,
        *,
        model: str | None = None,
        outputs: Sequence[str] | None = None,
        threshold: float | None = None,
        keep: bool | Sequence[str] = False,
    ) -> Any:
        """Predict every row of `data`; the answer is of the kind that was given, as `Model.predict` answers.

        data: a pandas frame, an Arrow table, a list of records (dicts, or lists of values), one record, a dict of
        columns (name to list) or a NumPy array [rows, features]. keep: columns that are no features and are to be
        answered too. Raises what the model would raise: InputError with row and column, Overloaded,
        DeadlineExceeded, ModelFailed.
        """
        options = {"outputs": outputs, "threshold": threshold, "keep": keep or None}
        path = f"/models/{quote(model, safe='')}/predict" if model else "/predict"
        if type(data).__module__.startswith("pyarrow") or (hasattr(data, "iloc") and hasattr(data, "columns")):
            return self._predict_table(path, data, options)
        if _has_infinity(data):
            raise InputError("infinity cannot be told in JSON; send a frame or an Arrow table")
        body = {**_body(data), **{name: value for name, value in options.items() if value is not None}}
        answer = msgspec.json.decode(self.request("POST", path, msgspec.json.encode(body, enc_hook=_plain)))
        return _shaped(answer, data)

    def lookup(
        self,
        key: Any,
        row: Any = None,
        *,
        model: str | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Any:
        """What a job has predicted for a key, or for each of a list of keys, as dicts: the outputs, `source`, `age`.

        row: the key's row (of many keys a list of rows, None where there is none): it is predicted live where there is
        no result, or where it is not the row that was scored. Raises NoPrediction for one key without a result and a
        row; of many keys such a one has the source "miss".
        """
        many = isinstance(key, list | tuple)
        if _has_infinity(row):
            raise InputError("infinity cannot be told in JSON")
        told = {"keys" if many else "key": key, "rows" if many else "row": row, "outputs": outputs}
        body = msgspec.json.encode({name: each for name, each in told.items() if each is not None}, enc_hook=_plain)
        path = f"/models/{quote(model or self._first, safe='')}/lookup"
        answer = msgspec.json.decode(self.request("POST", path, body))
        return answer["answers"] if many else answer

    @cached_property
    def _first(self) -> str:
        """The name of the server's first model."""
        return str(msgspec.json.decode(self.request("GET", "/models"))[0]["name"])

    def models(self) -> list[str]:
        """The names of the models that the server has."""
        paths = msgspec.json.decode(self.request("GET", "/openapi.json"))["paths"]
        return [
            path.split("/")[2]
            for path in paths
            if path.startswith("/models/") and path.endswith("/predict") and "/versions/" not in path
        ]

    def metadata(self, model: str) -> dict[str, Any]:
        """Name, versions, platform, inputs and outputs of a model (Open Inference)."""
        told: dict[str, Any] = msgspec.json.decode(self.request("GET", f"/v2/models/{quote(model, safe='')}"))
        return told

    def ready(self) -> bool:
        """Whether the server is there and all its models are ready."""
        try:
            self.request("GET", "/health/ready")
        except (ServerUnreachable, Unavailable):
            return False
        return True

    def _predict_table(self, path: str, data: Any, options: Mapping[str, Any]) -> Any:
        table = library("bimodal.table")  # Arrow is loaded only where a table is sent
        frame = hasattr(data, "iloc")
        query = {name: _joined(value) for name, value in options.items() if value is not None}
        content = table.to_stream(table.from_frame(data) if frame else table.as_table(data))
        answer = table.from_stream(self.request("POST", f"{path}?{urlencode(query)}", content, ARROW))
        if not frame:
            return answer
        told = answer.to_pandas()
        told.index = data.index
        return told

    def request(self, method: str, path: str, body: bytes | None = None, content_type: str = JSON) -> bytes:
        """One request; the body of the answer, or the error that it tells. A connection that went stale is opened
        anew.
        """
        headers = {"content-type": content_type, "x-request-timeout-ms": str(int(self._timeout * 1000))}
        fresh = not hasattr(self._local, "connection")
        connection = self._connection()
        try:
            connection.request(method, self._base + path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except STALE as error:
            self._drop()
            if fresh:
                raise self._unreachable(error) from error
            return self.request(method, path, body, content_type)
        except OSError as error:
            self._drop()
            raise self._unreachable(error) from error
        if answer.status >= 400:
            raise _error(content, answer.status, answer.headers.get("retry-after"))
        return content

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(*self._address, timeout=self._timeout)
            self._open.append(self._local.connection)
        connection: http.client.HTTPConnection = self._local.connection
        return connection

    def _drop(self) -> None:
        self._open.remove(self._local.connection)
        self._local.connection.close()
        del self._local.connection

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        host, port = self._address
        why = (
            "did not answer in time"
            if isinstance(error, TimeoutError)
            else "cannot be reached; is `bimodal serve` running?"
        )
        return ServerUnreachable(f"the server at {host}:{port} {why}")


def _joined(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _body(data: Any) -> dict[str, Any]:
    if isinstance(data, Mapping):
        named = all(isinstance(value, list | tuple) or hasattr(value, "tolist") for value in data.values())
        return {"columns": data} if named else {"rows": [data]}
    if isinstance(data, list | tuple) and data and all(isinstance(record, Mapping) for record in data):
        return {"rows": data}
    return {"input": data}


def _has_infinity(data: Any) -> bool:
    """Whether an infinity stands anywhere in the data; JSON would make a null of it."""
    if isinstance(data, float):
        return math.isinf(data)
    if isinstance(data, Mapping):
        return any(_has_infinity(value) for value in data.values())
    if isinstance(data, list | tuple):
        return any(_has_infinity(value) for value in data)
    if getattr(getattr(data, "dtype", None), "kind", "") == "f":
        return bool((abs(data) == math.inf).any())
    return False


def _shaped(answer: dict[str, Any], data: Any) -> Any:
    """The columns that the server answered, in the kind of the data."""
    if hasattr(data, "dtype") and len(answer) == 1:
        import numpy as np  # there, since the caller gave an array

        return np.array(next(iter(answer.values())))
    if isinstance(data, Mapping) or not (
        isinstance(data, list | tuple) and data and isinstance(data[0], list | tuple | Mapping)
    ):
        return answer
    return [dict(zip(answer, values, strict=True)) for values in zip(*answer.values(), strict=True)]


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise UsageError(f"a {type(value).__name__} cannot be sent as JSON")


def _error(content: bytes, status: int, retry_after: str | None) -> BimodalError:
    try:
        told = msgspec.json.decode(content)
        error = by_code(told["code"])(told["error"])
        error.row, error.column, error.code = told.get("row"), told.get("column"), told["code"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return BimodalError(f"the server answered {status} without an error that can be read")
    if isinstance(error, Overloaded | Unavailable) and retry_after:
        error.retry_after = int(retry_after)
    return error
