"""Disk: what a log of calls leaves on a disk whose power is cut: nothing that was not synced is sure to be there.

The model is stricter than any file system in use. Data of a file is sure after fsync of that file, a name after fsync
of its folder. What is not sure may be there or not, each block and each name for itself, in any order; a file
may have grown without its bytes, which are then zero. A rename happens as one. Data whose fsync failed is lost, as on
Linux: a later fsync that succeeds does not bring it back.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.orders import KINDS

BLOCK = 64  # bytes: a disk's are larger, and so are its files
NAMELESS = re.compile(r"/#\d+( \(deleted\))?$")  # of an O_TMPFILE, as /proc tells it
EXCHANGE = 2  # RENAME_EXCHANGE
HEAD = struct.Struct("=8q")


@dataclass(frozen=True)
class Call:
    """A line of the shim's log. error: what it failed with, 0 if it did not. offset: of data; of a rename, its flags.
    changed: the file's time afterwards.
    """

    kind: str
    error: int
    inode: int
    offset: int
    length: int
    changed: int
    path: str
    other: str
    data: bytes


def read_log(path: Path) -> list[Call]:
    """All calls, in order; a line that a kill cut short is left out."""
    whole, place, calls = path.read_bytes() if path.exists() else b"", 0, []
    while place + HEAD.size <= len(whole):
        kind, error, inode, offset, length, changed, first, second = HEAD.unpack_from(whole, place)
        place += HEAD.size
        name = whole[place : place + first].decode()
        other = whole[place + first : place + first + second].decode()
        place += first + second
        size = length if KINDS[kind] == "write" else 0
        calls.append(Call(KINDS[kind], error, inode, offset, length, changed, name, other, whole[place : place + size]))
        place += size
    return calls


@dataclass
class Change:
    """Of a file's data: bytes at a place, or (without bytes) another size. lost: its fsync failed."""

    offset: int
    data: bytes | None
    changed: int
    lost: bool = False


@dataclass
class Node:
    """A file or folder: what is sure of it, and what is not."""

    folder: bool = False
    data: bytes = b""
    changed: int = 0
    pending: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Naming:
    """A change of names, which happens as one: these go, these come. home: the folders whose fsync makes it sure."""

    gone: tuple[str, ...]
    come: tuple[tuple[str, int], ...]
    home: str


Choice = Callable[[], bool]


class Disk:
    """Names and files after a number of calls. Nodes have numbers of their own: the system uses inodes again."""

    def __init__(self, folder: Path) -> None:
        self.root = str(folder)
        self.nodes: dict[int, Node] = {}
        self.sure: dict[str, int] = {}
        self.pending: list[Naming] = []
        self._live: dict[str, int] = {}
        self._inodes: dict[int, int] = {}
        self._nameless: dict[str, int] = {}
        self._add(folder.stat().st_ino, self.root, Node(folder=True))
        for each in sorted(folder.rglob("*")):
            status = each.stat()
            if status.st_ino in self._inodes:
                self._live[str(each)] = self._inodes[status.st_ino]
                continue
            data = b"" if each.is_dir() else each.read_bytes()
            self._add(status.st_ino, str(each), Node(each.is_dir(), data, status.st_mtime_ns))
        self.sure = dict(self._live)

    def _add(self, inode: int, path: str, node: Node) -> int:
        number = len(self.nodes)
        self.nodes[number], self._inodes[inode], self._live[path] = node, number, number
        return number

    def _node(self, call: Call) -> Node:
        return self.nodes[self._number(call)]

    def _number(self, call: Call) -> int:
        """Of the node that a call is about; a file that never had a name comes to be known by what is written to it."""
        if call.inode not in self._inodes or NAMELESS.search(call.path):
            number = len(self.nodes)
            self.nodes[number] = Node(changed=call.changed)
            known = self._nameless.setdefault(call.path, number)
            self._inodes[call.inode] = known
        return self._inodes[call.inode]

    # -- the calls ----------------------------------------------------------------------------------------------------

    def do(self, call: Call) -> None:
        """What a call changes."""
        if call.error:
            if call.kind in ("sync", "datasync"):
                for change in self._node(call).pending:
                    change.lost = True
            return
        getattr(self, f"_{call.kind}")(call)

    def _write(self, call: Call) -> None:
        self._node(call).pending.append(Change(call.offset, call.data, call.changed))

    def _truncate(self, call: Call) -> None:
        self._node(call).pending.append(Change(call.length, None, call.changed))

    def _sync(self, call: Call) -> None:
        node = self._node(call)
        if node.folder:
            self._sync_names(call.path)
            return
        for change in node.pending:
            node.data = apply(node.data, change, _never if change.lost else _always)
            node.changed = change.changed
        node.pending.clear()

    def _sync_names(self, folder: str) -> None:
        for naming in [each for each in self.pending if each.home == folder]:
            rename(self.sure, naming)
            self.pending.remove(naming)

    _datasync = _sync

    def _create(self, call: Call) -> None:
        self._name((), ((call.path, self._add(call.inode, call.path, Node(changed=call.changed))),), call.path)

    def _mkdir(self, call: Call) -> None:
        self._name((), ((call.path, self._add(call.inode, call.path, Node(folder=True))),), call.path)

    def _rename(self, call: Call) -> None:
        gone, come = self._moved(call.path, call.other)
        if call.offset & EXCHANGE:
            more, back = self._moved(call.other, call.path)
            gone, come = gone + more, come + back
        self._name(gone, come, call.other)

    def _moved(self, path: str, other: str) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...]]:
        names = tuple(name for name in self._live if name == path or name.startswith(path + "/"))
        return names, tuple((other + name[len(path) :], self._live[name]) for name in names)

    def _link(self, call: Call) -> None:
        self._name((), ((call.other, self._inodes[call.inode]),), call.other)

    def _unlink(self, call: Call) -> None:
        self._name((call.path,), (), call.path)

    _rmdir = _unlink

    def _name(self, gone: tuple[str, ...], come: tuple[tuple[str, int], ...], where: str) -> None:
        naming = Naming(gone, come, os.path.dirname(where))
        rename(self._live, naming)
        self.pending.append(naming)

    # -- what may be left ---------------------------------------------------------------------------------------------

    def leave(self, *, names: Choice, blocks: Choice, grow: bool) -> dict[str, Node]:
        """One of the states that a power cut may leave: which names and blocks made it beyond those that are sure.

        grow: a file has its new size even where its bytes did not make it.
        """
        found = dict(self.sure)
        for naming in self.pending:
            if names():
                rename(found, naming)
        reached = {
            path: number for path, number in found.items() if all(each in found for each in parents(path, self.root))
        }
        settled = {
            number: self._settled(self.nodes[number], blocks, grow=grow) for number in dict.fromkeys(reached.values())
        }
        return {path: settled[number] for path, number in reached.items()}

    def _settled(self, node: Node, blocks: Choice, *, grow: bool) -> Node:
        data, changed = node.data, node.changed
        for change in node.pending:
            if change.data is None and not blocks():
                continue
            before = data
            data = apply(data, change, (lambda: False) if change.lost else blocks, grow=grow)
            changed = change.changed if data != before else changed
        return Node(node.folder, data, changed)


def _always() -> bool:
    return True


def _never() -> bool:
    return False


def _drawn(chance: random.Random) -> Choice:
    """Yes, with a probability that is drawn itself."""
    share = chance.random()
    return lambda: chance.random() < share


def parents(path: str, root: str) -> Iterator[str]:
    while len(path) > len(root):
        path = os.path.dirname(path)
        yield path


def rename(names: dict[str, int], naming: Naming) -> None:
    for name in naming.gone:
        names.pop(name, None)
    names.update(naming.come)


def apply(data: bytes, change: Change, blocks: Choice, *, grow: bool = True) -> bytes:
    """The data after a change, of which those blocks happen that are chosen."""
    if change.data is None:
        return data[: change.offset].ljust(change.offset, b"\0")
    whole, end, place = bytearray(data), change.offset + len(change.data), change.offset
    if grow and len(whole) < end:
        whole.extend(bytes(end - len(whole)))
    while place < end:
        until = min(end, (place // BLOCK + 1) * BLOCK)
        if blocks():
            if len(whole) < until:
                whole.extend(bytes(until - len(whole)))
            whole[place:until] = change.data[place - change.offset : until - change.offset]
        place = until
    return bytes(whole)


def all_done(disk: Disk) -> dict[str, Node]:
    """What stands there without a power cut."""
    return disk.leave(names=_always, blocks=_always, grow=True)


def states(disk: Disk, seed: int, count: int) -> Iterator[tuple[str, dict[str, Node]]]:
    """What a power cut may leave, each with a name: the extremes, and so many drawn at random."""
    yield "nothing more", disk.leave(names=_never, blocks=_never, grow=False)
    yield "names alone", disk.leave(names=_always, blocks=_never, grow=False)
    yield "names and sizes", disk.leave(names=_always, blocks=_never, grow=True)
    yield "data alone", disk.leave(names=_never, blocks=_always, grow=False)
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")
        left = disk.leave(names=_drawn(chance), blocks=_drawn(chance), grow=chance.random() < 0.5)
        yield f"random {seed}-{number}", left


def restore(left: dict[str, Node], folder: Path) -> None:
    """Make the folder what the power cut left."""
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
    first: dict[int, str] = {}
    for path in sorted(left):
        node = left[path]
        if path == str(folder):
            continue
        if node.folder:
            Path(path).mkdir()
        elif id(node) in first:
            os.link(first[id(node)], path)
        else:
            Path(path).write_bytes(node.data)
            os.utime(path, ns=(node.changed, node.changed))
            first[id(node)] = path


def replay(disk: Disk, calls: Sequence[Call]) -> None:
    for call in calls:
        disk.do(call)
