"""The embedded store: one mapped file an edition, flipped for all readers at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bimodal.config.tables import StoreTable
from bimodal.errors import SinkError
from bimodal.predictions import embedded, embedded_writer, layout, open_reader
from bimodal.predictions.contract import Edition, Found, StoreReader, StoreWriter
from bimodal.predictions.embedded import EmbeddedReader
from bimodal.predictions.layout import hashes, mixed
from tests.predictions.contract import StoreTests, writer_of

TABLE = StoreTable("nightly", "id")


class TestEmbedded(StoreTests):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "predictions" / "churn"

    def reader(self) -> StoreReader:
        return open_reader(TABLE, self.folder)

    def writer(self, run: str, kind: str = "int", digest: str = "d1") -> StoreWriter:
        return writer_of(TABLE, self.folder, run, kind, digest)

    def test_nothing_but_editions_is_left(self) -> None:
        self.fill("r1", {1: (b'"prediction":1', 1)})
        self.fill("r2", {1: (b'"prediction":2', 1)})
        self.writer("r3").abandon()
        assert {each.name for each in self.folder.iterdir()} == {"lock", "current", *map(layout.name, (1, 2))}

    def test_a_folder_that_is_removed_and_written_anew_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "LOOK", 0.0)
        self.fill("r1", {1: (b'"prediction":1', 1)})
        reader = self.reader()
        shutil.rmtree(self.folder)
        assert reader.look([1])[1] == [Found(b'"prediction":1', 1)]  # until there is another one
        self.fill("r2", {1: (b'"prediction":2', 1)})
        edition, found = reader.look([1])
        assert edition is not None
        assert (edition.version, edition.run, found) == (1, "r2", [Found(b'"prediction":2', 1)])
        reader.close()

    @pytest.mark.parametrize("nonsense", [b"nonsense", b"no", b"\0" * 8, b"\xff" * 9])
    def test_a_current_that_is_nonsense_does_not_stop_what_comes(
        self, nonsense: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "LOOK", 0.0)
        self.fill("r1", {1: (b'"prediction":1', 1)})
        self.fill("r2", {1: (b'"prediction":2', 1)})
        reader = self.reader()
        with (self.folder / "current").open("r+b") as file:
            file.write(nonsense)
            file.truncate(len(nonsense))
        anew = self.reader()
        for each in (reader, anew):
            assert each.find(1)[1] == Found(b'"prediction":2', 1)
        self.fill("r3", {1: (b'"prediction":3', 1)})
        for each in (reader, anew):
            edition, found = each.find(1)
            assert edition is not None
            assert (edition.version, found) == (3, Found(b'"prediction":3', 1))
            each.close()

    def test_old_editions_go_after_their_grace_but_for_the_last(self) -> None:
        for number in range(1, 5):
            self.fill(f"r{number}", {1: (b'"prediction":1', 1)})
            os.utime(self.folder / layout.name(number), (1.0, 1.0))
        assert [number for number, _ in layout.editions(self.folder)] == [3, 4]

    def test_a_reader_that_was_there_before_the_store_sees_it(self) -> None:
        reader = self.reader()
        self.fill("r1", {1: (b'"prediction":1', 1)})
        assert reader.look([1])[1] == [Found(b'"prediction":1', 1)]
        reader.close()

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999, 1.0])
    def test_a_damaged_edition_is_not_opened_and_the_last_good_one_answers(
        self, share: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        content = dict.fromkeys(range(100), (b'"prediction":1', 1))
        self.fill("r1", content)
        self.fill("r2", dict.fromkeys(range(100), (b'"prediction":2', 2)))
        path = self.folder / layout.name(2)
        data = bytearray(path.read_bytes())
        data[int(share * (len(data) - 1))] ^= 0x40
        path.write_bytes(data)
        reader = self.reader()
        edition, found = reader.look([5])
        reader.close()
        assert edition is not None
        assert (edition.run, found) == ("r1", [Found(b'"prediction":1', 1)])
        assert "not opened" in caplog.text

    def test_a_shorter_file_is_not_opened_by_those_who_read_the_last_one(
        self, read: StoreReader, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.fill("r1", {1: (b'"prediction":1', 1)})
        assert read.look([1])[1] == [Found(b'"prediction":1', 1)]
        path = self.folder / layout.name(1)
        (self.folder / layout.name(2)).write_bytes(path.read_bytes()[:-1])
        embedded_writer.flip(self.folder, 2)
        assert read.look([1])[1] == [Found(b'"prediction":1', 1)]
        assert "cut off" in caplog.text
        assert self.fill("r3", {1: (b'"prediction":3', 1)}) == 3
        assert read.look([1])[1] == [Found(b'"prediction":3', 1)]

    def test_no_damaged_record_is_answered(self, caplog: pytest.LogCaptureFixture) -> None:
        self.fill("r1", dict.fromkeys(range(50), (b'"prediction":1', 1)))
        reader = self.reader()
        path = self.folder / layout.name(1)
        good = path.read_bytes()
        for at in range(good.index(b"}", good.index(b"outputs")) + 1, len(good), 7):
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(bytes([good[at] ^ 0x10]))
            _, found = reader.look(range(50))
            assert all(each in (None, Found(b'"prediction":1', 1)) for each in found)
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(good[at : at + 1])
        reader.close()
        assert "damaged" in caplog.text

    def test_a_lost_file_of_the_current_one_leaves_the_one_before(self, caplog: pytest.LogCaptureFixture) -> None:
        self.fill("r1", {1: (b'"prediction":1', 1)})
        self.fill("r2", {1: (b'"prediction":2', 1)})
        (self.folder / layout.name(2)).unlink()
        reader = self.reader()
        assert reader.look([1])[1] == [Found(b'"prediction":1', 1)]
        reader.close()
        assert "instead" in caplog.text

    def test_a_full_disk_is_one_sentence(self, monkeypatch: pytest.MonkeyPatch, read: StoreReader) -> None:
        self.fill("r1", {1: (b'"prediction":1', 1)})
        writer = self.writer("r2")
        writer.add([1], [b'"prediction":2'], [1])

        def full(out: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(SinkError, match="No space left"):
                writer.commit(1.0)
        writer.abandon()
        assert read.look([1])[1] == [Found(b'"prediction":1', 1)]
        assert sorted(each.name for each in self.folder.iterdir()) == ["current", layout.name(1), "lock"]

    def test_all_readers_flip_while_they_read_and_no_answer_is_mixed(self) -> None:
        assert "r11" in self.flipped(list(range(200)), readers=3, editions=11)

    def test_killed_at_any_moment_readers_see_the_old_or_the_new(self) -> None:
        self.killed(rounds=12, seed=1)

    @pytest.mark.soak
    def test_killed_two_hundred_times(self) -> None:
        self.killed(rounds=200, seed=2)

    def killed(self, rounds: int, seed: int) -> None:
        """A process that commits one edition after another is killed: every time what is read is one whole edition,
        and not an older one than what was committed before.
        """
        draw = random.Random(seed)
        reader = self.reader()
        last = 0
        for _ in range(rounds):
            process = subprocess.Popen([sys.executable, "-c", COMMITS, str(self.folder)], stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(draw.random() * 0.06)
            process.send_signal(signal.SIGKILL)
            told = [int(line) for line in process.stdout.read().split()]
            process.wait()
            process.stdout.close()
            for each in (reader, self.reader()):
                edition, found = each.look(list(range(300)))
                assert edition is not None
                assert edition.version >= max([last, *told])
                assert [one and one.body for one in found] == [b'"prediction":"%b"' % edition.run.encode()] * 300
            each.close()
            last = max(last, *told) if told else last
        reader.close()
        self.fill("end", {1: (b'"prediction":1', 1)})
        assert not list(self.folder.glob("*.part*"))


COMMITS = """
import secrets, sys
from bimodal.predictions.contract import Edition
from bimodal.predictions.embedded_writer import EmbeddedWriter
ready = False
while True:
    run = secrets.token_hex(4)
    draft = Edition(0, "nightly", run, "churn/1", "d1", 0.0, "int", ("prediction",), True, 0)
    writer = EmbeddedWriter(sys.argv[1], draft)
    writer.add(list(range(300)), [b'"prediction":"%b"' % run.encode()] * 300, [1] * 300)
    version = writer.commit(1.0).version
    print(version, flush=True)
"""


def test_the_hash_of_one_is_the_hash_of_many() -> None:
    import numpy as np

    seeds = [0, 1, 2**63, 2**64 - 1, 12345678901234567890]
    assert hashes(np.array(seeds, np.uint64)).tolist() == [mixed(each) for each in seeds]


def test_an_edition_of_another_job_with_the_same_run_is_another(tmp_path: Path) -> None:
    for job in ("a", "b"):
        draft = Edition(0, job, "r1", "churn/1", "d1", 0.0, "int", ("prediction",), True, 0)
        embedded_writer.EmbeddedWriter(tmp_path, draft).commit(1.0)
    reader = EmbeddedReader(tmp_path)
    edition = reader.edition()
    reader.close()
    assert edition is not None
    assert (edition.job, edition.version) == ("b", 2)
