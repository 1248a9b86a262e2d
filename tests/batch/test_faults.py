"""A full disk, missing rights, Ctrl-C: nothing half stands at the output's name, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import bimodal
from bimodal import predict_file
from bimodal.cli import main
from bimodal.errors import OutputExists, SinkError
from tests.batch.places import COMMAND, shop, write

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
from bimodal.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An input that takes much longer than anybody here looks away."""
    head, _, rows = shop(1000).to_csv(index=False).partition("\n")
    path = tmp_path_factory.mktemp("long") / "in.csv"
    path.write_text(f"{head}\n{rows * 10_000}")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl.gz", "arrow"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(kind: str, saved: Path, tmp_path: Path) -> None:
    """The disk is full where the system lets no file grow beyond 10 kB: the same refusal in the middle of a write."""
    write(pd.concat([shop(1000)] * 8, ignore_index=True), tmp_path / "in.parquet")
    words = [sys.executable, "-c", LIMITED, "predict", saved, "in.parquet", "-o", f"out.{kind}", "--proba", "-q"]
    done = subprocess.run([*map(str, words)], cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        f"error: out.{kind} cannot be written: the file would be larger than is allowed here; nothing was left behind"
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.parametrize("moment", [0.0, 0.5])
def test_ctrl_c_in_the_middle_leaves_nothing_but_what_is_told(
    moment: float, long: Path, saved: Path, tmp_path: Path
) -> None:
    os.link(long, tmp_path / "in.csv")
    process = subprocess.Popen(
        [*COMMAND, "predict", str(saved), "in.csv", "-o", "out.csv", "--proba"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while not any(each.name.startswith(".out.csv") for each in tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert b"Traceback" not in error
    kept = [".out.csv.bimodal"] if b"done and kept" in error else []
    assert sorted(each.name for each in tmp_path.iterdir()) == [*kept, "in.csv"]


def test_the_children_end_with_an_interrupted_run(long: Path, saved: Path, tmp_path: Path) -> None:
    os.link(long, tmp_path / "in.csv")
    process = subprocess.Popen(
        [*COMMAND, "predict", str(saved), "in.csv", "-o", "out.csv", "-q", "--workers", "2"],
        cwd=tmp_path,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    while not any(each.name.startswith(".out.csv") for each in tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 30
    while _group(process.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert _group(process.pid) == []
    assert not (tmp_path / "out.csv").exists()


def _group(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                words = (each / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(words[3]) == session and words[0] != "Z":
                found.append(int(each.name))
    return found


def test_a_folder_that_may_not_be_written_is_told_at_once(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(5), tmp_path / "in.csv")
    if os.getuid() == 0:  # root may write everywhere but here
        with pytest.raises(SinkError):
            predict_file(model, source, "/proc/out.csv")
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(SinkError, match="no permission"):
            predict_file(model, source, tmp_path / "locked" / "out.csv")
    with pytest.raises(SinkError, match="no folder"):
        predict_file(model, source, tmp_path / "nowhere" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "precious.csv").write_text("somebody else's")
    with pytest.raises(OutputExists, match="--overwrite"):
        predict_file(model, source, tmp_path / "folder.csv")


def test_an_output_that_appears_meanwhile_is_left_alone(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write(shop(5), tmp_path / "in.csv"), tmp_path / "out.csv"
    real = model.run

    def run(*words: object, **named: object) -> object:
        out.write_text("somebody else's")
        return real(*words, **named)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(model, "run", run)
    with pytest.raises(OutputExists, match="appeared"):
        predict_file(model, source, out)
    assert out.read_text() == "somebody else's"
    monkeypatch.undo()
    assert predict_file(model, source, out, overwrite=True).resumed == 5  # what was predicted is kept
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_errors_of_the_command_are_one_line(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(shop(5), tmp_path / "in.csv")
    for words, code in [
        (["nothing.csv", "-o", "out.csv"], 1),
        (["in.csv", "-o", "out.xlsx"], 2),
        (["in.csv", "-o", "in.csv"], 2),
        (["in.csv", "-o", "out.csv", "--keep", "nope"], 2),
        (["in.csv", "-o", "out.csv", "--workers", "0"], 2),
    ]:
        assert main(["predict", str(saved), *words, "-q"]) == code, words
        told = capfd.readouterr().err
        assert len(told.splitlines()) == 1, told
    assert [each.name for each in tmp_path.iterdir()] == ["in.csv"]
