"""The command that is printed after too many rejects publishes, whatever options the run had."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from bimodal import predict_file
from bimodal.batch.options import Options
from bimodal.cli import main
from bimodal.errors import TooManyRejects
from tests.batch.places import lines

HELPED = """
import helper


class Model:
    inputs = {"age": float}
    outputs = {"prediction": float, "rows": int}

    def predict(self, rows):
        return {"prediction": helper.twice(rows["age"]), "rows": [len(rows["age"])] * len(rows["age"])}
"""


@pytest.fixture
def helped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that needs code from elsewhere, and a file that is not recognised."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "helper.py").write_text("def twice(values):\n    return [2 * each for each in values]\n")
    (tmp_path / "helped.py").write_text(HELPED)
    (tmp_path / "in.csv").write_bytes("name~alter\nJürgen~1,5\nJörg~x\nÄnne~2,5\n".encode("cp1252"))
    monkeypatch.chdir(tmp_path)
    return "helped.py:Model"


def test_the_printed_command_is_the_same_run(helped: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked: dict[str, Any] = {
        "code": ["elsewhere"], "separator": "~", "decimal": ",", "encoding": "cp1252", "rename": {"alter": "age"},
        "keep": ["name"], "outputs": ["rows", "prediction"], "call_rows": 1,
    }  # fmt: skip
    with pytest.raises(TooManyRejects) as caught:
        predict_file(helped, "in.csv", "out.jsonl", **asked)
    printed = str(caught.value).rpartition(": ")[2]
    program, *words = shlex.split(printed)
    assert program == "bimodal"
    assert main(words) == 0
    assert "everything is predicted already" in capsys.readouterr().err
    assert lines(Path("out.jsonl")) == [
        {"name": "Jürgen", "rows": 1, "prediction": 3.0},
        {"name": "Änne", "rows": 1, "prediction": 5.0},
    ]


def test_what_was_not_said_is_not_printed(tmp_path: Path) -> None:
    plain = Options(model="m.pkl", input=("a b.csv",), output="o.csv", loading={"code": (), "sample": None})
    assert plain.command(3) == "bimodal predict m.pkl 'a b.csv' -o o.csv --max-rejects 3"
    asked = Options(
        model="m.pkl",
        input=("x",),
        loading={"code": "a.py", "sample": tmp_path, "runtime": "exact", "allow_drift": True},
        into="t",
        mode="upsert",
        key=("id", "day"),
    )
    assert asked.command(1) == (
        f"bimodal predict m.pkl x --into t --code a.py --sample {tmp_path} --runtime exact --allow-drift --mode upsert "
        "--key id,day --max-rejects 1"
    )
