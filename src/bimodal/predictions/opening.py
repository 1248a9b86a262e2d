"""Opening a model's prediction store by its table in bimodal.toml: to read it, to write an edition."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from bimodal.config.tables import StoreTable
from bimodal.errors import UsageError
from bimodal.field import nearest
from bimodal.formats.library import library
from bimodal.predictions.contract import Edition, StoreReader, StoreWriter
from bimodal.predictions.embedded import EmbeddedReader
from bimodal.predictions.embedded_writer import EmbeddedWriter
from bimodal.predictions.shared import referred

SHARED = {"postgresql": "postgres", "postgres": "postgres", "redis": "redis", "rediss": "redis"}
EMBEDDED = "embedded"


def open_reader(table: StoreTable, folder: str | os.PathLike[str]) -> StoreReader:
    """The store of a model. folder: predictions/MODEL in the state folder; its name is the model's, also where the
    store is a shared one. Raises UsageError, MissingLibrary, SourceError (a shared store cannot be reached).
    """
    kind = _kind(table)
    if kind == EMBEDDED:
        return EmbeddedReader(folder)
    return cast(StoreReader, library(f"bimodal.predictions.{kind}").open_reader(table.url, Path(folder).name))


def open_writer(
    table: StoreTable,
    folder: str | os.PathLike[str],
    *,
    job: str,
    run: str,
    model: str,
    digest: str,
    kind: str,
    outputs: Sequence[str],
    fingerprints: bool = True,
    due: float | None = None,
) -> StoreWriter:
    """A new edition of that store. kind: of its keys, "int" or "text". outputs: names of what is stored of each key, as
    the model has them (`prediction`, `probability`). Its version, time and count come with `commit`.
    """
    draft = Edition(0, job, run, model, digest, 0.0, kind, tuple(outputs), fingerprints, 0, due)
    place = _kind(table)
    if place == EMBEDDED:
        return EmbeddedWriter(folder, draft)
    opened = library(f"bimodal.predictions.{place}").open_writer(table.url, Path(folder).name, draft)
    return cast(StoreWriter, opened)


def _kind(table: StoreTable) -> str:
    """Which adapter. The URL may stand elsewhere (env:NAME, file:PATH): then that is looked at."""
    if table.url == EMBEDDED:
        return EMBEDDED
    scheme = referred(table.url).partition("://")[0].lower()
    found = SHARED.get(scheme)
    if found is None:
        near = nearest(scheme, [EMBEDDED, *SHARED])
        hint = f"did you mean {near}?" if near else "it is embedded, postgresql://… or redis://…"
        raise UsageError(f"the address of a prediction store is not understood: {hint}")
    return found
