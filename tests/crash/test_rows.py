"""Promises 25 and 27: a bad row costs itself alone, whatever it does; memory does not grow with the input."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest

from tests.crash.harness import environment_of, rows, save_model, told
from tests.crash.poison import CRASH, EXIT, HANG

HERE = Path(__file__).resolve().parent
COMMAND = [sys.executable, "-m", "bimodal", "predict"]
LIMIT = 512 << 20


def poisoned(count: int, each: dict[str, int]) -> tuple[pd.DataFrame, dict[int, str]]:
    """Rows of which so many are bad in each way, and what is wrong with which row (from 1)."""
    random = np.random.default_rng(11)
    frame = pd.DataFrame({"id": np.arange(count), "a": random.normal(size=count), "b": random.normal(size=count)})
    frame["trap"] = 0
    places = random.choice(count, sum(each.values()), replace=False)
    kinds = [kind for kind, number in each.items() for _ in range(number)]
    text = frame.astype({"a": str})
    for place, kind in zip(places.tolist(), kinds, strict=True):
        if kind in ("type", "missing"):
            text.loc[place, "a"] = "twelve" if kind == "type" else ""
        else:
            text.loc[place, "trap"] = {"crash": CRASH, "exit": EXIT, "hang": HANG}[kind]
    return text, {place + 1: kind for place, kind in zip(places.tolist(), kinds, strict=True)}


@pytest.mark.parametrize(
    ("count", "each"),
    [
        (100, {"type": 2, "missing": 2, "crash": 1, "hang": 1}),
        pytest.param(
            1_000_000, {"type": 4980, "missing": 4990, "crash": 10, "exit": 10, "hang": 10}, marks=pytest.mark.soak
        ),
    ],
    ids=["100", "1,000,000"],
)
def test_bad_rows_cost_themselves_alone(count: int, each: dict[str, int], tmp_path: Path) -> None:
    frame, wrong = poisoned(count, each)
    frame.to_csv(tmp_path / "in.csv", index=False)
    words = [
        *COMMAND,
        f"{HERE / 'poison.py'}:Model",
        "in.csv",
        "-o",
        "out.csv",
        "--max-rejects",
        "2%",
        "--timeout",
        "1",
    ]
    words[words.index("2%")] = str(len(wrong))
    since = time.monotonic()
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, **environment_of(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    out = pd.read_csv(tmp_path / "out.csv")
    rejects = [json.loads(line) for line in (tmp_path / "out.csv.rejects.jsonl").read_text().splitlines()]
    assert len(out) + len(rejects) == count
    assert {reject["row"] for reject in rejects} == set(wrong)
    assert all(reject["reason"] and reject["source"] == "in.csv" and reject["raw"] for reject in rejects)
    codes = Counter((wrong[reject["row"]], reject["code"]) for reject in rejects)
    assert len(codes) == len(each), codes
    good = frame.drop(index=[row - 1 for row in wrong])
    assert out["id"].tolist() == good["id"].tolist()
    assert np.array_equal(out["prediction"], good["a"].astype(float) + good["b"])
    told(f"{count:,} rows, {len(wrong):,} bad, in {time.monotonic() - since:.0f} s: {dict(codes)}")


# -- memory -----------------------------------------------------------------------------------------------------------


def family(process: int) -> list[int]:
    """A process and its descendants."""
    found = [process]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(word) for word in task.read_text().split()]
    return found


def share(process: int) -> int:
    """The proportional set size in bytes of a process and its descendants."""
    total = 0
    for each in family(process):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def peak(words: list[str], folder: Path, environment: dict[str, str]) -> int:
    """The largest share that a command had, looked at 20 times a second."""
    process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    most = 0
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one ended in this moment
            most = max(most, share(process.pid))
        time.sleep(0.05)
    _, told = process.communicate()
    assert process.returncode == 0, told
    return most


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_memory_is_flat(kind: str, tmp_path: Path) -> None:
    """1, 10 and 100 million rows under a ceiling of 512 MB: copies of one file."""
    environment = {**os.environ, **environment_of(tmp_path)}
    environment.pop("BIMODAL_RUNTIME", None)
    million = pd.concat([rows(100_000, bad=())[["id", "a", "b"]]] * 10, ignore_index=True)
    source = tmp_path / f"million.{kind}"
    if kind == "csv":
        million.to_csv(source, index=False)
    else:
        arrow_parquet.write_table(pa.Table.from_pandas(million, preserve_index=False), source, row_group_size=65_536)
    model = save_model(tmp_path / "model.pkl")
    most = []
    for count in (1, 10, 100):
        folder = tmp_path / f"in-{count}"
        folder.mkdir()
        for number in range(count):
            shutil.copyfile(source, folder / f"part-{number:03}.{kind}")
        out = f"out-{count}.{kind}"
        words = [*COMMAND, str(model), str(folder), "-o", out, "--memory", "512MB", "-q", "--runtime", "exact"]
        most.append(peak(words, tmp_path, environment))
        (tmp_path / out).unlink()
        shutil.rmtree(folder)
    told(f"{kind}: peak of " + ", ".join(f"{each / 1e6:.0f} MB" for each in most) + " for 1, 10, 100 million rows")
    assert max(most) <= LIMIT
    assert most[2] <= most[1] * 1.15
