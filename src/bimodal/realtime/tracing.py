"""W3C trace context: the `traceparent` of a caller, read strictly, and which requests are traced.

https://www.w3.org/TR/trace-context/ (level 1, whose headers level 2 keeps). A header that is wrong is as none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import getrandbits, random
from typing import NamedTuple

from bimodal.errors import UsageError

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
SAMPLED = 0x01

_parent = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL).fullmatch
_state = re.compile(rb"[\x20-\x7e]{1,512}").fullmatch


class Parent(NamedTuple):
    """The span of a caller: 32 and 16 hexadecimal digits, whether the caller records it, and its `tracestate`."""

    trace: bytes
    span: bytes
    sampled: bool
    state: bytes = b""


Sampler = Callable[[Parent | None], bool]


def parent_of(headers: Mapping[bytes, bytes]) -> Parent | None:
    """What the caller says of its trace; None where it says nothing, or nothing right. (Sent twice, it is joined with a
    comma, which is wrong.)
    """
    told = headers.get(TRACEPARENT)
    found = _parent(told) if told is not None else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or not trace.strip(b"0") or not span.strip(b"0"):
        return None
    state = headers.get(TRACESTATE, b"")
    return Parent(trace, span, bool(int(flags, 16) & SAMPLED), state if _state(state) else b"")


def new_trace() -> int:
    """A trace of our own: 128 random bits, not all zero."""
    return getrandbits(128) or 1


def new_span() -> int:
    """64 random bits, not all zero."""
    return getrandbits(64) or 1


def sampler_of(name: str, argument: str) -> Sampler:
    """The sampler of OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. Raises UsageError for one that is not known here.
    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    share = 1.0
    if name.endswith("traceidratio") and argument:
        try:
            share = float(argument)
        except ValueError:
            share = -1.0
        if not 0.0 <= share <= 1.0:
            raise UsageError("OTEL_TRACES_SAMPLER_ARG is no share: a number from 0 to 1")
    root = {"always_on": 1.0, "always_off": 0.0, "traceidratio": share}.get(name.removeprefix("parentbased_"))
    if root is None:
        raise UsageError(f"OTEL_TRACES_SAMPLER={name} is not known here; parentbased_traceidratio and its kin are")
    if name.startswith("parentbased_"):
        return lambda parent: random() < root if parent is None else parent.sampled  # noqa: S311 - no secret
    return lambda parent: random() < root  # noqa: S311 - no secret


def wanted(endpoint: str | None, environment: Mapping[str, str]) -> dict[str, str | bool | None] | None:
    """How requests are traced, for a server's spec; None where they are not. endpoint: the setting; without it the
    environment decides, as OpenTelemetry has it. needed: it was asked for by name, so what keeps it is an error.
    """
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    named = [environment.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")]
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp" if any(named) else "none")
    if endpoint is None and (disabled or exporter != "otlp"):
        return None
    return {
        "endpoint": endpoint,
        "sampler": environment.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on",
        "argument": environment.get("OTEL_TRACES_SAMPLER_ARG", ""),
        "needed": endpoint is not None,
    }
