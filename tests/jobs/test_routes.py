"""Jobs over HTTP, with a real `bimodal up`: started, watched, cancelled, fetched; files that are sent."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.jobs.desk import until

CSV = {"content-type": "text/csv"}
TOML = """
[server]
upload_limit = "100kB"

[models.iris]
path = "iris.pkl"

[models.slow]
path = "slow.py:Slow"

[models.iris.store]
job = "nightly"
key = "id"

[jobs.nightly]
model = "iris"
input = "rows.csv"
output = "out-{date}.csv"
schedule = "0 2 1 1 *"
priority = "normal"

[jobs.lasting]
model = "slow"
input = "rows.csv"
output = "lasting.csv"
retries = 0
priority = "normal"
"""
SLOW = """
import time

class Slow:
    outputs = {"prediction": float}

    def predict(self, rows: {"a": float}):
        time.sleep(0.2 * len(rows))
        return {"prediction": [0.0] * len(rows)}
"""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """A folder with a running `bimodal up`."""

    folder: Path
    port: int
    rows: pd.DataFrame
    expected: list[int] = field(default_factory=list)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        got = connection.getresponse()
        answer = Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        connection.close()
        return answer

    def send(self, path: str, body: bytes, kind: str = "text/csv", **headers: str) -> Answer:
        return self.ask("POST", path, body, content_type=kind, **headers)

    def over(self, run: str, *, until: tuple[str, ...] = ("succeeded", "failed", "cancelled")) -> Any:
        """The run, once it is over."""
        end = time.monotonic() + 90
        while time.monotonic() < end:
            told = self.ask("GET", f"/runs/{run}").told
            if told["status"] in until:
                return told
            time.sleep(0.1)
        raise AssertionError(f"run {run} is not over: {told}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("up")
    x, y = load_iris(return_X_y=True, as_frame=True)
    x.columns = list("abcd")
    model = LogisticRegression(max_iter=500).fit(x, y)
    joblib.dump(model, folder / "iris.pkl")
    rows = x.assign(id=range(1000, 1150))
    rows.to_csv(folder / "rows.csv", index=False)
    (folder / "slow.py").write_text(SLOW)
    (folder / "bimodal.toml").write_text(TOML)
    command = [sys.executable, "-m", "bimodal", "up", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        match = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match
        yield Site(folder, int(match[1]), rows, model.predict(x).tolist())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_job_is_started_watched_and_fetched(site: Site) -> None:
    started = site.ask("POST", "/jobs/nightly/runs")
    assert started.status == 202
    run = started.told["id"]
    assert started.headers["location"] == f"/runs/{run}" == started.told["links"]["self"]
    told = site.over(run)
    assert told["status"] == "succeeded"
    assert told["report"]["read"] == told["report"]["predicted"] == 150
    result = site.ask("GET", told["links"]["result"])
    assert result.headers["content-type"] == "text/csv; charset=utf-8"
    assert pd.read_csv(io.BytesIO(result.body))["prediction"].tolist() == site.expected
    assert site.ask("GET", f"/runs/{run}/rejects").status == 404
    assert run in [each["id"] for each in site.ask("GET", "/jobs/nightly/runs").told]
    assert site.ask("GET", "/jobs/nightly").told["last"]["id"] == run
    assert [each["name"] for each in site.ask("GET", "/jobs").told] == ["nightly", "lasting"]
    found = site.ask("GET", "/models/iris/lookup/1017").told
    assert (found["prediction"], found["source"]) == (site.expected[17], "batch")


def test_a_key_is_one_run(site: Site) -> None:
    first = site.ask("POST", "/jobs/nightly/runs", idempotency_key="order-7").told
    again = site.ask("POST", "/jobs/nightly/runs", idempotency_key="order-7").told
    assert first["id"] == again["id"]
    site.over(first["id"])
    late = site.ask("POST", "/jobs/nightly/runs", idempotency_key="order-7")
    assert (late.status, late.told["id"]) == (200, first["id"])
    other = site.ask("POST", "/jobs/nightly/runs", idempotency_key="order-8").told
    assert other["id"] != first["id"]
    site.over(other["id"])


def test_a_date_is_the_runs_own(site: Site) -> None:
    run = site.ask("POST", "/jobs/nightly/runs", b'{"date": "2026-03-31"}').told["id"]
    assert site.over(run)["status"] == "succeeded"
    assert (site.folder / "out-2026-03-31.csv").is_file()


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("text/csv", "csv"), ("application/vnd.apache.parquet", "parquet"), ("application/x-ndjson", "jsonl")],
)
def test_a_file_that_is_sent_is_predicted(site: Site, kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"
    match suffix:
        case "csv":
            site.rows.to_csv(path, index=False)
        case "parquet":
            site.rows.to_parquet(path, index=False)
        case _:
            site.rows.to_json(path, orient="records", lines=True)
    sent = site.send("/models/iris/runs?proba=true&keep=id&format=jsonl", path.read_bytes(), kind)
    assert sent.status == 202
    told = site.over(sent.told["id"])
    lines = [json.loads(line) for line in site.ask("GET", told["links"]["result"]).body.splitlines()]
    assert [line["prediction"] for line in lines] == site.expected
    assert list(lines[0]) == ["id", "prediction", "probability_0", "probability_1", "probability_2"]


def test_the_same_file_sent_twice_under_a_key_is_one_run(site: Site) -> None:
    body = (site.folder / "rows.csv").read_bytes()
    first = site.send("/models/iris/runs", body, idempotency_key="f1").told
    again = site.send("/models/iris/runs", body, idempotency_key="f1").told
    assert first["id"] == again["id"]
    site.over(first["id"])
    assert len(list((site.folder / ".bimodal/uploads").glob(f"{first['id']}"))) == 1


def test_refused_rows_are_told_and_fetched(site: Site) -> None:
    body = (site.folder / "rows.csv").read_text().replace("5.1,3.5,1.4,0.2,1000", "5.1,oops,1.4,0.2,1000", 1).encode()
    strict = site.over(site.send("/models/iris/runs", body).told["id"])
    assert strict["status"] == "failed"
    assert "1 row" in strict["error"]
    assert "max_rejects=1" in strict["error"]
    assert str(site.folder) not in json.dumps(strict)
    (reject,) = [json.loads(line) for line in site.ask("GET", strict["links"]["rejects"]).body.splitlines()]
    assert (reject["row"], reject["column"]) == (1, "b")
    assert site.ask("GET", f"/runs/{strict['id']}/result").status == 409
    run = site.send("/models/iris/runs?max_rejects=1%25", body).told["id"]
    told = site.over(run)
    assert (told["status"], told["report"]["rejected"]) == ("succeeded", 1)
    (reject,) = [json.loads(line) for line in site.ask("GET", told["links"]["rejects"]).body.splitlines()]
    assert (reject["row"], reject["column"]) == (1, "b")


def uploads(site: Site) -> set[str]:
    """Files that were sent, and are there."""
    folder = site.folder / ".bimodal/uploads"
    return set(os.listdir(folder)) if folder.exists() else set()


def test_what_is_wrong_with_a_file_is_said_in_the_querys_words(site: Site) -> None:
    body = (site.folder / "rows.csv").read_bytes()
    told = site.over(site.send("/models/iris/runs?keep=idd", body).told["id"])
    assert "keep: the input has no column 'idd'" in told["error"]
    assert "--" not in told["error"]
    told = site.over(site.send("/models/iris/runs", (site.folder / "iris.pkl").read_bytes()).told["id"])
    assert told["status"] == "failed"
    assert len(told["error"]) < 300
    assert told["error"].isprintable()
    assert str(site.folder) not in told["error"]


def test_a_run_is_cancelled(site: Site) -> None:
    run = site.ask("POST", "/jobs/lasting/runs").told["id"]
    site.over(run, until=("running",))
    assert site.ask("GET", f"/runs/{run}/result").status == 409
    assert site.ask("POST", f"/runs/{run}/cancel").status == 200
    assert site.over(run)["status"] == "cancelled"
    assert not (site.folder / "lasting.csv").exists()


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "words"),
    [
        ("GET", "/jobs/nightl", None, {}, 404, "there is no job 'nightl'"),
        ("GET", "/jobs/nope/runs", None, {}, 404, "there are: nightly, lasting"),
        ("POST", "/jobs/nope/runs", b"", {}, 404, "there is no job 'nope'"),
        ("POST", "/jobs/nightly", b"", {}, 405, "POST /jobs/nightly/runs starts a run"),
        ("GET", "/jobs/nightly/run", None, {}, 404, "/jobs/nightly/runs"),
        ("GET", "/models/nope/lookup/3", None, {}, 404, "no model of that name"),
        ("POST", "/models/nope/lookup", b'{"key": 3}', {}, 404, "no model of that name"),
        ("POST", "/models/iris/runs?max_rejects=-1", b"a", CSV, 400, "max_rejects"),
        ("POST", "/models/iris/runs?max_rejects=200%25", b"a", CSV, 400, "max_rejects"),
        ("POST", "/models/iris/runs?outputs=probabilty", b"a", CSV, 400, "did you mean 'probability'"),
        ("POST", "/models/iris/runs?threshold=0.5", b"a", CSV, 400, "two classes"),
        ("POST", "/models/slow/runs?proba=true", b"a", CSV, 400, "no probabilities"),
        ("POST", "/models/iris/runs?keep=", b"a", CSV, 400, "keep"),
        ("GET", "/runs/0123456789abcdef", None, {}, 404, "there is no run"),
        ("GET", "/runs/nothing", None, {}, 404, "there is no such run"),
        ("GET", "/runs/../../etc/passwd", None, {}, 404, "there is no such run"),
        ("POST", "/runs/0123456789abcdef", b"", {}, 404, "/cancel"),
        ("POST", "/jobs/nightly/runs", b"{", {}, 400, "date"),
        ("POST", "/jobs/nightly/runs", b'{"day": 1}', {}, 400, "date"),
        ("POST", "/jobs/nightly/runs", b'{"date": "tomorrow"}', {}, 400, "2026-03-31"),
        ("POST", "/jobs/nightly/runs", b"", {"Idempotency-Key": "a b"}, 400, "Idempotency-Key"),
        ("DELETE", "/jobs/nightly/runs", None, {}, 405, "GET"),
        ("GET", "/jobs/nightly/runs?limit=0", None, {}, 400, "limit"),
        ("POST", "/models/iris/runs", b"{}", {"content-type": "application/json"}, 415, "text/csv"),
        ("POST", "/models/iris/runs", b"", CSV, 400, "empty"),
        ("POST", "/models/iris/runs?format=xls", b"a", CSV, 400, "parquet"),
        ("POST", "/models/iris/runs?prob=1", b"a", CSV, 400, "proba"),
        ("POST", "/models/iris/runs", b"x" * 100_001, CSV, 413, "100,000 bytes"),
        ("POST", "/models/none/runs", b"a", CSV, 404, "served are"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    site: Site, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, words: str
) -> None:
    before = uploads(site)
    answer = site.ask(method, path, body, **headers)
    assert answer.status == status, answer.body
    assert words in answer.told["error"]
    assert "code" in answer.told
    assert uploads(site) <= before  # those of runs that are over go


def test_a_caller_that_leaves_in_the_middle_leaves_nothing(site: Site) -> None:
    before = uploads(site)
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.putrequest("POST", "/models/iris/runs")
    connection.putheader("content-type", "text/csv")
    connection.putheader("content-length", "50000")
    connection.endheaders()
    connection.send(b"a,b,c,d\n" * 100)
    until(lambda: uploads(site) - before)
    connection.close()
    until(lambda: not uploads(site) - before)


def test_metrics_and_description_have_the_jobs(site: Site) -> None:
    site.over(site.ask("POST", "/jobs/nightly/runs", idempotency_key="counted").told["id"])
    end = time.monotonic() + 60
    wanted = 'bimodal_job_last_rows_read{name="nightly"} 150'
    while wanted not in (text := site.ask("GET", "/metrics").body.decode()) and time.monotonic() < end:
        time.sleep(0.5)
    assert wanted in text
    assert 'bimodal_job_last_failed{name="nightly"} 0' in text
    paths = site.ask("GET", "/openapi.json").told["paths"]
    assert {"/jobs", "/jobs/nightly/runs", "/models/iris/runs", "/runs/{run}/result"} <= set(paths)
