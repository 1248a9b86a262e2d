"""/openapi.json is what a real server does: requests drawn from it by schemathesis, and drawn against it, are answered
as it says, and never with a fault of the server.

    python tasks.py test tests/realtime/test_schema.py -m soak -s      50,000 requests
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import joblib
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

import bimodal
from tests.models import CASES

# not among them: that every body the schema allows is taken (a model may know no such category), and the other way
# round (more is taken than the document tells)
CHOSEN = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
SHORT = 5  # requests of each operation and kind


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("schema")
    joblib.dump(CASES["mixed"].model, folder / "mixed.pkl")
    with bimodal.serve(folder / "mixed.pkl", port=0, runtime="native") as server:
        yield server.url


def drawn(url: str, each_: int) -> Counter[int]:
    """The statuses of the answers to `each_` requests of each operation, valid ones and others."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    statuses: Counter[int] = Counter()
    with requests.Session() as session:
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()
            free = bool(operation.body) or bool(operation.query)  # there is something to draw
            ask(operation, GenerationMode.POSITIVE, each_ if free else 1, session, statuses)
            if free:
                ask(operation, GenerationMode.NEGATIVE, each_, session, statuses)
    return statuses


def ask(operation: Any, mode: GenerationMode, count: int, session: requests.Session, statuses: Counter[int]) -> None:
    quiet = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(7)
    @quiet
    @given(operation.as_strategy(generation_mode=mode))
    def asked(case: Any) -> None:
        response = case.call(session=session)
        statuses[response.status_code] += 1
        if response.status_code == 504:  # a caller who waits for a microsecond is told so, as the document says
            assert wish(response.request) <= response.elapsed, (case.as_curl_command(), response.text)
        else:
            assert response.status_code < 500, (case.as_curl_command(), response.text)
        case.validate_response(response, checks=CHOSEN)

    asked()


def wish(request: requests.PreparedRequest) -> float:
    """Seconds within which a request wants its answer; infinity where it does not say."""
    told = request.headers.get("x-request-timeout-ms")
    wished = [] if told is None else [float(told) / 1e3]
    sent: Any = request.body
    try:
        body = json.loads(sent or b"null")
    except ValueError:
        body = None
    parameters = body.get("parameters") if isinstance(body, dict) else None
    if isinstance(parameters, dict) and isinstance(parameters.get("timeout"), int) and parameters["timeout"] > 0:
        wished.append(parameters["timeout"] / 1e6)
    return min(wished, default=math.inf)


def test_a_wish_is_read_from_header_and_body() -> None:
    def wished(body: Any, **headers: str) -> float:
        return wish(requests.Request("POST", "http://h/", json=body, headers=headers).prepare())

    assert wished({"rows": []}) == wished([1]) == wished({"parameters": {"timeout": 0}}) == math.inf
    assert wished({"parameters": {"timeout": 2}}) == 2e-6
    assert wished({"parameters": {"timeout": 2}}, **{"X-Request-Timeout-Ms": "0.001"}) == 1e-6


def test_answers_are_as_the_document_says(url: str) -> None:
    statuses = drawn(url, SHORT)
    assert statuses[200] > 10
    assert statuses[400] > 20


@pytest.mark.soak
def test_fifty_thousand_answers_are_as_the_document_says(url: str) -> None:
    statuses: Counter[int] = Counter()
    while statuses.total() < 50_000:
        statuses += drawn(url, 800)
    print(f"\n{statuses.total():,} answers: {dict(statuses)}")
