"""docs/models.md: it names every estimator, and what it says of some of them still holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep import page
from tests.sweep.asking import ask
from tests.sweep.fitting import BOOSTERS, SKLEARN, answers, trained

LINES = page.read()
COMPILED = ("LogisticRegression", "DecisionTreeClassifier", "XGBRegressor")
NATIVE = ("KNeighborsClassifier", "DictVectorizer", "LabelEncoder", "MultiLabelBinarizer", "PatchExtractor")


def test_every_estimator_has_its_line() -> None:
    assert {name for name in SKLEARN if answers(name)} | set(BOOSTERS) == set(LINES)


def test_those_that_cannot_be_served_are_named() -> None:
    last = page.PATH.read_text().rpartition("##")[2]
    assert all(f"`{name}`" in last for name in SKLEARN if not answers(name))


def test_a_page_is_read_as_it_was_written(tmp_path: Path) -> None:
    page.write(LINES, "2026-01-01", tmp_path / "models.md")
    assert page.read(tmp_path / "models.md") == LINES


@pytest.mark.parametrize("name", [*COMPILED, *NATIVE])
def test_what_the_table_says_holds(name: str, tmp_path: Path) -> None:
    found = ask(trained(name)[0], tmp_path, "auto" if name in COMPILED else "native")
    assert found.faults() == []
    line = LINES[name]
    assert (found.live, found.open) == (line.real_time, "open" in line.rows)
    assert found.difference.none == (line.from_the_library == "0")
