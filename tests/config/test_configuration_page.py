"""docs/configuration.md tells every key of bimodal.toml, as the tables have it."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from jsonschema import Draft202012Validator

from bimodal import config
from bimodal.config import kinds
from bimodal.config.reading import sentence
from bimodal.config.schema import schema
from bimodal.config.tables import JobTable, ModelTable, NotifyTable, StoreTable
from bimodal.settings import SERVE

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
WORDS = {
    kinds.TEXT: "text",
    kinds.SHARE: "share",
    kinds.SWITCH: "`true`, `false`",
    kinds.NUMBER: "number",
    kinds.DURATION: "time",
    kinds.INTERVAL: "time",
    kinds.BYTES: "size",
    kinds.NAMES: "names",
    kinds.ANY_NAMES: "names",
    kinds.PLACES: "text or list",
    kinds.INPUT: "text or list",
    kinds.KEEP: "`auto`, `all`, `none` or names",
    kinds.COMMAND: "list",
    kinds.PAIRS: "table",
    kinds.COUNT: "whole number",
    kinds.AT_LEAST_ONE: "whole number",
    kinds.MAX_REJECTS: "whole number or share",
    kinds.KEPT: "address",
    kinds.TABLE: "address",
    kinds.WEBHOOK: "address",
    kinds.HIDDEN: "reference",
}


def lines(kind: type[Any]) -> list[str]:
    """The rows of a table's page."""
    hints = get_type_hints(kind, include_extras=True)
    return [line(each, hints[each.name]) for each in dataclasses.fields(kind)]


def line(each: Any, hint: Any) -> str:
    plain = kinds.of_annotation(hint)
    what = "table" if plain is None and each.name == "store" else "tables" if plain is None else words(plain)
    return f"| `{each.name}` | {what} | {default(each)} | {sentence(hint).replace('|', '/')} |"


def words(kind: kinds.Kind) -> str:
    known = WORDS.get(kind)
    if known is not None:
        return known
    listed = kind.schema.get("enum")
    if listed is None:
        return f"list of {words(kinds.choice(kind.schema['items']['enum']))}"
    return ", ".join(f"`{each}`" for each in listed)


def default(each: Any) -> str:
    value = each.default
    if value is MISSING and each.default_factory is MISSING:
        return "**needed**"
    if value is MISSING or value in (None, ()):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(chr(34) + one + chr(34) for one in value)}]`"
    shown = "true" if value is True else "false" if value is False else value
    return f"{shown:g} s" if isinstance(shown, float) else f"`{shown}`"


@pytest.mark.parametrize("kind", [ModelTable, StoreTable, JobTable, NotifyTable])
def test_every_key_has_its_line(kind: type[Any]) -> None:
    assert [each for each in lines(kind) if each not in PAGE] == []


def test_every_key_of_the_server_is_told() -> None:
    told = PAGE[PAGE.index("## `[server]`") : PAGE.index("## `[models.NAME]`")]
    assert [each.name for each in SERVE if f"`{each.name}`" not in told] == []


def test_the_files_of_the_page_are_right(tmp_path: Path) -> None:
    found = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) >= 2
    for text in found:
        path = tmp_path / "bimodal.toml"
        path.write_text(text)
        assert config.read(path).models
        assert Draft202012Validator(schema()).is_valid(tomllib.loads(text))
