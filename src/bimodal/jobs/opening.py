"""Opening the state of jobs by its URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from bimodal.errors import UsageError
from bimodal.formats.library import library
from bimodal.jobs.sqlite import SqliteStore
from bimodal.jobs.store import JobStore

FILE = "sqlite:///"
SERVERS = ("postgresql://", "postgres://", "env:", "file:")


def open_store(url: str, folder: Path) -> JobStore:
    """The store at `url`: sqlite:///FILE (relative to `folder`), or postgresql://… (also by reference: env:NAME,
    file:PATH). Raises UsageError, SinkError, SourceError, Unavailable, MissingLibrary.
    """
    if url.startswith(FILE) and len(url) > len(FILE):
        return SqliteStore(folder / unquote(url.removeprefix(FILE)))
    if url.startswith(SERVERS):
        store: JobStore = library("bimodal.jobs.postgres").PostgresStore(url)
        return store
    scheme = url.partition(":")[0] if "://" in url else "it"
    raise UsageError(
        f"`state` names no store of jobs ({scheme} is none): write sqlite:///.bimodal/state.db, or "
        "postgresql://user@host/database for more than one machine"
    )
