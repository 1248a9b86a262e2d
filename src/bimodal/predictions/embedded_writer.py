"""Writing to the embedded store: an edition is spilled, laid out, read back and made current."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from bimodal.durable import sync
from bimodal.errors import InputError, SinkError
from bimodal.predictions.contract import Edition, StoreWriter
from bimodal.predictions.layout import (
    END,
    HEAD,
    MOST,
    Damaged,
    File,
    Key,
    editions,
    hashes,
    header,
    name,
    text_seed,
    whole,
)

GRACE = 60.0  # seconds that an edition stays after it stopped being current, for those who are opening it
PART = ".part"
SOME = 65_536  # records that are moved at once


class EmbeddedWriter(StoreWriter):
    """Writes one edition. Results are spilled as they come: in memory stay 20 bytes a key.

    draft: the edition without version, time and count.
    """

    def __init__(self, folder: str | os.PathLike[str], draft: Edition) -> None:
        self._folder, self._draft = Path(folder), draft
        with _writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self._folder):
                _sweep(self._folder)
                self._spill = tempfile.NamedTemporaryFile(dir=self._folder, suffix=PART)  # noqa: SIM115 - closed by abandon
                fcntl.flock(self._spill, fcntl.LOCK_EX)  # says that its owner lives
        self._hashes: list[NDArray[np.uint64]] = []
        self._sizes: list[NDArray[np.uint32]] = []
        self._count = 0

    def add(self, keys: Sequence[Key], bodies: Sequence[bytes], fingerprints: Sequence[int]) -> None:
        raw, seeds = self._seeds(keys)
        pack = HEAD.pack
        records = []
        for key, body, fingerprint in zip(raw, bodies, fingerprints, strict=True):
            head = pack(0, len(key), len(body), fingerprint)[4:]
            record = b"%b%b%b" % (head, key, body)
            records.append(crc32(record).to_bytes(4, "little") + record)
        with _writing(self._folder):
            self._spill.write(b"".join(records))
        self._hashes.append(hashes(seeds))
        self._sizes.append(np.fromiter(map(len, records), np.uint32, len(records)))
        self._count += len(records)

    def _seeds(self, keys: Sequence[Key]) -> tuple[Sequence[bytes], NDArray[np.uint64]]:
        """The keys' bytes, and what is hashed of them."""
        integers = self._draft.kind == "int"
        wanted = int if integers else str
        for place, key in enumerate(keys):
            if type(key) is not wanted:  # True is no integer
                raise InputError(
                    f"row {self._count + place + 1}: a key of another kind than {'integers' if integers else 'text'}",
                    row=self._count + place + 1,
                )
        if integers:
            try:
                numbers = np.array(keys, np.int64)
            except OverflowError:
                raise InputError("a key that is no integer of 64 bits; use text") from None
            raw = numbers.astype("<i8").tobytes()
            return [raw[at : at + 8] for at in range(0, len(raw), 8)], numbers.view(np.uint64)
        try:
            texts = [key.encode() for key in keys if isinstance(key, str)]
        except UnicodeEncodeError:
            raise InputError("a key that is no text of Unicode") from None
        return texts, np.fromiter(map(text_seed, texts), np.uint64, len(texts))

    def commit(self, committed: float) -> Edition:
        with _writing(self._folder), _locked(self._folder):
            done = self._done()
            if done is not None:
                self.abandon()
                return done
            number = self._number()
            edition = msgspec.structs.replace(self._draft, version=number, committed=committed, count=self._count)
            self._write(edition, self._folder / name(number))
            flip(self._folder, number)
            _remove_old(self._folder, number)
        self.abandon()
        return edition

    def abandon(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # a second time, or somebody emptied the folder
            self._spill.close()

    def _done(self) -> Edition | None:
        """What is current already, where it is this run's."""
        number = _current(self._folder)
        try:
            file = File(self._folder / name(number))
        except (OSError, Damaged):
            return None
        edition = file.edition
        file.close()
        return edition if edition.run == self._draft.run and edition.job == self._draft.job else None

    def _number(self) -> int:
        known = [number for number, _ in editions(self._folder)]
        return max([*known, _current(self._folder)], default=0) + 1

    def _write(self, edition: Edition, path: Path) -> None:
        """The file, complete and durable under its name."""
        started = Path(f"{self._spill.name}.bin{PART}")
        with open(started, "xb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._fill(file.fileno(), edition)
                os.fsync(file.fileno())
                if not whole(started):
                    raise SinkError(f"{path.name} in {self._folder} is read back otherwise than it was written")
                started.rename(path)
                sync(self._folder)
            except BaseException:
                started.unlink(missing_ok=True)
                raise

    def _fill(self, out: int, edition: Edition) -> None:
        """Header, directory, records by bucket."""
        codes = np.concatenate([*self._hashes, np.empty(0, np.uint64)])
        sizes = np.concatenate([*self._sizes, np.empty(0, np.uint32)]).astype(np.uint64)
        starts = np.cumsum(sizes) - sizes
        bits = max(1, (max(1, self._count) - 1).bit_length())
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        with self._spilled() as spill:
            _refuse_twice(spill, codes, order, starts)
            total = int(sizes.sum())
            head, base = header(edition, bits, self._count, total)
            ends = np.cumsum(sizes[order])
            places = np.searchsorted(codes, np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - bits))
            first = base + ((1 << bits) + 1) * 8
            offsets = np.concatenate([[0], ends]).astype(np.uint64) + np.uint64(first)
            directory = np.concatenate([offsets[:1], offsets[places], offsets[-1:]]).astype("<u8").tobytes()
            seen = crc32(directory)
            _all(out, head)
            _all(out, directory)
            for begin in range(0, len(order), SOME):
                some = order[begin : begin + SOME]
                cuts = zip(starts[some].tolist(), (starts[some] + sizes[some]).tolist(), strict=True)
                block = b"".join([spill[start:stop] for start, stop in cuts])
                seen = crc32(block, seen)
                _all(out, block)
        _all(out, struct.pack("<I", seen) + END)

    @contextlib.contextmanager
    def _spilled(self) -> Iterator[mmap.mmap | bytes]:
        self._spill.flush()
        if not self._count:
            yield b""
            return
        with mmap.mmap(self._spill.fileno(), 0, access=mmap.ACCESS_READ) as spill:
            yield spill


def _refuse_twice(
    spill: mmap.mmap | bytes, codes: NDArray[np.uint64], order: NDArray[np.intp], starts: NDArray[np.uint64]
) -> None:
    """Raise InputError where a key comes twice. Only keys of one hash are compared."""
    seen: dict[bytes, int] = {}
    last = -2
    for place in np.flatnonzero(codes[1:] == codes[:-1]).tolist():  # keys of one hash stand side by side
        if place != last + 1:
            seen = {_key(spill, int(starts[order[place]])): int(order[place])}
        last, row = place, int(order[place + 1])
        key = _key(spill, int(starts[row]))
        if key in seen:
            first, second = sorted((seen[key], row))
            raise InputError(
                f"row {second + 1}: its key stands in row {first + 1} too; a prediction store has one result a key",
                row=second + 1,
            )
        seen[key] = row


def _key(spill: mmap.mmap | bytes, start: int) -> bytes:
    """The key of the record that begins there."""
    long = HEAD.unpack_from(spill, start)[1]
    return bytes(spill[start + HEAD.size : start + HEAD.size + long])


# -- the folder ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One commit at a time, over all processes."""
    with open(folder / "lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SinkError(f"the prediction store in {folder} cannot be written: {reason}") from error


def _all(out: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(out, left) :]


def _current(folder: Path) -> int:
    try:
        data = (folder / "current").read_bytes()
    except FileNotFoundError:
        return 0
    number = int.from_bytes(data[:8], "little") if len(data) >= 8 else 0
    return number if number <= MOST else 0


def flip(folder: Path, number: int) -> None:
    """One aligned store, seen by all who have the page mapped; then made durable."""
    path = folder / "current"
    if not path.exists() or path.stat().st_size < 8:
        started = folder / f"current{PART}"
        started.write_bytes(bytes(8))
        started.rename(path)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 8) as view:
        with memoryview(view) as plain, plain.cast("Q") as word:
            word[0] = number
        view.flush()
        os.fsync(file.fileno())
    sync(folder)


def _remove_old(folder: Path, number: int) -> None:
    """What is not current any more, but for the last one, after a grace. Who reads it keeps its mapping."""
    others = [(each, path) for each, path in editions(folder) if each < number]
    edge = time.time() - GRACE
    for _, path in others[:-1]:
        if path.stat().st_mtime < edge:
            path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Take away what writers that are no more have left."""
    for path in folder.glob(f"*{PART}"):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink(missing_ok=True)
