"""The embedded store: one file an edition, mapped into memory by all who read it.

Layout of a file, little-endian: MAGIC · 8 bytes: length of the header · header (JSON of Edition, and `Plan` of the
file) · CRC-32 of all that · padding to 8 bytes · the directory, (buckets + 1) × 8 bytes · the records · CRC-32 of the
records · END.

The top bits of a key's hash choose a bucket; the directory says where its records begin, and the next one's, where
they end: so an absent key mostly costs one look, and a present one two. A record is its CRC-32, its key's and body's
lengths, the fingerprint, the key, the body. Keys are compared whole: equal hashes are never an answer. A record that
is damaged is not answered.

`current` beside the files is 8 bytes that all readers have mapped: the number of the edition that counts. One aligned
store flips it for all processes at once. An edition is written under a temporary name, made durable, read back,
renamed, and then only made current.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import re
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from bimodal.durable import sync
from bimodal.errors import InputError, SinkError
from bimodal.predictions.contract import Edition, Found, StoreReader, StoreWriter

log = logging.getLogger("bimodal.predictions")

MAGIC = b"BIMODALP1\n\0\0\0\0\0\0"  # 16 bytes
END = b"EDITION\n"
GRACE = 60.0  # seconds that an edition stays after it stopped being current, for those who are opening it
LOOK = 1.0  # seconds between two looks whether `current` is still the file that is mapped
MOST = 10**12 - 1  # the highest number of an edition
PART = ".part"
NAME = re.compile(r"edition-(\d{12})\.bin")

MASK = (1 << 64) - 1
M1, M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
HEAD = struct.Struct("<IIIq")  # of a record: CRC-32 of the rest, length of the key, of the body, fingerprint
PAIR = struct.Struct("<QQ")
BLOCK = 1 << 20
SOME = 65_536  # records that are moved at once

Key = int | str


class Shape(msgspec.Struct, frozen=True):
    """Where things are in a file. bits: there are 2**bits buckets. size: of the whole file."""

    edition: Edition
    bits: int
    records: int
    size: int


class Damaged(Exception):
    """The file is not the one that was written."""


# -- keys ------------------------------------------------------------------------------------------------------------


def mixed(value: int) -> int:
    """The finalizer of SplitMix64: all bits depend on all."""
    value = ((value ^ (value >> 30)) * M1) & MASK
    value = ((value ^ (value >> 27)) * M2) & MASK
    return value ^ (value >> 31)


def hashes(seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`mixed` of many."""
    value = seeds.copy()
    for shift, factor in ((30, M1), (27, M2)):
        value ^= value >> np.uint64(shift)
        value *= np.uint64(factor)
    value ^= value >> np.uint64(31)
    return value


def text_seed(key: bytes) -> int:
    """What is hashed of a text: few enough share it, and keys are compared whole."""
    return crc32(key) | len(key) << 32 & MASK


# -- reading ---------------------------------------------------------------------------------------------------------


class EmbeddedReader(StoreReader):
    """Reads what is current in a folder, from a mapping that all processes share. Where the folder is empty, or not
    there yet, there is no edition. The first edition is read once as a whole; those that come later were read back by
    their writer. A folder that was removed and written anew is noticed within a second.
    """

    prompt = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._file: File | None = None
        self._seen = 0  # the number that was current when we last looked
        self._map: mmap.mmap | None = None
        self._current: memoryview[int] | None = None
        self._place = (0, 0)  # device and inode of what is mapped
        self._look_at = monotonic() + LOOK
        self._refresh()
        if not whole(self._folder / name(self._seen)):
            self._fall_back()

    def edition(self) -> Edition | None:
        self._look_again()
        self._refresh()
        return None if self._file is None else self._file.edition

    def look(self, keys: Sequence[Key]) -> tuple[Edition | None, list[Found | None]]:
        if monotonic() > self._look_at:
            self._look_again()
        current = self._current
        if current is None or current[0] != self._seen:
            self._refresh()
        file = self._file
        if file is None:
            return None, [None] * len(keys)
        find = file.find
        return file.edition, [find(key) for key in keys]

    def find(self, key: Key) -> tuple[Edition | None, Found | None]:
        if monotonic() > self._look_at:
            self._look_again()
        current = self._current
        if current is None or current[0] != self._seen:
            self._refresh()
        file = self._file
        return (None, None) if file is None else (file.edition, file.find(key))

    def close(self) -> None:
        self._detach()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._folder = Path(os.devnull)  # nothing more is found there

    def _refresh(self) -> None:
        """Open the edition that counts, if it is another one. One that cannot be opened leaves the last in place."""
        if self._current is None:
            self._attach()
        if self._current is None or self._current[0] == self._seen:
            return
        number = self._current[0]
        try:
            opened = File(self._folder / name(number))
        except FileNotFoundError:
            if self._current[0] != number:
                self._refresh()  # it was replaced, and taken away, while we looked
                return
            self._refuse(number, "it is not there")
        except (OSError, Damaged) as error:
            self._refuse(number, str(error))
        else:
            if self._file is not None:
                self._file.close()
            self._file = opened
        self._seen = number

    def _refuse(self, number: int, why: str) -> None:
        log.error("edition %d in %s is not opened: %s; the last good one stays", number, self._folder, why)

    def _attach(self) -> None:
        """Map `current`, where there is one by now."""
        try:
            with open(self._folder / "current", "rb") as file:
                told = os.fstat(file.fileno())
                self._map = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # none yet, or not yet of its size
            return
        self._place = (told.st_dev, told.st_ino)
        self._current = memoryview(self._map).cast("Q")

    def _detach(self) -> None:
        if self._current is not None:
            self._current.release()
            self._current = None
        if self._map is not None:
            self._map.close()
            self._map = None

    def _look_again(self) -> None:
        """Leave a `current` that stands there no more for the one that does; until there is one, nothing changes."""
        self._look_at = monotonic() + LOOK
        if self._current is None:
            return
        try:
            told = os.stat(self._folder / "current")
        except OSError:
            return
        if (told.st_dev, told.st_ino) != self._place and told.st_size >= 8:
            self._detach()
            self._attach()
            self._seen = -1  # the same number may be another edition

    def _fall_back(self) -> None:
        """The one that counts is lost or damaged: the newest before it that is whole, or of all, where `current` names
        none.
        """
        if self._file is not None:
            self._refuse(self._seen, "it is damaged")
            self._file.close()
            self._file = None
        edge = self._seen if 0 < self._seen <= MOST else MOST
        for number, path in reversed(editions(self._folder)):
            if number < edge and whole(path):
                self._file = File(path)
                log.error("edition %d is answered instead", number)
                return


class File:
    """One edition, mapped. Raises Damaged, OSError."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < len(MAGIC) + 8:
                raise Damaged("it is cut off")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.shape, self._base = _shape(self._map, size)
        except BaseException:
            self._map.close()
            raise
        self.edition = self.shape.edition
        self._shift = 64 - self.shape.bits
        self._integers = self.edition.kind == "int"
        self._told = False

    def find(self, key: Key) -> Found | None:
        """The result of a key."""
        try:
            if self._integers:
                raw = key.to_bytes(8, "little", signed=True)  # type: ignore[union-attr] # else AttributeError, below
                seed = key & MASK  # type: ignore[operator]
            else:
                raw = key.encode()  # type: ignore[union-attr]
                seed = crc32(raw) | len(raw) << 32
        except (OverflowError, AttributeError, UnicodeEncodeError):
            return None
        seed = ((seed ^ (seed >> 30)) * M1) & MASK  # `mixed`, in place: a call costs as much as the rest
        seed = ((seed ^ (seed >> 27)) * M2) & MASK
        view = self._map
        at, end = PAIR.unpack_from(view, self._base + ((seed ^ (seed >> 31)) >> self._shift) * 8)
        while at < end:
            try:
                check, long, wide, fingerprint = HEAD.unpack_from(view, at)
            except struct.error:
                break
            start = at + 20
            middle = start + long
            at = middle + wide
            if view[start:middle] == raw:
                if at > end or crc32(view[start - 16 : at]) != check:
                    at = -1
                    break
                return Found(view[middle:at], fingerprint)
        if at != end:
            self._tell_damage()
        return None

    def _tell_damage(self) -> None:
        if not self._told:
            self._told = True
            log.error("a record of edition %d is damaged, and counts as absent", self.edition.version)

    def close(self) -> None:
        self._map.close()


def _shape(view: mmap.mmap, size: int) -> tuple[Shape, int]:
    """What the header says, and where the directory begins. Raises Damaged."""
    if view[: len(MAGIC)] != MAGIC:
        raise Damaged("it is no edition of this version")
    (long,) = struct.unpack_from("<Q", view, len(MAGIC))
    stop = len(MAGIC) + 8 + long
    if stop + 4 > size:
        raise Damaged("it is cut off")
    if struct.unpack_from("<I", view, stop)[0] != crc32(view[:stop]):
        raise Damaged("its header is damaged")
    shape = msgspec.json.decode(view[len(MAGIC) + 8 : stop], type=Shape)
    if shape.size != size or view[size - len(END) :] != END:
        raise Damaged("it is cut off")
    return shape, _aligned(stop + 4)


def whole(path: Path) -> bool:
    """Whether every byte is as it was written: reads the file once."""
    try:
        file = File(path)
    except (OSError, Damaged):
        return False
    try:
        end = file.shape.size - len(END) - 4
        with open(path, "rb") as raw:
            raw.seek(file._base)
            seen, left = 0, end - file._base
            while left:
                block = raw.read(min(BLOCK, left))
                if not block:
                    return False
                seen, left = crc32(block, seen), left - len(block)
            return raw.read(4) == struct.pack("<I", seen)
    finally:
        file.close()


def name(number: int) -> str:
    return f"edition-{number:012d}.bin"


def editions(folder: Path) -> list[tuple[int, Path]]:
    """All that stand in the folder, the oldest first."""
    if not folder.is_dir():
        return []
    found = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def _aligned(place: int) -> int:
    return (place + 7) // 8 * 8


# -- writing ---------------------------------------------------------------------------------------------------------


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
            _flip(self._folder, number)
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
            head, base = _header(edition, bits, self._count, total)
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


def _header(edition: Edition, bits: int, count: int, total: int) -> tuple[bytes, int]:
    """The beginning of a file up to its directory, and where that begins."""
    size = 0
    while True:  # the header tells the size of the file, of which it is a part
        told = msgspec.json.encode(Shape(edition, bits, count, size))
        start = MAGIC + struct.pack("<Q", len(told)) + told
        base = _aligned(len(start) + 4)
        found = base + ((1 << bits) + 1) * 8 + total + 4 + len(END)
        if found == size:
            return (start + struct.pack("<I", crc32(start))).ljust(base, b"\0"), base
        size = found


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


def _flip(folder: Path, number: int) -> None:
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
