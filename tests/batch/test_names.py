"""Names that can be no output, and names that are no text, are told in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import bimodal
from bimodal import predict_file
from bimodal.batch.history import History
from bimodal.errors import UsageError
from tests.batch.places import shop, write


@pytest.mark.parametrize("output", [".", "./", "/", "", ".."])
def test_an_output_has_a_name_of_its_own(
    output: str, model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="names no output; give it a name of its own"):
        predict_file(model, write(shop(5), tmp_path / "in.csv"), output, progress="quiet")
    assert os.listdir() == ["in.csv"]


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_written(model: bimodal.Model, tmp_path: Path) -> None:
    source, strange = write(shop(5), tmp_path / "in.csv"), os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")
    Path(strange).write_bytes(source.read_bytes())
    for wrong in ((strange, tmp_path / "out.csv"), (source, strange), (tmp_path / "*.csv", tmp_path / "out.csv")):
        with pytest.raises(UsageError, match=r"xff\.csv: the name is not UTF-8"):
            predict_file(model, *wrong, progress="quiet")
    assert len(os.listdir(tmp_path)) == 2


def test_a_folder_whose_name_is_not_utf8_costs_the_history_alone(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.note({"run": "1", "status": "running", "folder": "\udcff"})
    history.note({"run": "2", "status": "running", "place": "\udcff"})
    assert history.problem is not None
