"""/metrics: valid Prometheus text, right with several workers, kept over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bimodal.realtime.exposition import OPEN, PLAIN
from bimodal.realtime.metrics import Metrics
from tests.realtime.desk import Ask, Desk
from tests.realtime.shelf import loaded, onnx

ROW = [5.1, 3.5, 1.4, 0.2]
LABELS = {"model": "inline", "route": "predict", "code": "200"}


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
