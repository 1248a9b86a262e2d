"""What the user named as output: its format by its name, its place."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from bimodal.batch.sinks.arrow import ArrowEncoder
from bimodal.batch.sinks.contract import Encoder, Sink
from bimodal.batch.sinks.csv import CsvEncoder
from bimodal.batch.sinks.folder import FolderSink
from bimodal.batch.sinks.jsonl import JsonlEncoder
from bimodal.batch.sinks.parquet import ParquetEncoder
from bimodal.batch.sinks.single import FileSink
from bimodal.batch.sinks.standard import StandardOutput
from bimodal.errors import UsageError

KINDS = {
    ".csv": "csv", ".tsv": "tsv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".arrows": "arrows",
}  # fmt: skip
CODECS = {".gz": "gzip", ".zst": "zstd"}
STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1")


@dataclass(frozen=True)
class Output:
    """A named output. path: None for standard output. kind: the format. codec: the compression. folder: it is a folder
    of files.
    """

    path: Path | None
    kind: str
    codec: str | None = None
    folder: bool = False

    @property
    def described(self) -> str:
        """The part of it that decides the bytes."""
        return (f"{self.kind}.{self.codec}" if self.codec else self.kind) + ("/" if self.folder else "")

    @property
    def device(self) -> bool:
        """A pipe or device, such as /dev/null: it is there, and nothing can be renamed to it."""
        if self.path is None or not self.path.exists():
            return False
        return not (stat.S_ISREG(self.path.stat().st_mode) or self.path.is_dir())

    def beside(self, ending: str) -> Path:
        """A file beside the output."""
        assert self.path is not None, "standard output has nothing beside it"
        return self.path.with_name(self.path.name + ending)

    def sink(self, *, overwrite: bool) -> Sink:
        """The place, for a run."""
        encoder = self.encoder()
        if self.path is None or self.device:
            return StandardOutput(encoder, self.path)
        if self.folder:
            ending = "".join(name for name, codec in CODECS.items() if codec == self.codec)
            return FolderSink(self.path, encoder, f".{self.kind}{ending}", overwrite=overwrite)
        return FileSink(self.path, encoder, overwrite=overwrite)

    def encoder(self) -> Encoder:
        if self.kind in ("csv", "tsv"):
            return CsvEncoder("\t" if self.kind == "tsv" else ",", self.codec)
        if self.kind == "jsonl":
            return JsonlEncoder(self.codec)
        return ParquetEncoder() if self.kind == "parquet" else ArrowEncoder(stream=self.kind == "arrows")


def output_of(named: str | os.PathLike[str], *, like: str = "csv") -> Output:
    """The output of that name, or UsageError with what is understood. like: the format of the input; standard output
    and folders whose name tells none have it too.

    A name with a slash at its end is a folder, as is a folder that is there.
    """
    if named in STANDARD_OUTPUT:
        return Output(None, like if like == "jsonl" else "csv")
    path = Path(named)
    if path.name in ("", ".."):
        raise UsageError(f"{os.fspath(named)!r} names no output; give it a name of its own: scored.csv, or scored/")
    if path.is_symlink() and not Output(path, "csv").device:  # the file behind the link is replaced
        path = Path(os.path.realpath(path))
    folder = os.fspath(named).endswith(("/", os.sep)) or path.is_dir()
    codec = CODECS.get(path.suffix.lower())
    kind = KINDS.get((path.with_suffix("") if codec else path).suffix.lower())
    if kind is None and Output(path, "csv").device:
        return Output(path, "csv")
    if kind is None and folder:
        return Output(path, like if like in KINDS.values() else "parquet", None, folder)
    if kind is None:
        known = ", ".join(KINDS)
        raise UsageError(
            f"{path}: the name tells no format that can be written ({known}; text also with .gz or .zst); a folder of "
            f"files is {path}/"
        )
    if codec and kind not in ("csv", "tsv", "jsonl"):
        raise UsageError(f"{path}: {kind} is not written with {path.suffix}; it is compressed inside already")
    return Output(path, kind, codec, folder)
