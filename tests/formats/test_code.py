"""The user's own code: which modules are theirs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from bimodal.formats.code import imported


def test_a_module_without_a_place_of_its_own_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("made.ops")
    made.__file__ = "_ops.py"  # as torch.ops has it
    monkeypatch.setitem(sys.modules, "made.ops", made)
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    assert imported([tmp_path, tmp_path / "app"]) == []
