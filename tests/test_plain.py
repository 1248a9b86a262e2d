"""The plain dependencies alone: records are predicted and served; what needs Arrow says how to install it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bimodal import formats
from bimodal.packing import pack
from tests.models import CASES, customers

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pyarrow", "pandas", "sklearn", "scipy", "joblib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""
ROW = {"age": 30.5, "income": 60_000.0, "city": "Oslo", "plan": "pro", "visits": 3}
SERVED = f"""
import sys, urllib.error, urllib.request
import bimodal

if __name__ == "__main__":
    with bimodal.load(sys.argv[1]) as model:
        print(model.predict([{ROW!r}])[0]["prediction"])
    with bimodal.serve(sys.argv[1], port=0) as server:
        print(bimodal.Client(server.url).predict([{ROW!r}])[0]["prediction"])
        table = urllib.request.Request(server.url + "/predict", b"age\\n1\\n", {{"content-type": "text/csv"}})
        try:
            urllib.request.urlopen(table)
        except urllib.error.HTTPError as error:
            print(error.code, error.read().decode())
"""
PARENT = """
import sys
import bimodal.cli.serve
from bimodal.realtime.serving import locate
locate([sys.argv[1]])
print(*{each.partition(".")[0] for each in sys.modules})
print(*(each for each in sys.modules if each.startswith("bimodal.")))
"""
INSTALL = 'pip install "bimodal[batch]"'


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    (folder / "sitecustomize.py").write_text(BLOCKED)
    (folder / "served.py").write_text(SERVED)
    (folder / "rows.csv").write_text("age\n1\n")
    return pack(CASES["mixed"].model, folder / "churn.bimodal", sample=customers(), runtime="exact")


def python(churn: Path, *arguments: str, expect: int = 0) -> str:
    """What Python says without the libraries; arguments as after `python`."""
    environment = {**os.environ, "PYTHONPATH": str(churn.parent), "BIMODAL_RUNTIME": "auto", "NO_COLOR": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=churn.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stdout + done.stderr


def test_records_are_predicted_and_served_and_a_table_is_refused(churn: Path) -> None:
    label = str(CASES["mixed"].model.predict(pd.DataFrame([ROW]))[0])
    loaded, served, refused = python(churn, "served.py", str(churn)).splitlines()
    assert loaded == served == label
    assert refused.startswith("415 ")
    assert "bimodal[batch]" in refused


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "churn.bimodal", "rows.csv"),
        ("verify", "churn.bimodal"),
        ("pack", "churn.bimodal"),
        ("inspect", "rows.csv", "--sample", "rows.csv"),
        ("demo", "--exit"),
    ],
)
def test_a_command_that_needs_arrow_says_how_to_install_it(churn: Path, arguments: tuple[str, ...]) -> None:
    assert f"error: pyarrow is not installed; install it with: {INSTALL}" in python(
        churn, "-m", "bimodal", *arguments, expect=1
    )


@pytest.mark.parametrize("name", ["predict_file", "predict_batches", "pack", "verify"])
def test_a_public_name_that_needs_arrow_says_how_to_install_it(churn: Path, name: str) -> None:
    said = python(churn, "-c", f"import bimodal; bimodal.{name}", expect=1)
    assert said.splitlines()[-1].startswith("bimodal.errors.MissingLibrary: pyarrow is not installed")
    assert INSTALL in said


def test_the_commands_are_listed_without_arrow(churn: Path) -> None:
    said = python(churn, "-m", "bimodal", "--help")
    for name in ("predict", "serve", "inspect", "pack", "verify", "demo", "init"):
        assert f"\n  {name} " in said
    assert "bimodal inspect my_model.pkl" in said
    assert "churn" in python(churn, "-m", "bimodal", "inspect", "churn.bimodal")


def test_the_parent_process_of_a_server_loads_neither_numpy_nor_a_format(churn: Path) -> None:
    libraries, ours = python(churn, "-c", PARENT, str(churn)).splitlines()
    assert not {"numpy", "asyncio", "rich", "cloudpickle"} & set(libraries.split())
    assert "bimodal.location" in ours.split()
    assert not {"bimodal.model", "bimodal.formats.sklearn", "bimodal.compile.report"} & set(ours.split())


def test_a_format_is_listed_as_it_calls_itself() -> None:
    for each in formats.FORMATS:
        assert (each.name, each.inline) == (each.format.name, each.format.inline)
