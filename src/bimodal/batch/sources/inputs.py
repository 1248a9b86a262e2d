"""What the user named as input, opened: files here or in an object store, a database, refused rows, or `-`."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from functools import partial

from bimodal.batch.databases.address import is_address
from bimodal.batch.sources.arrow import ArrowSource
from bimodal.batch.sources.contract import Source
from bimodal.batch.sources.csv import CsvSource
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.find import Named, find, kind_of
from bimodal.batch.sources.hive import Constant, Partitioned, partitions
from bimodal.batch.sources.jsonl import JsonlSource
from bimodal.batch.sources.magic import ENDINGS, format_of
from bimodal.batch.sources.parquet import ParquetSource
from bimodal.batch.sources.rejects import RejectsSource, is_rejects
from bimodal.batch.sources.series import Files
from bimodal.batch.sources.stream import StandardInput
from bimodal.dialect import Overrides
from bimodal.errors import SourceError, UsageError
from bimodal.formats.library import library

STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0")

__all__ = ["Named", "open_input"]


def open_input(named: Named, overrides: Overrides | None = None, *, query: str | None = None) -> Source:
    """The source behind the name; several files are one source, in the plain order of their names.

    query: what to read of a database, instead of a table.
    """
    if isinstance(named, str) and is_address(named):
        source: Source = library("bimodal.batch.databases.opening").open_source(named, query)
        return source
    if isinstance(named, list | tuple) and any(is_address(os.fspath(each)) for each in named):
        raise UsageError("a database's table is the only input of its run; name one table, or write a --query")
    if query is not None:
        raise UsageError("--query reads from a database; the input is none")
    see_input(named)
    each = [named] if isinstance(named, str | os.PathLike) else named
    piped = [os.fspath(one) for one in each if isinstance(one, str | os.PathLike) and is_pipe(os.fspath(one))]
    if piped and len(each) > 1:
        raise UsageError(f"{piped[0]} is the only input of its run; for several: cat A B | bimodal predict MODEL -")
    if piped:
        return _piped(None if piped[0] in STANDARD_INPUT else piped[0], overrides)
    files = find(named)
    told = partitions(files)
    for file in files:
        kind_of(file.name)
    opened = partial(_open, overrides, {id(file): values for file, values in zip(files, told, strict=True)})
    return opened(files[0]) if len(files) == 1 else Files(files, opened)


def see_input(named: object) -> None:
    """Raise UsageError for what names no input."""
    if hasattr(named, "columns") or hasattr(named, "schema"):
        raise UsageError("predict_file takes the path of a file; for tables in memory there is model.predict(table)")
    if not isinstance(named, str | os.PathLike | Sequence):
        raise UsageError(f"an input is the path of a file, or a list of paths, not {type(named).__name__}")
    if not isinstance(named, str | os.PathLike) and not all(isinstance(each, str | os.PathLike) for each in named):
        raise UsageError("an input is the path of a file, or a list of paths; what was given holds something else")


def is_pipe(text: str) -> bool:
    """Whether rows come through it once, in order: standard input, or a pipe that has a name."""
    return text in STANDARD_INPUT or (os.path.exists(text) and stat.S_ISFIFO(os.stat(text).st_mode))


def _piped(pipe: str | None, overrides: Overrides | None) -> Source:
    stdin = StandardInput(pipe)
    head = b""
    while not head.lstrip():
        piece = stdin.read()
        if not piece:
            break
        head += piece
    found = format_of(head)
    if found is not None:
        remedy = "give this as a file" if found in ENDINGS else "this is neither"
        raise SourceError(f"{stdin.name} looks like {found}; it takes CSV or JSON Lines: {remedy}")
    if head.lstrip()[:1] == b"{":
        return JsonlSource(None, head=head, stdin=stdin)
    return CsvSource(None, overrides, head=head, stdin=stdin)


def _open(overrides: Overrides | None, told: Mapping[int, Mapping[str, Constant]], file: InputFile) -> Source:
    """A file's source, with the columns that its folders tell."""
    source = _plain(file, overrides)
    constants = told[id(file)]
    return Partitioned(source, constants) if constants else source


def _plain(file: InputFile, overrides: Overrides | None) -> Source:
    kind, _ = kind_of(file.name)
    if kind == "csv":
        return CsvSource(file, overrides)
    if kind == "jsonl":
        return RejectsSource(file) if is_rejects(file) else JsonlSource(file)
    return ParquetSource(file) if kind == "parquet" else ArrowSource(file)
