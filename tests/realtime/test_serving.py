"""What is wrong with how a server is asked for is told before a model is loaded, and alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import joblib
import pytest

from bimodal.errors import UsageError
from bimodal.model import Model
from bimodal.realtime import wiring
from bimodal.realtime.limits import Limits
from bimodal.realtime.serving import prepare
from tests import commands
from tests.models import CASES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--access-log", "/nonexistent/x"), "access_log /nonexistent/x: No such file or directory"),
        (("--keys", "nofile.json"), "there is no file of keys"),
    ],
)
def test_what_needs_no_model_is_judged_before_it_is_loaded(
    options: tuple[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joblib.dump(CASES["logistic"].model, tmp_path / "my_model.pkl")
    loaded: list[Any] = []
    monkeypatch.setattr(wiring, "build", loaded.append)
    code, told = commands.run(tmp_path, "serve", "my_model.pkl", *options, "--get", "/health/live")
    assert (code, loaded) == (2, [])
    assert said in told


def test_a_model_that_is_not_served_after_all_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joblib.dump(CASES["logistic"].model, tmp_path / "my_model.pkl")
    closed: list[str] = []
    close = Model.close

    def noted(self: Model) -> None:
        closed.append(self.name)
        close(self)

    monkeypatch.setattr(Model, "close", noted)
    spec = prepare([tmp_path / "my_model.pkl"], {"outputs": ["nope"], "runtime": "native"}, {}).spec(metrics=None)
    with pytest.raises(UsageError, match="no output 'nope'"):
        asyncio.run(wiring.build(spec, Limits(), 0))
    assert closed == ["my_model"]
