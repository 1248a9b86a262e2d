"""What a parent process and a worker that serves tell each other, each a line of JSON, after the Job and the Report.

A change of models goes through all workers: each is told to `Prepare`, one after the other, and says `Prepared`; then
all are told to `Switch`, or to `Drop` what they prepared.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bimodal.realtime.job import Report


class Prepare(msgspec.Struct, tag="prepare"):
    """Load models aside. models: as `Location.spec` gives them. counted: all names that counters are kept of, in their
    order. tells: this worker logs the warnings of the models.
    """

    change: int
    models: list[dict[str, Any]]
    counted: list[str]
    tells: bool


class Switch(msgspec.Struct, tag="switch"):
    """Serve what was prepared. come, gone: names and versions. aliases: of all models. defaults: the versions that
    answer where none is named.
    """

    change: int
    come: list[tuple[str, str]]
    gone: list[tuple[str, str]]
    aliases: dict[str, dict[str, str]]
    defaults: dict[str, str]


class Drop(msgspec.Struct, tag="drop"):
    """Forget what was prepared."""

    change: int


class States(msgspec.Struct, tag="states"):
    """What is known of versions that are not READY: name, version, state, reason. settled: all models that should be
    there are. opened: callers may come. absent: names of models that should be there and are not. number: the worker
    says it again when it knows.
    """

    states: list[tuple[str, str, str, str]]
    settled: bool
    opened: bool
    absent: list[str] = []
    number: int = 0


class Adopt(msgspec.Struct, tag="adopt"):
    """Accept also on the listening sockets of a worker that is not there; `count` of them come with this line."""

    worker: int
    count: int


class Leave(msgspec.Struct, tag="leave"):
    """Accept on those no more: the worker is there again."""

    worker: int


class Show(msgspec.Struct, tag="show"):
    """Tell what a request that works looks like."""


class Shown(msgspec.Struct, tag="shown"):
    """body: of a request to /predict; None where there is no such route, or nobody knows what its rows look like."""

    body: str | None = None


class Done(msgspec.Struct, tag="done"):
    """What was asked for is done, or the error (`errors.told`) that kept it from being done."""

    ask: int
    error: dict[str, Any] | None = None


class Failure(msgspec.Struct):
    """A model that cannot be served. version: empty where it has none of its own. error: `errors.told`."""

    name: str
    version: str
    error: dict[str, Any]


class Loaded(msgspec.Struct):
    """A model that can be served. seconds: that it took to load, with all that is tried before it serves. differs: from
    the one of its name that is served now, in what callers give and get, in words.
    """

    name: str
    version: str
    runtime: str
    seconds: float
    differs: str = ""


class Prepared(msgspec.Struct, tag="prepared"):
    """All models of a change are loaded, but for those that failed."""

    change: int
    failed: list[Failure]
    loaded: list[Loaded]


class Switched(msgspec.Struct, tag="switched"):
    change: int


class Known(msgspec.Struct, tag="known"):
    """The states of this number are what callers are told from now on."""

    number: int


class Ask(msgspec.Struct, tag="ask"):
    """A caller wants a model loaded or unloaded."""

    ask: int
    verb: str
    name: str


Order = Prepare | Switch | Drop | States | Adopt | Leave | Show | Done
Word = Report | Prepared | Switched | Known | Ask | Shown

order = msgspec.json.Decoder(Order).decode
word = msgspec.json.Decoder(Word).decode


def line(told: Order | Word) -> bytes:
    return msgspec.json.encode(told) + b"\n"
