"""Nothing that callers send is unpickled or run, whatever it is called (promise 37, "deserialise request")."""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.formats.gadgets import spelled
from tests.formats.ways import call
from tests.realtime.gate import Gate, opened

FOREIGN = (  # in which other servers unpickle, or build objects
    "application/x-pickle", "application/python-pickle", "application/pickle", "application/x-python-pickle",
    "application/x-joblib", "application/x-cloudpickle", "application/vnd.python.pickle", "application/x-npy",
    "application/x-npz", "application/x-yaml", "application/yaml", "text/yaml", "application/xml", "text/xml",
    "application/msgpack", "application/x-msgpack", "application/cbor", "application/x-java-serialized-object",
    "application/x-dill", "multipart/form-data; boundary=x", "multipart/mixed; boundary=x", "image/png",
)  # fmt: skip
TAKEN = (  # by some routes: what is under these names is read as what it should be
    "application/json", "application/octet-stream", "application/vnd.apache.arrow.stream", "text/csv",
    "application/vnd.apache.arrow.file", "application/vnd.apache.parquet", "application/x-ndjson", "text/plain",
    "application/x-www-form-urlencoded", "application/x-parquet", "application/protobuf",
)  # fmt: skip
PREDICTING = ("/predict", "/infer", "/invocations")  # in lines (NDJSON) the status is out before the rows are read
EVENTS = ("pickle.find_class", "os.system", "os.posix_spawn", "subprocess.Popen")


class Heard:
    """What Python tells of, while it is listened to. A hook stays for good."""

    def __init__(self) -> None:
        self.events: Counter[str] | None = None
        self.thread = 0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple[Any, ...]) -> None:
        # pytest's own thread unpickles too, where a test asks it to; what answers is in another
        if self.events is not None and event in EVENTS and threading.get_ident() != self.thread:
            self.events[event] += 1

    @contextmanager
    def listening(self) -> Iterator[Counter[str]]:
        self.events, self.thread = Counter(), threading.get_ident()
        try:
            yield self.events
        finally:
            self.events = None


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with opened(tmp_path_factory.mktemp("gate")) as gate:
        yield gate


def harmful(mark: Path) -> dict[str, bytes]:
    """What makes a directory where it is unpickled, evaluated or built."""
    evil = spelled(call("os.mkdir", str(mark)), "stack 4")
    told = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": evil}
    table = pa.table({"input": [1.0]}, schema=pa.schema([pa.field("input", pa.float64(), metadata=told)]))
    stream, file, parquet, dumped, array = (io.BytesIO() for _ in range(5))
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    pyarrow.parquet.write_table(table, parquet)
    joblib.dump({"input": [1.0]}, dumped)
    np.lib.format.write_array_header_1_0(array, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="m.pkl"\r\n\r\n' + evil + b"\r\n--x--\r\n"
    entity = b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><r>&e;</r>'
    return {
        "pickle": evil,
        "joblib": dumped.getvalue(),
        "array of objects": array.getvalue() + evil,
        "Arrow stream": stream.getvalue(),
        "Arrow file": file.getvalue(),
        "Parquet": parquet.getvalue(),
        "form": form,
        "XML": entity,
        "YAML": f"!!python/object/apply:os.mkdir ['{mark}']".encode(),
        "MessagePack": b"\xc7" + bytes([len(evil)]) + b"\x05" + evil,
        "JSON": b'{"py/reduce": [{"py/function": "os.mkdir"}, {"py/tuple": ["%s"]}]}' % str(mark).encode(),
    }


def posts(gate: Gate) -> list[str]:
    """The path of every route that takes a POST."""
    app = gate.wired.app
    begun = [f"{begin}{more}" for way, begin in app.begins if way == "POST" for more in ("inline/load", "nightly")]
    return list(dict.fromkeys([*(path for way, path in app.routes if way == "POST"), *app.streams, *begun]))


def swept(gate: Gate, heard: Heard, mark: Path, kinds: tuple[str, ...], bodies: dict[str, bytes]) -> list[Any]:
    """(path, content type, body, status) of every answer."""
    found = []
    key = f"Bearer {gate.known['all']}"
    with heard.listening() as events:
        for path, kind, (name, body) in product(posts(gate), kinds, bodies.items()):
            # a connection each: the server closes one whose body it has not read to the end
            with closing(HTTPConnection("127.0.0.1", gate.port, timeout=30)) as connection:
                connection.request("POST", path, body, {"content-type": kind, "authorization": key})
                found.append((path, kind, name, connection.getresponse().status))
    assert events == Counter()
    assert not mark.exists()
    return found


def test_what_other_servers_unpickle_is_not_understood(gate: Gate, heard: Heard, tmp_path: Path) -> None:
    bodies = harmful(tmp_path / "mark")
    chosen = {name: bodies[name] for name in ("pickle", "form")}
    found = swept(gate, heard, tmp_path / "mark", FOREIGN, chosen)
    paths = {path for path, *_ in found}
    assert len(paths) > 15
    assert [each for each in found if not 400 <= each[3] < 500] == []
    predicting = [each for each in found if each[0].endswith(PREDICTING)]
    assert {each[3] for each in predicting} <= {400, 415}


def test_what_is_misnamed_is_not_run(gate: Gate, heard: Heard, tmp_path: Path) -> None:
    """A pickle called JSON is no JSON; a column of Arrow that says it is a pickled type is a column of numbers."""
    found = swept(gate, heard, tmp_path / "mark", TAKEN, harmful(tmp_path / "mark"))
    alone = "/v2/repository/models/"  # 503: this server has no parent that would load a model
    assert [each for each in found if each[3] >= 500 and not each[0].startswith(alone)] == []
    predicting = [each for each in found if each[0].endswith(PREDICTING) and each[1] != "application/x-ndjson"]
    assert {each[3] for each in predicting if each[2] in ("pickle", "joblib", "form", "XML")} <= {400, 415}


def test_the_counter_counts(gate: Gate, heard: Heard, tmp_path: Path) -> None:
    def unpickle(mark: Path) -> None:
        pickle.loads(harmful(mark)["pickle"])

    with heard.listening() as events:
        _elsewhere(lambda: unpickle(tmp_path / "mark"))
    assert events["pickle.find_class"] == 1
    assert (tmp_path / "mark").exists()


def _elsewhere(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
