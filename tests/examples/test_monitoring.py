"""examples/monitoring: the rules are well-formed. That their metrics are there is asked in test_recommendations."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.examples.story import EXAMPLES

FOLDER = EXAMPLES / "monitoring"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def named(expression: str) -> set[str]:
    """The metrics that an expression asks for: words that are no function, no label and no keyword."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on|without)\s*\([^)]*\)", "", expression)
    words = set(re.findall(r"\b[a-z_]+\b(?!\s*\()", bare))
    return words - {"or", "and", "unless", "by", "sum"}


def test_each_rule_says_what_is_wrong_and_how_bad_it_is() -> None:
    known = {"alert", "expr", "for", "labels", "annotations"}
    for rule in rules():
        assert set(rule) <= known
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["alert"] in (FOLDER / "README.md").read_text()
        for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
            assert label in ("name", "model", "instance")


def test_prometheus_loads_the_rules() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert configuration["rule_files"] == ["alerts.yml"]
    assert [each["job_name"] for each in configuration["scrape_configs"]] == ["bimodal"]


def test_the_names_of_an_expression_are_found() -> None:
    assert named('sum by (model) (rate(a_total{b="c"}[5m])) / 2 > 1 or absent(d_e) unless f * 3600') == {
        "a_total", "d_e", "f",
    }  # fmt: skip
