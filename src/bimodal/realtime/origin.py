"""Origin: where a work came from, for who writes it down: its request's id, what it carried beside the features."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from bimodal.realtime.exchange import Request
from bimodal.realtime.refusal import REQUEST_ID, given_id, new_id
from bimodal.realtime.work import Work

Names = list[str | bytes | None] | bytes | None
_json = msgspec.json.Encoder(enc_hook=str).encode


class Part(msgspec.Struct, eq=False):
    """In the place of a work's request: some lines of a stream. name: the stream's id; numbers: of its lines."""

    name: str
    numbers: Sequence[int]


class Origins(msgspec.Struct, eq=False):
    """What is kept of the works of a batch when they are over: not their requests, whose values take ten times the room
    of the arrays that were made of them.

    routes: one where all have the same. counts: rows of each, as `packed` has them. names: ids, None where a work has
    none; as bytes one after another where all are of one width; None where nobody has one. numbers: of the rows of
    each. extras: what each carried; None where none carried anything.
    """

    routes: str | list[str]
    counts: bytes
    names: Names = None
    numbers: list[Sequence[int]] | None = None
    extras: list[Any] | None = None

    @property
    def works(self) -> int:
        """How many there were."""
        return len(self.counts) // 8

    @property
    def rows(self) -> list[int]:
        """Of each work."""
        return array("q", self.counts).tolist()

    @property
    def width(self) -> int:
        """Bytes of each id, where they stand one after another; else 0."""
        return len(self.names) // self.works if isinstance(self.names, bytes) else 0

    @property
    def ids(self) -> Sequence[str | bytes | None]:
        """One for each work."""
        names, width = self.names, self.width
        if isinstance(names, bytes):
            return [names[at : at + width] for at in range(0, len(names), width)]
        return names or [None] * self.works


def packed(counts: Sequence[int]) -> bytes:
    """Numbers of rows, as int64 one after another: many batches are put together without a look at each."""
    return array("q", counts).tobytes()


def of(works: Sequence[Work]) -> tuple[Origins, int]:
    """Them, and the bytes of the requests. Called on the event loop."""
    found = gist(works)
    if found is not None:
        counts, names, weight = found
        return Origins(works[0].door.route, counts, names), weight
    counts = packed([work.count for work in works])
    doors = list({work.door for work in works})
    routes = doors[0].route if len(doors) == 1 else [work.door.route for work in works]
    told = identities(works)
    made = Origins(routes, counts, None if told.count(None) == len(told) else told)
    if any(type(work.request) is Part for work in works):
        made.numbers = [numbers(work) for work in works]
    if any(work.extra is not None for work in works):
        made.extras = [work.extra for work in works]
    return made, sum([len(getattr(work.request, "body", None) or _message(work)) for work in works])


def gist(works: Sequence[Work]) -> tuple[bytes, Names, int] | None:
    """Of requests that are plain, come by one door and carry nothing: rows of each, ids, bytes of their bodies. None
    where they are not.
    """
    door = works[0].door
    if any(work.door is not door or work.extra is not None or type(work.request) is not Request for work in works):
        return None
    names = [work.request.name for work in works]
    widths = {None if name is None else len(name) for name in names}
    told: Names = names
    if widths == {None}:
        told = None
    elif len(widths) == 1 and names[0]:
        told = b"".join(names)
    return packed([work.count for work in works]), told, sum([len(work.request.body) for work in works])


def are_unnamed(works: Sequence[Work]) -> bool:
    """Whether all are plain requests whose callers gave no id."""
    return all(
        work.extra is None and type(work.request) is Request and REQUEST_ID not in work.request.headers
        for work in works
    )


def gist_of(*classes: Any) -> None:
    """What C is told of the classes that it looks at."""


if not TYPE_CHECKING:
    with suppress(ImportError):  # there was no compiler at installation
        from bimodal.realtime.wire import are_unnamed, gist, gist_of  # noqa: F401 - the recorder asks the first

gist_of(Work, Request)


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


def _message(work: Work) -> bytes:
    return work.request if isinstance(work.request, bytes) else b""
