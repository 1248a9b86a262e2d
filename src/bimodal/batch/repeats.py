"""Requests of a file that share an id: told, since nobody can tell their answers apart."""

from __future__ import annotations

from bimodal.batch.sources.contract import Reading, Source


def repeated(source: Source) -> str | None:
    """A sentence where requests share a custom_id."""
    if source.live or "custom_id" not in source.columns:
        return None
    seen: dict[object, tuple[str, int]] = {}
    first, count = "", 0
    for chunk in source.chunks(Reading({}, ("custom_id",), strict=False)):
        for place, told in enumerate(chunk.kept.column("custom_id").to_pylist()):
            here = chunk.source, chunk.row(place)
            if told is None or (before := seen.setdefault(told, here)) == here:
                continue
            count += 1
            first = first or f"{here[0]}, row {here[1]}: the custom_id of row {before[1]}" + (
                "" if before[0] == here[0] else f" of {before[0]}"
            )
    if not count:
        return None
    more = ("", "; 1 more row repeats one")[count - 1] if count < 3 else f"; {count - 1:,} more rows repeat one"
    return f"{first}{more}; what is answered to requests of one custom_id cannot be told apart"
