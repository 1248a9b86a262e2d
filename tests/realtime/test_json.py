"""JSON as the hostile send it (the cases of the public JSONTestSuite): a clear 400 or a right answer, never a 5xx."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bimodal.realtime.protocols.body import shallow
from tests.realtime.desk import Desk
from tests.realtime.shelf import loaded, onnx

PATHS = ("/models/inline/predict", "/models/mixed/predict", "/v2/models/inline/infer", "/v2/models/mixed/infer")

REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "byte order mark": b'\xef\xbb\xbf{"input":[1,2,3,4]}',
    "byte order mark alone": b"\xef\xbb\xbf",
    "UTF-16": '{"input":[1]}'.encode("utf-16"),
    "invalid UTF-8": b'{"input":["\xff"]}',
    "invalid UTF-8 in an unknown key": b'{"input":[1,2,3,4],"note":"\xff"}',
    "overlong UTF-8": b'{"input":["\xc0\xaf"]}',
    "surrogate in UTF-8": b'{"input":["\xed\xa0\x80"]}',
    "truncated UTF-8": b'{"input":["\xe0\xff"]}',
    "lone high surrogate": b'{"input":["\\ud800"]}',
    "lone low surrogate": b'{"input":["\\udc00"]}',
    "surrogates in the wrong order": b'{"input":["\\udc00\\ud800"]}',
    "half an escape": b'{"input":["\\u00"]}',
    "unknown escape": b'{"input":["\\a"]}',
    "escape at the end": b'{"input":["\\',
    "control character": b'{"input":["\x01"]}',
    "line end in a text": b'{"input":["a\nb"]}',
    "NaN": b'{"input":[NaN,1,2,3]}',
    "minus NaN": b'{"input":[-NaN,1,2,3]}',
    "Infinity": b'{"input":[Infinity,1,2,3]}',
    "minus Infinity": b'{"input":[-Infinity,1,2,3]}',
    "nan": b'{"input":[nan,1,2,3]}',
    "1e999": b'{"input":[1e999,1,2,3]}',
    "minus 1e999": b'{"input":[-1e999,1,2,3]}',
    "plus": b'{"input":[+1,1,2,3]}',
    "leading zero": b'{"input":[01,1,2,3]}',
    "leading point": b'{"input":[.1,1,2,3]}',
    "trailing point": b'{"input":[1.,1,2,3]}',
    "hexadecimal": b'{"input":[0x1,1,2,3]}',
    "half an exponent": b'{"input":[1e,1,2,3]}',
    "minus alone": b'{"input":[-,1,2,3]}',
    "trailing comma": b'{"input":[1,2,3,4,]}',
    "trailing comma in an object": b'{"input":[1,2,3,4],}',
    "two commas": b'{"input":[1,,2,3,4]}',
    "no comma": b'{"input":[1 2 3 4]}',
    "trailing garbage": b'{"input":[1,2,3,4]} x',
    "two values": b'{"input":[1,2,3,4]}{"input":[1,2,3,4]}',
    "closed twice": b'{"input":[1,2,3,4]}}',
    "not closed": b'{"input":[1,2,3,4]',
    "closed by the other bracket": b'{"input":[1,2,3,4}]',
    "single quotes": b"{'input':[1,2,3,4]}",
    "no quotes": b"{input:[1,2,3,4]}",
    "key without value": b'{"input"}',
    "key without colon": b'{"input" [1,2,3,4]}',
    "number as key": b"{1:1}",
    "comment": b'{"input":[1,2,3,4]/* */}',
    "line comment": b'{"input":[1,2,3,4]} // x',
    "capital true": b'{"input":[True,1,2,3]}',
    "null byte": b"\x00",
    "null byte at the end": b'{"input":[1,2,3,4]}\x00',
    "form feed": b'\x0c{"input":[1,2,3,4]}',
    "no-break space": '\u00a0{"input":[1,2,3,4]}'.encode(),
    "100,000 brackets": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "brackets and objects": b'[{"":' * 50_000,
    "100,000 closed brackets": b"[" * 100_000 + b"]" * 100_000,
    "deep in an unknown key": b'{"input":[1,2,3,4],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep behind a text of brackets": b'{"a":"]]]]","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(onnx(), loaded("mixed"))
    yield desk
    desk.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_is_no_json_is_refused_with_a_sentence(desk: Desk, path: str, body: bytes) -> None:
    error = desk.error(body, 400, path)
    assert error["code"] in ("malformed", "too_deep")
    assert len(error["error"]) < 200


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_an_integer_of_many_digits_is_not_rounded_in_silence(desk: Desk, digits: int) -> None:
    error = desk.error(b'{"input":[%b,1,2,3]}' % (b"9" * digits))
    assert error["code"] in ("inexact_integer", "malformed")


def nested(depth: int, *, inside: bytes = b"") -> bytes:
    """A body that is nested so deep, in a key that nobody knows."""
    levels = depth - 1
    return b'{"input":[5.1,3.5,1.4,0.2],"x":%b%b%b}' % (b"[" * levels, inside, b"]" * levels)


@pytest.mark.parametrize("inside", [b"", b'"[[[[ ]]]] {{{"', b'"\\"[[[["'])
def test_the_limit_of_depth_holds_exactly(desk: Desk, inside: bytes) -> None:
    assert desk.answer(nested(64, inside=inside)) == {"prediction": [0]}
    assert desk.error(nested(65, inside=inside))["code"] == "too_deep"


def test_many_shallow_brackets_are_not_deep() -> None:
    assert shallow(b"[" + b"[1,2],{}," * 5000 + b"[]]", 2)
    assert not shallow(b"[" + b"[1,2],{}," * 5000 + b"[[]]]", 2)
    assert shallow(b'{"a":"' + b"[" * 500 + b'"}', 2)
    assert shallow(b'{"a":"\\"' + b"[" * 500 + b'"}', 2)


def test_of_equal_keys_the_last_one_counts(desk: Desk) -> None:
    assert desk.answer(b'{"input":[1],"input":[5.1,3.5,1.4,0.2]}') == {"prediction": [0]}
    assert desk.error(b'{"input":[5.1,3.5,1.4,0.2],"input":[1]}')["code"] == "wrong_width"
    row = b'{"age":40,"income":61000,"visits":3,"city":"Oslo","plan":"x","plan":"pro"}'
    assert desk.answer(b'{"rows":[%b]}' % row, "/models/mixed/predict")["prediction"]


@pytest.mark.parametrize(
    "body",
    [
        b' \t\r\n{"input" : [ 5.1 , 3.5 , 1.4 , 0.2 ] } \n',
        b'{"input":[51e-1,3.5E0,1.4e+0,0.2]}',
        b'{"input":[5.1,3.5,1.4,-0]}',
        b'{"input":[5.1,3.5,1.4,1e-999]}',
        b'{"\\u0069nput":[5.1,3.5,1.4,0.2]}',
        '{"input":[5.1,3.5,1.4,0.2],"note":"\u20ac \U0001f600 \\ud83d\\ude00 \\u0000"}'.encode(),
        b'{"input":[5.1,3.5,1.4,0.20000000000000000000000000000000000000000000000000000000000000000000001]}',
        b'{"input":[5.1,3.5,true,0.2]}',
    ],
)
def test_unusual_json_is_json(desk: Desk, body: bytes) -> None:
    assert desk.answer(body)["prediction"] in ([0], [1])


def test_texts_arrive_as_they_were_sent(desk: Desk) -> None:
    row = {"age": 1, "income": 2, "visits": 3, "city": "\u20ac\U0001f600\0\x7f\u2028", "plan": "pro"}
    answer = desk.answer({"rows": [{**row, "id": row["city"]}], "keep": True}, "/models/mixed/predict")
    assert answer["id"] == [row["city"]]
