"""The prediction log: what models were given and what they answered, in whole files, and never in the way."""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bimodal
from bimodal import logged
from bimodal.errors import UsageError
from bimodal.model import Model, load
from bimodal.realtime import logfile, recorder
from bimodal.realtime.exchange import Request
from bimodal.realtime.kept import Kept
from bimodal.realtime.logfile import LogFile
from bimodal.realtime.recorder import Logbook
from bimodal.realtime.work import Batch, Work
from bimodal.rows import Rows
from bimodal.table import to_stream
from tests.realtime.callers import Caller, request
from tests.realtime.desk import Ask, Desk

CODE = '''
import numpy as np
from bimodal import Field

class Kinds:
    """Answers with what it was given: so that every bit of the log can be compared."""
    inputs = [
        Field("number", "float64", nullable=True), Field("id", "int64", example=1),
        Field("word", "string", nullable=True), Field("member", "bool", example=True),
        Field("plan", "string", categories=("free", "pro"), closed=True, example="pro"),
        Field("at", "timestamp", nullable=True), Field("maybe", "int64", nullable=True),
    ]
    outputs = [Field("twice", "int64"), Field("echo", "float64", nullable=True)]

    def predict(self, rows):
        ids, numbers = rows.array("id"), rows.array("number")
        if (ids == 666).any():
            raise ValueError("no")
        return {"twice": ids ^ 1, "echo": numbers}
'''
BIG = 2**63 - 5
DOOR, NUMBERS = SimpleNamespace(route="predict"), itertools.count()
ROW: dict[str, Any] = {
    "number": 1.5, "id": BIG, "word": "ä, b", "plan": "pro", "member": True, "at": "2024-02-29T12:00:00", "maybe": None
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("kinds") / "kinds.py"
    path.write_text(CODE)
    with load(f"{path}:Kinds", name="kinds") as loaded:
        yield loaded


@pytest.fixture
def desk(model: Model, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Makes an app that writes a log into `tmp_path/log`."""
    made: list[Desk] = []

    def make(**told: Any) -> Desk:
        spec = {"folder": str(tmp_path / "log"), "sample": 1.0, "age": 60.0, "without": [], "models": {}, "alone": True}
        made.append(Desk(cast(Model, Lent(model)), spec={"record": spec | told}))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Lent:
    """A model that its server may close."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def close(self) -> None:
        """It goes on."""


def end(desk: Desk) -> None:
    """As SIGTERM ends a worker."""
    desk.run(desk.wired.close)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All rows of a log, as DuckDB reads it."""
    pattern = str(folder / "**" / "*.parquet")
    found = duckdb.sql(f"select * from read_parquet('{pattern}', union_by_name = true)")
    assert found is not None
    return list(found.to_arrow_table().to_pylist())


def test_every_kind_of_value_is_logged_as_the_model_was_given_it(desk: Callable[..., Desk], tmp_path: Path) -> None:
    app = desk()
    answer = app.answer({"rows": [ROW | {"order": 17}], "keep": ["order"]}, headers={"X-Request-Id": "a-1"})
    assert answer == {"order": [17], "twice": [BIG ^ 1], "echo": [1.5]}
    end(app)
    (path,) = (tmp_path / "log").rglob("*.parquet")
    told = pq.read_table(path)
    types = {each.name: str(each.type) for each in told.schema}
    assert types["id"] == types["maybe"] == types["logged_twice"] == "int64"
    assert types["member"] == "bool"
    assert types["at"] == "timestamp[us]"
    (row,) = rows_of(tmp_path / "log")
    assert [row[name] for name in ("number", "id", "word", "plan", "member")] == [1.5, BIG, ROW["word"], "pro", True]
    assert str(row["at"]) == "2024-02-29 12:00:00"
    assert row["maybe"] is None
    assert row["logged_twice"] == BIG ^ 1
    assert (row["logged_request_id"], row["logged_row"], row["logged_route"]) == ("a-1", 1, "predict")
    assert json.loads(row["logged_kept"]) == {"order": 17}
    assert row["logged_outputs"] == "twice,echo"
    assert row["logged_model"] == "kinds"
    assert row["logged_runtime"] == "native"
    assert abs(row["logged_time"].timestamp() - time.time()) < 60


def test_a_missing_value_is_null_and_an_output_not_asked_for_too(desk: Callable[..., Desk], tmp_path: Path) -> None:
    app = desk()
    app.answer({"rows": [ROW | {"number": None, "word": None, "at": None, "maybe": 7}], "outputs": ["twice"]})
    end(app)
    (row,) = rows_of(tmp_path / "log")
    assert [row[name] for name in ("number", "word", "at", "maybe", "logged_echo")] == [None, None, None, 7, None]


def test_every_wire_is_logged_with_its_ids_and_row_numbers(desk: Callable[..., Desk], tmp_path: Path) -> None:
    app = desk()
    two = [ROW, ROW | {"id": 2**53 + 1}]
    columns = {name: [row[name] for row in two] for name in ROW}
    table = pa.table(columns | {"at": pd.to_datetime(columns["at"]), "maybe": pa.array([None, None], pa.int64())})
    app.answer({"rows": two}, headers={"X-Request-Id": "json"})
    app.answer({"instances": two}, "/v1/models/kinds:predict", headers={"X-Request-Id": "instances"})
    arrow = app.ask("/predict?keep=order", to_stream(table.append_column("order", pa.array([8, 9]))), headers={
        "X-Request-Id": "arrow"}, kind="application/vnd.apache.arrow.stream")  # fmt: skip
    assert arrow.status == 200, arrow.body
    kinds = ("FP64", "INT64", "BYTES", "BYTES", "BOOL", "BYTES")
    tensors = {name: (kind, columns[name]) for name, kind in zip(ROW, kinds, strict=False)}
    asked = tensors | {"maybe": ("INT64", [None, None])}
    inputs = [{"name": name, "datatype": kind, "shape": [2], "data": data} for name, (kind, data) in asked.items()]
    app.answer({"id": "rest", "inputs": inputs}, "/v2/models/kinds/infer")
    Caller(app).infer(request("kinds", tensors | {"maybe": ("INT64", [3, 4])}, id="grpc"))
    lines = app.stream([json.dumps(each).encode() + b"\n" for each in (*two, {"bad": 1}, ROW)])
    assert len(lines) == 4
    end(app)
    found = rows_of(tmp_path / "log")
    told = sorted((row["logged_request_id"], row["logged_row"], row["id"]) for row in found)
    stream = {row["logged_request_id"] for row in found if row["logged_route"] == "stream"}
    assert len(stream) == 1
    ids = ["json", "instances", "arrow", "rest", "grpc"]
    assert told == sorted(
        [(name, number, each["id"]) for name in ids for number, each in enumerate(two, 1)]
        + [(*stream, 1, BIG), (*stream, 2, 2**53 + 1), (*stream, 4, BIG)]
    )
    assert {row["logged_route"] for row in found} == {"predict", "instances", "infer", "grpc infer", "stream"}
    kept = {row["logged_row"]: json.loads(row["logged_kept"]) for row in found if row["logged_request_id"] == "arrow"}
    assert kept == {1: {"order": 8}, 2: {"order": 9}}


def test_of_a_batch_only_those_are_logged_who_were_answered(desk: Callable[..., Desk], tmp_path: Path) -> None:
    app = desk()
    asks = [Ask(body={"rows": [ROW | {"id": name}]}, headers={"X-Request-Id": str(name)}) for name in (1, 666, 3)]
    assert [each.status for each in app.together(asks)] == [200, 500, 200]
    app.error({"rows": [ROW | {"id": "x"}]})
    end(app)
    assert sorted((row["logged_request_id"], row["id"]) for row in rows_of(tmp_path / "log")) == [("1", 1), ("3", 3)]


def test_a_sample_is_of_whole_requests_and_follows_their_ids(desk: Callable[..., Desk], tmp_path: Path) -> None:
    asks = [Ask(body={"rows": [ROW, ROW]}, headers={"X-Request-Id": f"r{n}"}) for n in range(200)]
    kept = []
    for part in ("one", "two"):
        app = desk(folder=str(tmp_path / part), sample=0.3)
        app.together(asks)
        end(app)
        found = [row["logged_request_id"] for row in rows_of(tmp_path / part)]
        assert {found.count(name) for name in found} == {2}
        kept.append(set(found))
    assert kept[0] == kept[1]
    assert 30 < len(kept[0]) < 90


class Taken:
    """Takes the place of a log: counts what it is given, by the column `id`."""

    dropped = 0

    def __init__(self) -> None:
        self.rows: Counter[int] = Counter()

    def put(self, kept: Kept) -> bool:
        self.rows.update(kept.given.array("id").tolist())
        assert kept.rows == kept.given.count == kept.answer.count == kept.origins.works
        return True


def test_a_sample_is_a_fair_share_of_every_kind_of_request(model: Model) -> None:
    """A kind is a place in a batch of some size. How often one is drawn is binomial: eight standard deviations off is
    no chance. Half of those in a batch of eight have an id of their caller.
    """
    taken = Taken()
    kept = recorder.Recorder(cast(Logbook, taken), model, sample=0.1)
    for size in (1, 2, 8, 32):
        batches = 20_000 // size
        for number in range(batches):
            works = [work(b"%d-%d" % (number, each) if size == 8 and each % 2 else None) for each in range(size)]
            kinds = range(100 * size, 100 * size + size)
            rows = Rows({"id": np.array(kinds)})
            kept(Batch(works, rows, rows, 0.0, 0.0, inline=True), [(each, b"") for each in works])
        bound = 8 * (0.1 * 0.9 / batches) ** 0.5
        for kind in kinds:
            assert abs(taken.rows[kind] / batches - 0.1) < bound, (size, kind)


def test_what_is_not_drawn_is_not_looked_at(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "random", lambda: 0.1)
    taken = Taken()
    works = [work(), work()]
    one = Rows({"id": np.array([1, 2])})
    asked = [(each, b"") for each in works]
    left_out = Batch(works, None, None, 0.0, 0.0, inline=True)  # type: ignore[arg-type]  # nobody looks
    recorder.Recorder(cast(Logbook, taken), model, sample=0.1)(left_out, asked)
    assert not taken.rows
    recorder.Recorder(cast(Logbook, taken), model, sample=0.11)(Batch(works, one, one, 0.0, 0.0, inline=True), asked)
    assert taken.rows == {1: 1, 2: 1}


def work(given: bytes | None = None) -> Work:
    """One row. Its id is the caller's, or one that the wire made for the access log."""
    headers = {} if given is None else {b"x-request-id": given}
    request = Request("POST", "/predict", "", headers, b"{}", 0.0, False, given or b"%016x" % next(NUMBERS))
    told: tuple[Any, ...] = (DOOR, request, None, None, [], 1, (("twice",), None), 0.0, 0.0)
    return Work(*told)


def test_columns_are_left_out_and_a_slip_in_their_names_is_an_error(
    desk: Callable[..., Desk], tmp_path: Path, model: Model
) -> None:
    app = desk(without=["word", "echo"])
    app.answer({"rows": [ROW]})
    end(app)
    (row,) = rows_of(tmp_path / "log")
    assert not {"word", "logged_echo"} & row.keys()
    assert row["id"] == BIG
    with pytest.raises(UsageError, match="has no column 'wrod'; did you mean 'word'"):
        recorder._known(["wrod"], model, strict=True)
    assert recorder._known(["street", "word"], model, strict=False) == ["word"]  # several models share the setting


def test_files_and_folders_are_for_their_owner_alone(desk: Callable[..., Desk], tmp_path: Path) -> None:
    app = desk(folder=str(tmp_path / "a" / "log"))
    app.answer({"rows": [ROW]})
    end(app)
    for path in [tmp_path / "a", *(tmp_path / "a").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_model_may_have_a_log_of_its_own_or_none(desk: Callable[..., Desk], tmp_path: Path) -> None:
    app = desk(models={"kinds": {"folder": str(tmp_path / "own")}})
    app.answer({"rows": [ROW]})
    end(app)
    assert len(rows_of(tmp_path / "own")) == 1
    assert not (tmp_path / "log").exists()
    app = desk(models={"kinds": {"sample": 0.0}})
    assert app.wired.service.find("kinds").recorder is None
    end(app)


# -- bounded, and never in the way -----------------------------------------------------------------------------------


def test_where_nothing_is_logged_the_request_path_has_no_recorder(model: Model) -> None:
    app = Desk(cast(Model, Lent(model)))
    assert app.wired.service.find("kinds").recorder is None
    assert b"prediction_log_rows_total 0" in app.get("/metrics").body
    app.close()


def test_a_full_disk_costs_rows_that_are_counted_and_no_request(
    desk: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "LINGER", 0.0)
    monkeypatch.setattr(recorder, "AGAIN", 0.0)
    app = desk()
    app.answer({"rows": [ROW]}, headers={"X-Request-Id": "before"})
    waits(lambda: metric(app, "rows") == 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for lost in (2, 4, 6):
            assert app.answer({"rows": [ROW, ROW]})["echo"] == [1.5, 1.5]
            waits(partial(has_dropped, app, lost))
    app.answer({"rows": [ROW]}, headers={"X-Request-Id": "after"})
    end(app)
    assert [row["logged_request_id"] for row in rows_of(tmp_path / "log")] == ["before", "after"]
    assert [each.message for each in caplog.records if "prediction log" in each.message] == [
        "the prediction log cannot be written: No space left on device; it lacks 2 rows so far",
        "the prediction log is written again; it lacks 6 rows",
    ]


def full(number: int, data: Any) -> int:
    raise OSError(28, "No space left on device")


def test_a_slow_disk_fills_the_queue_and_no_more(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recorder, "QUEUED_ROWS", 50)
    monkeypatch.setattr(recorder, "LINGER", 0.0)
    append, held = LogFile.append, [True]

    def slow(self: LogFile, batch: pa.RecordBatch) -> None:
        while held[0]:
            time.sleep(0.01)
        append(self, batch)

    monkeypatch.setattr(LogFile, "append", slow)
    app = desk()
    app.answer({"rows": [ROW] * 5})
    served = app.wired.service.find("kinds")
    assert isinstance(served.recorder, recorder.Recorder)
    book = served.recorder._book
    waits(lambda: book.waiting == 0)  # the thread has them, and is held up
    for _ in range(20):
        app.answer({"rows": [ROW] * 10})
    assert book.waiting == 50
    assert metric(app, "dropped_rows") == 150
    held[0] = False
    end(app)
    assert len(rows_of(tmp_path / "log")) == 55


def test_the_bytes_of_the_requests_that_wait_are_bounded_too(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "QUEUED_BYTES", 200_000)
    monkeypatch.setattr(recorder, "LINGER", 60.0)
    app = desk()
    for _ in range(10):
        app.answer({"rows": [ROW | {"word": "x" * 60_000}]})
    assert 7 <= metric(app, "dropped_rows") <= 8
    end(app)


def waits(met: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not met():
        assert time.monotonic() < until
        time.sleep(0.01)


def metric(app: Desk, name: str) -> float:
    told = app.get("/metrics").body.decode()
    (line,) = [each for each in told.splitlines() if each.startswith(f"bimodal_prediction_log_{name}_total")]
    return float(line.rpartition(" ")[2])


def has_dropped(app: Desk, rows: int) -> bool:
    return metric(app, "dropped_rows") == rows


# -- files -----------------------------------------------------------------------------------------------------------


SCHEMA = pa.schema([("a", pa.int64())])


def batch(*values: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log" / "x.parquet", SCHEMA)
    file.append(batch(1, 2))
    assert [path.name for path in (tmp_path / "log").iterdir()] == [".x.arrow"]
    file.append(batch(3))
    file.publish()
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["x.parquet"]
    assert pq.read_table(tmp_path / "log").column("a").to_pylist() == [1, 2, 3]


@settings(max_examples=60)
@given(cut=st.floats(0, 1), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_what_a_killed_process_left_is_taken_over_up_to_where_it_breaks_off(
    tmp_path_factory: pytest.TempPathFactory, cut: float, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    file = LogFile(folder / "x.parquet", SCHEMA)
    ends, values = [], 0
    for size in sizes:
        file.append(batch(*range(values, values + size)))
        values += size
        ends.append((file.size, values))
    assert list(logfile.left(folder)) == []  # somebody still grows it
    os.close(file._number)
    stream = folder / ".x.arrow"
    data = stream.read_bytes()
    whole = round(cut * len(data))
    stream.write_bytes(data[:whole])
    ((path, place, number),) = logfile.left(folder)
    rows = logfile.publish(path, place)
    os.close(number)
    assert rows == max([count for size, count in ends if size <= whole], default=0)
    assert [each.name for each in folder.iterdir()] == (["x.parquet"] if rows else [])
    if rows:
        assert pq.read_table(place).column("a").to_pylist() == list(range(rows))


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LogFile(tmp_path / "x.parquet", SCHEMA)
    file.append(batch(1))
    write, calls = os.write, []

    def torn(number: int, data: memoryview) -> int:
        calls.append(number)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(number, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", torn)
        with pytest.raises(OSError, match="No space"):
            file.append(batch(2))
    file.append(batch(3))
    file.publish()
    assert pq.read_table(tmp_path).column("a").to_pylist() == [1, 3]


def test_a_file_that_cannot_be_finished_is_finished_later(
    desk: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "LINGER", 0.0)
    monkeypatch.setattr(recorder, "AGAIN", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(logfile, "sync", lambda path: full(0, path))
        app = desk(age=0.05)
        app.answer({"rows": [ROW]})
        served = app.wired.service.find("kinds").recorder
        assert isinstance(served, recorder.Recorder)
        waits(lambda: len(served._book._sealed) == 1)
        assert not list((tmp_path / "log").rglob("*.parquet"))
    waits(lambda: len(list((tmp_path / "log").rglob("[!.]*.parquet"))) == 1)
    end(app)
    assert len(rows_of(tmp_path / "log")) == 1


def test_files_are_bounded_by_rows_and_by_age(
    desk: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "LINGER", 0.0)
    monkeypatch.setattr(recorder, "PIECE", 10)
    monkeypatch.setattr(recorder, "FILE_ROWS", 10)
    app = desk(age=0.2)
    for _ in range(3):
        app.answer({"rows": [ROW] * 10})
    waits(lambda: len(list((tmp_path / "log").rglob("[!.]*.parquet"))) == 3)
    app.answer({"rows": [ROW]})
    waits(lambda: len(list((tmp_path / "log").rglob("[!.]*.parquet"))) == 4)  # nothing came after it
    end(app)


# -- columns ---------------------------------------------------------------------------------------------------------


def test_a_vector_is_columns_and_a_model_of_any_width_is_lists(tmp_path: Path) -> None:
    path = tmp_path / "open.py"
    path.write_text("class Sum:\n    def predict(self, rows):\n        return rows.sum(axis=1)\n")
    with load(f"{path}:Sum", name="open") as loaded:
        spec = {"folder": str(tmp_path / "log"), "sample": 1.0, "age": 60.0, "without": [], "models": {}, "alone": True}
        app = Desk(loaded, spec={"record": spec})
        app.together([Ask(body={"input": [[1.0] * width]}) for width in (2, 3, 2)])
        end(app)
        app.close()
    (name,) = [each for each in rows_of(tmp_path / "log")[0] if not each.startswith("logged_")]
    assert sorted(row[name] for row in rows_of(tmp_path / "log")) == [[1.0] * 2, [1.0] * 2, [1.0] * 3]


@given(shape=st.lists(st.integers(0, 3), min_size=1, max_size=3), count=st.integers(0, 4))
def test_values_of_more_axes_are_nested_lists(shape: list[int], count: int) -> None:
    array = np.arange(count * int(np.prod(shape)), dtype=np.float32).reshape(count, *shape)
    made = logged.arrow(bimodal.Field("image", "float32", tuple(shape)), array)
    assert made.to_pylist() == array.tolist()
    assert len(made) == count


def test_a_feature_with_the_name_of_a_column_of_the_log_is_an_error(tmp_path: Path) -> None:
    signature = bimodal.Signature(
        (bimodal.Field("logged_row", "float64"),), (bimodal.Field("prediction", "float64"),), named=True
    )
    with pytest.raises(UsageError, match="prediction_log_without = logged_row"):
        logged.Columns(signature)
    assert logged.Columns(signature, ["logged_row"]).features == []


# -- whole servers ---------------------------------------------------------------------------------------------------


def test_a_file_where_the_folder_should_be_keeps_the_server_from_starting(model: Model, tmp_path: Path) -> None:
    place = tmp_path / "log"
    place.write_text("a file")
    with pytest.raises(UsageError, match="cannot be made: a file has its name"):
        bimodal.serve(model, port=0, prediction_log=place)


def test_a_killed_worker_loses_nothing_that_was_written_and_a_stopped_one_nothing_at_all(tmp_path: Path) -> None:
    """What was answered stands in a stream a moment later; who takes the worker's place makes a file of it."""
    (tmp_path / "kinds.py").write_text(CODE)
    (tmp_path / "bimodal.toml").write_text(
        '[server]\nport = 0\nprediction_log = "log"\nprediction_log_sample = "100%"\n'
        '[models.kinds]\npath = "kinds.py:Kinds"\nprediction_log_without = ["word"]\n'
    )
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-m", "bimodal", "serve", "bimodal.toml"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        with bimodal.Client(server.stdout.readline().split()[-1]) as client:
            for number in range(20):
                client.predict([ROW | {"id": number}])
            waits(lambda: sum([len(whole(each)) for each in streams(log)]) == 20)
            (stream,) = streams(log)
            os.kill(int(stream.name.split("-")[2]), signal.SIGKILL)
            waits(lambda: len(list(log.rglob("[!.]*.parquet"))) == 1)
            assert sorted(row["id"] for row in rows_of(log)) == list(range(20))
            waits(lambda: answers(client))
            client.predict([ROW | {"id": 99}])
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    found = rows_of(log)
    assert {row["id"] for row in found} == {*range(20), 99, BIG}
    assert all("word" not in row for row in found)
    assert streams(log) == []


def answers(client: bimodal.Client) -> bool:
    try:
        client.predict([ROW])
    except (bimodal.errors.BimodalError, OSError):
        return False
    return True


def streams(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.arrow"))


def whole(stream: Path) -> list[int]:
    try:
        with pa.memory_map(str(stream)) as source:
            return [value for each in logfile._whole(source) for value in each.column("id").to_pylist()]
    except (OSError, pa.ArrowInvalid):
        return []
