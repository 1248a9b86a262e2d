"""Promise 22 on a real disk: one of 8 MB that is full, then has a little room, then enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.crash.harness import save_model

ROWS = 100_000  # some 3 to 6 MB of output


@pytest.mark.soak
@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.jsonl", "out.arrow", "folder.parquet/", "out.db"])
def test_a_disk_of_8_mb_that_is_full(output: str, tmp_path: Path) -> None:
    """Needs the right to mount: root, or a user namespace of one's own (Linux)."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(ROWS, 2)), columns=["a", "b"])
    frame.assign(id=range(ROWS), word=[random.bytes(8).hex() for _ in range(ROWS)]).to_parquet(tmp_path / "in.parquet")
    saved = save_model(tmp_path / "model.pkl")
    (tmp_path / "disk").mkdir()
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    arguments = [tmp_path / "disk", saved, tmp_path / "in.parquet", output]
    done = subprocess.run(
        ["unshare", "--mount", *rights, sys.executable, "-m", "tests.crash.mounted", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, third, same = done.stdout.splitlines()
    for told in (first, second):
        assert told.startswith("1 error: "), told
        assert "full" in told or "space" in told, told
    assert third == "0 "
    assert same == "True"
