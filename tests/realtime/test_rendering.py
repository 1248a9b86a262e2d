"""Responses as bytes: what is remembered of one answer is said of those alone that are like it."""

from __future__ import annotations

import pytest

from bimodal.realtime.exchange import Response
from bimodal.realtime.head import parse
from bimodal.realtime.rendering import Rendering

HEAD = parse(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 10)
FIELDS = ((b"x-one", b"1"),)


def lines(data: bytes) -> tuple[bytes, set[bytes], bytes]:
    """Status line, fields but for the date, body."""
    head, _, body = data.partition(b"\r\n\r\n")
    start, *fields = head.split(b"\r\n")
    return start, {each for each in fields if not each.startswith(b"date: ")}, body


def test_answers_that_differ_in_one_thing_are_told_apart() -> None:
    rendering = Rendering()
    answers = [
        (200, b"{}", b"application/json", FIELDS, None),
        (200, b"[]", b"application/json", FIELDS, b"id-1"),
        (200, b"[1]", b"application/json", FIELDS, b"id-2"),
        (404, b"[1]", b"application/json", FIELDS, b"id-2"),
        (404, b"[1]", b"text/plain", FIELDS, None),
        (404, b"[1]", b"text/plain", (), None),
        (404, b"[1]", b"text/plain", (), b"id-3"),
    ]
    for status, body, kind, fields, name in answers:
        told = lines(rendering.whole(HEAD, Response(status, body, kind, fields), closes=False, name=name))
        wanted = {b"content-type: " + kind, b"content-length: %d" % len(body), *[b"%b: %b" % each for each in fields]}
        wanted |= {b"x-request-id: " + name} if name else set()
        phrase = {200: b"OK", 404: b"Not Found"}[status]
        assert told == (b"HTTP/1.1 %d %b" % (status, phrase), wanted, body)


def test_a_field_with_a_line_end_is_refused_every_time() -> None:
    rendering = Rendering()
    response = Response(200, b"{}", headers=((b"x-one", b"1\r\nx-two: 2"),))
    rendering.whole(HEAD, Response(200, b"{}"), closes=False)
    for _ in range(2):
        with pytest.raises(ValueError, match="holds a line end"):
            rendering.whole(HEAD, response, closes=False)
