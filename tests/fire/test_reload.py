"""Promise 5, for models that were named on the command line: a file that is replaced is served in place, by a signal or
by looking, and a broken one never serves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from bimodal import pack, serve
from bimodal.realtime import keeper
from bimodal.realtime.named import Named
from bimodal.realtime.repository import Found
from tests.fire.load import Load
from tests.realtime.test_repository import Shop
from tests.realtime.times import put

MODEL = """
import numpy as np

class Times:
    outputs = {{"prediction": float}}

    def predict(self, rows):
        return {{"prediction": np.asarray(rows)[:, 0] * {factor}}}
"""


def write(place: Path, factor: float, broken: str = "") -> None:
    new = place.with_suffix(".new")
    new.write_text(broken + MODEL.format(factor=factor))
    new.rename(place)


def fit(place: Path, factor: float) -> None:
    rows = np.arange(8.0)[:, None]
    new = place.with_suffix(".new")
    joblib.dump(LinearRegression(fit_intercept=False).fit(rows, factor * rows[:, 0]), new)
    new.rename(place)


def wait(until: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two workers with one model written in Python."""
    folder = tmp_path_factory.mktemp("named")
    write(folder / "times.py", 1)
    shop = Shop(folder / "times.py", workers=2, features=["x"])
    yield shop
    shop.close()


def reason(shop: Shop) -> str:
    ((_, told),) = shop.states("times").values()
    return told


def served(shop: Shop, factor: float, path: str = "") -> Callable[[], bool]:
    """Whether all workers multiply by it: they change one after the other, and each question is for either."""
    return lambda: {shop.answer(path) for _ in range(8)} == {factor}


def test_a_file_that_is_replaced_is_served_in_place_without_a_failed_request(shop: Shop) -> None:
    body = b'{"input": [[2.0]]}'
    with Load(f"{shop.server.url}/predict", 60, 4.0, [body]).begin() as running:
        write(shop.folder, 3)
        shop.server.refresh()
        wait(lambda: shop.ask("/predict", {"rows": [{"x": 2.0}]}) == (200, {"prediction": [6.0]}))
        outcome = running.finish()
    assert set(outcome.statuses) <= {200, 429}
    assert outcome.statuses[200] > 100
    wait(served(shop, 3))
    wait(served(shop, 3, "/models/times"))


def test_a_broken_file_never_serves_and_its_reason_is_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    before = shop.answer("")
    write(shop.folder, 9, "raise ValueError('half of it')\n")
    shop.server.refresh()
    wait(lambda: "half of it" in reason(shop))
    assert "cannot be served" in caplog.text
    assert shop.factor("") == before
    assert shop.ask("/health/ready")[0] == 200  # what it serves, it serves
    write(shop.folder, 4)
    shop.server.refresh()
    wait(lambda: shop.answer("") == 4 and reason(shop) == "")  # each asks either worker, and one is first


def test_a_worker_that_ends_meanwhile_comes_back_with_what_is_served(shop: Shop) -> None:
    write(shop.folder, 5)
    shop.server.refresh()
    os.kill(shop.server.pids[0], signal.SIGKILL)
    wait(lambda: len(shop.server.pids) == 2 and served(shop, 5)())


def test_two_refreshes_at_once_are_two_looks(shop: Shop) -> None:
    write(shop.folder, 6)
    callers = [threading.Thread(target=shop.server.refresh) for _ in range(4)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    wait(served(shop, 6))
    write(shop.folder, 7)
    shop.server.refresh()
    wait(served(shop, 7))


def test_what_is_loaded_through_the_repository_calls_is_none_of_it(shop: Shop) -> None:
    assert shop.load("times")[0] == 400


def test_a_pickle_is_served_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Followed: nobody asks. What happens to the file later changes nothing, also not for a worker that starts anew."""
    monkeypatch.setattr(keeper, "EVERY", 0.05)
    file = tmp_path / "line.pkl"
    fit(file, 1)
    shop = Shop(file, workers=1, features=["x"], reload=True)
    try:
        assert shop.answer("") == pytest.approx(1)
        fit(file, 2)
        wait(lambda: abs(shop.answer("") - 2) < 1e-9)
        file.write_bytes(b"\x80\x04 half of a file")
        wait(lambda: next(iter(shop.states("line").values()))[1] != "")
        (pid,) = shop.server.pids
        os.kill(pid, signal.SIGKILL)
        wait(lambda: shop.server.pids not in ([pid], []))
        wait(lambda: shop.ask("/health/ready")[0] == 200)  # 503 until there is a worker again
        assert shop.answer("") == pytest.approx(2)
    finally:
        shop.close()


def test_a_package_is_replaced(tmp_path: Path) -> None:
    place, rows = tmp_path / "line.bimodal", np.arange(8.0)[:, None]
    for factor in (1, 2):
        fitted = LinearRegression(fit_intercept=False).fit(rows, factor * rows[:, 0])
        if factor == 1:
            pack(fitted, place, sample=[{"x": each} for each in rows[:, 0]], features=["x"])
            server = serve(place, port=0)
            continue
        other = tmp_path / "other.bimodal"
        pack(fitted, other, sample=[{"x": each} for each in rows[:, 0]], features=["x"], name="line")
        place.rename(tmp_path / "old.bimodal")
        other.rename(place)
    shop = Shop.__new__(Shop)
    shop.server = server
    try:
        assert shop.answer("") == pytest.approx(1)
        server.refresh()
        wait(lambda: abs(shop.answer("") - 2) < 1e-9)
    finally:
        server.close()


def test_a_signal_does_it_for_the_command(tmp_path: Path) -> None:
    file = tmp_path / "times.py"
    write(file, 1)
    command = [sys.executable, "-m", "bimodal", "serve", str(file), "--features", "x", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        printed = process.stdout
        assert printed is not None
        url = printed.readline().decode().rsplit(" ", 1)[1].strip()
        shop = Shop.__new__(Shop)
        shop.server = type("At", (), {"url": url})()  # an address is all that is asked of it
        try:
            assert shop.answer("") == 1
            write(file, 2)
            process.send_signal(signal.SIGHUP)
            wait(lambda: shop.answer("") == 2)
            told = b""
            while b" is served: native" not in told:  # the line comes when the worker has changed
                assert process.stderr is not None
                told = process.stderr.readline()
                assert told, "it ended"
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_worker_that_starts_again_serves_what_was_loaded_though_the_file_is_broken_by_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before any reload: the file as it was named, a pickle and one in Python that reads what stands beside it."""
    (tmp_path / "beside.txt").write_text("2")
    file, pickle = tmp_path / "times.py", tmp_path / "line.pkl"
    write(file, 3, "from pathlib import Path\nassert (Path(__file__).parent / 'beside.txt').read_text() == '2'\n")
    fit(pickle, 4)
    with serve(file, pickle, port=0, features=["x"]) as server:
        shop = Shop.__new__(Shop)
        shop.server = server
        wait(lambda: not server._keeper._asks.qsize())
        wait(lambda: all(held[0].folder for held in server._keeper._stock.held.values()))
        file.write_text("outputs = 'of another name'")
        pickle.write_bytes(b"\x80\x04 half of a file")
        server.refresh()
        wait(lambda: "cannot be served" in caplog.text)
        (pid,) = server.pids
        os.kill(pid, signal.SIGKILL)
        wait(lambda: server.pids not in ([pid], []))
        wait(lambda: shop.ask("/health/ready")[0] == 200)
        assert shop.factor("/models/times") == 3
        assert shop.factor("/models/line") == pytest.approx(4)
    assert "cannot start again" not in caplog.text


def put_same(place: Path, factor: int) -> None:
    """As `cp -p` puts a model of the same shape there: same size, same inode, same time."""
    place.write_text(MODEL.format(factor=factor))
    os.utime(place, (1e9, 1e9))


def test_a_file_of_the_same_size_and_time_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "EVERY", 0.05)
    file = tmp_path / "times.py"
    put_same(file, 1)
    shop = Shop(file, workers=1, features=["x"], reload=True)
    try:
        assert shop.answer("") == 1
        put_same(file, 2)
        wait(lambda: shop.answer("") == 2)
    finally:
        shop.close()


def test_where_somebody_asks_the_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that tells nothing by its times."""
    monkeypatch.setattr(Named, "stamp", lambda _: ())
    monkeypatch.setattr(Found, "stamp", lambda _: ())
    folder, file = tmp_path / "models", tmp_path / "times.py"
    (folder / "score" / "1").mkdir(parents=True)
    put_same(folder / "score" / "1" / "model.py", 1)
    put_same(file, 1)
    shop = Shop(file, workers=1, features=["x"], repository=folder)
    try:
        put_same(file, 2)
        put_same(folder / "score" / "1" / "model.py", 3)
        assert shop.load("score")[0] == 200
        assert (shop.answer("/models/times"), shop.answer("/models/score")) == (1, 3)
        put_same(folder / "score" / "1" / "model.py", 4)
        shop.server.refresh()
        wait(lambda: (shop.answer("/models/times"), shop.answer("/models/score")) == (2, 4))
    finally:
        shop.close()


def test_the_end_waits_for_no_load_and_its_caller_is_told(tmp_path: Path) -> None:
    put(tmp_path / "score" / "1", 1)
    command = [sys.executable, "-m", "bimodal", "serve", str(tmp_path), "--features", "x", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        printed = process.stdout
        assert printed is not None
        shop = Shop.__new__(Shop)
        shop.server = type("At", (), {"url": printed.readline().decode().rsplit(" ", 1)[1].strip()})()
        begun = tmp_path / "begun"
        put(tmp_path / "score" / "2", 2, f"open({str(begun)!r}, 'w').close(); __import__('time').sleep(300)")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(shop.load, "score")
            wait(begun.exists)
            wait(lambda: b"grpc" in printed.readline())  # all is printed: it waits
            time.sleep(0.3)
            process.terminate()
            before = time.monotonic()
            told = process.communicate(timeout=60)[1]
            assert time.monotonic() - before < 25  # the grace is 30 s
            status, answered = answer.result()
    assert (status, answered["code"]) == (503, "unavailable"), answered
    assert process.returncode == 0
    assert b"cut off" not in told
    assert b"Traceback" not in told
