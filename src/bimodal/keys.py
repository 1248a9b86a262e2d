"""API keys: who may call a server, and what for.

A key is 256 random bits, shown once. The file of keys holds only SHA-256 digests of them, so that whoever reads it
cannot call; random keys of this length need no slow hash. A file is replaced in one step, so a server that reads it
never sees half of one.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec

from bimodal.config.reading import NAME as CONFIG
from bimodal.config.reading import VARIABLE, read
from bimodal.config.reading import find as find_config
from bimodal.durable import sync
from bimodal.errors import ConfigError, UsageError

if sys.platform != "win32":
    import fcntl
    import grp
    import pwd

NAME = "bimodal-keys.json"  # beside bimodal.toml, else in the working directory
PREFIX = "bmk_"  # by which a key is known for one, also to those who look for secrets in code
SCOPES = ("infer", "metrics", "admin")
BYTES = 32
MOST = 1 << 20  # bytes of a file: thousands of keys

_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_digest = re.compile(r"[0-9a-f]{64}").fullmatch


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key as the file knows it. digest: SHA-256, in hexadecimal. old: another one of its name came after it."""

    name: str
    digest: str
    scopes: tuple[str, ...]
    created: datetime
    expires: datetime | None = None
    old: bool = False

    def live(self, now: datetime) -> bool:
        """Whether it is taken at this time."""
        return self.expires is None or now < self.expires


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    keys: list[Key]


def beside(config: str | Path | None = None) -> Path:
    """Where the file of keys is when nobody names one: beside that bimodal.toml, else that of BIMODAL_CONFIG, else in
    the working directory.
    """
    named = Path(config or os.environ.get(VARIABLE) or CONFIG)
    return (named if named.is_dir() else named.parent) / NAME


def place(given: str | Path | None = None, config: str | Path | None = None) -> Path:
    """The file of keys that a server would ask, by the same rule: the one given, else that of BIMODAL_KEYS, else that
    of [server] in the bimodal.toml (`config`, else that of BIMODAL_CONFIG or here), else the usual place beside it.
    Raises UsageError and ConfigError where that bimodal.toml cannot be read.
    """
    named = given or os.environ.get("BIMODAL_KEYS")
    if not named and (config or os.environ.get(VARIABLE) or Path(CONFIG).is_file()):
        named = read(find_config(config)).server.get("keys")
    return Path(named or beside(config))


def digest(key: bytes) -> str:
    """What is kept of a key."""
    return sha256(key).hexdigest()


def find(key: bytes, known: Sequence[Key]) -> Key | None:
    """The one of these keys that it is. All are compared, each in constant time: how long it takes tells nothing."""
    sought = digest(key).encode("ascii")
    found = None
    for each in known:
        if hmac.compare_digest(sought, each.digest.encode("ascii")):
            found = each
    return found


def load(path: str | Path) -> list[Key]:
    """The keys of a file. Raises UsageError where there is none, where it is no plain file, or where others may write
    to it or replace it; ConfigError where it is damaged.
    """
    path = Path(path)
    try:
        data, told = _taken(path)
        if sys.platform != "win32" and stat.S_ISREG(told.st_mode):
            _check_owners(path, told)
    except FileNotFoundError:
        raise UsageError(f"there is no file of keys {path}; bimodal keys add NAME --keys {path} makes one") from None
    except OSError as error:
        raise UsageError(f"the file of keys {path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(told.st_mode):
        raise UsageError(f"the file of keys {path} is no plain file; bimodal keys add NAME --keys FILE makes one")
    if len(data) > MOST:
        raise UsageError(f"the file of keys {path} is over {MOST >> 20} MiB: it is none of bimodal keys")
    return _read(data, path)


def is_exposed(path: str | Path) -> bool:
    """Whether other users of this machine may read the file: names, scopes and digests, from which no key follows."""
    return sys.platform != "win32" and bool(os.stat(path).st_mode & (stat.S_IRGRP | stat.S_IROTH))


def add(
    path: str | Path,
    name: str,
    scopes: Sequence[str] = ("infer",),
    *,
    expires: float | None = None,
    now: datetime | None = None,
) -> str:
    """A new key, which nobody can show again. expires: seconds from now. The file is made where there is none."""
    now = now or datetime.now(UTC)
    _check(name, scopes, expires)
    with _changing(path, make=True) as known:
        if any(each.name == name for each in known):
            raise UsageError(
                f"there is a key named {name} already: bimodal keys rotate {name} makes a second one for it, "
                f"bimodal keys revoke {name} ends it"
            )
        until = None if expires is None else now + timedelta(seconds=expires)
        return _made(known, Key(name, "", tuple(dict.fromkeys(scopes)), now, until))


def rotate(
    path: str | Path,
    name: str,
    *,
    overlap: float | None = None,
    expires: float | None = None,
    now: datetime | None = None,
) -> str:
    """A second key of the name, with the same scopes; the old one stays live until it is revoked, or for so many
    seconds (`overlap`). expires: seconds for the new one; else it lives as long as the old one was to, from its start.
    """
    now = now or datetime.now(UTC)
    for seconds in (overlap, expires):
        _check_time(seconds)
    with _changing(path) as known:
        latest = next((each for each in _named(known, name) if not each.old), None)
        if latest is None or any(each.old and each.live(now) for each in _named(known, name)):
            raise UsageError(f"{name} has two live keys: bimodal keys revoke {name} --old ends the old one first")
        known[:] = [each for each in known if each.name != name]
        ends = [each for each in (latest.expires, _later(now, overlap)) if each is not None]
        known.append(msgspec.structs.replace(latest, old=True, expires=min(ends, default=None)))
        life = None if latest.expires is None else latest.expires - latest.created
        until = _later(now, expires) or (None if life is None else now + life)
        return _made(known, Key(name, "", latest.scopes, now, until))


def revoke(path: str | Path, name: str, *, old: bool = False) -> int:
    """End the keys of a name, or its old one alone; gives how many."""
    with _changing(path) as known:
        gone = [each for each in _named(known, name) if each.old or not old]
        if not gone:
            raise UsageError(
                f"{name} has no old key: it was not rotated since; without --old its key itself is revoked"
            )
        known[:] = [each for each in known if each not in gone]
        return len(gone)


# -- within ------------------------------------------------------------------------------------------------------------


def _taken(path: Path) -> tuple[bytes, os.stat_result]:
    """What stands in a file, and what it is: nothing is read of a pipe or a device, which might never end."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(number, "rb") as file:
        told = os.fstat(number)
        return (file.read(MOST + 1) if stat.S_ISREG(told.st_mode) else b""), told


def _check_owners(path: Path, told: os.stat_result) -> None:
    """Raises UsageError where other users could let themselves in: they own the file or its folder, or may write into
    one of them. In a folder with the sticky bit (as /tmp) nobody replaces what is another's.
    """
    trusted = (0, os.geteuid())
    if told.st_uid not in trusted:
        raise UsageError(f"the file of keys {path} belongs to another user, who could let himself in: chown it")
    if told.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(f"others may write to the file of keys {path}, and so let themselves in: chmod 600 {path}")
    _check_folders(path)


def _check_folders(path: Path) -> None:
    """Of the file, and of the link to it where it is one."""
    for folder in {path.absolute().parent, Path(os.path.realpath(path)).parent}:
        _check_folder(folder)


def _check_folder(folder: Path) -> None:
    trusted = (0, os.geteuid())
    above = os.stat(folder)
    if above.st_uid not in trusted:
        raise UsageError(f"the folder {folder} of the file of keys belongs to another user, who could replace the file")
    mode = above.st_mode & ~(stat.S_IWGRP if _is_private(above.st_gid) else 0)
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise UsageError(
            f"others may write into the folder {folder} of the file of keys, and so replace it: chmod go-w {folder}"
        )


def _is_private(group: int) -> bool:
    """Whether a group is this user's alone, as many systems give everybody one."""
    try:
        user, told = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and told.gr_name == user.pw_name and set(told.gr_mem) <= {user.pw_name}


def _check(name: str, scopes: Sequence[str], expires: float | None) -> None:
    if not _name(name):
        raise UsageError(f"{name!r} is no name of a key: letters, digits, dots, hyphens and underscores, 64 at most")
    strange = [each for each in scopes if each not in SCOPES]
    if strange or not scopes:
        told = f"there is no scope {strange[0]!r}" if strange else "a key needs a scope"
        raise UsageError(f"{told}; scopes are {', '.join(SCOPES)}")
    _check_time(expires)


def _check_time(seconds: float | None) -> None:
    if seconds is not None and seconds <= 0:
        raise UsageError("a key lives for longer than no time: write it like 24h or 90d")


def _later(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)


def _named(known: Sequence[Key], name: str) -> list[Key]:
    found = [each for each in known if each.name == name]
    if not found:
        raise UsageError(f"there is no key named {name}; bimodal keys list shows those there are")
    return found


def _made(known: list[Key], key: Key) -> str:
    secret = PREFIX + secrets.token_urlsafe(BYTES)
    known.append(msgspec.structs.replace(key, digest=digest(secret.encode("ascii"))))
    return secret


def _read(data: bytes, path: Path) -> list[Key]:
    try:
        stored = msgspec.json.decode(data, type=_Stored)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(_damaged(path, _place(error))) from None
    if stored.version != 1:
        raise ConfigError(f"the file of keys {path} was written by a newer version of Bimodal")
    for number, each in enumerate(stored.keys):
        wrong = _fault(each)
        if wrong is not None:
            raise ConfigError(_damaged(path, f"keys[{number}].{wrong}"))
    return stored.keys


def _damaged(path: Path, where: str) -> str:
    told = f" ({where})" if where else ""
    return f"the file of keys {path} is damaged{told}: restore it from a backup, or make new keys"


def _place(error: Exception) -> str:
    """The field that a reader stumbled over, without what stands there: `keys[0].expires`."""
    found = re.search(r" - at `\$\.?([A-Za-z0-9_.\[\]]*)`$", str(error))
    if found is not None and found[1]:
        missing = re.search(r"missing required field `(\w+)`", str(error))
        if " unknown field " in str(error):
            return f"{found[1]} has a field that is not known"
        return f"{found[1]} lacks {missing[1]}" if missing else f"{found[1]} is not what it should be"
    return "it is no JSON" if not isinstance(error, msgspec.ValidationError) else "it is no table of keys"


def _fault(key: Key) -> str | None:
    """The field that is wrong, and how."""
    if not _name(key.name):
        return "name is no name of a key"
    if not _digest(key.digest):
        return "digest is no SHA-256: 64 hexadecimal digits in small letters"
    if any(scope not in SCOPES for scope in key.scopes):
        return f"scopes has one that is not there; scopes are {', '.join(SCOPES)}"
    untimed = [name for name in ("created", "expires") if (time := getattr(key, name)) and time.tzinfo is None]
    return f"{untimed[0]} has no time zone; write it like 2027-01-01T00:00:00Z" if untimed else None


@contextlib.contextmanager
def _changing(path: str | Path, *, make: bool = False) -> Iterator[list[Key]]:
    """The keys of a file, to be changed; written at the end, unless something was raised. One at a time."""
    path = Path(os.path.realpath(path))  # a link stays one
    with _alone(path.parent):
        known = [] if make and _may_be_made(path) else load(path)
        yield known
        _write(path, known)


def _may_be_made(path: Path) -> bool:
    """Whether there is no file yet. Raises UsageError where others could replace the one that is made."""
    if os.path.lexists(path):
        return False
    if sys.platform != "win32":
        _check_folders(path)
    return True


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"the folder {folder} of the file of keys cannot be opened: {error.strerror}") from None
    try:
        if sys.platform != "win32":
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _write(path: Path, known: Sequence[Key]) -> None:
    """In one step, durably, for its user alone."""
    data = msgspec.json.format(msgspec.json.encode(_Stored(1, list(known))), indent=2) + b"\n"
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"the file of keys {path} cannot be written: {error.strerror}") from None
