"""A journal gives back what was added, up to the first entry that is not whole."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bimodal.batch.journal import Journal, decoded, encoded

ENTRIES: list[dict[str, Any]] = [
    {"journal": 1, "plan": {"key": "abc"}, "run": "r"},
    {"mark": 0, "cursor": {"byte": 2**62}, "note": None},
    {"mark": 1, "cursor": {"chunk": 1, "name": 'ü"\n'}, "note": [1, 2]},
    {"synced": 1},
]


def written(path: Path) -> bytes:
    journal = Journal(path)
    journal.begin(ENTRIES[0])
    for entry in ENTRIES[1:]:
        journal.add(entry)
    journal.sync()
    journal.close()
    return path.read_bytes()


def found(path: Path, data: bytes) -> list[dict[str, Any]]:
    path.write_bytes(data)
    return [entry for entry, _ in Journal(path).entries()]


def test_entries_are_json_lines_with_a_checksum(tmp_path: Path) -> None:
    for line, entry in zip(written(tmp_path / "journal").splitlines(), ENTRIES, strict=True):
        checksum, told = json.loads(line)
        assert told == entry
        assert int(checksum, 16) == zlib.crc32(line[12:-1])


def test_an_end_that_is_torn_anywhere_is_not_read(tmp_path: Path) -> None:
    data = written(tmp_path / "journal")
    for size in range(len(data) + 1):
        whole = data[:size].count(b"\n")
        assert found(tmp_path / "journal", data[:size]) == ENTRIES[:whole]


def test_a_line_with_any_bit_changed_ends_the_reading_there(tmp_path: Path) -> None:
    data = written(tmp_path / "journal")
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        before = data[:place].count(b"\n")
        assert found(tmp_path / "journal", changed) == ENTRIES[:before]


@given(st.binary(max_size=40))
def test_what_is_no_entry_is_not_read(line: bytes) -> None:
    assert decoded(line) is None
    assert decoded(encoded({"mark": 3}) + line) is None or not line


def test_going_on_cuts_what_stands_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    data = written(journal.path)
    ends = [end for _, end in journal.entries()]
    assert ends == [sum(map(len, data.splitlines(keepends=True)[:count])) for count in range(1, 5)]
    journal.path.write_bytes(data + b"torn")
    journal.go_on(ends[1])
    journal.add({"mark": 7})
    journal.close()
    assert [entry for entry, _ in journal.entries()] == [*ENTRIES[:2], {"mark": 7}]
    assert [each.name for each in tmp_path.iterdir()] == ["journal"]


def test_no_journal_has_no_entries(tmp_path: Path) -> None:
    assert list(Journal(tmp_path / "nothing").entries()) == []


def test_a_torn_end_is_no_damage_and_a_broken_head_is(tmp_path: Path) -> None:
    data = written(tmp_path / "journal")
    for size in range(len(data) + 1):
        found(tmp_path / "journal", data[:size])
        assert not Journal(tmp_path / "journal").damaged()
    found(tmp_path / "journal", data[:20] + b"??" + data[22:])
    assert Journal(tmp_path / "journal").damaged()
    assert Journal(tmp_path / "journal").headless


def test_what_was_not_durable_may_be_broken_by_a_power_cut_and_what_was_may_not(tmp_path: Path) -> None:
    data = written(tmp_path / "journal")
    place = data.index(b"mark")
    broken = data[:place] + b"????" + data[place + 4 :]
    found(tmp_path / "journal", broken)
    assert not Journal(tmp_path / "journal").damaged()  # the one `synced` may have come to the disk before it
    found(tmp_path / "journal", broken + encoded({"mark": 2}) + encoded({"synced": 2}))
    assert Journal(tmp_path / "journal").damaged()
