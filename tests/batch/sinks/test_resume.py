"""Whatever a kill, or a disk that writes in an order of its own, leaves behind: the same bytes in the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bimodal.batch import journal
from bimodal.batch.sinks import journalled
from bimodal.batch.sinks.folder import PartsBody
from bimodal.batch.sinks.single import SingleBody
from bimodal.errors import SinkError
from tests.batch.sinks.runs import CHUNKS, KINDS, go, mark, opened, pictures, result, work

LAST = CHUNKS - 1


@pytest.fixture
def whole(kind: str, tmp_path: Path, unsynced: None) -> dict[str, bytes]:
    """What a run writes that nobody disturbs."""
    (tmp_path / "whole").mkdir()
    go(opened(tmp_path / "whole", kind))
    return result(tmp_path / "whole", kind)


def pictured(folder: Path, kind: str, step: str) -> Path:
    """What a kill after this step leaves behind."""
    return dict(pictures(folder, kind))[step]


def resumed(folder: Path, kind: str) -> int:
    """Go on to the end; the number of the chunk that was found as the last one (-1: none)."""
    begun = go(opened(folder, kind))
    assert sorted(each.name for each in folder.iterdir() if each.name.startswith(".")) == []
    return begun.last.number if begun is not None and begun.last is not None else -1


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_ends_after_any_step_is_gone_on_with_to_the_same_bytes(
    kind: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    found = {}
    for step, folder in pictures(tmp_path, kind):
        found[step] = resumed(folder, kind)
        assert result(folder, kind) == whole, step
    steps = {f"chunk {number}": number for number in range(CHUNKS)}
    assert found == {"started": -1, "settled": -1, **steps, "complete": LAST, "published": -1}


@pytest.mark.parametrize("kind", ["csv", "parquet/"])
def test_a_journal_that_ends_anywhere_in_its_last_lines_is_cut_there(
    kind: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    shot = pictured(tmp_path, kind, f"chunk {LAST}")
    text = (work(shot, kind) / "journal").read_bytes()
    lines = text.splitlines(keepends=True)
    ends = [sum(map(len, lines[: count + 1])) for count in range(len(lines))]
    for size in range(ends[-3], len(text) + 1):
        folder = shutil.copytree(shot, tmp_path / "cut") if size % 16 == 0 else shot
        (work(folder, kind) / "journal").write_bytes(text[:size])
        begun = opened(folder, kind).begun()
        assert begun is not None
        assert begun.last == mark(LAST - sum(end > size for end in ends))
        if folder != shot:
            assert resumed(folder, kind) == begun.last.number
            assert result(folder, kind) == whole
            shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["csv", "parquet/"])
def test_a_journal_that_ends_anywhere_in_its_first_lines_is_begun_anew_or_gone_on_with(
    kind: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    shot = pictured(tmp_path, kind, "settled")
    text = (work(shot, kind) / "journal").read_bytes()
    for size in range(text.index(b"\n") + 1, len(text), 11):
        folder = shutil.copytree(shot, tmp_path / "cut")
        (work(folder, kind) / "journal").write_bytes(text[:size])
        assert resumed(folder, kind) == -1
        assert result(folder, kind) == whole
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["csv", "parquet/"])
def test_a_journal_whose_head_is_damaged_is_told_and_nothing_is_thrown_away(kind: str, tmp_path: Path) -> None:
    shot = pictured(tmp_path, kind, f"chunk {LAST}")
    path = work(shot, kind) / "journal"
    text = path.read_bytes()
    for damaged in (text[:20] + b"??" + text[22:], text[:20], b""):
        path.write_bytes(damaged)
        with pytest.raises(SinkError, match="--fresh throws its progress away"):
            go(opened(shot, kind))
        assert path.read_bytes() == damaged
    path.write_bytes(text)
    assert resumed(shot, kind) == LAST


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"garbage\n" * 9)


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _other(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 16
    path.write_bytes(data)


def _zeros(path: Path) -> None:
    """A file whose length came to the disk and whose content did not."""
    path.write_bytes(bytes(path.stat().st_size))


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_longer, _shorter, _other, _zeros, _gone])
@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_whose_bytes_are_not_as_the_journal_says_is_written_again(
    kind: str, damage: Callable[[Path], None], whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Nothing of this run was made durable: the marks came to the disk before the rows, as a power loss may have it."""
    shot = pictured(tmp_path, kind, f"chunk {LAST}")
    place = work(shot, kind)
    victims = [place / "data", place / "rejects", place / "scored"]
    if kind.endswith("/"):
        victims[0] = sorted((place / "parts").iterdir())[-1]
    for number, victim in enumerate(victims):
        folder = shutil.copytree(shot, tmp_path / f"damaged {number}")
        damage(folder / victim.relative_to(shot))
        last = resumed(folder, kind)
        assert result(folder, kind) == whole
        if damage is _longer and victim.suffix == "":  # what stands behind a part is another part's size
            assert last == LAST
        elif damage in (_shorter, _other):
            assert last == LAST - 1
        elif victim.name in ("data", "scored"):
            assert last == -1


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_a_chunk_that_is_not_durable_is_looked_at(
    kind: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    shot = pictured(tmp_path, kind, f"chunk {LAST}")
    place = work(shot, kind)
    path = sorted((place / "parts").iterdir())[-1] if kind.endswith("/") else place / "data"
    data = path.read_bytes()
    ends = [entry["body"][0] for entry, _ in journal.Journal(place / "journal").entries() if "mark" in entry]
    for at in range(len(data) - (ends[-1] - ends[-2]), len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        begun = opened(shot, kind).begun()
        assert begun is not None
        assert begun.last == mark(LAST - 1), at


def synced(place: Path) -> int:
    """The chunk up to which a journal says that everything is durable."""
    return max((entry.get("synced", -1) for entry, _ in journal.Journal(place / "journal").entries()), default=-1)


@pytest.mark.parametrize("kind", ["csv", "parquet/"])
def test_what_was_durable_is_not_read_again_but_is_missed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journalled, "SYNCED", 0.0)
    live, shot = tmp_path / "live", tmp_path / "shot"
    live.mkdir()

    def wait(step: str) -> None:
        while step == "chunk 4" and synced(work(live, kind)) < 0:
            time.sleep(0.01)
        if step == "chunk 4":
            shutil.copytree(live, shot)

    go(opened(live, kind), after=wait)
    durable, place = synced(work(shot, kind)), work(shot, kind)
    read: list[int] = []
    body = PartsBody if kind.endswith("/") else SingleBody
    holds = body.holds

    def looked(self: SingleBody | PartsBody, number: int, start: int, end: int, checksum: int) -> bool:
        read.append(number)
        return holds(self, number, start, end, checksum)  # type: ignore[arg-type]  # it is the same class

    monkeypatch.setattr(body, "holds", looked)
    begun = opened(shot, kind).begun()
    assert begun is not None
    assert begun.last == mark(4)
    assert read == [-1, *range(durable + 1, 5)]
    victim = min((place / "parts").iterdir()) if kind.endswith("/") else place / "data"
    victim.write_bytes(victim.read_bytes()[:40])
    begun = opened(shot, kind).begun()
    assert begun is not None
    assert begun.last is None
    resumed(shot, kind)
    assert result(shot, kind) == result(live, kind)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl/"])
def test_a_resume_tells_what_is_done(kind: str, tmp_path: Path, unsynced: None) -> None:
    shot = pictured(tmp_path, kind, "chunk 3")
    begun = opened(shot, kind).begun()
    assert begun is not None
    marks = [mark(number) for number in range(4)]
    assert begun.last == marks[-1]
    assert (begun.chunks, begun.complete, begun.run, begun.plan) == (
        4,
        False,
        "run 1",
        {"key": "0123", "model": "churn"},
    )
    assert begun.read == sum(each.read for each in marks) == begun.predicted + begun.rejected
    assert begun.rejected == sum(each.rejected for each in marks) == 2


@pytest.mark.parametrize("kind", ["csv", "parquet", "csv/"])
@pytest.mark.parametrize("complete", [False, True])
def test_a_damaged_byte_of_what_is_kept_is_told(kind: str, tmp_path: Path, unsynced: None, *, complete: bool) -> None:
    shot = pictured(tmp_path, kind, "complete" if complete else f"chunk {LAST}")
    folder = work(shot, kind)
    with open(folder / "journal", "ab") as file:
        file.write(journal.encoded({"synced": LAST}))
    kept = sorted((folder / "parts").iterdir())[0] if kind.endswith("/") else folder / "data"
    data = bytearray(kept.read_bytes())
    data[8 if kind == "parquet" else data.index(b"\n") + 2] ^= 1  # in the first chunk
    kept.write_bytes(data)
    with pytest.raises(SinkError, match="was damaged since, behind its first"):
        go(opened(shot, kind))
