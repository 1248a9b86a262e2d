"""What callers would trip over where another model takes the place of one of its name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bimodal.field import Field
from bimodal.realtime.differences import differences
from bimodal.signature import Signature

OUTPUT = (Field("prediction", "float64"),)
NAMED = Signature((Field("age", "int64"), Field("city", "string")), OUTPUT)
WIDE = Signature((Field("x", "float64", (3,)),), OUTPUT, named=False)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (NAMED, NAMED, ""),
        (NAMED, replace(NAMED, inputs=NAMED.inputs[::-1]), ""),
        (WIDE, replace(WIDE, inputs=(Field("x", "float64", (4,)),)), "it takes 4 features instead of 3"),
        (
            NAMED,
            replace(NAMED, inputs=(NAMED.inputs[0], Field("town", "string"))),
            "new features: 'town'; features no more: 'city'",
        ),
        (NAMED, replace(NAMED, outputs=(Field("prediction", "string"),)), "the output 'prediction' is string"),
        (NAMED, replace(WIDE, inputs=(Field("x", "float64", (2,)),)), "its features have no names any more"),
        (replace(WIDE, classes=(0, 1)), replace(WIDE, classes=(0, 2)), "its classes are others"),
    ],
)
def test_what_differs_is_told_by_name(old: Signature, new: Signature, told: str) -> None:
    found = differences(old, new)
    assert found.startswith(told) if told else found == ""
