"""A JSON body as Python values, or the sentence that says why it is none."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from bimodal.errors import MalformedInput

_decode = msgspec.json.Decoder().decode
_strings = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_square = bytes.maketrans(b"{}", b"[]")
_brackets = bytes(set(range(256)) - set(b"[]{}"))
_place = re.compile(r"\(byte (\d+)\)")

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what a typed decoder raises on a foreign body


def shallow(body: bytes, most: int) -> bool:
    """Whether no value is nested deeper than `most`. Looks at brackets only; what is broken otherwise may pass."""
    if body.count(b"[") + body.count(b"{") <= most:
        return True
    plain = _strings.sub(b"", body) if b"\\" in body else b"".join(body.split(b'"')[::2])
    levels = plain.translate(_square, _brackets)
    for depth in range(most):
        inner = levels.replace(b"[]", b"")  # takes the innermost level away
        if len(inner) == len(levels):
            return depth + levels.count(b"[") <= most
        levels = inner
    return b"[" not in levels


def decode(body: bytes, depth: int) -> Any:
    """The value of a JSON text. Of an object's equal keys the last one counts.

    Raises MalformedInput: no JSON, no UTF-8, a number that no float holds, nested too deep.
    """
    if not body:
        raise MalformedInput("the body is empty; JSON is needed")
    if body.startswith(b"\xef\xbb\xbf"):
        raise MalformedInput("the body begins with a byte order mark; send UTF-8 without one")
    if not shallow(body, depth):
        raise too_deep(depth)
    try:
        if not body.isascii():
            body.decode()
        return _decode(body)
    except UnicodeDecodeError:
        raise MalformedInput("the body is not UTF-8") from None
    except RecursionError:
        raise too_deep(depth) from None
    except msgspec.ValidationError:
        raise MalformedInput("the body holds a number too large for any float") from None
    except msgspec.DecodeError as error:
        raise MalformedInput(_sentence(str(error))) from None


def too_deep(depth: int) -> MalformedInput:
    """The body is nested beyond the limit."""
    error = MalformedInput(f"the JSON is nested deeper than {depth} levels")
    error.code = "too_deep"
    return error


def _sentence(reason: str) -> str:
    place = _place.search(reason)
    where = f" at byte {place[1]}" if place else ""
    if "truncated" in reason:
        return "the body is no valid JSON: it ends in the middle, or a text in it does"
    if "trailing characters" in reason:
        return f"the body is no valid JSON: something follows its end{where}"
    return f"the body is no valid JSON{where}"
