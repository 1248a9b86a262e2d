"""Comparing: the same rows through two models, chunk by chunk, in memory that does not grow with the rows."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bimodal.batch.columns import Keep, chosen
from bimodal.batch.progress import Progress
from bimodal.batch.progress import chosen as progress_of
from bimodal.batch.rejects import Reject
from bimodal.batch.sinks.outputs import output_of
from bimodal.batch.sources.contract import Chunk, Source
from bimodal.batch.sources.inputs import Named as Input
from bimodal.batch.sources.inputs import open_input
from bimodal.batch.targets import shown
from bimodal.comparison.changes import SHOWN, ChangedFile, Moves, first_rows, labels_of
from bimodal.comparison.judged import Judged
from bimodal.comparison.result import Comparison, Named, Refused, Row
from bimodal.comparison.sampling import Sample
from bimodal.comparison.segments import Segments
from bimodal.comparison.shift import Moving
from bimodal.comparison.side import Said, Side, check_renames
from bimodal.dialect import Overrides, said_of_header
from bimodal.errors import BooksDoNotBalance, SourceError, UsageError
from bimodal.field import listed, nearest
from bimodal.local import see_local
from bimodal.model import Model, load

TOLERANCE = 1e-9  # of a number's size: what another runtime, or another order of additions, may move it by
REASONS = 20  # of refusals that are told
UnderWay = tuple[Chunk, "Future[Said]", "Future[Said]"]


def compare(
    old: Any,
    new: Any,
    data: Input,
    *,
    by: str | None = None,
    target: str | None = None,
    threshold: float | None = None,
    outputs: Sequence[str] | None = None,
    proba: bool = False,
    features: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    rows: int | None = None,
    tolerance: float = TOLERANCE,
    output: str | os.PathLike[str] | None = None,
    keep: Keep = "all",
    overwrite: bool = False,
    na: Sequence[str] | None = None,
    query: str | None = None,
    code: str | Path | Sequence[str | Path] = (),
    trust: str | Sequence[str] = (),
    runtime: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    header: str | None = None,
    progress: str | Progress | None = None,
) -> Comparison:
    """Predict the same rows with two models, and tell what changes.

    old, new: paths or Models; their features may differ, if the data has the columns of both. data: as of
    `predict_file`. by: a column; the changed rows are counted by its values. target: a column with the right answers;
    both models are measured against it. outputs: whose numbers are compared beside the prediction (probabilities, else
    scores). rows: at most so many, spread evenly where the source knows how many it has, else the first ones.
    tolerance: by how much of its size a predicted number may move without counting as changed. output: a file for all
    changed rows, with the columns that `keep` names, both predictions, and with proba the numbers compared. The others
    are those of `predict_file`.

    Raises what `predict_file` raises, and UsageError for models that cannot be compared.
    """
    if output is not None:
        see_local(os.fspath(output), "what -o names", "compare writes files only, as in -o changed.csv")
    with contextlib.ExitStack() as stack:
        models = [
            each
            if isinstance(each, Model)
            else stack.enter_context(load(each, code=code, trust=trust, runtime=runtime, background=False))
            for each in (old, new)
        ]
        check_renames(rename or {}, [each.signature for each in models])
        if rows is not None and rows < 1:
            raise UsageError(f"--rows {rows}: one at least")
        overrides = Overrides(separator, decimal, encoding, said_of_header(header))
        source = stack.enter_context(contextlib.closing(open_input(data, overrides, query=query)))
        carried = chosen(keep, source.columns, ()) if output is not None else ()
        kept = tuple(dict.fromkeys([*_columns(source, by, target), *carried]))
        options: dict[str, Any] = {"threshold": threshold, "features": features, "target": target, "missing": na}
        sides = [Side(each, source, kept, outputs=outputs, rename=rename or {}, **options) for each in models]
        again: Source | None = None
        if _reading(sides[0]) != _reading(sides[1]):
            if source.live:
                raise UsageError("the models read different columns, so the input is read twice: give a file")
            again = stack.enter_context(contextlib.closing(open_input(data, overrides, query=query)))
        run = _Comparing(sides[0], sides[1], by=by, target=target, tolerance=tolerance, mark=source.decimal)
        stack.callback(run.close)
        if output is not None:
            run.write_to(output, source, carried, proba=proba, overwrite=overwrite)
        told = stack.enter_context(_shown(progress_of(progress, data_on_stdout=True), source))
        for note in (*source.notes, *sides[0].columns.notes):
            told.note(note)
        run.go(source, again, Sample(rows, source.total_rows if source.counted else None), told)
        return run.told()


def _columns(source: Source, by: str | None, target: str | None) -> list[str]:
    """The columns that the comparison itself needs."""
    for flag, name in (("--by", by), ("--target", target)):
        if name is not None and name not in source.columns:
            near = nearest(name, source.columns)
            hint = f"did you mean {near!r}?" if near else f"the columns are {listed(source.columns)}"
            raise UsageError(f"{flag}: the input has no column {name!r}; {hint}")
    return [name for name in (by, target) if name is not None]


def _reading(side: Side) -> list[tuple[str, Any]]:
    """What is read for a model, in order."""
    return list(side.columns.reading.features.items())


@contextlib.contextmanager
def _shown(progress: Progress, source: Source) -> Iterator[Progress]:
    progress.begin(source.total_rows, source.total_bytes)
    try:
        yield progress
    finally:
        progress.end(None)


class _Comparing:
    """One comparison while it goes on."""

    def __init__(
        self, old: Side, new: Side, *, by: str | None, target: str | None, tolerance: float, mark: str
    ) -> None:
        self.old, self.new, self._by, self._tolerance = old, new, by, tolerance
        self._clock = time.monotonic()
        self._predictions = _predictions(old, new)
        self._labels = old.kind == "labels"
        self._moves, self._segments = Moves(), Segments(mark)
        self._numbers = _numbers(old, new)
        self._moving = [Moving(name) for name in self._numbers]
        self._judged = Judged(target, old, new, mark) if target is not None else None
        self._file: ChangedFile | None = None
        self._wide = False
        self._carried: tuple[str, ...] = ()
        self._read = self._compared = self._changed = 0
        self._refused = Counter[tuple[str, str, str | None, str]]()
        self._first: list[Row] = []

    def write_to(
        self, named: str | os.PathLike[str], source: Source, carried: Sequence[str], *, proba: bool, overwrite: bool
    ) -> None:
        """Write the changed rows to this file."""
        output = output_of(named)
        if output.path is None or output.device:
            raise UsageError("--output: the changed rows go to a file with a name")
        if source.reads(output.path):
            raise UsageError(f"{output.path} is the input itself; name another output")
        self._carried, self._wide = tuple(carried), proba
        results = [
            pa.field(f"{word}_{each.name}", each.type) for word, side in self._named() for each in self._told(side)
        ]
        kept = source.kept_schema(self._carried)
        both = [each.name for each in results if each.name in kept.names]
        if both:
            raise UsageError(f"the input has a column {both[0]!r} too; leave it out with --keep")
        self._file = ChangedFile(output, pa.schema([*kept, *results]), overwrite=overwrite)

    def _named(self) -> tuple[tuple[str, Side], tuple[str, Side]]:
        return ("old", self.old), ("new", self.new)

    def _told(self, side: Side) -> list[pa.Field]:
        """The columns of a model that are written."""
        more = [name for name in side.compared if self._wide and name != "prediction"]
        names = [place for output in ("prediction", *more) if output in side.outputs for place in side.places(output)]
        return [side.schema.field(name) for name in names or self._numbers]

    # -- going through -----------------------------------------------------------------------------------------------

    def go(self, source: Source, again: Source | None, sample: Sample, progress: Progress) -> None:
        """Read, predict with both at once, compare; the next chunk is read meanwhile."""
        with ThreadPoolExecutor(2, thread_name_prefix="bimodal-compare") as pool:
            under_way: UnderWay | None = None
            for one, other in self._chunks(source, again, sample):
                started = one, pool.submit(self.old.say, one), pool.submit(self.new.say, other)
                if under_way is not None:
                    self._finish(under_way, progress)
                under_way = started
            if under_way is not None:
                self._finish(under_way, progress)
        if self._file is not None:
            self._file.publish()

    def _chunks(self, source: Source, again: Source | None, sample: Sample) -> Iterator[tuple[Chunk, Chunk]]:
        start = 0
        first = source.chunks(self.old.columns.reading)
        second = again.chunks(self.new.columns.reading) if again is not None else None
        for chunk in first:
            other = chunk if second is None else next(second, None)
            if other is None or (other.number, other.first_row, other.count) != (
                chunk.number,
                chunk.first_row,
                chunk.count,
            ):
                raise SourceError(f"{source.name} changed while it was read")
            if sample.whole(start):
                return
            yield sample.of(chunk, start), sample.of(other, start)
            start += chunk.count

    def _finish(self, under_way: UnderWay, progress: Progress) -> None:
        chunk, old, new = under_way
        self._take(chunk, old.result(), new.result())
        progress.update(self._read, sum(self._refused.values()), chunk.bytes_done)

    def _take(self, chunk: Chunk, old: Said, new: Said) -> None:
        rows, ones, others = np.intersect1d(old.rows, new.rows, assume_unique=True, return_indices=True)
        refused = self._refuse(old.rejects, new.rejects)
        self._read += chunk.count
        self._compared += len(rows)
        if len(rows) + refused != chunk.count:
            raise BooksDoNotBalance(
                f"of {chunk.count} rows of {chunk.source}, {len(rows)} were compared and {refused} refused; please "
                "report this"
            )
        old, new = old.at(ones), new.at(others)
        steps = self._move(old, new)
        changed = self._see(chunk.source, old, new)
        if self._by is not None:
            self._segments.add(old.kept.column(self._by), changed, steps)
        if self._judged is not None:
            self._judged.add(old, new)
        if self._file is not None:
            self._write(old, new, changed)

    def _refuse(self, old: Sequence[Reject], new: Sequence[Reject]) -> int:
        """Count the rows that were refused, with the reasons."""
        ones, others = ({each.row: each for each in side} for side in (old, new))
        for row in ones.keys() | others.keys():
            by = "both" if row in ones and row in others else "old" if row in ones else "new"
            told = ones.get(row) or others[row]
            key = by, told.code, told.column, told.reason
            if key not in self._refused and len(self._refused) >= REASONS:
                key = by, told.code, told.column, "other reasons"
            self._refused[key] += 1
        return len(ones.keys() | others.keys())

    def _move(self, old: Said, new: Said) -> NDArray[np.float64] | None:
        """Add to the shifts; the steps of the first number, row by row."""
        steps = None
        for moving in self._moving:
            one, other = (_floats(each.results.column(moving.name)) for each in (old, new))
            moving.add(one, other)
            steps = other - one if steps is None else steps
        return steps

    def _see(self, source: str, old: Said, new: Said) -> NDArray[np.bool_]:
        """Which rows changed."""
        names = self._predictions or self._numbers
        if self._labels:
            changed = self._moves.add(labels_of(old.results, names), labels_of(new.results, names))
        else:
            changed = np.zeros(len(old.rows), bool)
            for name in names:
                before, after = (_floats(each.results.column(name)) for each in (old, new))
                changed |= _moved(before, after, self._tolerance)
        self._changed += int(changed.sum())
        room = SHOWN - len(self._first)
        if room > 0:
            one, other = (each.results.select(list(names)) for each in (old, new))
            self._first += first_rows(old.rows, source, changed, one, other, room)
        return changed

    def _write(self, old: Said, new: Said, changed: NDArray[np.bool_]) -> None:
        assert self._file is not None, "asked for"
        columns = [old.kept.column(name) for name in self._carried]
        for (_, side), said in zip(self._named(), (old, new), strict=True):
            columns += [said.results.column(each.name) for each in self._told(side)]
        table = pa.table(columns, names=self._file.names)
        self._file.add(table.filter(pa.array(changed)))

    def close(self) -> None:
        for each in self._moving:
            each.close()
        if self._judged is not None:
            self._judged.close()
        if self._file is not None:
            self._file.abort()

    # -- telling -----------------------------------------------------------------------------------------------------

    def told(self) -> Comparison:
        refused = (Refused(*key, count) for key, count in self._refused.most_common())
        return Comparison(
            old=_name(self.old),
            new=_name(self.new),
            kind="labels" if self._labels else "numbers",
            rows=self._read,
            compared=self._compared,
            changed=self._changed,
            tolerance=0.0 if self._labels else self._tolerance,
            refused=tuple(refused),
            moves=self._moves.told(),
            shifts=tuple(each.told() for each in self._moving),
            quality=self._judged.told() if self._judged is not None else None,
            by=self._by,
            segments=self._segments.told(),
            first=tuple(self._first),
            output=self._file.name if self._file is not None else None,
            seconds=round(time.monotonic() - self._clock, 3),
            notes=tuple(self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        old, new = self.old.signature.classes, self.new.signature.classes
        if old is not None and new is not None and old != new:
            ones, others = ({shown(each) for each in classes} for classes in (old, new))
            if ones != others:
                apart = (("old", ones - others), ("new", others - ones))
                told = [f"only the {word} one has {listed(sorted(names))}" for word, names in apart if names]
                yield f"the models have different classes: {'; '.join(told)}"
            else:
                yield "the models have the same classes in another order or of another type; they are compared as text"
        if self._labels and not self._numbers:
            yield "no shift of scores: the models have no probability or score in common"


def _name(side: Side) -> Named:
    model = side.model
    return Named(model.name, model.version, model.digest, model.runtime.name)


def _predictions(old: Side, new: Side) -> tuple[str, ...]:
    """The flat columns of the prediction, which both must have."""
    if old.kind != new.kind:
        raise UsageError(
            f"the old model predicts {old.kind}, the new one {new.kind}: their predictions cannot be compared"
        )
    ones, others = (each.places("prediction") if "prediction" in each.outputs else () for each in (old, new))
    if ones != others:
        raise UsageError(f"the old model predicts {len(ones)} values a row, the new one {len(others)}")
    if not ones and not _numbers(old, new):
        raise UsageError("the models have no output in common")
    return ones


def _numbers(old: Side, new: Side) -> tuple[str, ...]:
    """The flat columns whose numbers are compared: those of both. Of two probabilities one tells all."""
    names = [name for output in old.compared if output in new.compared for name in _numeric(old, output)]
    others = {name for output in new.compared for name in _numeric(new, output)}
    found = [name for name in names if name in others]
    if old.kind == "numbers":
        found = [*(name for name in _numeric(old, "prediction") if name in _numeric(new, "prediction")), *found]
    pair = [f"probability_{each}" for each in old.signature.classes or ()]
    if len(pair) == 2 and all(name in found for name in pair):
        found.remove(pair[0])
    return tuple(dict.fromkeys(found))


def _numeric(side: Side, output: str) -> list[str]:
    if output not in side.outputs:
        return []
    return [name for name in side.places(output) if _is_number(side.schema.field(name).type)]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values


def _moved(old: NDArray[np.float64], new: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Whether a number moved by more than this part of its size. NaN is like NaN."""
    with np.errstate(invalid="ignore"):
        near: NDArray[np.bool_] = np.abs(new - old) <= tolerance * np.maximum(np.abs(old), np.abs(new))
        near |= (old == new) | (np.isnan(old) & np.isnan(new))
    return ~near
