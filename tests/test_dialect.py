"""CSV as people have it is recognised from its head."""

from __future__ import annotations

import pytest

from bimodal.dialect import Dialect, Overrides, encoding_of, names_of, recognise
from bimodal.errors import UsageError


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("a,b\n1,2\n", Dialect()),
        ("a;b\n1;2\n", Dialect(";")),
        ("a;b\n1,5;2\n", Dialect(";", ",")),
        ("a;b\n1.5;2,5\n1.5;x\n", Dialect(";", ".")),
        ("5,1;3,5\n4,9;3,0\n", Dialect(";", ",", header=False)),
        ("5,1\t3,5\n4,9\t3,0\n", Dialect("\t", ",", header=False)),
        ("a\tb\n1\t2\n", Dialect("\t")),
        ("a|b\n1|2\n", Dialect("|")),
        ('a,b\n"x;y;z",1\n"x;y;z",2\n', Dialect()),
        ("one\n1\n2\n", Dialect()),
        ("5.1,3.5,1.4\n4.9,3.0,1.4\n", Dialect(header=False)),
        ("0,1,2\n5.1,3.5,1.4\n", Dialect()),
        (",0,1\n0,5.1,3.5\n", Dialect()),
        ("a,b\n", Dialect()),
    ],
)
def test_separator_decimal_and_header_are_recognised(text: str, dialect: Dialect) -> None:
    assert recognise(text) == dialect


@pytest.mark.parametrize(
    ("first", "header", "doubtful"),
    [
        ("5.1,,1.4,0.2", False, False),
        ("NA,3,5,2", False, False),
        ("6,3,nan,2", False, False),
        ("5.1,x,1.4,0.2", True, True),
        ("6,x,y,2", True, True),
        ("id,2019,2020,2021", True, True),
        (",3,5,2", True, True),
        ("x,y,z,2", True, False),
        (",0,1,2", True, False),
        ("0,1,2,3", True, True),
        ("1,2,3,4", False, False),
        ("0,1,2,target", True, True),
        ("a,b,c,NA", True, False),
        ("NA,,NA,", True, False),
    ],
)
def test_a_first_row_of_numbers_is_no_header_whatever_stands_beside_them(
    first: str, header: bool, doubtful: bool
) -> None:
    found = recognise(f"{first}\n6,3,5,2\n7,3,5,2\n")
    assert (found.header, found.doubtful) == (header, doubtful)
    for said in (True, False):
        assert recognise(f"{first}\n6,3,5,2\n", Overrides(header=said)).doubtful is False


def test_what_the_user_says_counts_more() -> None:
    assert recognise("a;b\n1,5;2\n", Overrides(separator=",", decimal=".")) == Dialect()
    assert recognise("1,2\n3,4\n", Overrides(header=True)) == Dialect()


@pytest.mark.parametrize("wrong", [{"separator": ";;"}, {"decimal": ";"}, {"encoding": "klingon"}])
def test_an_impossible_dialect_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Overrides(**wrong)  # type: ignore[arg-type]  # one of several text options


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("añb".encode(), ("utf-8", 0)),
        ("añb".encode()[:2], ("utf-8", 0)),
        (b"\xef\xbb\xbfa", ("utf-8", 3)),
        ("a,b".encode("utf-16"), ("utf-16", 0)),
        ("Zürich,5 €".encode("cp1252"), ("cp1252", 0)),
        ("Zürich Genève".encode() + b"\xff", ("utf-8", 0)),
    ],
)
def test_the_encoding_is_recognised(head: bytes, encoding: tuple[str, int]) -> None:
    assert encoding_of(head) == encoding


def test_what_differs_from_plain_csv_is_told() -> None:
    assert Dialect().notes() == []
    assert len(Dialect(";", ",", "cp1252", header=False).notes()) == 4


def test_nameless_columns_are_called_as_pandas_calls_them() -> None:
    assert names_of(["", "a", ""]) == ("Unnamed: 0", "a", "Unnamed: 2")
