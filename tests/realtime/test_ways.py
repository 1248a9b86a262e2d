"""The compiled way of a request says what the way in Python says, byte for byte; so do the lines of the access log."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.realtime import origin, plain, sight, transfer
from bimodal.realtime.exchange import Request
from bimodal.realtime.http import Connection
from bimodal.realtime.work import Work


def test_what_is_tested_here_is_compiled() -> None:
    assert Connection.data_received.__qualname__ == "Wire.data_received"
    assert plain.Reply.__module__ == sight.Sight.__module__ == "bimodal.realtime.wire"


@pytest.mark.parametrize("seed", range(2))
def test_both_ways_say_the_same(seed: int) -> None:
    compare(str(seed))


@pytest.mark.soak
def test_both_ways_say_the_same_to_many() -> None:
    for seed in range(1000, 1300):
        compare(str(seed))


def compare(seed: str) -> None:
    compiled, python = ways(seed), ways(seed, "--plain")
    assert len(compiled["outcomes"]) == len(python["outcomes"]) == 30
    for number, (one, other) in enumerate(zip(compiled["outcomes"], python["outcomes"], strict=True)):
        assert one == other, f"seed {seed}, run {number}"
    for way, share in (("receive", 0.95), ("respond", 0.8)):  # else both might have gone the same way
        assert 0 < compiled[way] < share * python[way]


def ways(*options: str) -> dict[str, Any]:
    program = [sys.executable, "-m", "tests.realtime.ways", *options]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3), st.sampled_from([None, b"0123456789abcdef", b"short", b"other"]), st.binary(max_size=9)
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([None, None, None, "door", "extra", "request"]),
)
def test_the_gist_of_requests_is_the_same(told: list[tuple[int, bytes | None, bytes]], odd: str | None) -> None:
    works = [made(*each) for each in told]
    if odd is not None:
        setattr(works[-1], odd, "odd")
    found, wanted = origin.gist(works), PYTHON.gist(works)
    assert found == wanted
    assert origin.are_unnamed(works) == PYTHON.are_unnamed(works) == (odd not in ("extra", "request"))
    if odd is None:
        assert found is not None
        assert origin.Origins("", found[0], found[1]).ids == [name for _, name, _ in told]
    else:
        assert found is None or (odd == "door" and len(works) == 1)


@given(st.lists(st.sampled_from([b"x-request-id", b"host", b"x-request-id2"]), max_size=6), st.booleans())
def test_a_callers_id_is_seen_alike(names: list[bytes], frozen: bool) -> None:
    heads = [{name: b"1"} for name in names]
    works = [made(1, b"ours", b"", MappingProxyType(head) if frozen else head) for head in heads]
    wanted = b"x-request-id" not in names
    assert origin.are_unnamed(works) == PYTHON.are_unnamed(works) == wanted
    assert origin.are_unnamed(tuple(works)) == wanted


def made(count: int, name: bytes | None, body: bytes, headers: Mapping[bytes, bytes] = MappingProxyType({})) -> Any:
    request = Request("POST", "/", "", headers, body, 0.0, False, name)
    return Work(DOOR, request, None, None, [], count, (), 0.0, 0.0)  # type: ignore[arg-type]  # all that is looked at


def python() -> Any:
    """`origin.py` as it is without a compiler."""
    spec = importlib.util.spec_from_file_location("plain_origin", origin.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, {"bimodal.realtime.wire": None}):
        spec.loader.exec_module(module)
    return module


DOOR, PYTHON = object(), python()


def test_classes_that_do_not_fit_are_refused() -> None:
    class Other:
        __slots__ = ("head",)

    with pytest.raises(TypeError, match="kind must be made of Reply"):
        plain.attach(Other, Other, Other, Other, Other, None)
    with pytest.raises(AttributeError, match="method"):
        plain.attach(transfer.Exchange, Other, Other, Other, Other, None)
    with pytest.raises(AttributeError, match="line"):
        sight.tell_of(Other, Other, Other)
    with pytest.raises(AttributeError, match="door"):
        origin.gist_of(Other, Other)
    assert gc.is_tracked(transfer.Exchange(None, None, False, 0.0))  # type: ignore[arg-type]  # no wire has it
