"""Both wires take the same data and refuse the same; times go as ISO text."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import bimodal
from bimodal import AsyncClient, Client, serve
from bimodal.client.given import Given, spoken
from bimodal.errors import BimodalError, InputError, ServerUnreachable, UsageError
from bimodal.realtime.server import Server
from tests.models import CASES, IRIS
from tests.ports import free_port

HOURS = """
import datetime
from typing import TypedDict

class Visit(TypedDict):
    seen: datetime.datetime | None
    age: float

def hours(rows: list[Visit]) -> list[str]:
    return [f"{seen} {age}" for seen, age in zip(rows["seen"], rows["age"])]
"""
SEEN: Any = ["2026-01-02T03:04:05.000006", None, "1969-12-31T23:59:59"]
FRAME = pd.DataFrame({"seen": pd.to_datetime(SEEN, format="ISO8601"), "age": [1.0, 2.0, 3.0]})
UTC = datetime.UTC
TOKYO = datetime.timezone(datetime.timedelta(hours=9))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("given") / "hours.py"
    path.write_text(HOURS)
    # the first one is not the first of the alphabet
    with serve(bimodal.load(CASES["logistic"].model, name="vectors"), f"{path}:hours", port=0) as server:
        yield server


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    with Client(server.url.replace("http", request.param)) as client:
        yield client


TIMES: dict[str, Any] = {
    "nanoseconds": FRAME.astype({"seen": "datetime64[ns]"}),
    "microseconds": FRAME.astype({"seen": "datetime64[us]"}),
    "an Arrow table": pa.Table.from_pandas(FRAME, preserve_index=False),
    "a zone": FRAME.assign(seen=FRAME["seen"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
    "text": FRAME.assign(seen=SEEN),
    "Timestamp and NaT": FRAME.to_dict("records"),
    "columns of Series": dict(FRAME.items()),
    "columns of arrays": {name: FRAME[name].to_numpy() for name in FRAME},
    "datetime": [
        {"seen": None if pd.isna(each) else each.to_pydatetime().replace(tzinfo=UTC).astimezone(TOKYO), "age": age}
        for each, age in FRAME.itertuples(index=False)
    ],
}


@pytest.mark.parametrize("case", TIMES)
def test_times_arrive_whatever_they_are_told_in(client: Client, case: str) -> None:
    told = client.predict(TIMES[case], model="hours")
    if isinstance(told, list):
        told = {"prediction": [each["prediction"] for each in told]}
    answers = told["prediction"].to_pylist() if isinstance(told, pa.Table) else list(told["prediction"])
    assert answers == ["2026-01-02T03:04:05.000006 1.0", "NaT 2.0", "1969-12-31T23:59:59.000000 3.0"]


def test_days_are_times_too(client: Client) -> None:
    day = datetime.date(2026, 1, 2)
    table = pa.table({"seen": pa.array([day], pa.date32()), "age": [1.0]})
    expected = ["2026-01-02T00:00:00.000000 1.0"]
    assert client.predict(table, model="hours")["prediction"].to_pylist() == expected
    assert client.predict({"seen": day, "age": 1.0}, model="hours") == {"prediction": expected}


def test_what_is_no_time_is_told(client: Client) -> None:
    with pytest.raises(InputError, match="no ISO 8601 time") as caught:
        client.predict([{"seen": "soon", "age": 1.0}], model="hours")
    assert (caught.value.row, caught.value.column) == (1, "seen")


def test_an_array_of_one_axis_is_one_row(client: Client) -> None:
    expected = CASES["logistic"].model.predict(IRIS[:1]).tolist()
    assert client.predict(IRIS[0]).tolist() == expected
    assert client.predict(dict(zip("abcd", IRIS[0], strict=True))) == {"prediction": expected}
    assert client.predict({name: pd.Series([value]) for name, value in zip("abcd", IRIS[0], strict=True)}) == {
        "prediction": expected
    }


@pytest.mark.parametrize("data", ["abc", None, 5, pd.Series(IRIS[0], index=list("dcba")), {1, 2}, pa.array([1.0])])
def test_what_is_no_rows_is_refused(client: Client, data: Any) -> None:
    with pytest.raises(UsageError, match="predict takes a frame"):
        client.predict(data)
    with bimodal.load(CASES["logistic"].model) as model, pytest.raises((UsageError, AttributeError)):
        model.predict(data)


@pytest.mark.parametrize("data", [{}, [], np.array(3.0), [[1, 2, 3, pd.NA]], {"a": 1.0, "b": [2.0]}])
def test_bad_rows_are_told_alike(server: Server, data: Any) -> None:
    told = []
    for url in (server.url, server.url.replace("http", "grpc")):
        with Client(url) as client, pytest.raises(BimodalError) as caught:
            client.predict(data)
        told.append((type(caught.value), str(caught.value), caught.value.row))
    assert told[0] == told[1]


LONG = IRIS[:2].astype(np.longdouble)


def test_a_longdouble_is_told_where_float64_holds_it(client: Client) -> None:
    first, second = CASES["logistic"].model.predict(IRIS[:2]).tolist()
    assert client.predict(LONG).tolist() == [first, second]
    assert client.predict(np.tile(LONG, (40, 1))).tolist() == [first, second] * 40
    assert client.predict(dict(zip("abcd", LONG.T, strict=True))) == {"prediction": [first, second]}
    assert client.predict(pd.DataFrame(LONG))["prediction"].tolist() == [first, second]
    assert client.predict(LONG[0]).tolist() == [first]
    assert client.predict(list(LONG[0])) == {"prediction": [first]}
    for row in (list(LONG[0]), dict(zip("abcd", LONG[0], strict=True))):
        assert client.predict([row]) == [{"prediction": first}]


THIRD = np.longdouble(1) / 3
GOOD = [1.0, 2.0, 3.0]


def places(value: Any) -> list[tuple[Any, int, str]]:
    """Data in which a value stands, and its row and column."""
    rows = [[*GOOD, 4.0], [*GOOD, value]]
    named = [dict(zip("abcd", row, strict=True)) for row in rows]
    columns = {name: [each[name] for each in named] for name in "abcd"}
    return [(rows, 2, "input[4]"), (rows[1], 1, "input[4]"), (named, 2, "d"), (columns, 2, "d")]


@pytest.mark.skipif(THIRD == 1 / 3, reason="a longdouble is a float64 there")
def test_a_longdouble_that_would_be_rounded_is_refused_with_its_place(client: Client) -> None:
    huge = THIRD * np.longdouble(2) ** 2000
    arrays = [(np.array([[1, 2, 3, 4], [1, 2, 3, each]]), 2, "input[4]") for each in (THIRD, huge)]
    frames = [(pd.DataFrame(each, columns=[*"abcd"]), 2, "d") for each, _, _ in arrays]
    for data, row, column in [*places(THIRD), *places(huge), *arrays, *frames]:
        with pytest.raises(InputError, match="a longdouble that float64 does not hold") as caught:
            client.predict(data)
        assert (caught.value.row, caught.value.column) == (row, column)


@pytest.mark.parametrize("value", [3j, np.complex64(3j), np.clongdouble(3j)])
def test_a_complex_number_is_told_by_its_type_and_place(client: Client, value: Any) -> None:
    for data, row, column in places(value)[:2]:
        with pytest.raises(InputError, match=r"row \d, column .*: a c(omplex|longdouble) ") as caught:
            client.predict(data)
        assert (caught.value.row, caught.value.column) == (row, column)
    with pytest.raises(InputError, match=r"row 1, column 'input\[1\]': a c(omplex|longdouble) "):
        client.predict(np.array([[*GOOD, value]]))


def test_an_infinity_in_lists_is_told_with_its_place(client: Client) -> None:
    for data, row, column in places(np.inf)[:2]:
        with pytest.raises(InputError, match="infinity") as caught:
            client.predict(data)
        assert (caught.value.row, caught.value.column) == (row, column)
    with pytest.raises(InputError, match="infinity") as named:
        client.predict([["2026-01-02", 1.0], ["2026-01-02", np.inf]], model="hours")
    assert (named.value.row, named.value.column) == (2, "age")


def test_an_infinity_is_told_where_nobody_can_be_asked_for_its_column() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, retries=0) as client, pytest.raises(InputError, match="row 2: infinity"):
        client.predict([GOOD, [1.0, np.inf, 3.0]])


def test_the_models_are_in_the_servers_order(client: Client) -> None:
    assert client.models() == ["vectors", "hours"]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_closed_client_says_so(server: Server, scheme: str) -> None:
    url = server.url.replace("http", scheme)
    client = Client(url)
    client.close()
    for name, values in (("predict", [[[1, 2]]]), ("models", []), ("ready", [])):
        with pytest.raises(UsageError, match="the client is closed"):
            getattr(client, name)(*values)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_closed_client_of_a_loop_says_so(server: Server, scheme: str) -> None:
    async def ask() -> None:
        client = AsyncClient(server.url.replace("http", scheme))
        await client.close()
        await client.predict([[1, 2]])

    with pytest.raises(UsageError, match="the client is closed"):
        asyncio.run(ask())


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "10", True, 1e300])
def test_a_timeout_is_a_positive_number(client: Client, timeout: Any) -> None:
    with pytest.raises(UsageError, match="positive number of seconds"):
        Client(timeout=timeout)
    with pytest.raises(UsageError, match="positive number of seconds"):
        AsyncClient(timeout=timeout)
    with pytest.raises(UsageError, match="positive number of seconds"):
        client.predict([[1, 2]], timeout=timeout)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_none_is_no_timeout_and_no_address(kind: Any) -> None:
    with pytest.raises(UsageError, match=r"positive number of seconds, at most 1e\+08, not None"):
        kind(timeout=None)
    with pytest.raises(UsageError, match=r"address looks like .* not None"):
        kind(None)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_why_a_server_is_not_reached(server: Server, scheme: str) -> None:
    secure = server.url.replace("http", f"{scheme}s")
    for url, why in ((secure, "speaks no TLS"), (f"{scheme}://no-such-host.invalid:80", "name .* is not known")):
        with Client(url, retries=0) as client, pytest.raises(ServerUnreachable, match=why):
            client.models()


def test_values_are_spoken_as_json_has_them() -> None:
    values = [np.datetime64("2026-01-02T03", "ns"), np.datetime64("NaT"), pd.NA, np.float32(0.5), (1, pd.NaT)]
    assert spoken(values) == ["2026-01-02T03:00:00", None, None, 0.5, [1, None]]


@pytest.mark.parametrize("kind", ["array", "columns"])
def test_times_beyond_the_calendar_are_refused_and_never_wrapped_around(kind: str) -> None:
    times = np.array([0, 2**62]).astype("datetime64[s]")
    with pytest.raises(InputError) as raised:
        Given.of(times if kind == "array" else {"t": times})
    assert raised.value.code == "out_of_range"
