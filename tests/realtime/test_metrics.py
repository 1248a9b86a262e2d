"""/metrics: valid Prometheus text, right with several workers, kept over a restart."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from bimodal.jobs.metrics import GAUGES
from bimodal.model import load
from bimodal.realtime.exchange import Response
from bimodal.realtime.exposition import OPEN, PLAIN, table
from bimodal.realtime.limits import Limits
from bimodal.realtime.measures import MEASURES, STAGES
from bimodal.realtime.metrics import Metrics
from tests.realtime.desk import Ask, Desk
from tests.realtime.services import until
from tests.realtime.shelf import loaded, onnx
from tests.realtime.watched import INFER, Watched, watched

ROOT = Path(__file__).parents[2]

ROW = [5.1, 3.5, 1.4, 0.2]
LABELS = {"model": "inline", "route": "predict", "code": "200"}
BESIDE = """
class Model:
    inputs = {"x": float}
    outputs = {"prediction": float}

    def predict(self, rows):
        return {"prediction": rows["x"]}
"""


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


def test_the_text_is_valid_and_every_metric_is_explained() -> None:
    desk = Desk(onnx(), loaded("mixed"))
    desk.answer({"input": ROW})
    response = desk.get("/metrics")
    families = list(text_string_to_metric_families(response.body.decode()))
    assert response.content_type == PLAIN
    assert all(family.documentation.endswith(".") and family.type != "unknown" for family in families)
    assert all(family.name.startswith("bimodal_") for family in families)
    desk.close()


def test_what_was_done_is_counted() -> None:
    desk = Desk(onnx())
    desk.together([Ask("/predict", {"input": [ROW, ROW]}) for _ in range(5)])
    desk.answer(
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}, "/v2/models/inline/infer"
    )
    desk.error({"input": [1]})
    desk.stream([b"[5.1,3.5,1.4,0.2]\n[1]\n"])
    text = desk.get("/metrics").body
    assert value(text, "bimodal_requests_total", **LABELS) == 5
    assert value(text, "bimodal_requests_total", **{**LABELS, "code": "400"}) == 1
    assert value(text, "bimodal_requests_total", **{**LABELS, "route": "infer"}) == 1
    assert value(text, "bimodal_requests_total", **{**LABELS, "route": "stream"}) == 1
    assert value(text, "bimodal_rows_total", model="inline") == 12
    assert value(text, "bimodal_batch_rows_count", model="inline") == 3  # calls: the turn of five, infer, the stream
    assert value(text, "bimodal_batch_rows_sum", model="inline") == 12
    assert value(text, "bimodal_batch_rows_bucket", model="inline", le="1.0") == 2
    assert value(text, "bimodal_refusals_total", model="inline", reason="invalid_input") == 1
    assert value(text, "bimodal_requests_in_flight", model="inline") == 0
    assert value(text, "bimodal_parse_seconds_count", model="inline") == 7
    assert value(text, "bimodal_predict_seconds_sum", model="inline") > 0
    desk.close()


@pytest.mark.parametrize("beside", [False, True], ids=["on the loop", "beside it"])
def test_who_has_an_answer_finds_it_counted(beside: bool, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(BESIDE)
    model = load(f"{tmp_path / 'beside.py'}:Model", name="inline") if beside else onnx()
    assert model.inline is not beside
    desk = Desk(model)

    async def counted() -> float:
        """As any worker would tell it at the moment when the answer goes out."""
        answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def respond(response: Response) -> None:
            assert response.status == 200, response.body
            answered.set_result(value(desk.wired.metrics.text(), "bimodal_requests_total", **LABELS))

        desk.app(Ask("/predict", {"input": {"x": 1.0} if beside else ROW}).request(), respond)
        return await asyncio.wait_for(answered, 20)

    assert [desk.run(counted) for _ in range(3)] == [1, 2, 3]
    desk.close()
    if beside:
        model.close()


def test_any_worker_tells_the_sum_of_all(tmp_path: Path) -> None:
    path = str(tmp_path / "counters")
    desks = [Desk(onnx(), metrics=path, workers=3, worker=number) for number in range(3)]
    for number, desk in enumerate(desks):
        for _ in range(number + 1):
            desk.answer({"input": ROW})
    for desk in desks:
        assert value(desk.get("/metrics").body, "bimodal_requests_total", **LABELS) == 6
        desk.close()


def test_counters_outlive_a_worker(tmp_path: Path) -> None:
    path = str(tmp_path / "counters")
    for _ in range(2):
        desk = Desk(onnx(), metrics=path, workers=2, worker=1)
        desk.answer({"input": ROW})
        text = desk.get("/metrics").body
        desk.close()
    assert value(text, "bimodal_requests_total", **LABELS) == 2


def test_a_restarted_worker_has_nothing_in_flight(tmp_path: Path) -> None:
    path = str(tmp_path / "counters")
    first = Metrics(["m"], path, 1, 0)
    first.row[first.layout.in_flight["m"]] = 7.0
    again = Metrics(["m"], path, 1, 0)
    assert value(again.text(), "bimodal_requests_in_flight", model="m") == 0


def test_histograms_are_cumulative() -> None:
    desk = Desk(onnx())
    for count in (1, 3, 100):
        desk.answer({"input": [ROW] * count})
    found = samples(desk.get("/metrics").body)
    buckets = [
        (float(dict(labels)["le"]), number)
        for (name, labels), number in found.items()
        if name == "bimodal_batch_rows_bucket"
    ]
    counts = [number for _, number in sorted(buckets)]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    desk.close()


@pytest.mark.parametrize("name", ['quo"ted', "back\\slash", "Übung"])
def test_names_are_escaped(name: str) -> None:
    metrics = Metrics([name])
    assert value(metrics.text(), "bimodal_rows_total", model=name) == 0


# -- the list --------------------------------------------------------------------------------------------------------


def test_openmetrics_is_told_to_who_asks_for_it() -> None:
    desk = Desk(onnx(), loaded("mixed"))
    desk.answer({"input": ROW})
    desk.error({"input": [1]})
    asks = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"
    response = desk.get("/metrics", headers={"accept": asks})
    plain = desk.get("/metrics", headers={"accept": "application/openmetrics-text;q=0, text/plain"})
    families = {family.name: family for family in openmetrics(response.body.decode())}  # type: ignore[no-untyped-call]  # it has no types
    assert (response.content_type, plain.content_type) == (OPEN, PLAIN)
    assert families["bimodal_requests"].type == "counter"
    assert families["bimodal_parse_seconds"].type == "histogram"
    assert all(family.documentation.endswith(".") for family in families.values())
    desk.close()


def test_every_metric_that_is_told_is_in_the_list_with_its_labels() -> None:
    desk = Desk(onnx())
    desk.answer({"input": ROW})
    listed = {each.name.removesuffix("_total"): each for each in MEASURES}
    for family in text_string_to_metric_families(desk.get("/metrics").body.decode()):
        measure = listed[family.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (measure.kind, measure.help)
        assert all(set(sample.labels) - {"le"} == set(measure.labels) for sample in family.samples)
    desk.close()


def test_the_document_lists_them_all() -> None:
    assert table() in (ROOT / "docs" / "observability.md").read_text()


def test_the_stages_of_a_request_are_all_measured() -> None:
    desk = Desk(onnx())
    for _ in range(3):
        desk.answer({"input": ROW})
    text = desk.get("/metrics").body
    for stage in STAGES:
        assert value(text, f"bimodal_{stage}_seconds_count", model="inline") == 3
    assert value(text, "bimodal_check_seconds_sum", model="inline") > 0
    assert value(text, "bimodal_executions_total", model="inline") == 3
    desk.close()


# -- what the wires count --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("log") / "log", Limits(body_bytes=4096)) as server:
        yield server


def requests(text: bytes) -> dict[str, float]:
    """How many there were, by status."""
    found: dict[str, float] = {}
    for (name, labels), number in samples(text).items():
        if name == "bimodal_requests_total":
            code = dict(labels)["code"]
            found[code] = found.get(code, 0) + number
    return found


WAYS: dict[str, tuple[str, int, Callable[[Watched], object]]] = {  # the status that is counted, and the rows
    "good": ("200", 1, lambda server: server.http("POST", "/predict", {"input": ROW})),
    "two rows": ("200", 2, lambda server: server.http2("POST", "/predict", {"input": [ROW, ROW]})),
    "call": ("200", 3, lambda server: server.infer([ROW] * 3)),
    "lines": (
        "200",
        2,
        lambda server: server.http("POST", "/predict", b"[5,3,1,0]\n" * 2, {"content-type": "application/x-ndjson"}),
    ),
    "bad": ("400", 0, lambda server: server.http("POST", "/predict", {"input": [1]})),
    "bad call": ("400", 0, lambda server: server.infer([[1.0]])),
    "no route": ("404", 0, lambda server: server.http2("GET", "/none")),
    "no method": ("405", 0, lambda server: server.http("PUT", "/predict")),
    "long": ("413", 0, lambda server: server.http("POST", "/predict", b"x" * 5000)),
    "long over HTTP/2": ("413", 0, lambda server: server.http2("POST", "/predict", b"x" * 5000)),
    "malformed": ("400", 0, lambda server: server.raw(b"GET / HTTP/1.1\r\n\r\n")),
    "long head": ("431", 0, lambda server: server.raw(b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 40_000)),
    "no such call": ("501", 0, lambda server: server.call("/none/None", b"")),
    "broken call": ("400", 0, lambda server: server.call(INFER, b"\xff\xff")),
    "live": ("200", 0, lambda server: server.http("GET", "/health/live")),
}


MIXES = st.lists(st.sampled_from(sorted(WAYS)), min_size=4, max_size=12)


@settings(max_examples=4, deadline=None)
@given(MIXES)
def test_the_counters_of_a_mix_over_all_wires_add_up(server: Watched, mix: list[str]) -> None:
    check_counters(server, mix)


@pytest.mark.soak
@settings(max_examples=40, deadline=None)
@given(MIXES)
def test_the_counters_of_many_mixes_add_up(server: Watched, mix: list[str]) -> None:
    check_counters(server, mix)


def check_counters(server: Watched, mix: list[str]) -> None:
    """What is counted is what was asked: requests by status, rows, refusals."""
    before = server.metrics.text()
    for way in mix:
        WAYS[way][2](server)
    after = server.metrics.text()
    was, now = requests(before), requests(after)
    counted = {code: now[code] - was.get(code, 0) for code in now if now[code] != was.get(code, 0)}
    assert counted == {code: [WAYS[way][0] for way in mix].count(code) for code in {WAYS[way][0] for way in mix}}
    rows = "bimodal_rows_total"
    assert value(after, rows, model="inline") - value(before, rows, model="inline") == sum(WAYS[way][1] for way in mix)
    refused = [way for way in mix if WAYS[way][0] not in ("200", "404", "405") and way != "broken call"]
    reasons = [
        sum(number for (name, _), number in samples(text).items() if name == "bimodal_refusals_total")
        for text in (before, after)
    ]
    assert reasons[1] - reasons[0] == len(refused)


def test_refusals_of_the_wire_have_their_reason(server: Watched) -> None:
    for way in ("malformed", "long", "long head", "no such call"):
        WAYS[way][2](server)
    text = server.metrics.text()
    for reason in ("malformed", "too_large", "headers_too_large", "not_implemented"):
        assert value(text, "bimodal_refusals_total", model="", reason=reason) >= 1


def test_connections_are_counted(server: Watched) -> None:
    before = value(server.metrics.text(), "bimodal_connections_total")
    server.http("GET", "/health/live")
    assert value(server.metrics.text(), "bimodal_connections_total") == before + 1
    until(lambda: value(server.metrics.text(), "bimodal_connections_open") == 0)


# -- processes -------------------------------------------------------------------------------------------------------


def test_what_a_dead_worker_said_of_the_present_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    dies = (
        "import sys; from bimodal.realtime.metrics import Metrics; m = Metrics(['m'], sys.argv[1], 2, 1);"
        "m.row[m.layout.in_flight['m']] = 7.0; m.other(200)"
    )
    subprocess.run([sys.executable, "-c", dies, str(path)], check=True)
    mine = Metrics(["m"], path, 2, 0)
    text = mine.text()
    assert value(text, "bimodal_requests_in_flight", model="m") == 0
    assert value(text, "bimodal_requests_total", model="", route="other", code="200") == 1  # what it did stays
    assert value(text, "bimodal_worker_starts_total") == 2
    assert value(text, "bimodal_worker_crashes_total") == 0
    again = Metrics(["m"], path, 2, 1)  # its successor sees that it did not end as it should
    assert value(again.text(), "bimodal_worker_crashes_total") == 1
    again.end()
    Metrics(["m"], path, 2, 1)
    assert value(mine.text(), "bimodal_worker_crashes_total") == 1


def test_successors_are_counted_with_those_whose_places_they_took(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    first, second = Metrics(["m"], path, 1, 0), Metrics(["m"], path, 1, 1)
    first.other(200)
    second.other(200)
    labels = {"model": "", "route": "other", "code": "200"}
    third = Metrics(["m"], path, 1, 0)
    assert value(third.text(), "bimodal_requests_total", **labels) == 2


def test_memory_and_processor_time_are_those_of_the_process() -> None:
    metrics = Metrics(["m"])
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        text = metrics.text()
    finally:
        child.communicate(b"\n")
    spent = os.times()
    used = value(text, "bimodal_process_cpu_seconds_total", worker="0", process="worker")
    assert 0 < used <= spent.user + spent.system + 0.05
    assert value(text, "bimodal_process_resident_memory_bytes", worker="0", process="worker") > 10e6
    assert value(text, "bimodal_model_processes", worker="0") >= 1


def test_processes_of_a_model_that_die_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(
        "import os\nclass Model:\n    def predict(self, rows):\n"
        "        if (rows == 13).any(): os.abort()\n        return rows[:, 0]\n"
    )
    model = load(f"{path}:Model", features=["x"])
    desk = Desk(model)
    assert desk.ask("/predict", {"rows": [{"x": 13.0}]}).status == 500
    assert value(desk.get("/metrics").body, "bimodal_model_crashes_total", model=model.name) >= 1
    desk.run(desk.wired.close)
    desk.close()


# -- who reads them --------------------------------------------------------------------------------------------------


def named(text: str) -> set[str]:
    return set(re.findall(r"\bbimodal_\w+", text))


def test_the_dashboard_and_the_alerts_name_metrics_that_there_are() -> None:
    ends = ("", "_bucket", "_sum", "_count")
    known = {f"{each.name}{end}" for each in MEASURES for end in (ends if each.kind == "histogram" else ("",))}
    known |= {f"bimodal_job_{name}" for name in GAUGES}
    folder = ROOT / "examples" / "monitoring"
    dashboard = json.loads((folder / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    rules = [rule for group in yaml.safe_load((folder / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    assert len(asked) >= 12
    assert named(" ".join([*asked, *(rule["expr"] for rule in rules)])) <= known
    assert all(named(expression) for expression in asked)
