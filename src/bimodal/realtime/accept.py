"""Accept: the kinds of answer that a caller wants (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

ANY = b"*/*"


def weights(accept: bytes) -> dict[bytes, float]:
    """Each kind that the header names with its weight, in their order; 0 is never."""
    found: dict[bytes, float] = {}
    for each in accept.lower().split(b","):
        name, *terms = (part.strip() for part in each.split(b";"))
        found.setdefault(name, next((_weight(term[2:]) for term in terms if term.startswith(b"q=")), 1.0))
    return found


def wants(accept: bytes, kind: bytes) -> bool:
    """Whether the header names the kind, and not as what is never wanted."""
    return kind in accept.lower() and weights(accept).get(kind, 0.0) > 0


def chosen(accept: bytes, sent: bytes, kinds: Sequence[bytes]) -> bytes:
    """The kind of the answer: of those there are the heaviest, of equals the first; where none is named, what was sent,
    unless that is never wanted.
    """
    found = weights(accept)
    named = [name for name, weight in found.items() if weight > 0 and (name == ANY or name in kinds)]
    best = max(named, key=lambda name: found[name], default=ANY)
    return best if best != ANY else next((name for name in (sent, *kinds) if found.get(name, 1.0) > 0), sent)


def _weight(told: bytes) -> float:
    """1 where it is no weight."""
    try:
        weight = float(told)
    except ValueError:
        return 1.0
    return weight if 0 <= weight <= 1 else 1.0
