"""Standard input and output: every line is answered as it comes, and a long file goes through flat memory."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bimodal.batch.memory import held
from tests.batch.places import COMMAND, FEATURES, command, shop, write

PATIENCE = 60.0  # seconds


@contextmanager
def running(*words: object, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def repeated(times: int, path: Path) -> Path:
    """A thousand rows, so many times."""
    if path.suffix == ".parquet":
        table = pa.Table.from_pandas(shop(1000), preserve_index=False)
        pq.write_table(pa.concat_tables([table] * times), path)
    else:
        head, _, rows = shop(1000).to_csv(index=False).partition("\n")
        path.write_text(f"{head}\n{rows * times}")
    return path


def answer(stream: IO[bytes] | None) -> bytes:
    """The next line, waited for."""
    assert stream is not None
    line, until = b"", time.monotonic() + PATIENCE
    while not line.endswith(b"\n"):
        if not select.select([stream], [], [], max(until - time.monotonic(), 0))[0]:
            raise TimeoutError(f"no line within {PATIENCE} s, but {line!r}")
        piece = os.read(stream.fileno(), 1)
        if not piece:
            break
        line += piece
    return line


def test_each_line_of_events_is_answered_before_the_next_is_sent(saved: Path, estimator: Any, tmp_path: Path) -> None:
    rows = [dict(zip(shop().columns, row, strict=True)) for row in shop()[:4].fillna({"age": 30.0}).to_numpy().tolist()]
    with running("predict", saved, "-", "-o", "-", "-q", cwd=tmp_path) as process:
        assert process.stdin is not None
        for row in rows:
            process.stdin.write(json.dumps(row).encode() + b"\n")
            told = json.loads(answer(process.stdout))
            assert told["id"] == row["id"]
            assert told["prediction"] == estimator.predict(pd.DataFrame([row])[FEATURES])[0]
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_each_row_of_a_growing_csv_is_answered(saved: Path, tmp_path: Path) -> None:
    rows = shop()[:4].to_csv(index=False).splitlines(keepends=True)
    with running("predict", saved, "-", "-o", "-", "-q", "--keep", "id", cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write((rows[0] + rows[1]).encode())
        assert answer(process.stdout) == b"id,prediction\n"
        assert answer(process.stdout).startswith(b"0000,")
        for number in (1, 2, 3):
            process.stdin.write(rows[number + 1].encode())
            assert answer(process.stdout).startswith(f"000{number},".encode())
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_a_bad_row_of_a_stream_is_told_and_the_stream_goes_on(saved: Path, tmp_path: Path) -> None:
    data = b"age,spent,plan\n30,50,pro\n30,much,pro\n30,50,free\n"
    done = command("predict", saved, "-", "-o", "-", "-q", cwd=tmp_path, data=data)
    assert len(done.stdout.splitlines()) == 3
    assert b"row 2, column 'spent': text where a number is needed" in done.stderr
    assert done.returncode == 3
    done = command("predict", saved, "-", "-o", "-", "-q", "--max-rejects", 1, cwd=tmp_path, data=data)
    assert done.returncode == 0


def test_a_file_through_a_pipe_gives_what_the_file_gives(saved: Path, tmp_path: Path) -> None:
    source = repeated(20, tmp_path / "in.csv")
    assert command("predict", saved, "in.csv", "-o", "file.csv", "-q", cwd=tmp_path).returncode == 0
    done = command("predict", saved, "-", "-o", "-", "-q", cwd=tmp_path, data=source.read_bytes())
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "file.csv").read_bytes()
    done = command("predict", saved, "-", "-o", "piped.csv", "-q", cwd=tmp_path, data=source.read_bytes())
    assert (tmp_path / "piped.csv").read_bytes() == (tmp_path / "file.csv").read_bytes()


def test_without_an_output_a_pipe_gets_csv(saved: Path, tmp_path: Path) -> None:
    write(shop(20), tmp_path / "in.parquet")
    done = command("predict", saved, "in.parquet", "-q", "--keep", "none", cwd=tmp_path)
    assert done.stdout.splitlines()[0] == b"prediction"
    assert len(done.stdout.splitlines()) == 21


def test_a_reader_that_leaves_ends_the_run_without_a_word(saved: Path, tmp_path: Path) -> None:
    repeated(200, tmp_path / "in.csv")
    with running("predict", saved, "in.csv", "-o", "-", "-q", cwd=tmp_path) as process:
        assert process.stdout is not None
        answer(process.stdout)
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_no_bytes_on_standard_input_are_an_error(data: bytes, saved: Path, tmp_path: Path) -> None:
    done = command("predict", saved, "-", "-o", "-", cwd=tmp_path, data=data)
    assert done.returncode == 1
    assert b"standard input" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_device_is_written_as_it_comes(saved: Path, tmp_path: Path) -> None:
    write(shop(20), tmp_path / "in.csv")
    assert command("predict", saved, "in.csv", "-o", "/dev/null", "-q", cwd=tmp_path).returncode == 0
    done = command("predict", saved, "in.csv", "-o", "/dev/full", "-q", cwd=tmp_path)
    assert done.returncode == 1
    assert b"the disk is full" in done.stderr


def test_progress_for_programs_is_json(saved: Path, tmp_path: Path) -> None:
    write(shop(20), tmp_path / "in.csv")
    done = command("predict", saved, "in.csv", "-o", "out.csv", "--json", cwd=tmp_path)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events][-1] == "report"
    assert events[-1]["predicted"] == 20


@pytest.mark.usefixtures("started_anew")  # the memory of the model's process counts
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_input(kind: str, saved: Path, tmp_path: Path) -> None:
    """Six times the rows take about the same memory."""
    peaks = []
    for times in (200, 1200):
        source = repeated(times, tmp_path / f"in{times}.{kind}")
        words = ["predict", saved, source.name, "-o", "out.csv", "--overwrite", "-q", "--workers", 1]
        with running(*words, cwd=tmp_path) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, held(process.pid))
                time.sleep(0.1)
            assert process.returncode == 0
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 60_000_000, peaks
    with open(tmp_path / "out.csv", "rb") as file:
        assert sum(1 for _ in file) == 1_200_001
