"""Threats of SECURITY.md that belong to no one part: what listens, what is written where, names that are paths."""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import product
from pathlib import Path

import grpc
import pytest

import bimodal
from bimodal.realtime.server import Server
from tests.documents import wait_for
from tests.ports import free_port
from tests.realtime.times import put

ROOT = Path(__file__).parent.parent
SECURITY = (ROOT / "SECURITY.md").read_text()
LISTENS = "0A"  # the state of a TCP socket in /proc/net/tcp
ACCEPTS = 0x10000  # __SO_ACCEPTCON, the flag of a Unix socket that listens
IN_ACCESS, IN_OPEN, IN_NONBLOCK = 0x1, 0x20, 0o4000


def test_the_tests_of_the_table_are_there() -> None:
    named = re.findall(r"`((?:tests/[\w/.]+)?(?:::\w+)?)`", SECURITY.partition("## Threats")[2])
    assert len(named) > 20
    path = ""
    for each in named:
        file, _, name = each.partition("::")
        path = file or path
        assert (ROOT / path).exists(), each
        assert not name or re.search(rf"^(?:class|\s*def) {name}\b", (ROOT / path).read_text(), re.MULTILINE), each


# -- what listens, and what is written ---------------------------------------------------------------------------------

CONFIG = """
[server]
port = {port}
grpc_port = {grpc_port}

[models.sums]
path = "sums.py:Model"

[jobs.nightly]
model = "sums"
input = "input.csv"
output = "output.csv"
every = "1 day"
"""
MODEL = """
class Model:
    def predict(self, rows: list[list[float]]) -> list[float]:
        return [sum(row) for row in rows]
"""


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, set[int], int]]:
    """`bimodal up` with a server, a native model in a process of its own, scheduler and worker: its folder, its ports,
    its process."""
    folder = tmp_path_factory.mktemp("up")
    temporary = folder / "tmp"
    temporary.mkdir()
    ports = {free_port(), free_port()}
    first, second = ports
    (folder / "bimodal.toml").write_text(CONFIG.format(port=first, grpc_port=second))
    (folder / "sums.py").write_text(MODEL)
    (folder / "input.csv").write_text("a,b\n1,2\n")
    environment = {name: value for name, value in os.environ.items() if name != "BIMODAL_NURSERY"}
    environment |= {"TMPDIR": str(temporary), "BIMODAL_CACHE": str(folder / "cache")}
    environment.pop("BIMODAL_STATE", None)
    command = [sys.executable, "-m", "bimodal", "up"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, umask=0o022, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            assert process.stdout is not None
            while not (line := process.stdout.readline()).startswith(b"state:"):
                assert line, "it ended"
            for port in ports:
                wait_for(port, process)
            yield folder, ports, process.pid
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_only_the_configured_ports_listen(everything: tuple[Path, set[int], int]) -> None:
    """Of all processes, models' too; nothing waits for datagrams, no Unix socket has a name."""
    _, ports, pid = everything
    tree = _descendants(pid)
    assert len(tree) >= 3  # itself, a worker of the server, the model's process
    held = {inode for each in tree for inode in _sockets(each)}
    assert held
    found = []
    for family in ("tcp", "tcp6"):
        for line in _rows(family):
            if line[9] in held and line[3] == LISTENS:
                found.append((line[1].partition(":")[0], int(line[1].rpartition(":")[2], 16)))
    assert {port for _, port in found} == ports
    assert {address for address, _ in found} == {f"{struct.unpack('<I', socket.inet_aton('127.0.0.1'))[0]:08X}"}
    for family in ("udp", "udp6", "raw", "raw6"):
        assert [line for line in _rows(family) if line[9] in held] == []
    named = [line for line in _rows("unix") if line[6] in held and (int(line[3], 16) & ACCEPTS or len(line) > 7)]
    assert named == []


def test_what_is_written_is_the_users_own(everything: tuple[Path, set[int], int]) -> None:
    """With the usual umask of 022."""
    folder, _, _ = everything
    roots = [*(folder / "tmp").iterdir(), folder / ".bimodal", *folder.glob("cache")]
    assert len(roots) > 1
    for root in roots:
        for place in [root, *root.rglob("*")] if root.is_dir() else [root]:
            shut = any(_is_private(parent) for parent in (place, *place.parents) if parent.is_relative_to(root))
            assert shut, f"{place.relative_to(folder)} {stat.filemode(place.stat().st_mode)}"


def test_a_terminal_that_goes_ends_nothing(everything: tuple[Path, set[int], int]) -> None:
    """SIGHUP has files looked at again."""
    _, ports, pid = everything
    tree = _descendants(pid)
    os.kill(pid, signal.SIGHUP)
    for port in ports:
        assert list(_ask(port, [("GET", "/health/live")] * 3)) == [200] * 3
    assert set(tree) <= set(_descendants(pid))


def _is_private(place: Path) -> bool:
    return not place.stat().st_mode & 0o077


def _descendants(pid: int) -> list[int]:
    parents = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = each.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(each.parent.name)] = int(fields[1])
    found = [pid]
    for known in found:  # it grows as it goes
        found += [child for child, parent in parents.items() if parent == known]
    return found


def _sockets(pid: int) -> Iterator[str]:
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(each)
        except OSError:
            continue  # it was closed
        if target.startswith("socket:["):
            yield target[8:-1]


def _rows(family: str) -> list[list[str]]:
    return [line.split() for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]]


# -- requests ----------------------------------------------------------------------------------------------------------


def test_nothing_parses_multipart() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *(each for name, extra in project["optional-dependencies"].items()
                for each in extra if name != "dev")]  # fmt: skip
    assert [each for each in required if "multipart" in each or "starlette" in each] == []
    imports = re.compile(
        r"^\s*(?:import|from) (?:cgi|multipart|python_multipart|email\.parser|email\.message)\b", re.MULTILINE
    )
    sources = (ROOT / "src" / "bimodal" / "realtime").rglob("*.py")
    assert [each for each in sources if imports.search(each.read_text())] == []


DOTS = (
    "..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%c0%ae%c0%ae", "%uff0e%uff0e", "%ef%bc%8e%ef%bc%8e", "..%00", "...",
    "..;", "..%20", "..%09", "....",
)  # fmt: skip
SEPARATORS = (
    "/", "%2f", "%2F", "\\", "%5c", "%255c", "%252f", "%c0%af", "%e0%80%af", "//", "/./", ";/", "%00/", "%ef%bc%8f",
)  # fmt: skip
ROUTES = (
    ("POST", "/models/{}/predict"),
    ("POST", "/v2/models/{}/infer"),
    ("GET", "/v2/models/{}"),
    ("GET", "/v2/models/score/versions/{}"),
    ("POST", "/v2/repository/models/{}/load"),
    ("POST", "/v2/repository/models/{}/unload"),
    ("POST", "/v1/models/{}:predict"),
    ("GET", "/static/{}"),
)


class TestPathsInNames:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A repository of one model, and another model beside it, which would be loaded if a name led there."""
        folder = tmp_path_factory.mktemp("names")
        put(folder / "models" / "score" / "1", 1)
        put(folder / "outside" / "1", 2)
        put(folder / "outside", 3)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, folder: Path) -> Iterator[Server]:
        with bimodal.serve(folder / "models", port=0, features=["x"]) as server:
            yield server

    @staticmethod
    def names(folder: Path) -> list[str]:
        outside = str(folder / "outside")
        absolute = [outside, outside.replace("/", "%2f"), f"file://{outside}", f"file:%2f%2f{outside}", f"/{outside}"]
        return [f"{dots}{separator}outside" for dots, separator in product(DOTS, SEPARATORS)] + absolute

    def test_none_leads_out_over_http(self, server: Server, folder: Path) -> None:
        names = self.names(folder)
        assert len(names) > 200
        with _watched(folder / "outside") as opened:
            for name in names:
                for status in _ask(server.port, [(method, path.format(name)) for method, path in ROUTES]):
                    assert status in (400, 404), name
            assert not opened()
            assert (folder / "outside" / "model.py").read_bytes()
            assert opened()  # the watch works

    def test_none_leads_out_over_grpc(self, server: Server, folder: Path) -> None:
        places = {"ModelInfer": 1, "ModelMetadata": 1, "ModelConfig": 1, "ModelStatistics": 1}
        places |= {"RepositoryModelLoad": 2, "RepositoryModelUnload": 2}
        taken = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
        with _watched(folder / "outside") as opened, grpc.insecure_channel(server.grpc) as channel:
            for name in self.names(folder):
                data = name.encode()
                for method, place in places.items():
                    call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
                    with pytest.raises(grpc.RpcError) as raised:
                        call(bytes([place << 3 | 2, len(data)]) + data, timeout=20)
                    assert raised.value.code() in taken, (method, name)
            assert not opened()

    def test_a_pickle_is_no_content_type(self, server: Server, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        body = pickle.dumps(_Marks(str(mark)))
        kinds = ("application/vnd.bentoml+pickle", "application/x-pickle", "application/octet-stream", "python/pickle")
        for kind in kinds:
            for path in ("/predict", "/models/score/predict", "/invocations", "/v2/models/score/infer"):
                (status,) = _ask(server.port, [("POST", path)], body, kind)
                assert status in (400, 415), (kind, path)
        assert not mark.exists()


class _Marks:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def _ask(
    port: int, asked: list[tuple[str, str]], body: bytes = b'{"input": [[1]]}', kind: str = "application/json"
) -> Iterator[int]:
    """The status of each request, whose path is sent as it stands."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    for method, path in asked:
        connection.request(method, path, body if method == "POST" else None, {"content-type": kind})
        answer = connection.getresponse()
        answer.read()
        yield answer.status
    connection.close()


@contextmanager
def _watched(folder: Path) -> Iterator[Callable[[], bool]]:
    """Whether any process has opened or read anything in the folder since it was last asked (inotify)."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(IN_NONBLOCK)
    assert fd >= 0
    for place in (folder, *folder.rglob("*")):
        assert libc.inotify_add_watch(fd, os.fsencode(place), IN_ACCESS | IN_OPEN) >= 0

    def opened() -> bool:
        try:
            return bool(os.read(fd, 65536))
        except BlockingIOError:
            return False

    try:
        yield opened
    finally:
        os.close(fd)
