"""JSON by the names of the public JSONTestSuite: what begins with y_ must parse, n_ must be refused with 400, i_ may be
either; each stands as a value in a request, so that a parser's verdict is all that differs.

    python tasks.py test tests/realtime/test_json_suite.py -m soak -s      1,000,000 mutations
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from bimodal.realtime.exchange import Response
from tests.realtime.desk import Ask, Desk
from tests.realtime.shelf import loaded, onnx

INLINE, MIXED = "/v2/models/inline/infer", "/v2/models/mixed/infer"
PREDICT = "/models/inline/predict"
ROW = b"[5.1,3.5,1.4,0.2]"
TENSOR = b'{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}'
ROUNDS = 1_000_000
TURN = 64  # requests that arrive together

GOOD = {  # a JSON text that every parser takes
    "array_arraysWithSpaces": b"[[]   ]",
    "array_empty-string": b'[""]',
    "array_empty": b"[]",
    "array_ending_with_newline": b'["a"]\n',
    "array_false": b"[false]",
    "array_heterogeneous": b'[null, 1, "1", {}]',
    "array_null": b"[null]",
    "array_with_1_and_newline": b"[1\n]",
    "array_with_leading_space": b" [1]",
    "array_with_several_null": b"[1,null,null,null,2]",
    "array_with_trailing_space": b"[2] ",
    "number": b"[123e65]",
    "number_0e+1": b"[0e+1]",
    "number_0e1": b"[0e1]",
    "number_after_space": b"[ 4]",
    "number_double_close_to_zero": b"[-0.%b1]" % (b"0" * 77),
    "number_int_with_exp": b"[20e1]",
    "number_minus_zero": b"[-0]",
    "number_negative_int": b"[-123]",
    "number_real_capital_e": b"[1E22]",
    "number_real_capital_e_neg_exp": b"[1E-2]",
    "number_real_exponent": b"[123e45]",
    "number_real_fraction_exponent": b"[123.456e78]",
    "object": b'{"asd":"sdf", "dfg":"fgh"}',
    "object_basic": b'{"asd":"sdf"}',
    "object_duplicated_key": b'{"a":"b","a":"c"}',
    "object_duplicated_key_and_value": b'{"a":"b","a":"b"}',
    "object_empty": b"{}",
    "object_empty_key": b'{"":0}',
    "object_escaped_null_in_key": b'{"foo\\u0000bar": 42}',
    "object_extreme_numbers": b'{ "min": -1.0e+28, "max": 1.0e+28 }',
    "object_long_strings": b'{"x":[{"id": "%b"}], "id": "%b"}' % (b"x" * 40, b"x" * 40),
    "object_string_unicode": b'{"title":"\\u041f\\u043e\\u043b" }',
    "object_with_newlines": b'{\n"a": "b"\n}',
    "string_1_2_3_bytes_UTF-8_sequences": b'["\\u0060\\u012a\\u12AB"]',
    "string_accepted_surrogate_pair": b'["\\uD801\\udc37"]',
    "string_allowed_escapes": b'["\\"\\\\\\/\\b\\f\\n\\r\\t"]',
    "string_backslash_and_u_escaped_zero": b'["\\\\u0000"]',
    "string_comments": b'["a/*b*/c/*d//e"]',
    "string_double_escape_a": b'["\\\\a"]',
    "string_escaped_noncharacter": b'["\\uFFFF"]',
    "string_in_array_with_leading_space": b'[ "asd"]',
    "string_nonCharacterInUTF-8_U+10FFFF": b'["\xf4\x8f\xbf\xbf"]',
    "string_null_escape": b'["\\u0000"]',
    "string_simple_ascii": b'["asd "]',
    "string_u+2028_line_sep": b'["\xe2\x80\xa8"]',
    "string_unescaped_char_delete": b'["\x7f"]',
    "string_utf8": '["€𝄞"]'.encode(),
    "structure_lonely_false": b"false",
    "structure_lonely_int": b"42",
    "structure_lonely_negative_real": b"-0.1",
    "structure_lonely_null": b"null",
    "structure_lonely_string": b'"asd"',
    "structure_string_empty": b'""',
    "structure_true_in_array": b"[true]",
    "structure_whitespace_array": b" [] ",
}
BAD = {  # a JSON text that every parser refuses
    "array_1_true_without_comma": b"[1 true]",
    "array_a_invalid_utf8": b"[a\xe5]",
    "array_colon_instead_of_comma": b'["": 1]',
    "array_comma_after_close": b'[""],',
    "array_comma_and_number": b"[,1]",
    "array_double_comma": b"[1,,2]",
    "array_double_extra_comma": b'["x",,]',
    "array_extra_close": b'["x"]]',
    "array_extra_comma": b'["",]',
    "array_incomplete": b'["x"',
    "array_inner_array_no_comma": b"[3[4]]",
    "array_invalid_utf8": b"[\xff]",
    "array_items_separated_by_semicolon": b"[1:2]",
    "array_just_comma": b"[,]",
    "array_just_minus": b"[-]",
    "array_missing_value": b'[   , ""]',
    "array_newlines_unclosed": b'["a",\n4\n,1,',
    "array_number_and_several_commas": b"[1,,]",
    "array_spaces_vertical_tab_formfeed": b'["\x0ba"\\f]',
    "array_star_inside": b"[*]",
    "array_unclosed_with_object_inside": b"[{}",
    "incomplete_false": b"[fals]",
    "incomplete_null": b"[nul]",
    "incomplete_true": b"[tru]",
    "multidigit_number_then_00": b"123\x00",
    "number_++": b"[++1234]",
    "number_+1": b"[+1]",
    "number_+Inf": b"[+Inf]",
    "number_-01": b"[-01]",
    "number_-1.0.": b"[-1.0.]",
    "number_-2.": b"[-2.]",
    "number_-NaN": b"[-NaN]",
    "number_.-1": b"[.-1]",
    "number_.2e-3": b"[.2e-3]",
    "number_0.1.2": b"[0.1.2]",
    "number_0.3e+": b"[0.3e+]",
    "number_0.3e": b"[0.3e]",
    "number_0.e1": b"[0.e1]",
    "number_0_capital_E+": b"[0E+]",
    "number_1_000": b"[1 000.0]",
    "number_1.0e-": b"[1.0e-]",
    "number_1eE2": b"[1eE2]",
    "number_2.e+3": b"[2.e+3]",
    "number_9.e+": b"[9.e+]",
    "number_Inf": b"[Inf]",
    "number_NaN": b"[NaN]",
    "number_U+FF11_fullwidth_digit_one": "[１]".encode(),
    "number_expression": b"[1+2]",
    "number_hex_1_digit": b"[0x1]",
    "number_infinity": b"[Infinity]",
    "number_invalid+-": b"[0e+-1]",
    "number_invalid-utf-8-in-exponent": b"[1e1\xe5]",
    "number_minus_infinity": b"[-Infinity]",
    "number_minus_sign_with_trailing_garbage": b"[-foo]",
    "number_minus_space_1": b"[- 1]",
    "number_neg_with_garbage_at_end": b"[-1x]",
    "number_real_garbage_after_e": b"[1ea]",
    "number_starting_with_dot": b"[.123]",
    "number_with_alpha": b"[1.2a-3]",
    "number_with_leading_zero": b"[012]",
    "object_bad_value": b'["x", truth]',
    "object_bracket_key": b'{[: "x"}\n',
    "object_comma_instead_of_colon": b'{"x", null}',
    "object_double_colon": b'{"x"::"b"}',
    "object_emoji": "{🇨🇭}".encode(),
    "object_garbage_at_end": b'{"a":"a" 123}',
    "object_key_with_single_quotes": b"{key: 'value'}",
    "object_lone_continuation_byte_in_key_and_trailing_comma": b'{"\xb9":"0",}',
    "object_missing_colon": b'{"a" b}',
    "object_missing_key": b'{:"b"}',
    "object_missing_semicolon": b'{"a" "b"}',
    "object_missing_value": b'{"a":',
    "object_no-colon": b'{"a"',
    "object_non_string_key": b"{1:1}",
    "object_repeated_null_null": b"{null:null,null:null}",
    "object_several_trailing_commas": b'{"id":0,,,,,}',
    "object_single_quote": b"{'a':0}",
    "object_trailing_comma": b'{"id":0,}',
    "object_trailing_comment": b'{"a":"b"}/**/',
    "object_trailing_comment_slash_open": b'{"a":"b"}//',
    "object_two_commas_in_a_row": b'{"a":"b",,"c":"d"}',
    "object_unquoted_key": b'{a: "b"}',
    "object_unterminated-value": b'{"a":"a',
    "object_with_trailing_garbage": b'{"a":"b"}#',
    "single_space": b" ",
    "string_1_surrogate_then_escape": b'["\\uD800\\"]',
    "string_1_surrogate_then_escape_u1x": b'["\\uD800\\u1x"]',
    "string_accentuated_char_no_quotes": "[é]".encode(),
    "string_escape_x": b'["\\x00"]',
    "string_escaped_backslash_bad": b'["\\\\\\"]',
    "string_escaped_ctrl_char_tab": b'["\\\t"]',
    "string_escaped_emoji": '["\\🌀"]'.encode(),
    "string_incomplete_escape": b'["\\"]',
    "string_incomplete_escaped_character": b'["\\u00A"]',
    "string_incomplete_surrogate": b'["\\uD834\\uDd"]',
    "string_invalid_backslash_esc": b'["\\a"]',
    "string_invalid_unicode_escape": b'["\\uqqqq"]',
    "string_no_quotes_with_bad_escape": b"[\\n]",
    "string_single_doublequote": b'"',
    "string_single_quote": b"['single quote']",
    "string_single_string_no_double_quotes": b"abc",
    "string_unescaped_ctrl_char": b'["a\x00a"]',
    "string_unescaped_newline": b'["new\nline"]',
    "string_unescaped_tab": b'["\t"]',
    "structure_100000_opening_arrays": b"[" * 100_000,
    "structure_U+2060_word_joined": b"[\xe2\x81\xa0]",
    "structure_UTF8_BOM_no_data": b"\xef\xbb\xbf",
    "structure_angle_bracket_null": b"[<null>]",
    "structure_array_trailing_garbage": b"[1]x",
    "structure_array_with_unclosed_string": b'["asd]',
    "structure_ascii-unicode-identifier": b"a\xc3\xa5",
    "structure_capitalized_True": b"[True]",
    "structure_close_unopened_array": b"1]",
    "structure_comma_instead_of_closing_brace": b'{"x": true,',
    "structure_double_array": b"[][]",
    "structure_end_array": b"]",
    "structure_lone-open-bracket": b"[",
    "structure_no_data": b"",
    "structure_null-byte-outside-string": b"[\x00]",
    "structure_number_with_trailing_garbage": b"2@",
    "structure_object_followed_by_closing_object": b"{}}",
    "structure_object_with_comment": b'{"a":/*comment*/"b"}',
    "structure_open_array_apostrophe": b"['",
    "structure_open_object_open_string": b'{"a',
    "structure_single_star": b"*",
    "structure_unicode-identifier": "å".encode(),
    "structure_whitespace_formfeed": b"[\x0c]",
}
EITHER = {
    "number_double_huge_neg_exp": b"[123.456e-789]",
    "number_huge_exp": b"[0.4e006699999999999999999999999999999999999999999999]",
    "number_neg_int_huge_exp": b"[-1e+9999]",
    "number_too_big_pos_int": b"[100000000000000000000]",
    "object_key_lone_2nd_surrogate": b'{"\\uDFAA":0}',
    "string_1st_surrogate_but_2nd_missing": b'["\\uDADA"]',
    "string_UTF-16LE_with_BOM": b'\xff\xfe[\x00"\x00]\x00',
    "string_UTF-8_invalid_sequence": '["日ш'.encode() + b'\xfa"]',
    "string_iso_latin_1": b'["\xe9"]',
    "string_lone_utf8_continuation_byte": b'["\x81"]',
    "string_overlong_sequence_2_bytes": b'["\xc0\xaf"]',
    "string_truncated-utf-8": b'["\xe0\xff"]',
    "structure_500_nested_arrays": b"[" * 500 + b"]" * 500,
    "structure_UTF-8_BOM_empty_object": b"\xef\xbb\xbf{}",
}


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(onnx(), loaded("mixed"))
    yield desk
    desk.close()


def bodies(text: bytes) -> list[tuple[str, bytes]]:
    """The text as an unknown member of a good request of either protocol."""
    return [
        (PREDICT, b'{"input":%b,"x":%b}' % (ROW, text)),
        (INLINE, b'{"inputs":[%b],"x":%b}' % (TENSOR, text)),
    ]


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_y(desk: Desk, text: bytes) -> None:
    json.loads(text)  # the case is what its name says
    for path, body in bodies(text):
        assert desk.answer(body, path)
        assert desk.error(text, 400, path)["code"] != "malformed" or b"inference request" in desk.ask(path, text).body


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_n(desk: Desk, text: bytes) -> None:
    for path, body in bodies(text):
        assert desk.error(body, 400, path)["code"] in ("malformed", "too_deep")
        assert desk.error(text, 400, path)["code"] in ("malformed", "too_deep")


@pytest.mark.parametrize("text", EITHER.values(), ids=EITHER)
def test_i(desk: Desk, text: bytes) -> None:
    for path, body in [*bodies(text), (PREDICT, text), (INLINE, text)]:
        assert desk.ask(path, body).status in (200, 400)


# -- mutations -------------------------------------------------------------------------------------------------------


def seeds() -> list[tuple[str, bytes]]:
    found = [pair for text in (*GOOD.values(), *BAD.values(), *EITHER.values()) for pair in bodies(text[:200])]
    columns = [
        {"name": name, "shape": [2], "datatype": kind, "data": data}
        for name, kind, data in (
            ("age", "FP64", [31.5, None]),
            ("income", "FP32", [1e4, 2e4]),
            ("visits", "INT64", [3, 4]),
            ("city", "BYTES", ["Oslo", "Lima"]),
            ("plan", "BYTES", ["pro", "basic"]),
        )
    ]
    asked = {"inputs": columns, "id": "a", "parameters": {"priority": 1, "timeout": 9_000_000, "threshold": 0.5}}
    outputs = [{"name": "probability", "parameters": {"classification": 2, "binary_data": True}}]
    return [*found, (MIXED, json.dumps({**asked, "outputs": outputs}).encode()), (MIXED, json.dumps(asked).encode())]


def mutated(body: bytes, draw: random.Random) -> bytes:
    """One to four changes of a body: bytes flipped, cut, doubled, or replaced by what matters to a parser."""
    data = bytearray(body)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((1, 1, 2, 8)))
        change = draw.randrange(4)
        if change == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif change == 1:
            del data[at:end]
        elif change == 2:
            data[at:at] = data[at:end] * draw.choice((1, 2, 9))
        else:
            data[at:end] = draw.choice(PIECES)
    return bytes(data)


PIECES = (
    *(bytes([each]) for each in b'{}[],:"\\-+.eE0 \x00\xff'),
    *(b"null", b"true", b"NaN", b"1e999", b"-1", b"9" * 30, b"\\ud800", b"\xc0\xaf", b"[" * 70, b'{"a":' * 70),
    *(b'"shape"', b'"FP16"', b'"BYTES"', b'"binary_data_size":8', b"18446744073709551616", b"4294967296"),
)


def answers(desk: Desk, draw: random.Random, count: int, found: Sequence[tuple[str, bytes]]) -> Counter[int]:
    """The statuses of `count` mutations; every one is answered, none by a fault of the server."""
    statuses: Counter[int] = Counter()
    for start in range(0, count, TURN):
        drawn = [draw.choice(found) for _ in range(min(TURN, count - start))]
        asks = [Ask(path, mutated(body, draw)) for path, body in drawn]
        for ask, response in zip(asks, desk.together(asks), strict=True):
            assert isinstance(response, Response)
            assert response.status < 500 or response.status == 504, (ask.path, ask.body, response.body)
            statuses[response.status] += 1
    return statuses


def test_mutations_are_answered(desk: Desk) -> None:
    statuses = answers(desk, random.Random(3), 3_000, seeds())
    assert statuses[400] > 1_000
    assert statuses[200] > 20


@pytest.mark.soak
def test_a_million_mutations_are_answered(desk: Desk) -> None:
    found = seeds()
    statuses: Counter[int] = Counter()
    for part in range(ROUNDS // 10_000):
        statuses += answers(desk, random.Random(part), 10_000, found)
    print(f"\n{statuses.total():,} mutations: {dict(statuses)}")
