"""`bimodal init`: a bimodal.toml for a model, right as it is written."""

from __future__ import annotations

import json
import re
import stat
import tomllib
from pathlib import Path

import joblib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from jsonschema import Draft202012Validator
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from bimodal import config
from bimodal.cli import main
from bimodal.cli.init import rows_for
from bimodal.config.schema import schema
from bimodal.config.template import Subject, likely, template

TEXTS = some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
FORBIDDEN = re.compile(r"[\0]")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    frame, kinds = load_iris(return_X_y=True, as_frame=True)
    joblib.dump(LogisticRegression(max_iter=500).fit(frame, kinds), tmp_path / "my model.pkl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_only_model_of_a_folder_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rows.parquet").write_bytes(b"PAR1")
    (folder / "note.txt").write_text("no model")
    assert main(["init"]) == 0
    assert main(["config", "verify"]) == 0
    assert "1 model, 1 job, no fault" in capsys.readouterr().out
    read = config.read("bimodal.toml")
    assert read.models["my_model"].path == str(folder / "my model.pkl")
    assert read.jobs["nightly"].input == str(folder / "rows.parquet")
    assert read.jobs["nightly"].output == str(folder / "predicted_output.parquet")
    text = (folder / "bimodal.toml").read_text()
    assert "petal length (cm) (float64)" in text
    told = re.match(r"#:schema \./(.+)\n", text)
    assert told is not None
    assert Draft202012Validator(json.loads((folder / told[1]).read_text())).is_valid(tomllib.loads(text))
    assert stat.S_IMODE((folder / ".bimodal").stat().st_mode) == 0o700
    assert main(["init"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (folder / "bimodal.toml").read_text() == text


def test_a_model_elsewhere_and_what_it_needs_are_named_from_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "conf").mkdir()
    (folder / "train.py").write_text("")
    assert main(["init", "my model.pkl", "-o", "conf/own.toml", "--code", "train.py"]) == 0
    told = capsys.readouterr().out
    assert "bimodal up --config conf/own.toml" in told
    assert "write into its input line what the job reads (there is no batch_input.csv here)" in told
    model = config.read("conf/own.toml").models["my_model"]
    assert (model.path, model.code) == (str(folder / "my model.pkl"), (str(folder / "train.py"),))


def test_with_none_or_several_models_one_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.pkl").write_bytes((folder / "my model.pkl").read_bytes())
    assert main(["init"]) == 2
    assert "name the model (there are my model.pkl, other.pkl)" in capsys.readouterr().err
    for each in folder.iterdir():
        each.unlink()
    assert main(["init"]) == 2
    told = capsys.readouterr().err
    assert "there is none in this folder" in told
    assert "--python" in told
    assert list(folder.iterdir()) == []


def test_every_comment_that_is_taken_up_is_right(tmp_path: Path) -> None:
    text = template(Subject("churn", "churn.pkl", ["age (float64)"]))
    rows = text.split("\n")
    for number, row in enumerate(rows):
        if re.match(r"# (\w+ = |\[)", row):
            rows[number] = row.removeprefix("# ")
    path = tmp_path / "bimodal.toml"
    path.write_text("\n".join(rows))
    read = config.read(path)
    assert read.server == {"host": "127.0.0.1", "port": 8000, "workers": 1}
    assert read.models["churn"].outputs == ("prediction", "probability")
    assert read.models["churn"].store is not None
    assert read.jobs["nightly"].notify[0].on == ("failure", "late")
    assert read.jobs["nightly"].timeout == 7200
    assert Draft202012Validator(schema()).is_valid(tomllib.loads(path.read_text()))


@settings(deadline=None)
@given(TEXTS, TEXTS.filter(lambda text: not FORBIDDEN.search(text)), some.lists(TEXTS), some.lists(TEXTS, max_size=2))
def test_names_of_any_letters_are_written_so_that_they_are_read_back(
    name: str, path: str, takes: list[str], code: list[str]
) -> None:
    told = tomllib.loads(template(Subject(name, path, takes, code), data="a{b}.csv"))
    (model,) = told["models"].values()
    assert model["path"] == path
    assert model.get("code", []) == code
    assert told["jobs"]["nightly"]["input"] == "a{{b}}.csv"
    assert set(told) == {"server", "models", "jobs"}


def test_the_likely_input_is_the_only_one(tmp_path: Path) -> None:
    assert likely(tmp_path) is None
    (tmp_path / "predicted_output.csv").write_text("")
    (tmp_path / "a.csv").write_text("")
    assert likely(tmp_path) == "a.csv"
    (tmp_path / "b.csv").write_text("")
    assert likely(tmp_path) is None
    (tmp_path / "batch_input.csv").write_text("")
    assert likely(tmp_path) == "batch_input.csv"


def test_the_input_may_stand_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "rows.csv").write_text("")
    assert rows_for(str(tmp_path / "demo" / "model.pkl"), tmp_path) == "demo/rows.csv"
    assert rows_for("models:/churn@champion", tmp_path) is None
    (tmp_path / "own.csv").write_text("")
    assert rows_for(str(tmp_path / "demo" / "model.pkl"), tmp_path) == "own.csv"
