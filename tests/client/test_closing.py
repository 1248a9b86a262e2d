"""The end of a client: calls under way finish, and a client that is used from another event loop works there."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bimodal import AsyncClient, Client, serve
from bimodal.errors import UsageError
from bimodal.realtime.server import Server
from tests.client.flaky import Flaky, answer

MODELS = '''
import time
from pathlib import Path

class Gate:
    """Says that it has begun, and waits until it is let through."""
    inputs = {"file": str}
    outputs = {"prediction": int}

    def predict(self, rows):
        file = Path(rows["file"][0])
        if file.is_absolute():  # no example
            file.with_suffix(".begun").touch()
        until = time.monotonic() + 60
        while file.is_absolute() and not file.exists() and time.monotonic() < until:
            time.sleep(0.005)
        return [1] * len(rows["file"])

class Counts:
    inputs = {"n": int}
    outputs = {"piece": int}

    def predict(self, rows):
        for n in range(rows["n"]):
            yield {"piece": n}
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("closing") / "models.py"
    path.write_text(MODELS)
    with serve(f"{path}:Gate", f"{path}:Counts", port=0) as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    return server.url.replace("http", request.param)


def reach(gate: Path) -> None:
    """Wait until the model stands before it."""
    until = time.monotonic() + 60
    while not gate.with_suffix(".begun").exists():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_call_under_way_ends_as_it_would(url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    client = Client(url, timeout=20)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.predict, [{"file": str(gate)}], model="Gate")
        reach(gate)
        client.close()
        with pytest.raises(UsageError, match="the client is closed"):
            client.models()
        gate.touch()
        assert call.result() == [{"prediction": 1}]


def test_a_call_under_way_in_a_loop_ends_as_it_would(url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def run() -> Any:
        client = AsyncClient(url, timeout=20)
        call = asyncio.create_task(client.predict([{"file": str(gate)}], model="Gate"))
        await asyncio.to_thread(reach, gate)
        await client.close()
        with pytest.raises(UsageError, match="the client is closed"):
            await client.models()
        gate.touch()
        return await call

    assert asyncio.run(run()) == [{"prediction": 1}]


def test_a_stream_under_way_ends_as_it_would(url: str) -> None:
    client = Client(url)
    pieces = client.stream({"n": 50}, model="Counts")
    assert next(pieces) == {"piece": 0}
    client.close()
    assert [each["piece"] for each in pieces] == list(range(1, 50))

    async def run() -> list[int]:
        client = AsyncClient(url)
        pieces = client.stream({"n": 50}, model="Counts")
        await anext(pieces)
        await client.close()
        return [each["piece"] async for each in pieces]

    assert asyncio.run(run()) == list(range(1, 50))


def test_the_last_call_closes_the_connections() -> None:
    let = threading.Event()

    def act(connection: Any) -> bool:
        let.wait(20)
        return answer(body=b'{"prediction":[1]}')(connection)

    with Flaky(act) as server, ThreadPoolExecutor(1) as threads:
        client = Client(server.url, timeout=20)
        call = threads.submit(client.predict, [[1.0]])
        while not server.requests:
            time.sleep(0.005)
        client.close()
        let.set()
        assert call.result() == [{"prediction": 1}]
        until = time.monotonic() + 60
        while server.open and time.monotonic() < until:
            time.sleep(0.005)
        assert server.open == 0


def test_another_loop_has_connections_of_its_own(url: str) -> None:
    client = AsyncClient(url)

    async def names() -> set[str]:
        told = await asyncio.gather(*[client.models() for _ in range(3)])
        return {name for each in told for name in each}

    for _ in range(3):
        assert asyncio.run(names()) == {"Counts", "Gate"}
    gc.collect()  # what a loop had was closed with it: nothing warns
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: asyncio.run(names()), range(4)))
    assert found == [{"Counts", "Gate"}] * 4
    asyncio.run(client.close())
    with pytest.raises(UsageError, match="the client is closed"):
        asyncio.run(names())
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of a loop that did not close what it had
def test_a_loop_that_was_closed_with_connections_does_not_matter(url: str) -> None:
    client = AsyncClient(url)
    for _ in range(2):
        loop = asyncio.new_event_loop()
        assert sorted(loop.run_until_complete(client.models())) == ["Counts", "Gate"]
        loop.close()
        del loop
    asyncio.run(client.close())
    del client
    gc.collect()


def test_each_loop_has_streams_of_its_own(url: str) -> None:
    client = AsyncClient(url)

    async def pieces() -> list[int]:
        return [each["piece"] async for each in client.stream({"n": 3}, model="Counts")]

    assert [asyncio.run(pieces()) for _ in range(2)] == [[0, 1, 2]] * 2
