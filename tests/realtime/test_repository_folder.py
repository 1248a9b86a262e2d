"""What is found in the folder of a repository, and what of it is to be served."""

from __future__ import annotations

import os
import re
from pathlib import Path

import joblib
import pytest
from sklearn.linear_model import LogisticRegression

import bimodal
from bimodal import package, serve
from bimodal.errors import ModelFailed, NotFound, UsageError
from bimodal.location import Location
from bimodal.realtime.named import Named
from bimodal.realtime.repository import Repository, chosen, is_repository
from bimodal.realtime.stock import Held
from tests.realtime.times import put


def test_what_is_recognised(tmp_path: Path) -> None:
    put(tmp_path / "versions" / "9", 1)
    put(tmp_path / "versions" / "10", 1)
    put(tmp_path / "folder", 1)
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "MLmodel").write_text("flavors: {}")
    (tmp_path / "file.pkl").write_bytes(b"\x80\x04.")
    (tmp_path / "README.md").write_text("no model")
    (tmp_path / "bad name").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("a.pkl", "b.pkl"):
        (tmp_path / "two" / name).write_bytes(b"\x80\x04.")
    put(tmp_path / "named" / "b", 1)
    put(tmp_path / "named" / "a", 1)
    os.utime(tmp_path / "named" / "b", (1, 1))
    found = Repository(tmp_path).look()
    assert list(found) == ["bad name", "file", "folder", "mlflow", "named", "two", "versions"]
    assert [each.version for each in found["versions"]] == ["9", "10"]
    assert [each.version for each in found["named"]] == ["b", "a"]
    places = {
        name: [each.path and each.path.relative_to(tmp_path).as_posix() for each in found[name]] for name in found
    }
    assert places["folder"] == ["folder/model.py"]
    assert places["mlflow"] == ["mlflow"]
    assert places["file"] == ["file.pkl"]
    assert places["two"] == [None]
    assert "several models" in found["two"][0].reason
    assert places["bad name"] == [None]


def test_the_name_of_the_statistics_is_no_models(tmp_path: Path) -> None:
    put(tmp_path / "stats" / "1", 1)
    (found,) = Repository(tmp_path).look()["stats"]
    assert (found.path, "/v2/models/stats is the statistics" in found.reason) == (None, True)
    put(tmp_path / "score", 2)
    with serve(tmp_path, port=0, workers=1, features=["x"]) as server:
        assert server.models == ("score",)
    written = tmp_path / "stats.py"
    written.write_text((tmp_path / "score" / "model.py").read_text().replace("Times", "stats"))
    with pytest.raises(UsageError, match="served under the name 'stats'"):
        serve(f"{written}:stats", port=0, workers=1, features=["x"])


def test_the_newest_and_those_with_an_alias_are_chosen(tmp_path: Path) -> None:
    for version in range(1, 6):
        put(tmp_path / "score" / str(version), 1)
    found = Repository(tmp_path).find("score")
    assert [each.version for each in chosen(found, {"old": "2"}, 2)] == ["2", "4", "5"]
    with pytest.raises(NotFound, match="did you mean 'score'"):
        Repository(tmp_path).find("scores")


@pytest.mark.parametrize("text", ["score = 1", "[score]\nchampion = 1", "[score\n", '[score]\n"a b" = "1"'])
def test_a_wrong_file_of_aliases_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "aliases.toml").write_text(text)
    with pytest.raises(UsageError, match=r"aliases\.toml"):
        Repository(tmp_path).aliases()


def test_a_folder_that_is_a_model_is_no_repository(tmp_path: Path) -> None:
    put(tmp_path / "models" / "score" / "1", 1)
    assert is_repository(tmp_path / "models")
    assert not is_repository(tmp_path / "models" / "score" / "1")
    (tmp_path / "MLmodel").write_text("flavors: {}")
    assert not is_repository(tmp_path)
    assert not is_repository(tmp_path / "absent")


def test_a_repository_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        serve(repository=tmp_path / "absent", port=0)


def test_what_is_wrong_with_a_named_package_is_told_of_its_place_not_of_the_copys(tmp_path: Path) -> None:
    model = tmp_path / "iris.pkl"
    joblib.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), model)
    place = bimodal.pack(model, tmp_path / "iris.bimodal", sample=[{"x0": 0.0}, {"x0": 1.0}])
    named = Named.of(Location.find(place).spec())
    Path(place, package.MANIFEST).write_text("{")
    with pytest.raises(ModelFailed, match=re.escape(str(place))) as raised:
        Held.take(named, {})
    assert "bimodal-" not in str(raised.value)
