"""Changes: the rows whose prediction is another one, counted, shown and written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bimodal.batch.sinks.durable import sync_folder, writable
from bimodal.batch.sinks.outputs import Output
from bimodal.batch.targets import shown
from bimodal.comparison.result import Move, Row
from bimodal.errors import OutputExists, SinkError, UsageError

SHOWN = 20  # changed rows that are kept for showing
MOST = 10_000  # pairs of labels that are counted apart
OTHERS = "(others)"


def labels_of(results: pa.Table, names: Sequence[str]) -> tuple[NDArray[np.intp], list[str]]:
    """The prediction of each row as the place of its text; several targets are one text."""
    coded = [_coded(results.column(name)) for name in names]
    if len(coded) == 1:
        return coded[0]
    told = [", ".join(each[codes[row]] for codes, each in coded) for row in range(results.num_rows)]
    known: dict[str, int] = {}
    places = np.array([known.setdefault(each, len(known)) for each in told], np.intp)
    return places, list(known)


def _coded(column: pa.ChunkedArray) -> tuple[NDArray[np.intp], list[str]]:
    encoded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return np.asarray(encoded.indices).astype(np.intp), [shown(value) for value in encoded.dictionary.to_pylist()]


class Moves:
    """Counts from which label to which the rows went."""

    def __init__(self) -> None:
        self._pairs = Counter[tuple[str, str]]()

    def add(
        self, old: tuple[NDArray[np.intp], list[str]], new: tuple[NDArray[np.intp], list[str]]
    ) -> NDArray[np.bool_]:
        """Which rows changed."""
        names = {name: place for place, name in enumerate(dict.fromkeys([*old[1], *new[1]]))}
        ones, others = (np.array([names[name] for name in each[1]], np.intp)[each[0]] for each in (old, new))
        told = list(names)
        met, counts = np.unique(ones * len(told) + others, return_counts=True)
        for code, count in zip(met.tolist(), counts.tolist(), strict=True):
            pair = told[code // len(told)], told[code % len(told)]
            if pair not in self._pairs and len(self._pairs) >= MOST:
                pair = (OTHERS, OTHERS)
            self._pairs[pair] += count
        changed: NDArray[np.bool_] = ones != others
        return changed

    def told(self) -> tuple[Move, ...]:
        found = (Move(old, new, count) for (old, new), count in self._pairs.items())
        return tuple(sorted(found, key=lambda each: (-each.rows, each.old, each.new)))


def first_rows(
    rows: NDArray[np.int64], source: str, changed: NDArray[np.bool_], old: pa.Table, new: pa.Table, many: int
) -> list[Row]:
    """At most so many of the changed rows. old, new: the flat columns of the prediction."""
    places = np.flatnonzero(changed)[:many]
    index = pa.array(places)
    pairs = zip(rows[places].tolist(), _values(old.take(index)), _values(new.take(index)), strict=True)
    return [Row(row, source, one, other) for row, one, other in pairs]


def _values(table: pa.Table) -> list[Any]:
    rows = [list(each.values()) for each in table.to_pylist()]
    return [each[0] if len(each) == 1 else each for each in rows]


class ChangedFile:
    """All changed rows in a file: the columns that are carried, then what either model says. It appears whole."""

    def __init__(self, output: Output, schema: pa.Schema, *, overwrite: bool) -> None:
        assert output.path is not None, "the changed rows go to a file"
        self.path: Path = output.path
        self.name = str(self.path)
        if self.path.exists() and not overwrite:
            raise OutputExists(f"{self.path} is there already; --overwrite replaces it")
        if not self.path.parent.is_dir():
            raise SinkError(f"{self.path} cannot be written: there is no folder {self.path.parent}")
        if output.folder:
            raise UsageError(f"{self.path} is a folder; the changed rows go to one file")
        self.names = list(schema.names)
        self._schema, self._encoder = schema, output.encoder()
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        self._notes: list[tuple[int, Any]] = []
        self._size = 0
        with writable(self.name):
            self._file: BinaryIO = open(self._temporary, "xb", buffering=1 << 20)  # noqa: SIM115 - closed at the end
        self._write(self._encoder.begin(schema, {}))

    def add(self, table: pa.Table) -> None:
        """Rows of the schema, some more or none."""
        if not table.num_rows:
            return
        encoded = self._encoder.encode(table.cast(self._schema))
        self._notes.append((self._size, encoded.note))
        self._write(encoded.data)

    def publish(self) -> None:
        self._write(self._encoder.tail(iter(self._notes)))
        with writable(self.name):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self.path)
            sync_folder(self.path.parent)

    def abort(self) -> None:
        """Leave nothing; after `publish` without effect."""
        with contextlib.suppress(OSError):  # what is still in the buffer may not fit on the disk; it is not wanted
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, data: bytes | memoryview) -> None:
        with writable(self.name):
            self._size += self._file.write(data)
