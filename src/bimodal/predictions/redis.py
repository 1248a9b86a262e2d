"""A prediction store in Redis, for several machines: a hash an edition, and one key that names the current one.

A lookup is one script on the server, which reads the name and the values at one moment; a commit is one too. How
durable a commit is depends on the server (appendonly, replicas): what it lost is made again by the next run.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import redis

from bimodal.errors import BimodalError, SinkError, SourceError
from bimodal.predictions.contract import Edition, Found, StoreReader, StoreWriter
from bimodal.predictions.shared import named, referred, texts, twice

PATIENCE = 5.0  # seconds for one answer
UNFINISHED = 86_400  # seconds after which what a writer left behind goes away
PIECE = 5000  # commands that are sent together
MARK = struct.Struct("<q")

# KEYS: current, the beginning of the editions' names. ARGV: the version that is known, the keys.
FIND = """
local current = redis.call('GET', KEYS[1])
if not current then return {} end
local version = string.match(current, '^(%d+)|')
local found = {}
for start = 2, #ARGV, 1000 do
  local values = redis.call('HMGET', KEYS[2] .. version, unpack(ARGV, start, math.min(start + 999, #ARGV)))
  for place = 1, #values do found[start + place - 2] = values[place] end
end
if version == ARGV[1] then current = '' end
return {version, current, found}
"""
# KEYS: current, the beginning of the editions' names, the new one. ARGV: what `current` is seen to be, what it becomes,
# the version, the last one. The new hash may be empty, and then is no key at all.
FLIP = """
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[2] .. ARGV[3])
  redis.call('PERSIST', KEYS[2] .. ARGV[3])
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('UNLINK', KEYS[2] .. ARGV[4])
return 1
"""


def open_reader(url: str, store: str) -> RedisReader:
    return RedisReader(url, store)


def open_writer(url: str, store: str, draft: Edition) -> RedisWriter:
    return RedisWriter(url, store, draft)


def names(store: str) -> tuple[str, str]:
    """The key that names the current edition, and how the keys of editions begin. In a cluster all are in one place."""
    return f"bimodal:{{{store}}}:current", f"bimodal:{{{store}}}:edition:"


class RedisReader(StoreReader):
    """Looks up by one script. Raises SourceError."""

    def __init__(self, url: str, store: str) -> None:
        self._url, self._names = url, names(store)
        with _told(url, SourceError, "read"):
            self._client = _client(url)
            self._find = self._client.register_script(FIND)
        self._edition: Edition | None = None
        self.look(())

    def edition(self) -> Edition | None:
        """As of the last look."""
        return self._edition

    def look(self, keys: Sequence[int | str]) -> tuple[Edition | None, list[Found | None]]:
        known = self._edition
        wanted = texts(keys, None if known is None else known.kind)
        asked = [key.encode("utf-8", "surrogatepass") for key in wanted if key is not None]
        with _told(self._url, SourceError, "read"):
            told: Any = self._find(keys=self._names, args=[known.version if known else 0, *asked])
        if not told:
            self._edition = None
            return None, [None] * len(keys)
        _, current, values = told
        if current:
            self._edition = msgspec.json.decode(current.partition(b"|")[2], type=Edition)
            if known is None or known.kind != self._edition.kind:
                return self.look(keys)  # now that it is known what kind its keys are
        given = iter(values)
        return self._edition, [None if key is None else _found(next(given)) for key in wanted]

    def close(self) -> None:
        self._client.close()


def _found(value: bytes | None) -> Found | None:
    return None if value is None else Found(value[MARK.size :], MARK.unpack_from(value)[0])


class RedisWriter(StoreWriter):
    """Fills a hash under a name of its own, which goes away by itself if it is left. Raises SinkError."""

    def __init__(self, url: str, store: str, draft: Edition) -> None:
        self._url, self._draft, self._count = url, draft, 0
        self._current, self._begin = names(store)
        self._place = f"bimodal:{{{store}}}:part:{secrets.token_hex(8)}"
        with _told(url, SinkError, "written"):
            self._client = _client(url)
            self._flip = self._client.register_script(FLIP)

    def add(self, keys: Sequence[int | str], bodies: Sequence[bytes], fingerprints: Sequence[int]) -> None:
        words = named(keys, self._draft.kind, self._count)
        values = [MARK.pack(mark) + body for body, mark in zip(bodies, fingerprints, strict=True)]
        with _told(self._url, SinkError, "written"):
            for start in range(0, len(words), PIECE):
                line = self._client.pipeline(transaction=False)
                for word, value in zip(words[start : start + PIECE], values[start : start + PIECE], strict=True):
                    line.hsetnx(self._place, word, value)
                line.expire(self._place, UNFINISHED)
                new = line.execute()
                if 0 in new[:-1]:
                    raise twice(self._count + start + new.index(0) + 1, None)
        self._count += len(words)

    def commit(self, committed: float) -> Edition:
        with _told(self._url, SinkError, "written"):
            while True:
                seen: Any = self._client.get(self._current) or b""
                version, _, text = seen.partition(b"|")
                if text:
                    last = msgspec.json.decode(text, type=Edition)
                    if (last.job, last.run) == (self._draft.job, self._draft.run):
                        self.abandon()
                        return last
                number = int(version or 0) + 1
                edition = msgspec.structs.replace(self._draft, version=number, committed=committed, count=self._count)
                told = b"%d|%b" % (number, msgspec.json.encode(edition))
                keys = [self._current, self._begin, self._place]
                if self._flip(keys=keys, args=[seen, told, number, number - 1]):
                    break
        self._client.close()
        return edition

    def abandon(self) -> None:
        with contextlib.suppress(redis.RedisError):  # it goes away by itself
            self._client.unlink(self._place)
        self._client.close()


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(referred(url), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)


@contextlib.contextmanager
def _told(url: str, kind: type[BimodalError], what: str) -> Iterator[None]:
    """Errors in one sentence, with no word of the URL but the host."""
    try:
        yield
    except redis.RedisError as error:
        host = urlsplit(referred(url)).hostname or "this machine"
        reason = type(error).__name__
        raise kind(f"the prediction store in Redis on {host} cannot be {what} ({reason})") from None
