"""Writing that survives: whole files, renames that are on the disk, errors in one sentence."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bimodal.durable import sync
from bimodal.errors import OutputExists, SinkError

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.EIO: "the disk reports an error",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "its folder is a file",
    errno.ENAMETOOLONG: "the name is too long",
}
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
HERE = -100  # AT_FDCWD
EXCHANGE = 2  # RENAME_EXCHANGE


@contextlib.contextmanager
def writable(name: str, kept: str = "nothing was left behind") -> Iterator[None]:
    """Errors of writing, in one sentence. kept: what of the work is still there."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SinkError(f"{name} cannot be written: {reason(error)}; {kept}") from error


def reason(error: OSError) -> str:
    return REASONS.get(error.errno or 0, error.strerror or str(error))


def write_all(file: int, data: bytes | memoryview) -> None:
    """Write at the end of an open file, also where the system takes it in parts."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(file, view) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    sync(folder)


def put(path: Path, data: bytes, within: Path | None = None) -> None:
    """A small file, whole or not at all, and durable. within: a folder of the same file system where it may be in the
    making, so that a kill leaves nothing beside the file. Raises OSError.
    """
    temporary = (within or path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """`put`, with its errors in one sentence."""
    with writable(str(path)):
        put(path, data)


def link_over(source: Path, target: Path) -> None:
    """Show a file under a second name, which it takes over from what stands there; the first name stays. Durable."""
    temporary = source.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        _second(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # a rename between two names of one file does nothing
    sync_folder(target.parent)


def _second(source: Path, name: Path) -> None:
    """A second name for a file, or a durable copy."""
    try:
        os.link(source, name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(source, "rb") as old, open(name, "xb") as new:
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())


def appear(path: Path, data: bytes) -> None:
    """A new file, whole or not at all, and durable; one that is there stays. A kill leaves nothing. Raises OSError."""
    nameless = getattr(os, "O_TMPFILE", 0)
    try:
        number = os.open(path.parent, nameless | os.O_WRONLY, 0o666) if nameless else -1
    except OSError:  # a file system that knows only files with names
        number = -1
    if number < 0:
        put(path, data)
        return
    try:
        write_all(number, data)
        os.fsync(number)
        with contextlib.suppress(FileExistsError):
            # Python follows the link in /proc only where a folder's number is given; the path is absolute all the same.
            os.link(f"/proc/self/fd/{number}", path, src_dir_fd=number, follow_symlinks=True)
    finally:
        os.close(number)
    sync_folder(path.parent)


def move_new(source: Path, target: Path) -> None:
    """Rename, unless something stands there: OutputExists."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise appeared(target) from None
    except OSError as error:  # a file system without links
        if error.errno not in NO_LINKS:
            raise
        if target.exists():
            raise appeared(target) from None
        os.replace(source, target)
        return
    source.unlink()


def appeared(target: Path) -> OutputExists:
    return OutputExists(f"{target} appeared while the run was going on; --overwrite replaces it")


def exchange(one: Path, other: Path) -> bool:
    """Let two things change places in one step (Linux); False where the system cannot do that."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))
