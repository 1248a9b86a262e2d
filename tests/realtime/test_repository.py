"""A repository behind a real server: models come and go in all workers, and nobody notices."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from bimodal import load, pack, serve
from bimodal.errors import AnswersChanged, ModelError, UsageError
from bimodal.golden import Golden
from bimodal.realtime import keeper
from bimodal.realtime.catalogue import ready
from bimodal.realtime.once import answer_once
from bimodal.realtime.protocols.description import REPOSITORY
from bimodal.realtime.server import Server
from bimodal.realtime.serving import prepare
from bimodal.rows import Rows
from tests.models import CASES
from tests.realtime.desk import Desk
from tests.realtime.times import put


class Shop:
    """A server with a repository, and how callers see it."""

    def __init__(self, folder: Path, workers: int = 2, **options: Any) -> None:
        self.folder = folder
        self.server: Server = serve(folder, port=0, workers=workers, **{"features": ["x"], **options})
        self.client = InferenceServerClient(self.server.url.removeprefix("http://"), network_timeout=60)

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(self.server.url + path, data), timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def factor(self, path: str) -> float:
        """What the model at a path multiplies by, as all workers tell."""
        told = {self.answer(path) for _ in range(8)}
        assert len(told) == 1
        return told.pop()

    def answer(self, path: str) -> float:
        status, told = self.ask(f"{path}/predict", {"rows": [{"x": 2.0}]})
        assert status == 200, told
        return float(told["prediction"][0]) / 2

    def load(self, name: str) -> tuple[int, Any]:
        return self.ask(f"/v2/repository/models/{name}/load", {})

    def states(self, name: str) -> dict[str, tuple[str, str]]:
        """State and reason of each version, as tritonclient reads them."""
        index = self.client.get_model_repository_index()
        return {each.get("version", ""): (each["state"], each["reason"]) for each in index if each["name"] == name}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2, 10):
        put(folder / "score" / str(version), version)
    put(folder / "plain", 7)
    put(folder / "broken" / "1", 0, "raise OSError('no disk')")
    (folder / "half" / "1").mkdir(parents=True)
    (folder / ".hidden" / "1").mkdir(parents=True)
    (folder / "aliases.toml").write_text('[score]\nchampion = "1"\n')
    shop = Shop(folder)
    yield shop
    shop.close()


# -- what is found -----------------------------------------------------------------------------------------------------


def test_all_that_can_be_served_is_and_the_rest_is_told(shop: Shop) -> None:
    assert sorted(shop.server.models) == ["plain", "score"]
    assert shop.states("score") == {
        "1": ("READY", ""),
        "2": ("READY", ""),
        "10": ("READY", ""),
    }
    ((version, state),) = shop.states("plain").items()
    assert state == ("READY", "")
    assert len(version) == 12
    broken, reason = shop.states("broken")["1"]
    assert broken == "UNAVAILABLE"
    assert "OSError" in reason
    assert shop.states("half")["1"][0] == "UNAVAILABLE"
    assert "no model in it" in shop.states("half")["1"][1]
    assert shop.states(".hidden") == {}


def test_the_server_is_ready_only_when_all_models_that_should_be_are(shop: Shop) -> None:
    assert shop.ask("/v2/health/live")[0] == 200
    lack = {"models": ["broken"], "reasons": "POST /v2/repository/index"}  # and not the folder that has no model
    assert shop.ask("/v2/health/ready") == (503, {"ready": False, **lack})
    assert shop.ask("/health/ready") == (503, {"status": "a model is not there", **lack})
    assert shop.ask("/v2/models/score/ready")[0] == 200
    assert shop.client.is_model_ready("score", "10")
    assert not shop.client.is_model_ready("broken")


def test_a_version_is_reached_by_its_number_and_its_alias(shop: Shop) -> None:
    assert shop.factor("/models/score") == 10  # the newest by number, not by text
    assert shop.factor("/models/score/versions/2") == 2
    assert shop.factor("/models/score/versions/champion") == 1
    assert shop.ask("/models/score/versions/9/predict", {"rows": [{"x": 1}]})[0] == 404
    tensor = InferInput("x", [1, 1], "FP64")
    tensor.set_data_from_numpy(np.array([[2.0]]))
    for version, factor in (("", 10), ("2", 2), ("champion", 1)):
        answer = shop.client.infer("score", [tensor], model_version=version)
        assert answer.as_numpy("prediction").tolist() == [2.0 * factor]
    told = shop.client.get_model_metadata("score")
    assert told["versions"] == ["1", "2", "10"]
    assert shop.ask("/models/score")[1]["aliases"] == {"champion": "1"}
    assert shop.ask("/models/score/versions/2")[1]["version"] == "2"


def test_what_is_told_of_the_server_follows(shop: Shop) -> None:
    assert [each["name"] for each in shop.ask("/models")[1]] == list(shop.server.models)
    assert "/models/score/versions/10/predict" in shop.ask("/openapi.json")[1]["paths"]
    with urlopen(shop.server.url + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    info = [line for line in lines if line.startswith("bimodal_model_info") and 'model="score"' in line]
    assert [version in "".join(info) for version in ('version="1"', 'version="2"', 'version="10"')] == [True] * 3


# -- coming and going --------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_reloaded_and_unloaded_in_all_workers(shop: Shop) -> None:
    assert shop.ask("/models/new/predict", {"rows": [{"x": 1}]})[0] == 404
    put(shop.folder / "new" / "1", 3)
    assert shop.states("new") == {"1": ("UNAVAILABLE", "it is not loaded")}
    shop.client.load_model("new")
    assert shop.factor("/models/new") == 3
    put(shop.folder / "new" / "2", 4)
    shop.client.load_model("new")
    assert shop.factor("/models/new") == 4
    assert shop.factor("/models/new/versions/1") == 3
    put(shop.folder / "new" / "2", 5)  # the same version, another file
    assert shop.factor("/models/new") == 4
    shop.client.load_model("new")
    assert shop.factor("/models/new") == 5
    shop.client.unload_model("new", unload_dependents=True)
    assert {shop.ask("/models/new/predict", {"rows": [{"x": 1}]})[0] for _ in range(8)} == {404}
    assert shop.states("new") == dict.fromkeys(["1", "2"], ("UNAVAILABLE", "it was unloaded"))
    assert "new" not in [each["name"] for each in shop.ask("/v2/repository/index", {"ready": True})[1]]


def test_a_caller_is_answered_when_all_workers_know(shop: Shop) -> None:
    put(shop.folder / "known" / "1", 3)
    shop.client.load_model("known")
    put(shop.folder / "known" / "1", 0, "raise OSError('no disk')")
    later = shop.server.pids[1]  # the first one tries to load it, and says for all that it cannot be loaded
    asked, answered = _at_other_than(shop, later), list[int]()

    def loaded() -> None:
        asked.request("POST", "/v2/repository/models/known/load", b"{}", {"content-type": "application/json"})
        answered.append(asked.getresponse().status)

    os.kill(later, signal.SIGSTOP)
    thread = threading.Thread(target=loaded)
    thread.start()
    thread.join(2.0)
    assert answered == []
    os.kill(later, signal.SIGCONT)
    thread.join()
    asked.close()
    assert answered == [500]
    assert all("OSError" in shop.states("known")["1"][1] for _ in range(8))
    shop.client.unload_model("known")


def _at_other_than(shop: Shop, pid: int) -> HTTPConnection:
    """A connection that another worker has."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while True:
            connection = HTTPConnection("127.0.0.1", shop.server.port, timeout=2.0)
            try:
                connection.request("GET", "/health/live")
                connection.getresponse().read()
            except TimeoutError:
                connection.close()
            else:
                connection.sock.settimeout(60)
                return connection
    finally:
        os.kill(pid, signal.SIGCONT)


def test_versions_and_aliases_of_a_reloaded_model_are_those_of_the_folder(shop: Shop) -> None:
    for version in ("1", "2", "3"):
        put(shop.folder / "turns" / version, int(version))
    aliases = shop.folder / "aliases.toml"
    before = aliases.read_text()
    shop.client.load_model("turns")
    assert shop.states("turns")["1"] == ("UNAVAILABLE", "newer versions are served")
    aliases.write_text(before + '[turns]\ndefault = "2"\nold = "1"\n')
    shop.client.load_model("turns")
    assert shop.factor("/models/turns") == 2
    assert shop.factor("/models/turns/versions/old") == 1
    aliases.write_text(before)
    shop.client.load_model("turns")
    assert shop.factor("/models/turns") == 3
    assert shop.ask("/models/turns/versions/old/predict", {"rows": [{"x": 1}]})[0] == 404
    shop.client.unload_model("turns")


def test_an_alias_of_a_version_that_is_not_there_is_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    for version in ("1", "2"):
        put(shop.folder / "astray" / version, int(version))
    aliases = shop.folder / "aliases.toml"
    before = aliases.read_text()
    aliases.write_text(before + '[astray]\ndefault = "8"\nold = "9"\n')
    try:
        shop.client.load_model("astray")
        assert shop.factor("/models/astray") == 2  # the newest
        old = "the alias 'old' names version '9', which is not served; served are 1, 2"
        default = "the alias 'default' names version '8', which is not served; served are 1, 2"
        logged = [record.getMessage() for record in caplog.records]
        assert logged.count(f"aliases.toml: astray: {old}") == 1
        assert f"aliases.toml: astray: {default}; where none is named, 2 answers" in logged
        for path in ("/models/astray/versions/old/predict", "/v2/models/astray/versions/old/infer"):
            status, told = shop.ask(path, {"rows": [{"x": 1}]})
            assert (status, old in told["error"]) == (404, True)
        state, reason = shop.states("astray")["2"]
        assert (state, old in reason, default in reason) == ("READY", True, True)
        assert shop.states("astray").get("1", ("READY", "")) == ("READY", "")
    finally:
        aliases.write_text(before)
        shop.client.unload_model("astray")


@pytest.mark.parametrize(
    ("load", "reason"),
    [("raise ValueError('no')", "ValueError"), ("os._exit(3)", "exit code 3"), ("import absent_library", "absent")],
)
def test_what_cannot_be_loaded_never_serves_and_the_old_one_stays(shop: Shop, load: str, reason: str) -> None:
    place = shop.folder / "stays" / "1"
    put(place, 2)
    shop.client.load_model("stays")
    put(place, 3, load)
    with pytest.raises(InferenceServerException, match=reason):
        shop.client.load_model("stays")
    assert shop.factor("/models/stays") == 2
    state, told = shop.states("stays")["1"]
    assert state == "READY"
    assert reason in told
    (place / "model.py").unlink()
    assert shop.load("stays")[0] == 500
    assert shop.factor("/models/stays") == 2
    put(place, 2)
    shop.client.load_model("stays")
    assert shop.states("stays")["1"] == ("READY", "")


def test_a_package_that_is_damaged_is_refused(shop: Shop) -> None:
    pack(CASES["linear"].model, shop.folder / "packed" / "1", sample=CASES["linear"].rows)
    shop.client.load_model("packed")
    assert shop.states("packed")["1"] == ("READY", "")
    (shop.folder / "packed" / "1" / "golden.rows").write_bytes(b"other")
    assert "golden.rows" in shop.load("packed")[1]["error"]
    assert shop.states("packed")["1"][0] == "READY"


def test_golden_rows_that_are_answered_otherwise_keep_a_model_from_serving(tmp_path: Path) -> None:
    pack(CASES["linear"].model, tmp_path / "packed", sample=CASES["linear"].rows)
    with load(tmp_path / "packed") as model:
        ready(model, 0.0)
        package = model.location.package
        assert package is not None
        assert package.golden is not None
        answers = Rows({name: package.golden.answers.array(name) + 1 for name in package.golden.answers})
        package.__dict__["golden"] = Golden(package.golden.rows, answers)
        with pytest.raises(AnswersChanged, match="the first of them golden row 1"):
            ready(model, 0.0)


def test_what_callers_may_do_is_announced(shop: Shop) -> None:
    assert REPOSITORY in shop.client.get_server_metadata()["extensions"]


def test_that_no_model_is_loaded_is_told_of_the_routes_of_the_first(tmp_path: Path) -> None:
    desk = Desk(spec={"repository": {"path": str(tmp_path), "control": "explicit", "versions": 2, "loading": {}}})
    for path in ("/predict", "/invocations", "/models/score/predict"):
        assert "none is loaded" in desk.error({}, 404, path)["error"]
    desk.close()


def test_only_what_is_in_the_repository_can_be_named(shop: Shop) -> None:
    status, told = shop.load("scor")
    assert (status, told["code"]) == (404, "not_found")
    assert "did you mean 'score'?" in told["error"]
    for name in ("../score", "..%2Fscore", "%2Fetc%2Fpasswd", "score%2F1"):
        assert shop.load(name)[0] == 404
    with pytest.raises(InferenceServerException, match="only what stands in the repository"):
        shop.client.load_model("score", config=json.dumps({"parameters": {}}))
    with pytest.raises(InferenceServerException, match="only what stands in the repository"):
        shop.client.load_model("score", config="{}", files={"file:1/model.pkl": b"\x80\x04."})
    assert shop.ask("/v2/repository/models/score/load", {"parameters": {"speed": 1}})[0] == 400
    assert shop.ask("/v2/repository/models/score/unload", {"parameters": {"unload_dependents": 1}})[0] == 400
    assert shop.ask("/v2/repository/models/absent/unload", {})[0] == 404
    assert shop.ask("/v2/repository/index", {"ready": 1})[0] == 400
    assert shop.ask("/v2/repository/index", [])[0] == 400


def test_a_broken_file_of_aliases_is_not_the_callers_fault(shop: Shop) -> None:
    file = shop.folder / "aliases.toml"
    before = file.read_text()
    try:
        file.write_text('[score]\nchampion = 1"\n')
        status, told = shop.load("score")
        assert (status, told["code"]) == (409, "conflict")
        assert "aliases.toml" in told["error"]
        assert "line 2" in told["error"]
        assert str(shop.folder) not in told["error"]
    finally:
        file.write_text(before)


def test_workers_that_end_come_back_with_what_is_served_by_then(shop: Shop) -> None:
    place = shop.folder / "lives" / "1"
    put(place, 1)
    shop.client.load_model("lives")
    put(place, 2)
    shop.client.load_model("lives")
    put(place, 0, "os._exit(3)")  # what stands in the folder now would not load
    before = set(shop.server.pids)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    _wait(lambda: len(shop.server.pids) == 2 and not before & set(shop.server.pids) and _answers(shop, "lives"))
    assert shop.factor("/models/lives") == 2
    assert shop.states("lives")["1"][0] == "READY"


def test_a_worker_that_ends_while_all_load_takes_part(shop: Shop) -> None:
    place = shop.folder / "slow" / "1"
    put(place, 1)
    shop.client.load_model("slow")
    put(place, 2, "import time; time.sleep(0.4)")
    answered: list[tuple[int, Any]] = []
    caller = threading.Thread(target=lambda: answered.append(_loaded(shop, "slow")))
    caller.start()
    time.sleep(0.3)
    os.kill(shop.server.pids[1], signal.SIGKILL)
    caller.join()
    _wait(lambda: len(shop.server.pids) == 2 and _answers(shop, "slow"))
    if answered[0][0] != 200:  # it was the worker that had the request
        assert shop.load("slow")[0] == 200
    assert shop.factor("/models/slow") == 2


def test_reloads_under_load_cost_no_request(shop: Shop) -> None:
    place = shop.folder / "busy" / "1"
    put(place, 1)
    shop.client.load_model("busy")
    load = Load(shop, "/models/busy")
    for factor in range(2, 7):
        put(place, factor, "raise ValueError" if factor % 3 == 0 else "pass")
        assert shop.load("busy")[0] == (500 if factor % 3 == 0 else 200)
    _wait(lambda: load.answered > 50 and 5.0 in load.factors)
    load.stop()
    assert load.failed == []
    assert set(load.factors) <= {1.0, 2.0, 4.0, 5.0}
    assert shop.factor("/models/busy") == 5


def test_a_stream_that_began_is_answered_to_its_end_by_its_model(shop: Shop) -> None:
    place = shop.folder / "lines" / "1"
    put(place, 2)
    shop.client.load_model("lines")
    connection = HTTPConnection("127.0.0.1", shop.server.port, timeout=60)
    connection.putrequest("POST", "/models/lines/predict")
    connection.putheader("content-type", "application/x-ndjson")
    connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    connection.send(b"9\r\n" + b'{"x": 1}\n' + b"\r\n")
    answer = connection.sock.recv(65536)
    put(place, 3)
    shop.client.load_model("lines")
    assert shop.factor("/models/lines") == 3
    connection.send(b"9\r\n" + b'{"x": 5}\n' + b"\r\n0\r\n\r\n")
    while b"0\r\n\r\n" not in answer:
        answer += connection.sock.recv(65536)
    assert b'{"prediction":2.0}' in answer
    assert b'{"prediction":10.0}' in answer
    connection.close()


# -- other ways of control ---------------------------------------------------------------------------------------------


def test_what_changes_in_a_folder_that_is_polled_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "EVERY", 0.05)
    put(tmp_path / "score" / "1", 1)
    shop = Shop(tmp_path, workers=1, repository_control="poll")
    try:
        put(tmp_path / "score" / "2", 2)
        _wait(lambda: shop.answer("/models/score") == 2)
        put(tmp_path / "score" / "3", 3, "raise ValueError('no')")
        _wait(lambda: "ValueError" in shop.states("score").get("3", ("", ""))[1])
        assert shop.answer("/models/score") == 2
        put(tmp_path / "other", 5)
        _wait(lambda: shop.states("other") != {} and _answers(shop, "other"))
        (tmp_path / "score" / "2" / "model.py").unlink()
        (tmp_path / "score" / "2").rmdir()
        _wait(lambda: shop.answer("/models/score") == 1)
        status, told = shop.ask("/v2/repository/models/score/unload", {})
        assert (status, "take its folder out" in told["error"]) == (400, True)
        assert REPOSITORY not in shop.client.get_server_metadata()["extensions"]
    finally:
        shop.close()


def test_what_comes_and_goes_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bimodal.repository")
    put(tmp_path / "score" / "1", 1)
    shop = Shop(tmp_path, workers=1)

    def told(pattern: str) -> bool:
        return any(re.fullmatch(pattern, line) for line in caplog.messages)

    def refreshed(pattern: str) -> None:
        caplog.clear()
        shop.server.refresh()
        _wait(lambda: told(pattern))
        _wait(lambda: told("the repository .* is looked at again"))

    try:
        _wait(lambda: told(r"score 1 is served: native, loaded in [0-9.]+ s"))
        refreshed("nothing of it has changed; served are score")
        put(tmp_path / "score" / "2", 2)
        put(tmp_path / "score" / "3", 3, "raise ValueError('no')")
        refreshed(r"score 3 cannot be served: .*ValueError.*")
        _wait(lambda: told(r"score 2 is served: native, loaded in [0-9.]+ s"))
        assert not told(".* differs .*")
        put(tmp_path / "score" / "4", 4)
        source = tmp_path / "score" / "4" / "model.py"
        text = source.read_text().replace('"prediction": float', '"prediction": float, "again": float')
        source.write_text(text.replace("* 4}", "* 4, 'again': np.zeros(len(rows))}"))
        refreshed("score 4 differs from what was served before: .*new outputs: .*again.*")
        _wait(lambda: "again" in shop.states("score")["4"][1])
        shutil.rmtree(tmp_path / "score")
        refreshed("nothing of the repository .* is served any more")
        _wait(lambda: told("score 1 is served no longer") and told("score 2 is served no longer"))
    finally:
        shop.close()


def test_where_nothing_is_controlled_nothing_is_loaded_but_a_signal_is_heard(tmp_path: Path) -> None:
    put(tmp_path / "score", 1)
    shop = Shop(tmp_path, workers=1, repository_control="none")
    try:
        assert shop.load("score")[0] == 400
        put(tmp_path / "score", 2)
        shop.server.refresh()
        _wait(lambda: shop.answer("/models/score") == 2)
        assert shop.answer("") == 2
    finally:
        shop.close()


def test_workers_that_are_followed_by_others_serve_what_was_loaded(tmp_path: Path) -> None:
    put(tmp_path / "models" / "score" / "1", 1)
    put(tmp_path / "named", 5)
    file = tmp_path / "bimodal.toml"
    path = tmp_path / "named" / "model.py"
    file.write_text(
        f'[server]\nport = 0\nrepository = "models"\n[models.named]\npath = "{path}:Times"\nfeatures = ["x"]\n'
    )
    shop = Shop(file, workers=1, features=None)
    try:
        assert shop.server.models == ("named", "score")
        put(tmp_path / "models" / "score" / "2", 2)
        assert shop.load("score")[0] == 200
        spec = prepare((str(file),), {"port": 0}, {}).spec(metrics=None)
        shop.server.replace(spec)
        assert _wide(shop, "/models/score") == 2
        put(tmp_path / "models" / "score" / "3", 3)
        assert shop.load("score")[0] == 200
        assert _wide(shop, "/models/score") == 3
        assert shop.answer("/models/named") == 5
        status, told = shop.load("named")
        assert (status, "none of its repository" in told["error"]) == (400, True)
    finally:
        shop.close()


def test_a_server_without_a_repository_says_so(tmp_path: Path) -> None:
    put(tmp_path, 1)
    body = json.dumps({}).encode()
    loading = {"features": ["x"]}
    path = f"{tmp_path / 'model.py'}:Times"
    told = answer_once([path], "POST", "/v2/repository/index", body, loading=loading)
    assert [(each["name"], each["state"]) for each in json.loads(told.body)] == [("Times", "READY")]
    told = answer_once([path], "GET", "/v2", loading=loading)
    assert REPOSITORY not in json.loads(told.body)["extensions"]


def test_one_request_is_answered_from_a_repository(tmp_path: Path) -> None:
    put(tmp_path / "score" / "4", 4)
    body = json.dumps({"rows": [{"x": 2}]}).encode()
    told = answer_once([str(tmp_path)], "POST", "/models/score/predict", body, loading={"features": ["x"]})
    assert json.loads(told.body) == {"prediction": [8.0]}


def test_a_repository_of_which_nothing_can_be_served_is_refused_at_the_start(tmp_path: Path) -> None:
    put(tmp_path / "score" / "1", 1, "raise ValueError('no')")
    with pytest.raises(ModelError, match=r"nothing of the repository .* can be served: score: .*ValueError"):
        serve(tmp_path, port=0, features=["x"])


def test_a_repository_beside_a_model_is_told_how_it_is_named(tmp_path: Path) -> None:
    put(tmp_path / "repo" / "score" / "1", 1)
    put(tmp_path, 2)
    with pytest.raises(UsageError, match="beside models with --repository"):
        serve(tmp_path / "repo", tmp_path / "model.py", port=0, features=["x"])


class Load:
    """Callers that ask one request after the other, and note what was not answered."""

    def __init__(self, shop: Shop, path: str) -> None:
        self.answered, self.failed, self.factors = 0, list[str](), list[float]()
        self._shop, self._path, self._stopped = shop, path, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.factors.append(self._shop.answer(self._path))
                self.answered += 1
            except (AssertionError, OSError) as error:
                self.failed.append(repr(error))
            time.sleep(0.002)


def _wide(shop: Shop, path: str) -> float:
    """What a model that takes rows of any width multiplies by."""
    return float(shop.ask(f"{path}/predict", {"input": [[2.0]]})[1]["prediction"][0]) / 2


def _wait(true: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.03)


def _answers(shop: Shop, name: str) -> bool:
    try:
        return shop.ask(f"/models/{name}/predict", {"rows": [{"x": 1}]})[0] == 200
    except OSError:
        return False


def _loaded(shop: Shop, name: str) -> tuple[int, Any]:
    try:
        return shop.load(name)
    except OSError:
        return 0, None
