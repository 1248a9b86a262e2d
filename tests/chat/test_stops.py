"""Stops, wherever pieces are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bimodal.runtimes.stops import Stops

texts = st.text("ab\n", max_size=12)


@given(st.lists(texts, max_size=6), st.lists(texts.filter(bool), max_size=3))
def test_the_text_ends_before_the_first_stop_however_it_is_cut(pieces: list[str], stops: list[str]) -> None:
    kept = Stops(stops)
    told = ""
    for piece in pieces:
        told += kept.feed(piece)
        if kept.found:
            break
    told += kept.rest()
    whole = "".join(pieces)
    ends = [(place + len(stop), place) for stop in stops if (place := whole.find(stop)) >= 0]
    assert kept.found == bool(ends)
    if not ends:
        assert told == whole
    else:  # it ends in front of a stop, and holds none
        assert any(whole.startswith(told + stop) for stop in stops)
        assert not any(stop in told for stop in stops)


def test_what_may_begin_a_stop_is_held_back_and_all_else_told_at_once() -> None:
    stops = Stops(["END"])
    assert [stops.feed(piece) for piece in ("one E", "N", "d", " two EN", "D three")] == [
        "one ",
        "",
        "ENd",
        " two ",
        "",
    ]
    assert stops.found
    assert stops.rest() == ""
