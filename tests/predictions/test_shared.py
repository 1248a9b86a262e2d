"""The shared stores keep the same contract as the embedded one."""

from __future__ import annotations

import itertools
from pathlib import Path

import psycopg
import pytest
import redis

from bimodal.config.tables import StoreTable
from bimodal.errors import SinkError, SourceError, UsageError
from bimodal.predictions import open_reader
from bimodal.predictions.contract import Found, StoreReader, StoreWriter
from bimodal.predictions.redis import names
from tests.ports import free_port
from tests.predictions.contract import StoreTests, writer_of

_number = itertools.count()


class SharedTests(StoreTests):
    """Each test has a store of its own, told apart by its name."""

    table: StoreTable
    folder: Path

    def take(self, url: str) -> None:
        self.table = StoreTable("nightly", "id", url=url)
        self.folder = Path(f"store{next(_number)}")

    def reader(self) -> StoreReader:
        return open_reader(self.table, self.folder)

    def writer(self, run: str, kind: str = "int", digest: str = "d1") -> StoreWriter:
        return writer_of(self.table, self.folder, run, kind, digest)

    def test_two_stores_know_nothing_of_each_other(self, read: StoreReader) -> None:
        self.fill("r1", {1: (b'"prediction":1', 1)})
        here = self.folder
        self.folder = Path(f"{here}x")
        self.fill("r2", {2: (b'"prediction":2', 1)})
        assert read.look([1, 2])[1] == [Found(b'"prediction":1', 1), None]

    def test_an_edition_of_another_kind_of_key_is_read(self, read: StoreReader) -> None:
        self.fill("r1", {1: (b'"prediction":1', 1)})
        assert read.look([1, "1"])[1] == [Found(b'"prediction":1', 1), None]
        self.fill("r2", {"1": (b'"prediction":2', 1)}, "text")
        assert read.look([1, "1"])[1] == [None, Found(b'"prediction":2', 1)]

    def test_no_answer_is_mixed_while_editions_flip(self) -> None:
        assert len(self.flipped(list(range(100)), readers=2, editions=7)) > 1

    def test_a_server_that_is_not_there_is_one_sentence_without_the_password(self) -> None:
        scheme = self.table.url.partition("://")[0]
        self.table = StoreTable("nightly", "id", url=f"{scheme}://me:secret@127.0.0.1:{free_port()}/0")
        with pytest.raises(SourceError, match=r"on 127\.0\.0\.1 cannot be read") as refused:
            self.reader()
        assert "secret" not in str(refused.value)

        def write() -> None:
            writer = self.writer("r1")
            writer.add([1], [b""], [0])

        with pytest.raises(SinkError, match="cannot be written") as unwritten:
            write()
        assert "secret" not in str(unwritten.value)


class TestPostgres(SharedTests):
    @pytest.fixture(autouse=True)
    def place(self, postgres_url: str) -> None:
        self.take(postgres_url)

    def test_only_the_rows_of_the_current_edition_stay(self) -> None:
        for number in range(3):
            self.fill(f"r{number}", {key: (b"", 0) for key in range(4)})  # noqa: C420 - one result for all
        self.writer("r9").abandon()
        with psycopg.connect(self.table.url) as connection:
            rows = connection.execute(
                "SELECT version, count(*) FROM bimodal_predictions WHERE store = %s GROUP BY version",
                (self.folder.name,),
            ).fetchall()
        assert rows == [(3, 4)]

    def test_a_connection_that_was_cut_is_opened_anew(self, read: StoreReader) -> None:
        self.fill("r1", {1: (b'"prediction":1', 1)})
        with psycopg.connect(self.table.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bimodal store'"
            )
        with pytest.raises(SourceError):
            read.look([1])
        assert read.look([1])[1] == [Found(b'"prediction":1', 1)]

    def test_a_null_character_in_a_key_is_absent(self, read: StoreReader) -> None:
        self.fill("r1", {"a": (b"", 1)}, "text")
        assert read.look(["a\0", "a"])[1] == [None, Found(b"", 1)]


class TestRedis(SharedTests):
    @pytest.fixture(autouse=True)
    def place(self, redis_url: str) -> None:
        self.take(redis_url)

    def test_only_the_current_edition_stays(self) -> None:
        for number in range(3):
            self.fill(f"r{number}", {key: (b"", 0) for key in range(4)})  # noqa: C420 - one result for all
        writer = self.writer("r9")
        writer.add([1], [b""], [0])
        current, begin = names(self.folder.name)
        with redis.Redis.from_url(self.table.url) as client:
            (part,) = client.keys(f"bimodal:{{{self.folder.name}}}:part:*")
            assert client.ttl(part) > 80_000
            assert client.ttl(f"{begin}3") == -1
            writer.abandon()
            left = client.keys(f"bimodal:{{{self.folder.name}}}:*")
        assert sorted(left) == sorted([current.encode(), f"{begin}3".encode()])


@pytest.mark.parametrize("url", ["mysql://host/x", "radis://host", "nonsense"])
def test_an_address_that_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        open_reader(StoreTable("nightly", "id", url=url), "x")


def test_an_address_may_stand_elsewhere(monkeypatch: pytest.MonkeyPatch, redis_url: str, tmp_path: Path) -> None:
    monkeypatch.setenv("STORE", redis_url)
    (tmp_path / "url").write_text(redis_url + "\n")
    for url in ("env:STORE", f"file:{tmp_path}/url"):
        reader = open_reader(StoreTable("nightly", "id", url=url), "nobody")
        assert reader.edition() is None
        reader.close()
    with pytest.raises(UsageError, match="env:NOTHING"):
        open_reader(StoreTable("nightly", "id", url="env:NOTHING"), "x")
