"""What every prediction store must do: inherited by the tests of each."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bimodal.config.tables import StoreTable
from bimodal.errors import InputError
from bimodal.predictions import open_writer
from bimodal.predictions.contract import Found, StoreReader, StoreWriter

Content = Mapping[int, tuple[bytes, int]] | Mapping[str, tuple[bytes, int]]
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def writer_of(table: StoreTable, folder: Path, run: str, kind: str, digest: str) -> StoreWriter:
    return open_writer(
        table, folder, job="nightly", run=run, model="churn/1", digest=digest, kind=kind, outputs=["prediction"]
    )


class StoreTests(ABC):
    """A subclass opens its readers and writers."""

    @abstractmethod
    def reader(self) -> StoreReader: ...

    @abstractmethod
    def writer(self, run: str, kind: str = "int", digest: str = "d1") -> StoreWriter: ...

    @pytest.fixture
    def read(self) -> Iterator[StoreReader]:
        reader = self.reader()
        yield reader
        reader.close()

    def fill(self, run: str, content: Content, kind: str = "int", digest: str = "d1", at: float = 1000.0) -> int:
        writer = self.writer(run, kind, digest)
        keys: list[int | str] = list(content)
        for start in range(0, len(keys), 1000):
            some = keys[start : start + 1000]
            bodies = [content[key] for key in some]  # type: ignore[index] # the keys are its own
            writer.add(some, [body for body, _ in bodies], [mark for _, mark in bodies])
        return writer.commit(at).version

    def flipped(self, keys: list[int], readers: int, editions: int) -> set[str]:
        """The runs that readers saw while so many editions were committed; no answer was a mixture of two."""
        self.fill("r1", dict.fromkeys(keys, (b'"prediction":"r1"', 1)))
        stop, seen, faults = threading.Event(), set[str](), list[object]()

        def ask() -> None:
            reader = self.reader()
            while not stop.is_set():
                edition, found = reader.look(list(keys))
                runs = {each and each.body for each in found}
                if edition is None or runs != {b'"prediction":"%b"' % edition.run.encode()}:
                    faults.append((edition, runs))
                else:
                    seen.add(edition.run)
            reader.close()

        threads = [threading.Thread(target=ask) for _ in range(readers)]
        for each in threads:
            each.start()
        for number in range(2, editions + 1):
            self.fill(f"r{number}", dict.fromkeys(keys, (b'"prediction":"r%d"' % number, 1)))
        until = time.monotonic() + 60
        while f"r{editions}" not in seen and time.monotonic() < until:
            time.sleep(0.01)  # the last one is seen too
        stop.set()
        for each in threads:
            each.join()
        assert faults == []
        return seen

    def test_an_empty_store_has_no_edition_and_no_answer(self, read: StoreReader) -> None:
        assert read.edition() is None
        assert read.look([1, 2]) == (None, [None, None])

    def test_what_was_committed_is_found_and_nothing_else(self, read: StoreReader) -> None:
        self.fill(
            "r1", {7: (b'"prediction":1', 5), -3: (b'"prediction":0', -(2**63)), 2**63 - 1: (b'"p":2', 2**63 - 1)}
        )
        edition, found = read.look([-3, 8, 7, 2**63 - 1, 2**70, "7"])
        assert edition is not None
        assert (edition.run, edition.job, edition.count, edition.committed) == ("r1", "nightly", 3, 1000.0)
        assert (edition.model, edition.digest, edition.kind) == ("churn/1", "d1", "int")
        assert (edition.outputs, edition.fingerprints) == (("prediction",), True)
        last = Found(b'"p":2', 2**63 - 1)
        expected = [Found(b'"prediction":0', -(2**63)), None, Found(b'"prediction":1', 5), last, None, None]
        assert found == expected

    def test_nothing_is_seen_before_the_commit(self, read: StoreReader) -> None:
        writer = self.writer("r1")
        writer.add([1], [b'"prediction":1'], [0])
        assert read.look([1]) == (None, [None])
        writer.abandon()
        assert read.look([1]) == (None, [None])

    def test_a_new_edition_replaces_the_old_one_as_a_whole(self, read: StoreReader) -> None:
        first = self.fill("r1", {1: (b'"prediction":1', 1), 2: (b'"prediction":2', 1)})
        assert read.look([1])[1] == [Found(b'"prediction":1', 1)]
        second = self.fill("r2", {2: (b'"prediction":3', 2)}, digest="d2")
        assert second > first
        edition, found = read.look([1, 2])
        assert edition is not None
        assert (edition.version, edition.digest, found) == (second, "d2", [None, Found(b'"prediction":3', 2)])
        now = read.edition()
        assert now is not None
        assert now.version == second

    def test_a_commit_that_is_repeated_changes_nothing(self, read: StoreReader) -> None:
        first = self.fill("r1", {1: (b'"prediction":1', 1)}, at=1000.0)
        again = self.fill("r1", {1: (b'"prediction":1', 1)}, at=2000.0)
        edition = read.edition() or read.look([1])[0]
        assert again == first
        assert edition is not None
        assert (edition.version, edition.committed) == (first, 1000.0)

    def test_an_abandoned_edition_leaves_the_last_one(self, read: StoreReader) -> None:
        self.fill("r1", {1: (b'"prediction":1', 1)})
        writer = self.writer("r2")
        writer.add([1], [b'"prediction":9'], [0])
        writer.abandon()
        writer.abandon()
        assert read.look([1])[1] == [Found(b'"prediction":1', 1)]

    def test_a_key_that_comes_twice_is_refused_by_its_row(self, read: StoreReader) -> None:
        writer = self.writer("r1", "text")
        with pytest.raises(InputError, match=r"row 4: its key stands in (row 2|an earlier row) too") as refused:
            self._twice(writer)
        writer.abandon()
        assert "secret" not in str(refused.value)
        assert refused.value.row == 4
        assert read.look(["secret"]) == (None, [None])

    def _twice(self, writer: StoreWriter) -> None:
        writer.add(["a", "secret"], [b'"prediction":1'] * 2, [0, 0])
        writer.add(["b", "secret"], [b'"prediction":1'] * 2, [0, 0])
        writer.commit(1.0)

    @pytest.mark.parametrize(("kind", "key"), [("int", "1"), ("text", 1), ("int", True), ("int", 2**63)])
    def test_a_key_of_another_kind_is_refused(self, kind: str, key: int | str) -> None:
        writer = self.writer("r1", kind)
        with pytest.raises(InputError, match="a key"):
            writer.add([key], [b'"prediction":1'], [0])
        writer.abandon()

    def test_an_edition_may_be_empty(self, read: StoreReader) -> None:
        self.fill("r1", {})
        edition, found = read.look([1])
        assert edition is not None
        assert (edition.count, found) == (0, [None])

    def test_many_keys_are_found(self, read: StoreReader) -> None:
        content = {key * 7919: (b'"prediction":%d' % key, key) for key in range(5000)}
        self.fill("r1", content)
        edition, found = read.look(list(content))
        assert edition is not None
        assert [(each.body, each.fingerprint) if each else None for each in found] == list(content.values())
        assert read.look([key + 1 for key in content])[1] == [None] * len(content)

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(content=st.dictionaries(NAMES, st.tuples(NAMES, st.integers(-(2**63), 2**63 - 1))), other=st.lists(NAMES))
    def test_any_text_is_a_key(self, content: dict[str, tuple[str, int]], other: list[str]) -> None:
        self.fill(f"r{abs(hash(str(content)))}", {k: (v.encode(), mark) for k, (v, mark) in content.items()}, "text")
        reader = self.reader()
        try:
            asked = [*content, *other]
            edition, found = reader.look(asked)
            assert edition is not None
            wanted = [content.get(key) for key in asked]
            assert [each and (each.body.decode(), each.fingerprint) for each in found] == wanted
        finally:
            reader.close()
