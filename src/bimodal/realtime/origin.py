"""Origin: where a work came from, for who writes it down: its request's id, what it carried beside the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bimodal.realtime.exchange import Request
from bimodal.realtime.refusal import given_id, new_id
from bimodal.realtime.work import Work

_REQUESTS = {Request}
_json = msgspec.json.Encoder(enc_hook=str).encode


class Part(msgspec.Struct, eq=False):
    """In the place of a work's request: some lines of a stream. name: the stream's id; numbers: of its lines."""

    name: str
    numbers: Sequence[int]


class Origins(msgspec.Struct, eq=False):
    """What is kept of the works of a batch when they are over: not their requests, whose values take ten times the room
    of the arrays that were made of them.

    routes: one where all have the same. counts: rows of each. names: ids; None where nobody has one, or a work has
    none. numbers: of the rows of each. extras: what each carried; None where
    none carried anything.
    """

    routes: str | list[str]
    counts: list[int]
    names: list[str | bytes | None] | None = None
    numbers: list[Sequence[int]] | None = None
    extras: list[Any] | None = None

    @property
    def single(self) -> bool:
        """Whether each work is one row."""
        return self.numbers is None and max(self.counts) == 1


def of(works: Sequence[Work]) -> Origins:
    """Called on the event loop: what most requests need is a look at each of their attributes."""
    counts = [work.count for work in works]
    doors = list({work.door for work in works})
    routes = doors[0].route if len(doors) == 1 else [work.door.route for work in works]
    plain = [work.extra for work in works].count(None) == len(works)
    plain = plain and {type(work.request) for work in works} == _REQUESTS
    names = [work.request.name for work in works] if plain else identities(works)
    made = Origins(routes, counts, None if names.count(None) == len(names) else names)
    if not plain:
        if any(type(work.request) is Part for work in works):
            made.numbers = [numbers(work) for work in works]
        made.extras = [work.extra for work in works]
    return made


def named(request: Request) -> str:
    """The id of a request that is more than one work."""
    return (request.name or given_id(request.headers) or new_id()).decode("ascii")


def identity(work: Work) -> str | None:
    """The request's id, as given by the caller: X-Request-Id (gRPC: metadata), else the `id` of Open Inference; else
    the one that the wire made, where it made one.
    """
    request = work.request
    if isinstance(request, Part):
        return request.name
    told = request if isinstance(request, Request) else work.respond
    headers = request.headers if isinstance(request, Request) else getattr(told, "metadata", None)
    given = None if headers is None else given_id(headers)
    if given is not None:
        return given.decode("ascii")
    extra = work.extra
    name = extra if isinstance(extra, str) else getattr(getattr(extra, "asked", None), "id", None)
    name = name or getattr(extra, "id", None)
    if isinstance(name, str) and name:
        return name
    made = getattr(told, "name", None)
    return made.decode("ascii") if isinstance(made, bytes) else None


def identities(works: Sequence[Work]) -> list[str | bytes | None]:
    """The same of many, most of whom give none."""
    return [
        work.request.name if work.extra is None and type(work.request) is Request else identity(work) for work in works
    ]


def numbers(work: Work) -> Sequence[int]:
    """The rows' numbers in their request, from 1 on."""
    request = work.request
    return request.numbers if isinstance(request, Part) else range(1, work.count + 1)


def carried(extra: Any) -> list[str | None] | None:
    """The columns that are no features and were asked back with `keep`, each row's as a JSON object; None: none."""
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
