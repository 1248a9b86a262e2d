"""Object stores, against a real S3 server in this process; boto3 sees what is really there."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest
from moto.server import ThreadedMotoServer

from bimodal.batch.marks import Beside, Mark
from bimodal.batch.mishap import told
from bimodal.batch.sinks.contract import Sink
from bimodal.batch.sinks.remote import open_remote
from bimodal.batch.sources.contract import Reading
from bimodal.batch.sources.inputs import open_input
from bimodal.batch.store import Store, is_stored, regex
from bimodal.errors import OutputExists, OutputHeld, SinkError, SourceError, UsageError
from tests.batch.places import shop, write

READING = Reading({"age": pa.float64(), "plan": pa.string()}, ("id",))
SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """boto3's client, and an empty bucket `shop`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("BIMODAL_STATE", str(tmp_path / "state"))
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="shop")
    yield client
    for each in client.list_objects_v2(Bucket="shop").get("Contents", []):
        client.delete_object(Bucket="shop", Key=each["Key"])
    client.delete_bucket(Bucket="shop")
    client.close()


def keys(client: Any) -> list[str]:
    """The objects, but for those that pyarrow makes of a folder's name when something in it is deleted."""
    found = [each["Key"] for each in client.list_objects_v2(Bucket="shop").get("Contents", [])]
    return [key for key in found if not key.endswith("/")]


def body(client: Any, key: str) -> bytes:
    data: bytes = client.get_object(Bucket="shop", Key=key)["Body"].read()
    return data


def upload(client: Any, key: str, frame: pd.DataFrame, folder: Path) -> None:
    path = write(frame, folder / key.rpartition("/")[2])
    client.put_object(Bucket="shop", Key=key, Body=path.read_bytes())


def ids(address: str) -> list[str]:
    return [value for chunk in open_input(address).chunks(READING) for value in chunk.kept.column("id").to_pylist()]


class TestInput:
    @pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "jsonl.zst", "parquet", "arrow", "arrows"])
    def test_an_object_of_any_format_is_read(self, kind: str, s3: Any, tmp_path: Path) -> None:
        upload(s3, f"in/data.{kind}", shop(500), tmp_path)
        source = open_input(f"s3://shop/in/data.{kind}")
        assert source.name == f"data.{kind}"
        assert source.total_bytes == len(body(s3, f"in/data.{kind}"))
        assert ids(f"s3://shop/in/data.{kind}") == [f"{number:04}" for number in range(500)]

    def test_a_prefix_and_a_pattern_are_the_objects_in_order(self, s3: Any, tmp_path: Path) -> None:
        frame = shop(90)
        for part in (2, 0, 1):
            upload(s3, f"in/part-{part}.parquet", frame[part * 30 : part * 30 + 30], tmp_path)
        s3.put_object(Bucket="shop", Key="in/_SUCCESS", Body=b"")
        s3.put_object(Bucket="shop", Key="in/deep/other.csv", Body=b"a\n1\n")
        for address in ("s3://shop/in", "s3://shop/in/", "s3://shop/in/*.parquet", "s3://shop/**/part-[0-2].parquet"):
            assert ids(address) == frame["id"].tolist()

    def test_partitions_are_found_under_a_prefix(self, s3: Any, tmp_path: Path) -> None:
        for plan in ("free", "pro"):
            upload(s3, f"in/plan={plan}/data.parquet", shop(5).drop(columns="plan"), tmp_path)
        chunks = list(open_input("s3://shop/in").chunks(READING))
        plans = [value for chunk in chunks for value in chunk.features.column("plan").to_pylist()]
        assert plans == ["free"] * 5 + ["pro"] * 5

    def test_the_fingerprint_changes_with_the_content(self, s3: Any, tmp_path: Path) -> None:
        upload(s3, "data.csv", shop(20), tmp_path)
        before = open_input("s3://shop/data.csv").fingerprint()
        assert open_input("s3://shop/data.csv").fingerprint() == before
        upload(s3, "data.csv", shop(20)[::-1], tmp_path)
        assert open_input("s3://shop/data.csv").fingerprint() != before

    @pytest.mark.parametrize("ahead", [0, 1 << 30])
    def test_row_groups_come_alike_however_they_are_asked_for(
        self, ahead: int, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bimodal.batch.sources.parquet.AHEAD", ahead)
        path = tmp_path / "in.parquet"
        table = pa.table({"age": np.arange(150_000) / 7, "plan": ["free", "pro", "team"] * 50_000})
        arrow_parquet.write_table(table, path, row_group_size=140_000)
        s3.upload_file(str(path), "shop", "in.parquet")
        reading = Reading({"age": None, "plan": None})
        here = [chunk.features for chunk in open_input(path).chunks(reading)]
        pieces = list(open_input("s3://shop/in.parquet").pieces(reading))
        assert [piece.load().features for piece in pieces] == here
        (last,) = open_input("s3://shop/in.parquet").pieces(reading, pieces[-2].cursor)
        assert last.load().features == here[-1]

    def test_what_is_not_there_is_told_in_a_sentence(self, s3: Any) -> None:
        with pytest.raises(SourceError, match=r"^s3://shop/none\.csv does not exist: there is no such object"):
            open_input("s3://shop/none.csv")
        with pytest.raises(SourceError, match=r"^no object matches s3://shop/\*\.csv$"):
            open_input("s3://shop/*.csv")
        with pytest.raises(SourceError, match=r"there is no such bucket$"):
            open_input("s3://nobody/data.csv")

    def test_a_server_that_is_not_there_is_told(self, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bimodal.batch.store.ATTEMPTS", 1)
        with pytest.raises(SourceError, match=r"the store cannot be reached$") as caught:
            open_input("s3://shop/data.csv?endpoint_override=http://127.0.0.1:9")
        assert SECRET not in str(caught.value)


class TestAddresses:
    def test_schemes(self) -> None:
        assert is_stored("s3://bucket/key")
        assert is_stored("gs://bucket/key")
        assert is_stored("abfs://box@account.dfs.core.windows.net/key")
        assert not is_stored("postgresql://ann@host/shop")
        assert not is_stored("s3.csv")

    def test_a_credential_in_an_address_is_refused_and_not_told(self) -> None:
        with pytest.raises(UsageError, match="credentials do not belong in the address") as caught:
            Store.of(f"s3://AKIDEXAMPLE:{SECRET}@bucket/key")
        assert SECRET not in str(caught.value)

    def test_what_stands_behind_the_question_mark(self) -> None:
        store = Store.of("s3://bucket/a.csv?endpoint_override=http://localhost:9000&region=eu-west-1")
        assert (store.url, store.key, store.endpoint) == ("s3://bucket/a.csv", "bucket/a.csv", "http://localhost:9000")
        assert Store.of("s3://bucket/part-?.csv").key == "bucket/part-?.csv"
        with pytest.raises(UsageError, match="the option 'secret' is unknown"):
            Store.of("s3://bucket/a.csv?secret=x")

    def test_the_account_of_azure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = Store.of("abfs://box@account.dfs.core.windows.net/folder/a.csv")
        assert (store.key, store.options["account"]) == ("box/folder/a.csv", "account")
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
        with pytest.raises(UsageError, match="AZURE_STORAGE_ACCOUNT"):
            assert Store.of("az://box/a.csv").system

    def test_patterns_stay_within_a_folder(self) -> None:
        def matches(pattern: str, key: str) -> bool:
            return re.fullmatch(regex(pattern.split("/")), key) is not None

        assert matches("*.csv", "a.csv")
        assert not matches("*.csv", "b/a.csv")
        assert matches("**/*.csv", "a.csv")
        assert matches("**/*.csv", "x/y/a.csv")
        assert matches("part-?[!0-4].csv", "part-17.csv")
        assert not matches("part-?[!0-4].csv", "part-13.csv")
        assert not matches("a.csv", "axcsv")


TABLE = pa.table({"id": np.arange(10), "prediction": ["a", "b"] * 5})


def run(sink: Sink, *, stop: str = "", run_id: str = "1", rejects: bytes = b"") -> None:
    """A run of two chunks, as the engine makes it; it goes on with what an earlier one left."""
    sink.hold(0, lambda _: None)
    try:
        begun = sink.begun()
        if begun is None:
            sink.start({"key": "plan"}, run_id)
        else:
            sink.resume(begun)
        sink.settle(TABLE.schema, {})
        first = 0 if begun is None or begun.last is None else begun.last.number + 1
        for number in range(first, 2):
            beside = Beside(rejects=rejects if number == 0 else b"")
            sink.append(Mark(number, {"chunk": number}, 5, 5, 0), sink.encode(TABLE.slice(number * 5, 5)), beside)
            if stop == f"chunk {number}":
                return
        if begun is None or not begun.complete:
            sink.complete()
        sink.publish({"plan": {"key": "plan"}, "read": 10})
    finally:
        sink.release()


def remote(address: str, *, overwrite: bool = False) -> Sink:
    return open_remote(address, like="csv", overwrite=overwrite)


class TestOutput:
    def test_an_object_and_its_record_appear(self, s3: Any, tmp_path: Path) -> None:
        run(remote("s3://shop/out/scores.parquet"), rejects=b'{"row":1}\n')
        assert keys(s3) == [f"out/scores.parquet{end}" for end in ("", ".rejects.jsonl", ".run.json")]
        assert arrow_parquet.read_table(pa.BufferReader(body(s3, "out/scores.parquet"))).equals(TABLE)
        assert body(s3, "out/scores.parquet.rejects.jsonl") == b'{"row":1}\n'
        record = json.loads(body(s3, "out/scores.parquet.run.json"))
        assert (record["read"], record["rejects"]) == (10, "s3://shop/out/scores.parquet.rejects.jsonl")
        assert SECRET not in json.dumps(record)
        left = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
        assert left == []

    def test_the_finished_output_is_known_again_until_it_changes(self, s3: Any) -> None:
        run(remote("s3://shop/scores.csv"))
        published = remote("s3://shop/scores.csv").published()
        assert published is not None
        assert published.plan == {"key": "plan"}
        assert published.end == {"chunk": 1}
        s3.put_object(Bucket="shop", Key="scores.csv", Body=body(s3, "scores.csv").replace(b"a", b"x"))
        assert remote("s3://shop/scores.csv").published() is None

    def test_a_prefix_gets_a_part_a_chunk_and_the_mark_last(self, s3: Any) -> None:
        run(remote("s3://shop/out/"))
        assert keys(s3) == ["out.run.json", "out/_SUCCESS", "out/part-00000.csv", "out/part-00001.csv"]
        assert ids_of(s3, "out/part-00001.csv") == [5, 6, 7, 8, 9]
        assert remote("s3://shop/out/").published() is not None
        s3.delete_object(Bucket="shop", Key="out/part-00001.csv")
        assert remote("s3://shop/out/").published() is None

    @pytest.mark.parametrize("address", ["s3://shop/scores.csv", "s3://shop/out/"])
    def test_what_is_there_is_refused_and_replaced_when_told_so(self, address: str, s3: Any) -> None:
        run(remote(address))
        before = {key: body(s3, key) for key in keys(s3)}
        assert remote(address).exists()
        with pytest.raises(OutputExists, match="--overwrite"):
            run(remote(address), run_id="2")
        assert {key: body(s3, key) for key in keys(s3)} == before
        run(remote(address, overwrite=True), run_id="2")
        assert sorted(keys(s3)) == sorted(before)

    def test_a_prefix_with_other_objects_is_not_replaced(self, s3: Any) -> None:
        s3.put_object(Bucket="shop", Key="out/notes.txt", Body=b"mine")
        with pytest.raises(OutputExists, match=r"holds notes\.txt"):
            run(remote("s3://shop/out/", overwrite=True))
        assert keys(s3) == ["out/notes.txt"] or body(s3, "out/notes.txt") == b"mine"

    def test_a_run_that_stopped_goes_on(self, s3: Any) -> None:
        run(remote("s3://shop/scores.csv"), stop="chunk 0")
        assert keys(s3) == []
        sink = remote("s3://shop/scores.csv")
        run(sink)
        assert ids_of(s3, "scores.csv") == list(range(10))

    @pytest.mark.parametrize("address", ["s3://shop/scores.csv", "s3://shop/out/"])
    @pytest.mark.parametrize("failing", range(6))
    def test_an_upload_that_fails_anywhere_is_made_up_for(
        self, address: str, failing: int, s3: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put, calls = Store.put, iter(range(100))

        def broken(store: Store, data: Path | bytes) -> None:
            if next(calls) == failing:
                raise OSError("AWS Error NETWORK_CONNECTION during UploadPart operation: curlCode: 55")
            put(store, data)

        monkeypatch.setattr(Store, "put", broken)
        try:
            run(remote(address), rejects=b"{}\n")
        except SinkError as error:
            assert "the store cannot be reached; everything that is predicted is kept" in str(error)  # noqa: PT017
            assert remote(address).published() is None
            sink = remote(address)
            begun = sink.begun()
            assert begun is not None
            assert begun.complete
            assert not sink.exists()
            run(sink, rejects=b"{}\n")
        assert remote(address).published() is not None
        found = [ids_of(s3, key) for key in keys(s3) if key.endswith(".csv")]
        assert [each for part in found for each in part] == list(range(10))

    def test_a_second_one_on_this_machine_is_told(self, s3: Any) -> None:
        first = remote("s3://shop/scores.csv")
        first.hold(0, lambda _: None)
        with pytest.raises(OutputHeld, match=r"s3://shop/scores\.csv is being written by process"):
            remote("s3://shop/scores.csv").hold(0, lambda _: None)
        first.release()

    def test_whether_it_can_be_written_is_tried_and_leaves_nothing(self, s3: Any) -> None:
        assert remote("s3://shop/deep/scores.csv").check(TABLE.schema) == ()
        assert "Contents" not in s3.list_objects_v2(Bucket="shop")
        with pytest.raises(SinkError, match="there is no such bucket"):
            remote("s3://nobody/scores.csv").check(TABLE.schema)
        with pytest.raises(UsageError, match="is a bucket"):
            remote("s3://shop/")

    def test_an_upload_cut_short_is_no_output(self, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bimodal.batch.store._fill", lambda stream, data: stream.write(b"half") and 10**6)
        with pytest.raises(OSError, match="of 1,000,000 bytes the store kept 4"):
            Store.of("s3://shop/scores.csv").put(b"whole")


BREAKING = """
import sys
from bimodal.batch import store

def fill(stream, data):
    stream.write(b"x" * 20_000_000)
    raise OSError(5, "Input/output error")

store._fill = fill
try:
    store.Store.of("s3://shop/scores.csv").put(b"")
except OSError:
    sys.exit(7)
"""


def test_of_an_upload_that_breaks_off_no_part_appears(s3: Any) -> None:
    """Not then, nor at the end of the process, which comes without waiting."""
    done = subprocess.run([sys.executable, "-c", BREAKING], timeout=60, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (7, b"")
    assert keys(s3) == []


def ids_of(client: Any, key: str) -> list[int]:
    return [int(line.split(",")[0]) for line in body(client, key).decode().splitlines()[1:]]


def test_errors_of_a_store_are_sentences_without_its_words() -> None:
    said = {
        "AWS Error ACCESS_DENIED during HeadObject operation: No response body.": "permission",
        "AWS Error UNKNOWN (HTTP status 301) during HeadObject: PermanentRedirect": "AWS_REGION",
        "AWS Error INVALID_ACCESS_KEY_ID during ListObjectsV2 operation: AKIDEXAMPLE": "credentials",
        "AWS Error SLOW_DOWN during PutObject": "try again later",
    }
    for text, word in said.items():
        assert word in told(OSError(text))
        assert "AKID" not in told(OSError(text))
