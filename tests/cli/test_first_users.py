"""The first users' own examples, as they stand, through the installed command and real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import joblib
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from bimodal.cli import main
from tests import commands

BIMODAL = [sys.executable, "-m", "bimodal"]
X, Y = load_iris(return_X_y=True)
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    joblib.dump(LogisticRegression(max_iter=500).fit(X, Y), folder / "my_model.pkl")
    pd.DataFrame(X, columns=NAMES).to_csv(folder / "batch_input.csv", index=False)
    return folder


def run(folder: Path, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*BIMODAL, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == expect, done.stderr
    return done


def test_batch(folder: Path) -> None:
    run(folder, "predict", "my_model.pkl", "batch_input.csv", "-o", "predicted_output.csv")
    predicted = pd.read_csv(folder / "predicted_output.csv")
    model = joblib.load(folder / "my_model.pkl")
    assert list(predicted.columns) == ["prediction"]
    assert (
        predicted["prediction"].tolist() == model.predict(pd.read_csv(folder / "batch_input.csv").to_numpy()).tolist()
    )


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    server = subprocess.Popen(
        [*BIMODAL, "serve", *arguments, "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        _, said, url = server.stdout.readline().rpartition("http://127.0.0.1:")
        assert said
        yield f"{said}{url.strip()}"
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        server.stdout.close()


def ask(url: str, body: object) -> object:
    request = Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_real_time(folder: Path) -> None:
    with serving(folder, "my_model.pkl") as url:
        assert ask(f"{url}/predict", {"input": [5.1, 3.5, 1.4, 0.2]}) == {"prediction": [0]}
        answer = ask(f"{url}/predict", {"input": X.tolist()})
        assert answer == {"prediction": joblib.load(folder / "my_model.pkl").predict(X).tolist()}


def test_a_preview_shows_ten_rows_as_csv_in_a_pipe(folder: Path) -> None:
    lines = run(folder, "predict", "my_model.pkl", "batch_input.csv").stdout.splitlines()
    assert lines[0].endswith("prediction")
    assert len(lines) >= 11


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["predict", "my_modle.pkl", "batch_input.csv"], 1, "did you mean my_model.pkl"),
        (["predict", "my_model.pkl", "batch_inptu.csv"], 1, "batch_input.csv"),
        (["predict", "my_model.pkl", "batch_input.csv", "-o", "x.csv", "--features", "a,b,c,d"], 2, "no column 'a'"),
        (["predict", "my_model.pkl", "batch_input.csv", "-o", "x.csv", "--rename", "a"], 2, "COLUMN=FEATURE"),
        (
            ["predict", "my_model.pkl", "batch_input.csv", "-o", "x.csv", "--outputs", "probabilty"],
            2,
            "did you mean 'probability'",
        ),
        (["serve", "my_model.pkl", "--host", "0.0.0.0"], 2, "--insecure"),
        (["serve", "my_model.pkl", "--body-limit", "lots"], 2, "write it like 2GB"),
        (["serve", "my_model.pkl", "my_model.pkl"], 2, "two models are called 'my_model'"),
        (["inspect", "batch_input.csv"], 1, "not a"),
        (["init", "my_modle.pkl"], 1, "did you mean my_model.pkl"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    folder: Path,
    arguments: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(arguments) == code
    told, error = capfd.readouterr()
    assert words in error
    assert "Traceback" not in error
    assert told == ""
    assert not (folder / "x.csv").exists()


def test_debug_shows_where_it_happened(folder: Path) -> None:
    assert "Traceback" in run(folder, "inspect", "nothing.pkl", "--debug", expect=1).stderr


def test_a_taken_port_names_the_next_free_one(folder: Path) -> None:
    with serving(folder, "my_model.pkl") as url:
        done = run(folder, "serve", "my_model.pkl", "--port", url.rpartition(":")[2], expect=2)
        assert "is taken; " in done.stderr
        assert "add --port " in done.stderr


def test_inspect_tells_machines_what_the_model_takes(folder: Path) -> None:
    told = json.loads(run(folder, "inspect", "my_model.pkl", "--json").stdout)
    assert told["runtime"] == "native"
    assert told["signature"]["inputs"][0]["shape"] == [4]
    assert "known values" in run(folder, "inspect", "my_model.pkl").stdout


def test_a_model_class_to_start_from_works_in_both_modes(folder: Path) -> None:
    run(folder, "init", "--python", "limits.py")
    (folder / "payments.csv").write_text("id,amount,country\n001,900.5,AT\n002,1,US\n")
    run(folder, "predict", "limits.py:Model", "payments.csv", "-o", "flagged.csv")
    flagged = pd.read_csv(folder / "flagged.csv", dtype={"id": str})
    assert flagged["id"].tolist() == ["001", "002"]
    assert flagged["prediction"].tolist() == [True, False]
    done = run(folder, "serve", "limits.py:Model", "--post", "-", expect=1)
    assert "error" in done.stdout
    (folder / "one.json").write_text('{"rows": [{"amount": 900.5, "country": "AT"}]}')
    assert json.loads(run(folder, "serve", "limits.py:Model", "--post", "one.json").stdout) == {"prediction": [True]}
    assert "ready" in run(folder, "serve", "limits.py:Model", "--get", "/health/ready").stdout
    assert "exists already" in run(folder, "init", "--python", "limits.py", expect=2).stderr


def test_the_demo_runs_both_modes_and_leaves(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--exit")
    assert "equal answers: 150 of 150" in done.stdout
    assert (tmp_path / "bimodal-demo" / "predicted_output.csv").exists()
    run(tmp_path, "demo", "--exit")


def test_the_demo_keeps_a_server_until_it_is_told_to_end(tmp_path: Path) -> None:
    demo = subprocess.Popen([*BIMODAL, "demo"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        lines: list[str] = []
        while "Ctrl-C" not in (line := demo.stdout.readline()):
            assert line, lines
            lines.append(line)
        page = next(word for line in lines for word in line.split() if word.startswith("http") and word.endswith("/"))
        with urlopen(page, timeout=60) as answer:
            assert b"<html" in answer.read()
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
        demo.stdout.close()


def test_version_help_and_completion(folder: Path) -> None:
    assert run(folder, "--version").stdout.strip() == "0.1.0"
    shown = run(folder, "--help").stdout
    assert "bimodal predict my_model.pkl batch_input.csv" in shown
    assert "completion" in shown
    for command in ("predict", "serve", "inspect", "demo", "init"):
        code, shown = commands.run(folder, command, "--help")
        assert (code, f"bimodal {command}" in shown) == (0, True)


def test_import_is_quick_enough_to_bring_nothing_along() -> None:
    """Neither the libraries of the formats nor Arrow come with `import bimodal`."""
    heavy = ("numpy", "pyarrow", "sklearn", "pandas", "onnxruntime")
    code = f"import bimodal, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_interrupting_a_run_leaves_nothing_and_says_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\nclass Slow:\n    def predict(self, rows):\n"
        "        pathlib.Path('begun').touch()\n        time.sleep(300)\n        return rows[:, 0]\n"
    )
    command = [*BIMODAL, "predict", f"{tmp_path}/slow.py:Slow", "batch_input.csv", "-o", str(tmp_path / "out.csv")]
    running = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert time.monotonic() < until, "it did not begin"
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert running.stderr is not None
    assert "interrupted" in running.stderr.read()
    running.stderr.close()
    assert not (tmp_path / "out.csv").exists()
