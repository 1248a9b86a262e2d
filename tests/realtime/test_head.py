"""Heads whose rest was parsed before are what the whole parse would have made of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.realtime.head import SLASH, Head, Rests, parse
from bimodal.realtime.refusal import Refusal

RESTS = (
    b"Host: x\r\n\r\n",
    b"Host: x\r\nX-Request-Id: abc\r\nConnection: close\r\n\r\n",
    b"Host: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
)
LINES = st.one_of(
    st.from_regex(re.compile(rb"GET /[A-Za-z0-9._~%/?#:@ -]{0,20} HTTP/1\.[01]\r\n"), fullmatch=True),
    st.from_regex(re.compile(rb"(POST|HEAD|GET) (http://x)?/[a-z%0-9]{0,9} HTTP/1\.1\r\n"), fullmatch=True),
    st.binary(min_size=1, max_size=20).map(lambda raw: b"GET /" + raw + b" HTTP/1.1\r\n"),
)


def read(raw: bytes) -> Head | tuple[int, str]:
    try:
        return parse(raw, 100)
    except Refusal as refusal:
        return refusal.status, refusal.code


@given(line=LINES, rest=st.sampled_from(RESTS))
def test_a_rest_that_is_known_changes_nothing(line: bytes, rest: bytes) -> None:
    rests = Rests()
    for each in RESTS:
        raw = b"GET /first HTTP/1.1\r\n" + each
        rests.keep(raw, parse(raw, 100))
    found: Head | tuple[int, str] | None
    try:
        found = rests.find(line + rest)
    except Refusal as refusal:
        found = refusal.status, refusal.code
    assert found is None or found == read(line + rest)


def test_a_path_of_letters_and_escapes_is_found() -> None:
    rests = Rests()
    raw = b"GET /a HTTP/1.1\r\n" + RESTS[0]
    assert rests.find(raw) is None
    rests.keep(raw, parse(raw, 100))
    found = rests.find(b"GET /models/m/lookup/a%2Fb%20c HTTP/1.1\r\n" + RESTS[0])
    assert found is not None
    assert found.path == f"/models/m/lookup/a{SLASH}b c"


@pytest.mark.parametrize("line", [b"GET /a?b=1 HTTP/1.1\r\n", b"GET /a HTTP/1.0\r\n", b"POST /a HTTP/1.1\r\n"])
def test_other_lines_are_parsed_whole(line: bytes) -> None:
    rests = Rests()
    raw = b"GET /a HTTP/1.1\r\n" + RESTS[0]
    rests.keep(raw, parse(raw, 100))
    assert rests.find(line + RESTS[0]) is None
    rests.keep(line + RESTS[1], parse(line + RESTS[1], 100))
    assert rests.find(b"GET /a HTTP/1.1\r\n" + RESTS[1]) is None


def test_what_is_remembered_is_bounded() -> None:
    rests = Rests()
    for number in range(1000):
        raw = b"GET /a HTTP/1.1\r\nHost: x%d\r\n\r\n" % number
        rests.keep(raw, parse(raw, 100))
    assert len(rests._known) <= Rests.MOST
