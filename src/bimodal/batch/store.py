"""Store: objects of S3, Google Cloud Storage or Azure, found, read, and written whole.

    s3://bucket/folder/data.parquet     gs://bucket/folder     az://container/folder/*.csv
    abfs://container@account.dfs.core.windows.net/folder

Credentials come from the environment or the store's own files, never from the address. Another server that speaks S3:
AWS_ENDPOINT_URL, or `?endpoint_override=http://localhost:9000` behind the address; `?region=` and `?anonymous=true`
are understood there too.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from glob import has_magic
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.stream import readable
from bimodal.errors import UsageError

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
QUERY = re.compile(r"\?((?:[a-z_]+=[^&?]*)(?:&[a-z_]+=[^&?]*)*)$")
UNDERSTOOD = ("endpoint_override", "region", "anonymous")
REACH = 8 << 20  # bytes that are asked for at once
ATTEMPTS = 5
PATIENCE = 10  # seconds to connect
ANSWER = timedelta(seconds=60)


def is_stored(text: str) -> bool:
    """Whether this names something in an object store."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.lower() in SCHEMES


@dataclass(frozen=True)
class Store:
    """An address in an object store. url: without its query. key: the bucket, and what is named in it."""

    url: str
    kind: str
    key: str
    options: Mapping[str, str]

    @classmethod
    def of(cls, text: str) -> Store:
        query = QUERY.search(text)
        url = text[: query.start()] if query else text
        options = dict(parse_qsl(query.group(1))) if query else {}
        scheme, _, rest = url.partition("://")
        kind = SCHEMES[scheme.lower()]
        if unknown := [name for name in options if name not in UNDERSTOOD]:
            raise UsageError(
                f"{_bare(url)}: the option {unknown[0]!r} is unknown; understood are {', '.join(UNDERSTOOD)}"
            )
        bucket, _, key = rest.partition("/")
        if "@" in bucket:
            bucket = _container(bucket, kind, options)
        if not bucket or has_magic(bucket):
            raise UsageError(f"{_bare(url)}: the name of a bucket comes first, as in {scheme}://bucket/folder")
        return cls(_bare(url).rstrip("/"), kind, f"{bucket}/{key}".rstrip("/"), options)

    @cached_property
    def system(self) -> Any:
        """The file system of pyarrow for it."""
        with readable(self.url):
            if self.kind == "s3":
                return _s3(self.key.partition("/")[0], self.options)
            return _google(self.options) if self.kind == "gs" else _azure(self.options)

    @property
    def endpoint(self) -> str:
        """The server, where it is not the usual one."""
        return self.options.get("endpoint_override") or _endpoint(self.kind)

    def at(self, key: str) -> Store:
        """Another object of the bucket."""
        root = self.url[: len(self.url) - len(self.key)]
        other = replace(self, url=root + key, key=key)
        other.__dict__["system"] = self.system  # the connections are shared
        return other

    def beside(self, ending: str) -> Store:
        return self.at(self.key + ending)

    # -- finding ----------------------------------------------------------------------------------------------------

    def file(self) -> StoredFile | None:
        """The object of exactly this name."""
        with readable(self.url):
            info = self.system.get_file_info(self.key)
        return StoredFile(self, info) if info.type == fs.FileType.File else None

    def under(self) -> Iterator[StoredFile]:
        """The objects under this prefix, in the order of their names; none where there is none."""
        return self._below(self.key)

    def matching(self) -> Iterator[StoredFile]:
        """The objects that the pattern matches, in the order of their names."""
        parts = self.key.split("/")
        fixed = next(place for place, part in enumerate(parts) if has_magic(part))
        pattern = re.compile(regex(parts[fixed:]))
        above = "/".join(parts[:fixed])
        for file in self._below(above):
            if pattern.fullmatch(file.key[len(above) + 1 :]):
                yield file

    def _below(self, prefix: str) -> Iterator[StoredFile]:
        with readable(self.url):
            try:
                found = self.system.get_file_info(fs.FileSelector(prefix, recursive=True))
            except FileNotFoundError:
                return
        for info in sorted(found, key=lambda each: str(each.path)):
            if info.type == fs.FileType.File and info.path != prefix:
                yield StoredFile(self, info, tuple(info.path[len(prefix) + 1 :].split("/")[:-1]))

    def bucket(self) -> bool:
        """Whether the bucket is there."""
        with readable(self.url):
            return bool(self.system.get_file_info(self.key.partition("/")[0]).type == fs.FileType.Directory)

    # -- whole objects ----------------------------------------------------------------------------------------------

    def read(self) -> bytes | None:
        """The object's bytes, None where there is none."""
        file = self.file()
        if file is None:
            return None
        with readable(self.url), file.random() as opened:
            return bytes(opened.read())

    def seen(self) -> str | None:
        """What tells this object from another one in its place: size and tag; None: it is not there."""
        file = self.file()
        return None if file is None else file.fingerprint()

    def put(self, data: Path | bytes) -> None:
        """Write the object: it appears, and takes the place of another, when the last byte is there. Raises OSError."""
        stream = self.system.open_output_stream(self.key)
        try:
            size = _fill(stream, data)
        except BaseException:
            _abandon(stream)
            raise
        stream.close()
        found = self.system.get_file_info(self.key)
        if found.size != size:
            raise OSError(f"of {size:,} bytes the store kept {found.size or 0:,}")

    def try_out(self) -> None:
        """Begin to write the object, and leave it at that: no object appears. Raises OSError."""
        _abandon(self.system.open_output_stream(self.key))

    def delete(self) -> None:
        """Take the object away, if it is there. Raises OSError."""
        if self.file() is not None:
            self.system.delete_file(self.key)


def _abandon(stream: Any) -> None:
    """Let an upload come to nothing. pyarrow cannot abort one, and closes it at its end, which would make an object of
    the part that was sent: so it is never ended. The store forgets such uploads by the rules of the bucket.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))


def _fill(stream: Any, data: Path | bytes) -> int:
    if isinstance(data, bytes):
        stream.write(data)
        return len(data)
    size = 0
    with open(data, "rb") as file:
        while block := file.read(REACH):
            stream.write(block)
            size += len(block)
    return size


class StoredFile(InputFile):
    """An object of a store, as input."""

    def __init__(self, store: Store, info: Any, folders: tuple[str, ...] = ()) -> None:
        self._system, self.key = store.system, str(info.path)
        self.name = self.key.rpartition("/")[2]
        self.size = int(info.size)
        self.stamp = f"{info.size} {info.mtime_ns}"
        self.folders = folders

    def stream(self, offset: int = 0) -> Any:
        return Reached(self.random(), offset)

    def random(self) -> pa.NativeFile:
        with readable(self.name):
            return self._system.open_input_file(self.key)

    def fingerprint(self) -> str:
        """Of its size and the store's tag for its content (where it gives none: the time of the last change)."""
        with self.random() as opened:
            told = {_text(name).lower(): value for name, value in dict(opened.metadata() or {}).items()}
        tag = told.get("etag") or self.stamp.encode()
        return hashlib.sha256(f"{self.size} ".encode() + bytes(tag)).hexdigest()


class Reached(io.RawIOBase):
    """An object from an offset on, as a stream that asks for large parts: each is a request."""

    def __init__(self, file: pa.NativeFile, offset: int) -> None:
        self._file = file
        file.seek(offset)
        self._waiting, self._at = memoryview(b""), offset

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return bytes(self._waiting) + bytes(self._file.read())
        if not self._waiting:
            self._waiting = memoryview(self._file.read(max(size, REACH)))
        piece, self._waiting = bytes(self._waiting[:size]), self._waiting[size:]
        self._at += len(piece)
        return piece

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def regex(parts: Sequence[str]) -> str:
    """A pattern's parts as a regular expression: `**` is any folders, `*` and `?` stay within a name."""
    told = [r"(?:[^/]+/)*" if part == "**" else _part(part) + "/" for part in parts[:-1]]
    return "".join(told) + (".*" if parts[-1] == "**" else _part(parts[-1]))


def _part(part: str) -> str:
    told = re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.sub(r"\\\[(!?)(.+?)\\\]", lambda found: f"[{'^/' if found[1] else ''}{_span(found[2])}]", told)


def _span(text: str) -> str:
    return text.replace(r"\-", "-")


# -- the file systems ------------------------------------------------------------------------------------------------


def _bare(url: str) -> str:
    """An address without what stands before an `@`, but for the container of Azure: it may be a password."""
    scheme, _, rest = url.partition("://")
    bucket, slash, key = rest.partition("/")
    if "@" in bucket and SCHEMES[scheme.lower()] != "az":
        bucket = bucket.rpartition("@")[2]
    return f"{scheme}://{bucket}{slash}{key}"


def _container(bucket: str, kind: str, options: dict[str, str]) -> str:
    """Azure names the account behind the container; elsewhere something before an `@` is a credential."""
    container, _, host = bucket.rpartition("@")
    if kind != "az" or ":" in container:
        raise UsageError("credentials do not belong in the address of a bucket; the environment or a file holds them")
    options["account"] = host.partition(".")[0]
    return container


def _endpoint(kind: str) -> str:
    if kind == "s3":
        return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return os.environ.get("STORAGE_EMULATOR_HOST", "") if kind == "gs" else ""


def _server(endpoint: str) -> dict[str, str]:
    """The parts of an endpoint as pyarrow takes them."""
    if not endpoint:
        return {}
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    return {"scheme": parts.scheme, "endpoint_override": f"{parts.netloc}{parts.path.rstrip('/')}"}


def _s3(bucket: str, options: Mapping[str, str]) -> Any:
    server = _server(options.get("endpoint_override") or _endpoint("s3"))
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        region=region or ("us-east-1" if server else fs.resolve_s3_region(bucket)),
        anonymous=_asked(options),
        connect_timeout=PATIENCE,
        background_writes=False,  # they would hold all that the network has not taken yet
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        **server,
    )


def _google(options: Mapping[str, str]) -> Any:
    server = _server(options.get("endpoint_override") or _endpoint("gs"))
    return fs.GcsFileSystem(anonymous=_asked(options), retry_time_limit=ANSWER, **server)


def _azure(options: Mapping[str, str]) -> Any:
    account = options.get("account") or _first_of("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise UsageError("AZURE_STORAGE_ACCOUNT tells the account of an az:// address; it is not set")
    key, token = _first_of("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"), _first_of("AZURE_STORAGE_SAS_TOKEN")
    server = _server(options.get("endpoint_override", ""))
    told = {f"{part}_storage_authority": server["endpoint_override"] for part in ("blob", "dfs") if server}
    told |= {f"{part}_storage_scheme": server["scheme"] for part in ("blob", "dfs") if server}
    return fs.AzureFileSystem(account, account_key=key, sas_token=None if key else token, **told)


def _asked(options: Mapping[str, str]) -> bool:
    return options.get("anonymous", "").lower() in ("true", "1", "yes")


def _first_of(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)
