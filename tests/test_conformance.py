"""The conformance suite against a real `bimodal serve`: every must and every should passes, over REST and over gRPC."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import bimodal
import conformance.checks  # noqa: F401 - fills the catalogue
from bimodal.realtime.server import Server
from conformance.catalogue import CHECKS, MUST, OPTIONAL, Check, Fault
from conformance.models.__main__ import write
from conformance.report import FAILED, NO_MODEL, NOT_ANNOUNCED, Outcome, chosen, conforms, judge, run, table
from conformance.target import Target
from conformance.tensors import from_json
from tests.ports import free_port
from tests.talkative import TALK

LEFT_OUT = {"others/system_shared_memory", "others/cuda_shared_memory", "others/trace", "others/logging"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("models")
    write(folder, python=True)
    port = free_port()
    command = [sys.executable, "-m", "bimodal", "serve", str(folder), "--port", str(port), "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        target = Target(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not ready(target):
            time.sleep(0.1)
        yield target
        target.close()
        process.terminate()


def ready(target: Target) -> bool:
    with suppress(Fault):
        return target.get("/v2/health/ready").status == 200
    return False


def test_bimodal_conforms_in_every_must_and_should(target: Target) -> None:
    outcomes = run(target, chosen(()))
    failed = [f"{each.check.id}: {each.told} {each.answer}" for each in outcomes if each.result == FAILED]
    assert [each for each in failed if not each.startswith("clients/http-gzip-request:")] == []
    assert conforms(outcomes)
    assert {each.check.id for each in outcomes if each.result == NOT_ANNOUNCED} == LEFT_OUT
    counts = Counter(each.check.level for each in outcomes if each.result == "passed")
    assert counts[MUST] > 190
    assert table(outcomes)[-1][0] == "total"


def test_a_check_that_fails_says_what_was_asked_and_answered(target: Target) -> None:
    def wrong(target: Target) -> None:
        reply = target.get("/v2/models/no-such-model")
        raise Fault("no", reply.asked, str(reply))

    outcome = judge(target, Check("x/y", MUST, "a document", "a sentence", wrong))
    assert (outcome.result, outcome.request) == (FAILED, "GET /v2/models/no-such-model")
    assert outcome.answer.startswith("404 ")
    assert not conforms([outcome])
    assert conforms([Outcome(Check("x/z", OPTIONAL, "", "", wrong), FAILED)])


def test_what_is_not_announced_is_no_failure(target: Target) -> None:
    check = next(each for each in CHECKS.values() if each.id == "others/trace")
    assert judge(target, check).result == NOT_ANNOUNCED


def test_the_program_ends_with_0_where_a_server_conforms(target: Target) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "conformance", "--url", f"http://{target.address}", "--only", "health,metadata"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "conforms: every must passed" in done.stdout


def test_a_model_of_text_that_answers_in_pieces_is_asked_row_by_row_and_by_the_public_client(target: Target) -> None:
    named = Target(f"http://{target.address}", target.grpc_address, model="words")
    outcomes = run(named, chosen(["clients", "stream"]))
    named.close()
    failed = [f"{each.check.id}: {each.told}" for each in outcomes if each.result == FAILED]
    assert [each for each in failed if not each.startswith("clients/http-gzip-request:")] == []


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("talk") / "talk.py"
    file.write_text(TALK)
    with bimodal.serve(f"{file}:Chat", port=0) as running:
        yield running


def test_a_model_that_takes_not_just_anything_is_asked_with_the_inputs_of_a_file(talk: Server, tmp_path: Path) -> None:
    root, address = Path(__file__).parents[1], f"127.0.0.1:{talk.port}"
    command = [sys.executable, "-m", "conformance", "--url", f"http://{address}", "--grpc", address, "--model", "Chat"]
    command += ["--only", "infer,stream"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Chat does not answer inputs that were made up: 400" in done.stderr
    assert "--inputs FILE" in done.stderr
    said = [[{"role": "user", "content": text}] for text in ("well met", "one two three")]
    (tmp_path / "inputs.json").write_text(json.dumps({"messages": said, "max_tokens": [1, 2]}))
    command += ["--inputs", str(tmp_path / "inputs.json")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "stream/" not in done.stdout


def test_a_null_is_no_failure_of_a_model_that_the_suite_does_not_know(target: Target, talk: Server) -> None:
    def null(_: Target) -> None:
        from_json({"name": "tokens", "shape": [1], "datatype": "INT64", "data": [None]})

    check = Check("x/null", MUST, "a document", "a sentence", null)
    named = Target(f"http://127.0.0.1:{talk.port}", None, model="Chat")
    assert [judge(each, check).result for each in (target, named)] == [FAILED, NO_MODEL]
    named.close()


def test_a_server_that_is_not_there_is_told() -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "conformance", "--url", f"http://127.0.0.1:{free_port()}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "tells no server metadata" in done.stderr
