"""Origin: where a work came from, for who writes it down: its request's id, what it carried beside the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bimodal.realtime.exchange import Request
from bimodal.realtime.refusal import REQUEST_ID, given_id, new_id
from bimodal.realtime.work import Work

_json = msgspec.json.Encoder(enc_hook=str).encode


class Part(msgspec.Struct, eq=False):
    """In the place of a work's request: some lines of a stream. name: the stream's id; numbers: of its lines."""

    name: str
    numbers: Sequence[int]


def named(headers: Mapping[bytes, bytes]) -> str:
    """The id of a request that is more than one work."""
    return (given_id(headers) or new_id()).decode("ascii")


def identity(work: Work) -> str | None:
    """The request's id, as given by the caller: X-Request-Id (gRPC: metadata), else the `id` of Open Inference."""
    request = work.request
    if isinstance(request, Part):
        return request.name
    headers = request.headers if isinstance(request, Request) else getattr(work.respond, "metadata", None)
    given = None if headers is None else given_id(headers)
    if given is not None:
        return given.decode("ascii")
    extra = work.extra
    name = extra if isinstance(extra, str) else getattr(getattr(extra, "asked", None), "id", None)
    name = name or getattr(extra, "id", None)
    return name if isinstance(name, str) and name else None


def identities(works: Sequence[Work]) -> list[str | None]:
    """The same of many, most of whom give none."""
    return [
        None if work.extra is None and type(work.request) is Request and REQUEST_ID not in work.request.headers
        else identity(work)
        for work in works
    ]  # fmt: skip


def numbers(work: Work) -> Sequence[int]:
    """The rows' numbers in their request, from 1 on."""
    request = work.request
    return request.numbers if isinstance(request, Part) else range(1, work.count + 1)


def carried(work: Work) -> list[str | None] | None:
    """The columns that are no features and were asked back with `keep`, each row's as a JSON object; None: none."""
    extra = work.extra
    if extra is None or isinstance(extra, str):
        return None
    if isinstance(extra, tuple) and len(extra) == 2:
        extra = extra[1] if isinstance(extra[0], str) else extra[0]  # of instances; of tables
    if isinstance(extra, list):
        return [_json(each).decode() if each else None for each in extra] if any(extra) else None
    columns = extra.to_pydict() if hasattr(extra, "to_pydict") else extra
    if not isinstance(columns, dict) or not columns:
        return None
    return [_json(dict(zip(columns, values, strict=True))).decode() for values in zip(*columns.values(), strict=True)]


def weight(works: Sequence[Work]) -> int:
    """Bytes of the requests' bodies, which a work keeps in memory."""
    try:
        return sum([len(work.request.body) for work in works])
    except AttributeError:  # not all came over HTTP
        return sum([len(getattr(work.request, "body", None) or _message(work)) for work in works])


def _message(work: Work) -> bytes:
    return work.request if isinstance(work.request, bytes) else b""
