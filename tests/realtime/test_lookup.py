"""Lookups: stored results by key, live predictions where there is none, and always where an answer came from."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import joblib
import pytest

from bimodal import Client
from bimodal.config.tables import StoreTable
from bimodal.errors import ModelNotFound, NoPrediction, SourceError
from bimodal.field import Field
from bimodal.jobs.rows import open_rows
from bimodal.model import Model
from bimodal.predictions import embedded_writer, layout, open_writer
from bimodal.predictions.collected import take
from bimodal.predictions.contract import Edition, Found, StoreReader
from bimodal.predictions.embedded import EmbeddedReader
from bimodal.predictions.fingerprint import fingerprint
from bimodal.realtime import lookup
from bimodal.realtime.head import SLASH
from bimodal.realtime.layout import SOURCES
from bimodal.realtime.limits import Limits
from bimodal.realtime.serving import serve, store
from bimodal.realtime.wiring import wire
from bimodal.signature import Signature
from tests.models import CASES
from tests.realtime.desk import Ask, Desk, told
from tests.realtime.services import until
from tests.realtime.shelf import loaded, onnx
from tests.realtime.test_metrics import value

ROW = [5.1, 3.5, 1.4, 0.2]
OTHER = [6.7, 3.0, 5.2, 2.3]
TABLE = StoreTable("nightly", "id")
PATH = "/models/inline/lookup"


class Shop:
    """A desk with one model's store, and what a night's job would do."""

    def __init__(self, folder: Path, model: Model, **table: Any) -> None:
        self.folder, self.model = folder, model
        self.table = StoreTable(**{"job": "nightly", "key": "id", **table})
        self.name = model.name
        self.night = 0

    def fill(
        self,
        results: dict[Any, tuple[str, Any]],
        *,
        kind: str = "int",
        digest: str | None = None,
        at: float | None = None,
        outputs: Sequence[str] = ("prediction",),
        fingerprints: bool = True,
    ) -> str:
        """results: of each key its body, and the row that was scored (or its fingerprint)."""
        self.night += 1
        run = f"run{self.night}"
        writer = open_writer(
            self.table,
            self.folder,
            job="nightly",
            run=run,
            model=f"{self.name}/{self.model.version}",
            digest=digest or self.model.digest,
            kind=kind,
            outputs=outputs,
            fingerprints=fingerprints,
        )
        marks = [self.mark(row) for _, row in results.values()]
        writer.add(list(results), [body.encode() for body, _ in results.values()], marks)
        writer.commit(time.time() if at is None else at)
        return run

    def mark(self, row: Any) -> int:
        if row is None or isinstance(row, int):
            return row or 0
        return int(fingerprint(self.model.signature.check([row])[0], self.model.signature)[0])

    def open(self, **spec: Any) -> Desk:
        self.desk = Desk(self.model, spec={"stores": {self.name: {**store(self.table, self.folder), **spec}}})
        return self.desk


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "predictions" / "inline", onnx())
    yield made
    made.desk.run(made.desk.wired.service.served["inline"].batcher.stop)
    made.desk.close()


def live(desk: Desk, row: Any) -> Any:
    return desk.answer({"input": [row]})["prediction"][0]


def test_a_stored_result_is_answered_with_where_it_came_from(shop: Shop) -> None:
    begun = time.time()
    run = shop.fill({17: ('"prediction":9', ROW), -5: ('"prediction":8', ROW)}, at=begun - 100)
    desk = shop.open()
    expected = {"source": "batch", "model": f"inline/{shop.model.version}", "digest": shop.model.digest, "run": run}
    responses = [desk.get(f"{PATH}/17"), desk.ask(PATH, {"key": 17}), desk.ask(PATH, {"key": 17, "row": ROW})]
    responses.append(desk.get(f"{PATH}/17?outputs=prediction"))
    for response in responses:
        answer = told(response)
        assert 100 <= answer.pop("age") <= 101 + time.time() - begun
        assert answer == {"prediction": 9, **expected}
        assert dict(response.headers)[b"x-model"].decode() == f"inline/{shop.model.version}"
    assert told(desk.get(f"{PATH}/-5"))["prediction"] == 8


def test_a_key_without_a_result_is_predicted_from_its_row(shop: Shop) -> None:
    shop.fill({17: ('"prediction":9', ROW)})
    desk = shop.open()
    answer = desk.answer({"key": 18, "row": OTHER}, PATH)
    assert answer["prediction"] == live(desk, OTHER)
    assert (answer["source"], answer["age"], answer["run"]) == ("live", 0, None)
    assert answer["digest"] == shop.model.digest


def test_one_key_without_a_result_and_a_row_is_not_found(shop: Shop) -> None:
    shop.fill({17: ('"prediction":9', ROW)})
    desk = shop.open()
    assert told(desk.get(f"{PATH}/18"))["code"] == "no_prediction"
    assert desk.error({"key": 18}, 404, PATH)["code"] == "no_prediction"
    assert desk.get(f"{PATH}/18").status == 404


def test_a_row_that_has_changed_is_predicted_anew(shop: Shop) -> None:
    shop.fill({17: ('"prediction":9', ROW)})
    desk = shop.open()
    answer = desk.answer({"key": 17, "row": OTHER}, PATH)
    assert (answer["prediction"], answer["source"]) == (live(desk, OTHER), "changed")
    same = desk.answer(b'{"key":17,"row":[5.10,3.5,14e-1,0.2]}', PATH)
    assert (same["prediction"], same["source"]) == (9, "batch")


def test_a_result_whose_row_is_not_known_has_not_changed(shop: Shop) -> None:
    shop.fill({17: ('"prediction":9', None)}, fingerprints=False)
    assert shop.open().answer({"key": 17, "row": OTHER}, PATH)["source"] == "batch"


def test_many_keys_have_an_answer_each_of_one_edition(shop: Shop) -> None:
    shop.fill({1: ('"prediction":9', ROW), 2: ('"prediction":8', ROW)})
    desk = shop.open()
    answers = desk.answer({"keys": [2, 3, 1, 4, 1], "rows": [ROW, OTHER, OTHER, None, None]}, PATH)["answers"]
    assert [each["source"] for each in answers] == ["batch", "live", "changed", "miss", "batch"]
    now = live(desk, OTHER)
    assert [each["prediction"] for each in answers] == [8, now, now, None, 9]
    assert answers[3] == {"prediction": None, "source": "miss"}
    assert [each["source"] for each in desk.answer({"keys": [1, 7]}, PATH)["answers"]] == ["batch", "miss"]


@pytest.mark.parametrize(("on_stale", "with_row"), [("live", "live"), ("answer", "stale")])
@pytest.mark.parametrize("why", ["age", "digest"])
def test_a_stale_result_is_answered_where_there_is_no_row(
    tmp_path: Path, on_stale: Any, with_row: str, why: str
) -> None:
    shop = Shop(tmp_path / "p" / "inline", onnx(), max_age=50.0, on_stale=on_stale)
    old = {"at": time.time() - 60} if why == "age" else {"digest": "another"}
    shop.fill({17: ('"prediction":9', ROW)}, **old)
    desk = shop.open()
    answer = told(desk.get(f"{PATH}/17"))
    assert (answer["prediction"], answer["source"]) == (9, "stale")
    assert answer["digest"] == ("another" if why == "digest" else shop.model.digest)
    answer = desk.answer({"key": 17, "row": ROW}, PATH)
    assert answer["source"] == with_row
    assert answer["prediction"] == (live(desk, ROW) if with_row == "live" else 9)
    assert desk.answer({"key": 17, "row": OTHER}, PATH)["source"] == "changed"
    desk.close()


def test_a_result_becomes_stale_as_it_ages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path / "p" / "inline", onnx(), max_age=100.0)
    shop.fill({17: ('"prediction":9', ROW)})
    desk, begun = shop.open(), time.time()
    assert told(desk.get(f"{PATH}/17"))["source"] == "batch"
    monkeypatch.setattr("bimodal.realtime.lookup.time.time", lambda: begun + 105)
    answer = told(desk.get(f"{PATH}/17"))
    assert (answer["source"], answer["age"] >= 104) == ("stale", True)
    desk.close()


def test_without_any_edition_all_is_live(shop: Shop) -> None:
    desk = shop.open()
    assert desk.get(f"{PATH}/17").status == 404
    assert desk.answer({"key": "x", "row": ROW}, PATH)["source"] == "live"
    assert desk.answer({"keys": [1, "x"]}, PATH)["answers"] == [{"prediction": None, "source": "miss"}] * 2
    shop.fill({17: ('"prediction":9', ROW)})
    assert told(desk.get(f"{PATH}/17"))["source"] == "batch"


@pytest.mark.parametrize("key", ["a", "a/b", "ä ö", "50%", "..", "a//b", "?x=1", "17", "#", "/a/"])
def test_text_keys_stand_in_a_path_percent_encoded(shop: Shop, key: str) -> None:
    shop.fill({key: ('"prediction":9', ROW), "other": ('"prediction":1', ROW)}, kind="text")
    desk = shop.open()
    for path in (key, key.replace("/", SLASH)):
        assert told(desk.get(f"{PATH}/{path}" if "?" not in key else f"{PATH}/other"))["source"] == "batch"
    assert desk.answer({"key": key}, PATH)["prediction"] == 9


def test_outputs_are_chosen_of_those_stored(shop: Shop) -> None:
    body = '"prediction":2,"probability":[0.1,0.2,0.7]'
    shop.fill({17: (body, ROW)}, outputs=("prediction", "probability"))
    desk = shop.open()
    assert told(desk.get(f"{PATH}/17"))["probability"] == [0.1, 0.2, 0.7]
    chosen = told(desk.get(f"{PATH}/17?outputs=probability"))
    assert list(chosen)[:2] == ["probability", "source"]
    chosen = desk.answer({"key": 17, "outputs": ["prediction"]}, PATH)
    assert list(chosen)[:2] == ["prediction", "source"]
    now = desk.answer({"key": 18, "row": ROW}, PATH)
    assert list(now)[:3] == ["prediction", "probability", "source"]
    now = desk.answer({"key": 18, "row": ROW, "outputs": ["probability"]}, PATH)
    assert list(now)[:2] == ["probability", "source"]
    assert desk.answer({"keys": [18], "outputs": ["probability"]}, PATH)["answers"] == [
        {"probability": None, "source": "miss"}
    ]
    assert "did you mean 'prediction'" in desk.error({"key": 17, "outputs": ["predictoin"]}, 400, PATH)["error"]
    assert "stored are" in desk.error({"key": 17, "outputs": ["xyz"]}, 400, PATH)["error"]


def test_before_there_is_an_edition_answers_have_what_the_job_predicts(shop: Shop) -> None:
    desk = shop.open(proba=True)
    answer = desk.answer({"key": 1, "row": ROW}, PATH)
    assert list(answer)[:2] == ["prediction", "probability"]
    assert answer["probability"] == desk.answer({"input": [ROW], "outputs": ["probability"]})["probability"][0]
    assert list(desk.answer({"keys": [1]}, PATH)["answers"][0]) == ["prediction", "probability", "source"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "empty"),
        (b"{", "no valid JSON"),
        ([1], "a list is no body"),
        ({}, "needs one of"),
        ({"key": 1, "keys": [1]}, "needs one of"),
        ({"keey": 1}, 'did you mean "key"'),
        ({"key": 1, "secret": 2}, "something else"),
        ({"key": 1.5}, "an integer or text, not a number"),
        ({"key": True}, "an integer or text, not a boolean"),
        ({"key": None}, "an integer or text, not null"),
        ({"key": ""}, "is empty"),
        ({"key": "secret" * 1000}, "longer than"),
        ({"key": 2**64}, "no integer of 64 bits"),
        ({"keys": [1, -(2**63) - 1]}, "key 2 is no integer of 64 bits"),
        ({"key": "secret"}, "key 1 needs to be an integer"),
        ({"keys": [1, "secret"]}, "key 2 needs to be an integer"),
        ({"keys": []}, "names no key"),
        ({"keys": 5}, "a list of keys"),
        ({"key": 1, "row": [1, 2]}, "4 "),
        ({"key": 1, "row": [1, 2, 3, "secret"]}, "text where"),
        ({"keys": [1, 2], "rows": [ROW]}, "1 rows for 2 keys"),
        ({"keys": [1, 2], "rows": [None, [1, 2, 3, "secret"]]}, "row 2"),
        ({"keys": [1], "row": ROW}, "needs one of"),
        ({"key": 1, "outputs": "prediction"}, '"outputs" needs a list'),
    ],
)
def test_what_is_wrong_is_one_sentence_without_the_data(shop: Shop, body: Any, sentence: str) -> None:
    shop.fill({17: ('"prediction":9', ROW)})
    error = shop.open().error(body, 400, PATH)
    assert sentence in error["error"]
    assert "secret" not in error["error"]


def test_wrong_paths_and_parameters(shop: Shop) -> None:
    shop.fill({17: ('"prediction":9', ROW)})
    desk = shop.open()
    assert "needs to be an integer" in told(desk.get(f"{PATH}/secret"))["error"]
    assert desk.get(f"{PATH}/{2**63 - 1}").status == 404
    assert desk.get(f"{PATH}/{2**63}").status == 400
    assert desk.get(f"{PATH}/{'9' * 30}").status == 400
    assert "outputs= alone" in told(desk.get(f"{PATH}/17?threshold=0.5"))["error"]
    assert desk.get("/models/none/lookup/17").status == 404
    assert desk.ask(f"{PATH}/17", b"", method="HEAD").status == 200
    assert desk.get(PATH).status == 405
    assert "no such route" in desk.error({}, 404, f"{PATH}/17")["error"], "it has a store, and no POST there"
    over = desk.error({"keys": list(range(desk.limits.rows + 1))}, 413, PATH)
    assert over["code"] == "too_large"


def test_rows_of_a_named_model_are_the_same_in_all_spellings(tmp_path: Path) -> None:
    model = loaded("mixed")
    record = {**model.signature.example(), "note": "no feature"}
    shop = Shop(tmp_path / "p" / "mixed", model)
    shop.fill({"a": ('"prediction":"stored"', record)}, kind="text")
    desk = shop.open()
    path = "/models/mixed/lookup"
    whole = {name: int(each) if each == int(each) else each for name, each in record.items() if type(each) is float}
    for row in (record, {**record, **whole}, dict(reversed(record.items()))):
        assert desk.answer({"key": "a", "row": row}, path)["source"] == "batch"
        assert desk.answer({"keys": ["a"], "rows": [row]}, path)["answers"][0]["source"] == "batch"
    name = next(each.name for each in model.signature.inputs if each.type == "float64")
    changed = desk.answer({"key": "a", "row": {**record, name: 41.5}}, path)
    assert changed["source"] == "changed"
    assert changed["prediction"] == desk.answer({"rows": [{**record, name: 41.5}]})["prediction"][0]
    slip = desk.error({"key": "a", "row": {name: 1.0}}, 400, path)
    assert slip["column"]
    desk.run(desk.wired.service.served["mixed"].batcher.stop)
    desk.close()


# -- rows from a table ------------------------------------------------------------------------------------------------


class Shelf:
    """A table in memory, in the place of a database."""

    rows: dict[Any, dict[str, Any]]
    asked: list[list[Any]]
    broken = False

    def __init__(self, address: str, key: str, signature: Any) -> None:
        assert (address, key) == ("sqlite:///shop.db#customers", "id")
        type(self).asked = []

    def fetch(self, keys: Sequence[Any]) -> list[Any]:
        if self.broken:
            raise SourceError("the disk is on fire")
        self.asked.append(list(keys))
        return [self.rows.get(key) for key in keys]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def shelved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    Shelf.rows = {18: {f"x{place}": each for place, each in enumerate(OTHER)}, 19: {"x0": None}, 17: {}}
    monkeypatch.setattr(Shelf, "broken", False)
    made = Shop(tmp_path / "p" / "inline", onnx(), rows="sqlite:///shop.db#customers", max_age=50.0)
    yield made
    made.desk.close()


def test_a_key_without_a_result_is_predicted_from_the_tables_row(shelved: Shop) -> None:
    shelved.fill({17: ('"prediction":9', ROW)})
    desk = shelved.open(rows="tests.realtime.test_lookup:Shelf")
    assert told(desk.get(f"{PATH}/17"))["source"] == "batch"
    assert Shelf.asked == []
    answer = told(desk.get(f"{PATH}/18"))
    assert (answer["prediction"], answer["source"]) == (live(desk, OTHER), "live")
    assert desk.get(f"{PATH}/19").status == 404, "a row that the model does not take"
    assert desk.get(f"{PATH}/20").status == 404
    answers = desk.answer({"keys": [17, 18, 20, 21, 18], "rows": [None, None, None, ROW, None]}, PATH)["answers"]
    assert [each["source"] for each in answers] == ["batch", "live", "miss", "live", "live"]


def test_lookups_of_one_turn_ask_the_table_once(shelved: Shop) -> None:
    desk = shelved.open(rows="tests.realtime.test_lookup:Shelf")
    answers = [told(each) for each in desk.together([Ask(PATH, {"key": 18}) for _ in range(5)])]
    assert [each["source"] for each in answers] == ["live"] * 5
    assert Shelf.asked == [[18]]


def test_a_stale_result_gives_way_to_the_tables_row_and_stays_where_there_is_none(
    shelved: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    stored = {key: ('"prediction":9', ROW) for key in (18, 20)}  # noqa: C420 - the values are one on purpose
    shelved.fill(stored, at=time.time() - 60)
    desk = shelved.open(rows="tests.realtime.test_lookup:Shelf")
    assert told(desk.get(f"{PATH}/18"))["source"] == "live"
    assert told(desk.get(f"{PATH}/20"))["source"] == "stale"
    Shelf.broken = True
    assert told(desk.get(f"{PATH}/18"))["source"] == "stale"
    assert told(desk.get(f"{PATH}/99"))["code"] == "unavailable"
    assert "cannot be fetched" in caplog.text


# -- a shared store ---------------------------------------------------------------------------------------------------


class Far(StoreReader):
    """The embedded store, as one that is not prompt."""

    calls: list[list[Any]]
    broken = False

    def __init__(self, folder: Path) -> None:
        self._near = EmbeddedReader(folder)
        self.thread: set[int] = set()
        Far.calls = []

    def edition(self) -> Edition | None:
        return self._near.edition()

    def look(self, keys: Sequence[int | str]) -> tuple[Edition | None, list[Found | None]]:
        self.thread.add(threading.get_ident())
        Far.calls.append(list(keys))
        if self.broken:
            raise SourceError("it is gone")
        return self._near.look(keys)

    def close(self) -> None:
        self._near.close()


def test_a_shared_store_is_asked_beside_the_loop_once_a_turn(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop.fill({key: (f'"prediction":{key}', ROW) for key in range(10)})
    far = Far(shop.folder)
    monkeypatch.setattr("bimodal.predictions.open_reader", lambda table, folder: far)
    desk = shop.open()
    asks = [Ask(f"{PATH}/{key}", method="GET", kind=None) for key in range(12)]
    asks += [Ask(PATH, {"keys": [3, 11, 4]}), Ask(PATH, {"key": 11, "row": ROW}), Ask(f"{PATH}/x", method="GET")]
    responses = desk.together(asks)
    assert [each.status for each in responses] == [200] * 10 + [404] * 2 + [200, 200, 400]
    assert [told(each)["prediction"] for each in responses[:10]] == list(range(10))
    assert [each["source"] for each in told(responses[12])["answers"]] == ["batch", "miss", "batch"]
    assert told(responses[13])["source"] == "live"
    assert len(Far.calls) == 1
    assert threading.get_ident() not in far.thread
    Far.broken = True
    assert desk.error({"key": 3}, 503, PATH)["code"] == "unavailable"
    assert desk.answer({"key": 3, "row": ROW}, PATH)["source"] == "live"
    Far.broken = False
    assert "it is gone" in caplog.text


# -- what is counted and collected ------------------------------------------------------------------------------------


def test_sources_are_counted(shop: Shop) -> None:
    begun = time.time()
    shop.fill({1: ('"prediction":9', ROW)}, at=begun - 30)
    desk = shop.open()
    desk.get(f"{PATH}/1")
    desk.get(f"{PATH}/2")
    desk.answer({"keys": [1, 1, 2, 3], "rows": [ROW, OTHER, ROW, None]}, PATH)
    text = desk.get("/metrics").body
    counts = {source: value(text, "bimodal_lookups_total", model="inline", source=source) for source in SOURCES}
    assert counts == {"hit": 2, "changed": 1, "live": 1, "miss": 2, "stale": 0}
    assert 30 <= value(text, "bimodal_lookup_age_seconds", model="inline") <= 31 + time.time() - begun
    assert value(text, "bimodal_lookup_keys", model="inline") == 1
    labels = {"model": "inline", "route": "lookup"}
    assert value(text, "bimodal_requests_total", **labels, code="200") == 2
    assert value(text, "bimodal_requests_total", **labels, code="404") == 1


def test_misses_and_changed_rows_are_collected(shop: Shop) -> None:
    shop.fill({1: ('"prediction":9', ROW)})
    desk = shop.open()
    desk.get(f"{PATH}/1")
    for _ in range(3):
        desk.get(f"{PATH}/2")
    desk.answer({"key": 1, "row": OTHER}, PATH)
    desk.answer({"keys": [1, 3], "rows": [ROW, OTHER]}, PATH)
    desk.run(_written)
    lines = {line.key: (line.reason, line.row) for line in take(shop.folder, "r")}
    assert lines == {2: ("miss", None), 1: ("changed", OTHER), 3: ("miss", OTHER)}


async def _written() -> None:
    """Until what was collected stands in its file."""
    await asyncio.sleep(lookup.FLUSH + 0.1)


def test_the_description_has_examples_that_can_be_sent(shop: Shop) -> None:
    shop.fill({17: ('"prediction":9', ROW)})
    desk = shop.open()
    paths = told(desk.get("/openapi.json"))["paths"]
    post = paths[PATH]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert desk.answer(post, PATH)["source"] in ("batch", "changed")
    key = paths[f"{PATH}/{{key}}"]["get"]["parameters"][0]["example"]
    assert told(desk.get(f"{PATH}/{quote(str(key))}"))["source"] == "batch"


def test_a_store_of_a_model_that_is_not_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'inline'"):
        wire([onnx()], Limits(), spec={"stores": {"inlien": store(TABLE, tmp_path)}})


# -- a real server ----------------------------------------------------------------------------------------------------


def test_a_server_answers_lookups_while_editions_flip(tmp_path: Path) -> None:
    """Two worker processes, a client that never rests, a commit every now and then, the state that the tests leave."""
    path = tmp_path / "iris.pkl"
    joblib.dump(CASES["logistic"].model, path)
    model = onnx()
    shop = Shop(tmp_path / "predictions" / "iris", model)
    shop.name = "iris"
    keys = list(range(50))

    def fill() -> str:
        run = f"run{shop.night + 1}"
        return shop.fill(dict.fromkeys(keys, (f'"prediction":"{run}"', None)))

    fill()
    faults: list[Any] = []
    seen: set[str] = set()
    stop = threading.Event()
    with serve(path, port=0, workers=2, runtime="native", stores={"iris": store(TABLE, shop.folder)}) as server:

        def ask() -> None:
            with Client(server.url) as client:
                while not stop.is_set():
                    answers = client.lookup(keys)
                    runs = {each["run"] for each in answers} | {each["prediction"] for each in answers}
                    if len(runs) != 1:
                        faults.append(runs)
                    seen.update(runs)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for each in threads:
            each.start()
        for _ in range(8):
            time.sleep(0.05)
            last = fill()
        until(lambda: last in seen)
        stop.set()
        for each in threads:
            each.join()
        assert faults == []
        with Client(server.url) as client:
            assert client.lookup(3)["prediction"] == last
            assert client.lookup(3, model="iris")["source"] == "stale"  # another digest than the pickle's
            assert client.lookup(3, ROW)["source"] == "live"
            assert client.lookup([1, 77], [None, ROW])[1]["source"] == "live"
            assert client.lookup([77])[0]["source"] == "miss"
            assert client.models() == ["iris"]
            with pytest.raises(NoPrediction):
                client.lookup(77)
    assert {line.key for line in take(shop.folder, "r")} >= {77}


def test_damage_does_not_lose_the_last_good_answer(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.fill({17: ('"prediction":9', ROW)})
    desk = shop.open()
    assert told(desk.get(f"{PATH}/17"))["run"] == "run1"
    (shop.folder / layout.name(2)).write_bytes(b"half an edition")
    embedded_writer.flip(shop.folder, 2)
    assert told(desk.get(f"{PATH}/17"))["run"] == "run1"
    assert "not opened" in caplog.text


def test_rows_by_key_from_databases(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE "my customers" (id INTEGER, "x" REAL, extra TEXT)')
    connection.executemany('INSERT INTO "my customers" VALUES (?, ?, ?)', [(1, 1.5, "a"), (2, None, "b")])
    connection.commit()
    connection.close()
    signature = Signature((Field("x", "float64", nullable=True),), (Field("prediction", "int64"),))
    rows = open_rows(f"sqlite:///{path}#my%20customers", "id", signature)
    assert rows.fetch([2, 3, 1]) == [{"x": None}, None, {"x": 1.5}]
    assert rows.fetch(["1' OR 1=1 --"]) == [None]
    assert rows.fetch(list(range(1200)))[1] == {"x": 1.5}
    rows.close()
    assert json.dumps(rows.fetch([1])) == '[{"x": 1.5}]'
    rows.close()
