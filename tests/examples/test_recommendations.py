"""examples/recommendations: the night's results by user, live ones for new and changed users, told by their source."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimodal import Client
from tests.examples.story import EXAMPLES, told
from tests.examples.test_monitoring import named, rules

KINDS = ["action", "comedy", "drama", "family", "science"]
NEW = dict(zip(KINDS, (0.5, 2.5, 1.0, 3.0, 0.2), strict=True))


def test_films_are_looked_up_or_predicted(tmp_path: Path) -> None:
    with told("recommendations", tmp_path) as reader:
        place = reader.folder
        url = f"http://localhost:{reader.ports['8000']}"
        users = pd.read_csv(place / "users.csv")
        with Client(url) as client:
            everybody = client.lookup(users["user"].tolist())
            same = client.lookup(17, users[KINDS].loc[16].to_dict())
            changed, new = client.lookup(17, NEW), client.lookup(9001, NEW)
            (live,) = client.predict([NEW])
            metrics = client.request("GET", "/metrics").decode()
    best = [films(place, row) for row in users[KINDS].to_numpy()]
    assert [each["prediction"] for each in everybody] == [titles for titles, _ in best]
    assert [number for each in everybody for number in each["score"]] == pytest.approx(
        [number for _, scores in best for number in scores], rel=1e-9
    )
    assert {each["source"] for each in everybody} == {"batch"}
    assert (same["source"], changed["source"], new["source"]) == ("batch", "changed", "batch")
    titles, _ = films(place, np.array(list(NEW.values())))
    assert titles == changed["prediction"] == new["prediction"] == live["prediction"]
    assert len({tuple(each["prediction"]) for each in everybody}) > 20, "people differ"
    assert {source: count(metrics, source) for source in ("live", "changed", "miss")} == {
        "live": 1,
        "changed": 2,
        "miss": 1,
    }
    there = set(re.findall(r"^(\w+)[{ ]", metrics, re.MULTILINE))
    asked = {name for rule in rules() for name in named(rule["expr"])}
    assert asked - there == {"up"}, "which is Prometheus' own"
    assert len(asked) > 9


def films(place: Path, tastes: np.ndarray) -> tuple[list[str], list[float]]:
    """The three best films, in another way than the model's: one film after the other."""
    with np.load(place / "films.npz") as kept:
        scores = [float(sum(tastes * column)) for column in kept["scores"].T]
        titles = kept["titles"].tolist()
    best = sorted(range(len(titles)), key=lambda film: -scores[film])[:3]
    return [titles[film] for film in best], [scores[film] for film in best]


def count(metrics: str, source: str) -> int:
    (found,) = re.findall(rf'^bimodal_lookups_total{{model="films",source="{source}"}} (\S+)$', metrics, re.MULTILINE)
    return int(float(found))


def test_each_story_is_told() -> None:
    """docs/examples.md names every example, and each has a README."""
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    for folder in sorted(each for each in EXAMPLES.iterdir() if each.is_dir()):
        assert f"../examples/{folder.name}/README.md" in page
        assert (folder / "README.md").is_file()
