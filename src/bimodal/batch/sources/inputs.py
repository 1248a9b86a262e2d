"""What the user named as input, found and opened: a file, a pattern, a folder, a list of them, or `-`."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from bimodal.batch.sources.arrow import ArrowSource
from bimodal.batch.sources.contract import Chunk, Reading, Source
from bimodal.batch.sources.csv import CsvSource
from bimodal.batch.sources.files import LocalFile
from bimodal.batch.sources.jsonl import JsonlSource
from bimodal.batch.sources.parquet import ParquetSource
from bimodal.batch.sources.stream import COMPRESSIONS, StandardInput, readable
from bimodal.dialect import Overrides
from bimodal.errors import SourceError, UsageError
from bimodal.field import listed, nearest

KINDS = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".arrows": "arrow",
}  # fmt: skip
MAGIC = {
    b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "an Arrow stream", b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "a zip archive or an Excel file",
}  # fmt: skip
COMPRESSIBLE = ("csv", "jsonl")
Named = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def open_input(named: Named, overrides: Overrides | None = None) -> Source:
    """The source behind the name; several files are one source, in the order of their names."""
    if isinstance(named, str) and named == "-":
        return _standard_input(overrides)
    if hasattr(named, "columns") or hasattr(named, "schema"):
        raise UsageError("predict_file takes the path of a file; for tables in memory there is model.predict(table)")
    paths = find(named)
    sources = [_open(path, overrides) for path in paths]
    return sources[0] if len(sources) == 1 else Files(sources)


def _standard_input(overrides: Overrides | None) -> Source:
    stdin = StandardInput()
    head = b""
    while not head.lstrip():
        piece = stdin.read()
        if not piece:
            break
        head += piece
    for magic, format_ in MAGIC.items():
        if head.startswith(magic):
            raise SourceError(f"standard input looks like {format_}; it takes CSV or JSON Lines: give this as a file")
    if head.lstrip()[:1] == b"{":
        return JsonlSource(None, head=head, stdin=stdin)
    return CsvSource(None, overrides, head=head, stdin=stdin)


def kind_of(path: Path) -> tuple[str, str | None]:
    """The format and the compression that a file's name tells, or a SourceError with the names that are understood."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    plain = path.with_suffix("") if compression else path
    kind = KINDS.get(plain.suffix.lower())
    if kind is None or (compression and kind not in COMPRESSIBLE):
        known = ", ".join(dict.fromkeys(KINDS))
        raise SourceError(
            f"{path.name}: the name tells no format that is understood ({known}; text also with .gz or .zst)"
        )
    return kind, compression


def _open(path: Path, overrides: Overrides | None) -> Source:
    kind, _ = kind_of(path)
    if kind == "csv":
        return CsvSource(LocalFile(path), overrides)
    if kind == "jsonl":
        return JsonlSource(LocalFile(path))
    return ParquetSource(LocalFile(path)) if kind == "parquet" else ArrowSource(LocalFile(path))


def find(named: Named) -> list[Path]:
    """The files, in order; a SourceError where there is none."""
    if not isinstance(named, str | os.PathLike):
        found = [path for each in named for path in find(each)]
        if not found:
            raise SourceError("no input was named")
        return found
    path = Path(named)
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return [path]
    text = os.fspath(named)
    if glob.has_magic(text):
        matching = sorted(Path(each) for each in glob.glob(text, recursive=True) if not os.path.isdir(each))
        if not matching:
            raise SourceError(f"no file matches {text}{_nearby(path)}")
        return matching
    raise SourceError(f"{text} does not exist{_nearby(path)}")


def _in_folder(folder: Path) -> list[Path]:
    """The data files of a folder: those of the one format that is in it."""
    with readable(str(folder)):
        files = sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith((".", "_")))
    data = [each for each in files if _is_data(each)]
    if not data:
        raise SourceError(f"{folder} holds no file that is understood ({', '.join(KINDS)})")
    kinds = sorted({kind_of(each)[0] for each in data})
    if len(kinds) > 1:
        raise SourceError(
            f"{folder} holds files of several formats ({', '.join(kinds)}); name those you mean, as in '{folder}/*.csv'"
        )
    return data


def _is_data(path: Path) -> bool:
    if path.name.endswith(".rejects.jsonl"):
        return False
    try:
        kind_of(path)
    except SourceError:
        return False
    return True


def _nearby(path: Path) -> str:
    """The files that may have been meant."""
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}"
    names = sorted(each.name for each in folder.iterdir() if each.is_dir() or _is_data(each))
    near = nearest(path.name, names)
    if near:
        return f"; did you mean {folder / near}?"
    data = [name for name in names if _is_data(folder / name)]
    return f"; in that folder are {listed(data, 5)}" if data else ""


class Files(Source):
    """Several files of one format and the same columns, one after another."""

    def __init__(self, sources: Sequence[Source]) -> None:
        first = sources[0]
        for each in sources[1:]:
            _same(first, each)
        self._sources = list(sources)
        self.name = f"{len(sources)} files"
        self.kind, self.columns, self.index = first.kind, first.columns, first.index
        self.total_bytes = sum(each.total_bytes or 0 for each in sources)
        rows = [each.total_rows for each in sources]
        self.total_rows = sum(count for count in rows if count is not None) if None not in rows else None
        self.notes = tuple(note for each in sources for note in each.notes)

    def fingerprint(self) -> str:
        return hashlib.sha256(" ".join(each.fingerprint() for each in self._sources).encode()).hexdigest()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        schema = self._sources[0].kept_schema(names)
        for each in self._sources[1:]:
            other = each.kept_schema(names)
            for mine, theirs in zip(schema, other, strict=True):
                if mine.type != theirs.type:
                    first = self._sources[0].name
                    raise SourceError(
                        f"{each.name}: column {mine.name!r} is {theirs.type}, in {first} it is {mine.type}"
                    )
        return schema

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        number, done = 0, 0
        for each in self._sources:
            for chunk in each.chunks(reading):
                yield replace(chunk, number=number, bytes_done=done + chunk.bytes_done)
                number += 1
            done += each.total_bytes or 0

    def reads(self, path: Path) -> bool:
        return any(each.reads(path) for each in self._sources)

    def close(self) -> None:
        for each in self._sources:
            each.close()


def _same(first: Source, other: Source) -> None:
    if other.kind != first.kind:
        raise SourceError(
            f"{other.name} is {other.kind}, {first.name} is {first.kind}; one run reads files of one format"
        )
    if other.columns == first.columns:
        return
    missing = [name for name in first.columns if name not in other.columns]
    extra = [name for name in other.columns if name not in first.columns]
    if missing:
        what = f"has no column {missing[0]!r}"
    elif extra:
        what = f"has a column {extra[0]!r} more"
    else:
        what = "has its columns in another order"
    raise SourceError(
        f"{other.name} {what} than {first.name}"
        if extra and not missing
        else f"{other.name} {what}, unlike {first.name}"
    )
