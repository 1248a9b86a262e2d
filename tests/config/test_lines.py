"""Where a key stands: the line found holds the key, whatever way the text is written."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping
from typing import Any

import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as some

from bimodal.config.lines import Key, lines

TEXTS = some.text(some.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = some.sampled_from(["a", "b", "schedule", "x-1", "a.b", "[c]", "d = 1", '"', "", "'", "#e", "é", "\\", "a\nb"])
PLAIN = (
    TEXTS
    | some.integers(-(2**63), 2**63 - 1)
    | some.booleans()
    | some.floats()
    | some.datetimes()
    | some.dates()
    | some.times()
)
VALUES = some.recursive(
    PLAIN,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
TABLES = some.dictionaries(NAMES, VALUES, max_size=5)


def keys(value: Any, key: Key = ()) -> dict[Key, Any]:
    """Every key of a value, and what stands there."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: dict[Key, Any] = {}
    for name, each in inside:
        found |= {(*key, name): each, **keys(each, (*key, name))}
    return found


def written(name: str) -> set[str]:
    """The ways in which a name may stand in a text."""
    return {name, tomli_w.dumps({name: 1}).removesuffix(" = 1\n"), f"'{name}'"}


def agree(text: str) -> Mapping[Key, int]:
    """Every key that tomllib finds has a line, nothing else has, and the line holds the key's name."""
    found = lines(text)
    rows = text.split("\n")
    assert set(found) == set(keys(tomllib.loads(text)))
    for key, line in found.items():
        if isinstance(key[-1], str):
            assert any(each in rows[line - 1] for each in written(key[-1])), (key, line)
    return found


@settings(deadline=None)
@given(TABLES, some.booleans())
def test_the_line_that_is_found_holds_the_key(values: dict[str, Any], long: bool) -> None:
    agree(tomli_w.dumps(values, multiline_strings=long))


@settings(deadline=None)
@given(some.dictionaries(NAMES, VALUES, min_size=1, max_size=5), some.randoms(use_true_random=False))
def test_comments_dots_and_blanks_move_nothing_else(values: dict[str, Any], chance: random.Random) -> None:
    agree(styled(values, chance))


def test_a_value_is_on_the_line_of_its_own_and_not_on_that_of_a_twin() -> None:
    text = """# jobs.nightly.model = 1
state = '''
[jobs.nightly]
model = 2
'''
[jobs]
nightly.model = "x"   # model = 3
[[jobs.weekly.notify]]
on = [
  "failure", # [jobs.weekly]

  "late",
]
[[jobs.weekly.notify]]
on = ["success"]
[jobs.weekly.notify.more]
each = { a.b = 1, "c d" = [{ e = 2 }] }
"""
    found = agree(text)
    assert found["jobs", "nightly", "model"] == 7
    assert found["jobs", "weekly", "notify"] == 8
    assert found["jobs", "weekly", "notify", 0, "on", 1] == 12
    assert found["jobs", "weekly", "notify", 1] == 14
    assert found["jobs", "weekly", "notify", 1, "on"] == 15
    assert found["jobs", "weekly", "notify", 1, "more", "each", "c d", 0, "e"] == 17


def styled(values: Mapping[str, Any], chance: random.Random) -> str:
    """The same as a person may write it: inline tables, dotted keys, comments, lists over several lines."""
    rows = []
    for name, each in values.items():
        key = _key(name, chance)
        while isinstance(each, dict) and len(each) == 1 and chance.random() < 0.7:
            ((name, each),) = each.items()
            key += chance.choice([".", " . "]) + _key(name, chance)
        rows += chance.choices(["", "# [a] = 'b'", '\t# """'], k=chance.randrange(3))
        rows.append(f"{key} = {_inline(each, chance)}{chance.choice(['', ' # a = 1', '  '])}")
    return "\n".join(rows)


def _key(name: str, chance: random.Random) -> str:
    plain = tomli_w.dumps({name: 1}).removesuffix(" = 1\n")
    literal = "'" not in name and "\n" not in name and chance.random() < 0.5
    return f"'{name}'" if literal else plain


def _inline(value: Any, chance: random.Random) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_key(name, chance)} = {_inline(each, chance)}" for name, each in value.items()) + " }"
        )
    if isinstance(value, list):
        gap = chance.choice(["", "\n", "\n# ] }\n"])
        return "[" + gap + ("," + gap).join(_inline(each, chance) for each in value) + gap + "]"
    if isinstance(value, str) and "'''" not in value and _literal(value) and chance.random() < 0.5:
        return f"'''\n{value}'''"
    return tomli_w.dumps({"a": value}).removeprefix("a = ").removesuffix("\n")


def _literal(text: str) -> bool:
    return all(each == "\n" or each == "\t" or (each >= " " and each != "\x7f") for each in text)
