"""The run: read, judge, predict, write, in order and side by side, and publish only what is whole."""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bimodal.batch import preview
from bimodal.batch.columns import Columns, Keep
from bimodal.batch.crew import MOST, Crew, processors
from bimodal.batch.memory import Peak
from bimodal.batch.plan import Plan
from bimodal.batch.progress import Progress, chosen
from bimodal.batch.rejects import Allowed, Reject, Rejects, read_first
from bimodal.batch.report import Record, Report, Stages, record, rows
from bimodal.batch.scoring import Scored, Scorer
from bimodal.batch.sinks.contract import OldSink
from bimodal.batch.sinks.file import FileSink, move, write_whole
from bimodal.batch.sinks.outputs import Output, output_of
from bimodal.batch.sources.contract import CHUNK_ROWS, MISSING, Chunk, Source
from bimodal.batch.sources.inputs import Named, open_input
from bimodal.dialect import Overrides
from bimodal.errors import BooksDoNotBalance, OutputExists, SinkError, TooManyRejects, UsageError
from bimodal.model import Model, load
from bimodal.settings import size
from bimodal.table import flat_schema

LARGE = 4 * CHUNK_ROWS  # rows from which on more processes are worth their start
LARGE_BYTES = 16 << 20
PROOF = 4  # as many times as large: from there on a run waits for the proof of a compiled form
TRIED = 1000  # rows that a dry run predicts


@dataclass(frozen=True)
class Options:
    """The options of `predict_file` that several steps need."""

    keep: Keep = "auto"
    outputs: tuple[str, ...] = ("prediction",)
    threshold: float | None = None
    features: Sequence[str] | None = None
    rename: Mapping[str, str] | None = None
    target: str | None = None
    missing: tuple[str, ...] | None = None
    overwrite: bool = False
    allowed: Allowed = field(default_factory=Allowed)
    workers: int | None = None
    memory: int | None = None


def predict_file(
    model: Any,
    input: Named,  # noqa: A002 - the name that the option has everywhere
    output: str | os.PathLike[str] | None = None,
    *,
    keep: Keep = "auto",
    proba: bool = False,
    outputs: Sequence[str] | None = None,
    threshold: float | None = None,
    features: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    target: str | None = None,
    overwrite: bool = False,
    max_rejects: int | str | None = 0,
    na: Sequence[str] | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    code: str | Path | Sequence[str | Path] = (),
    sample: Any = None,
    runtime: str | None = None,
    allow_drift: bool = False,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    dry_run: bool = False,
    progress: str | Progress | None = None,
) -> Report:
    """Predict every row of a data set and save the result.

    model: a path or a Model. input: a file, a pattern, a folder, a list of them, or "-" for standard input. output: a
    file, or "-" for standard output; without one, the first rows are shown on a terminal, all as CSV in a pipe.
    keep: the columns that are carried: "auto" (those that are no features), "all", "none", or names. proba: the
    probability of each class too. features, rename, target: which column is which feature, and which is none.
    max_rejects: with how many refused rows the result is still published, a number or a share ("1%").
    na: what stands for a missing value in the features of a CSV file. workers: processes that predict (measured).
    memory: a ceiling in bytes, or like "2GB", on all processes of the run. runtime: as of `load`; auto takes the proven
    runtime that is fastest in bulk, and lets a run of a million rows wait for the proof where there is none yet.
    allow_drift: as of `load`. separator, decimal, encoding: how a CSV file is written (recognised). dry_run: try a few
    rows, write nothing. progress: "auto", "json", "quiet", or a Progress.

    Raises SourceError, InputError (columns do not fit the model), OutputExists, SinkError, TooManyRejects (nothing was
    published; the refused rows are in `OUTPUT.rejects.jsonl`), ModelFailed.
    """
    show_few = output is None and sys.stdout.isatty()
    told = chosen(progress, data_on_stdout=output is None or output == "-")
    with contextlib.ExitStack() as stack:
        if not isinstance(model, Model):
            loading: dict[str, Any] = {"code": code, "sample": sample, "runtime": runtime, "allow_drift": allow_drift}
            model = stack.enter_context(load(model, **loading, background=False))
        source = open_input(input, Overrides(separator, decimal, encoding))
        stack.callback(source.close)
        loaded = model.in_bulk(wait=is_large(source, PROOF))
        options = Options(
            keep=keep,
            outputs=loaded.resolve_outputs(_wanted(outputs, proba, loaded)),
            threshold=threshold,
            features=features,
            rename=rename,
            target=target,
            missing=None if na is None else tuple(na),
            overwrite=overwrite,
            allowed=Allowed.read(max_rejects),
            workers=workers,
            memory=size(memory) if isinstance(memory, str) else memory,
        )
        loaded.check_threshold(threshold)
        place = output_of("-" if output is None else output, like=source.kind)
        run = Run(loaded, source, place, options, told, _named(input), None if output is None else os.fspath(output))
        if dry_run:
            return run.try_out()
        return run.show() if show_few else run.execute()


def _wanted(outputs: Sequence[str] | None, proba: bool, model: Model) -> tuple[str, ...] | None:
    """The outputs asked for; with proba the probabilities too, of a model with several targets those of each."""
    if not proba:
        return None if outputs is None else tuple(outputs)
    names = [each.name for each in model.signature.outputs if each.name.startswith("probability")]
    return tuple(dict.fromkeys([*(outputs or ("prediction",)), *(names or ["probability"])]))


def _named(given: Named) -> tuple[str, ...]:
    return (os.fspath(given),) if isinstance(given, str | os.PathLike) else tuple(os.fspath(each) for each in given)


@dataclass
class Totals:
    """What a run counts."""

    read: int = 0
    predicted: int = 0
    chunks: int = 0
    reading: float = 0.0
    predicting: float = 0.0
    writing: float = 0.0
    columns: tuple[str, ...] = ()


class Run:
    """One execution of a plan."""

    def __init__(
        self,
        model: Model,
        source: Source,
        output: Output,
        options: Options,
        progress: Progress,
        inputs: tuple[str, ...],
        named: str | None,
    ) -> None:
        self.model, self.source, self.output, self.options = model, source, output, options
        self.progress, self._inputs, self._named = progress, inputs, named
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self.columns = Columns.find(
            model.signature,
            source,
            keep=options.keep,
            features=options.features,
            rename=options.rename,
            target=options.target,
            missing=options.missing,
        )
        self.schema = self._expected()
        self.plan = self._plan()
        self.scorer = Scorer(self.columns, options.outputs, options.threshold)
        self._totals, self._peak = Totals(), Peak()
        self._crew = Crew(model)
        self._stop = threading.Event()

    def _expected(self) -> pa.Schema:
        """The columns of the output, before anything is predicted."""
        kept = self.source.kept_schema(self.columns.kept)
        results = flat_schema(self.options.outputs, self.model.signature)
        both = [name for name in results.names if name in kept.names]
        if both:
            raise UsageError(
                f"the input has a column {both[0]!r} too, so the output would have it twice; leave it out: "
                f"--keep {','.join(name for name in kept.names if name not in both) or 'none'}"
            )
        return pa.schema([*kept, *results])

    def _plan(self) -> Plan:
        options = self.options
        return Plan(
            model=self.model.name,
            version=self.model.version,
            digest=self.model.digest,
            runtime=self.model.runtime.name,
            source=self.source.fingerprint(),
            features=self.columns.binding.features,
            kept=self.columns.kept,
            outputs=options.outputs,
            threshold=options.threshold,
            missing=self.columns.reading.missing,
            sink=self.output.described,
        )

    # -- the short twins --------------------------------------------------------------------------------------------

    def show(self) -> Report:
        """Predict the first rows and print them."""
        self._tell_notes()
        scored = self._first(preview.ROWS)
        for reject in scored.rejects if scored else ():
            self.progress.note(f"rejected: {reject}")
        preview.show(scored.table if scored else self.schema.empty_table())
        self.progress.note("these are the first rows; -o FILE predicts all")
        return self._report("preview", scored)

    def try_out(self) -> Report:
        """Say what a run would do, and predict a few rows."""
        self._tell_notes()
        self._refuse_existing()
        if self.output.path is not None and not self.output.device:
            sink = self.output.sink(overwrite=True)
            sink.open()
            sink.abort()
        scored = self._first(TRIED)
        note = self.progress.note
        note(f"the output has the columns {', '.join(self.schema.names)}")
        total = self.source.total_rows
        if scored and scored.chunk.count and total:
            note(f"{rows(total)} in about {scored.seconds / scored.chunk.count * total:.0f} s with one process")
        for reject in scored.rejects if scored else ():
            note(f"would be rejected: {reject}")
        return self._report("dry run", scored)

    def _first(self, count: int) -> Scored | None:
        """The first rows of the first chunk, predicted."""
        for chunk in self.source.chunks(self.columns.reading):
            return self.scorer.score(head(chunk, count), self.model)
        return None

    # -- the run ----------------------------------------------------------------------------------------------------

    def execute(self) -> Report:
        """Predict all and publish."""
        if self.output.path is None or self.output.device:
            return self._stream_out()
        done = self._already() or self._held()
        if done is not None:
            self.progress.end(done)
            return done
        self._refuse_existing()
        sink = self.output.sink(overwrite=self.options.overwrite)
        rejects = Rejects(self.output.beside(".rejects.jsonl"))
        assert isinstance(sink, FileSink), "a place with a name is a file"
        try:
            sink.open()
            self._tell_notes()
            self._all(sink, rejects)
            sink.finish()
            report = self._finished(rejects)
            if not self.options.allowed.accepts(rejects.count, self._totals.read):
                self._hold(sink, rejects, report)
            rejects.keep()
            write_whole(self._record_path, record(report, sink.temporary))
            sink.publish()
        except BaseException:
            sink.abort()
            rejects.abort()
            self.progress.end(None)
            raise
        self.progress.end(report)
        return report

    def _stream_out(self) -> Report:
        """To standard output: what is written is published. A reader that leaves has what it wanted."""
        sink, rejects = self.output.sink(overwrite=True), Rejects(None)
        try:
            sink.open()
            self._tell_notes()
            self._all(sink, rejects)
            sink.finish()
            sink.publish()
        except BrokenPipeError:
            leave_quietly()
            self.progress.end(None)
            return replace(self._report("stopped", None), rejected=rejects.count)
        except BaseException:
            self.progress.end(None)
            raise
        report = self._finished(rejects)
        self.progress.end(report)
        if not self.options.allowed.accepts(rejects.count, self._totals.read):
            raise TooManyRejects(f"{rows(rejects.count)} of {self._totals.read:,} rejected; the others were predicted")
        return report

    def _all(self, sink: OldSink, rejects: Rejects) -> None:
        """Read and predict ahead, write in order."""
        self.progress.begin(self.source.total_rows, self.source.total_bytes)
        workers = self._workers()
        if self.options.memory is None:
            self._crew.grow(workers)
        self._peak.look()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="bimodal-predict")
        ahead: queue.Queue[Future[Scored] | BaseException | None] = queue.Queue(workers)
        reader = threading.Thread(target=self._feed, args=(pool, ahead), name="bimodal-read", daemon=True)
        reader.start()
        schema: pa.Schema | None = None
        try:
            while (future := ahead.get()) is not None:
                if isinstance(future, BaseException):
                    raise future
                schema = self._write(future.result(), sink, schema, rejects)
                if self._totals.chunks == 1 and self.options.memory is not None:
                    self._crew.grow(self._affordable(workers))
            if schema is None:
                sink.begin(self.schema, self.plan.metadata())
        finally:
            self._stop.set()
            self._crew.close()
            pool.shutdown(wait=not self.source.live, cancel_futures=True)
        self._totals.columns = tuple((schema or self.schema).names)
        self._check_books(rejects)

    def _feed(self, pool: ThreadPoolExecutor, ahead: queue.Queue[Future[Scored] | BaseException | None]) -> None:
        """Read chunk after chunk, as far ahead as the queue is long."""
        last: BaseException | None = None
        try:
            started = time.perf_counter()
            for chunk in self.source.chunks(self.columns.reading):
                self._totals.reading += time.perf_counter() - started
                if not self._put(ahead, pool.submit(self._score, chunk)):
                    return
                started = time.perf_counter()
        except BaseException as error:
            last = error
        self._put(ahead, last)

    def _put(self, ahead: queue.Queue[Future[Scored] | BaseException | None], item: Any) -> bool:
        """Wait for a place in the queue; False when the run is over."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                ahead.put(item, timeout=0.2)
                return True
        return False

    def _score(self, chunk: Chunk) -> Scored:
        with self._crew.lent() as model:
            return self.scorer.score(chunk, model)

    def _write(self, scored: Scored, sink: OldSink, schema: pa.Schema | None, rejects: Rejects) -> pa.Schema:
        started = time.perf_counter()
        if schema is None:
            schema = self._settle(scored.table.schema)
            sink.begin(schema, self.plan.metadata())
        table = scored.table if scored.table.schema.equals(schema) else scored.table.cast(schema)
        sink.write(table)
        for reject in scored.rejects:
            rejects.add(reject)
        totals = self._totals
        totals.read += scored.chunk.count
        totals.predicted += table.num_rows
        totals.chunks += 1
        totals.predicting += scored.seconds
        totals.writing += time.perf_counter() - started
        pa.default_memory_pool().release_unused()  # Arrow's allocator holds on to freed pages: 70 MB here, measured
        self._peak.look()
        self.progress.update(totals.read, rejects.count, scored.chunk.bytes_done)
        return schema

    def _settle(self, found: pa.Schema) -> pa.Schema:
        """The output's columns: as the first chunk has them, but for a column of nulls, which tells no type."""
        expected = {each.name: each for each in self.schema}
        return pa.schema(
            [expected.get(each.name, each) if pa.types.is_null(each.type) else each for each in found],
        )

    def _check_books(self, rejects: Rejects) -> None:
        totals, known = self._totals, self.source.total_rows
        if totals.read != totals.predicted + rejects.count or (known is not None and totals.read != known):
            raise BooksDoNotBalance(
                f"{known if known is not None else totals.read} rows were there, {totals.predicted} were predicted and "
                f"{rejects.count} rejected; nothing was published, please report this"
            )

    # -- processes and memory ---------------------------------------------------------------------------------------

    def _workers(self) -> int:
        if self.options.workers is not None:
            if self.options.workers < 1:
                raise UsageError(f"--workers {self.options.workers}: one at least")
            return self.options.workers
        many = is_large(self.source) or (self.source.total_rows is None and self.source.total_bytes is None)
        return min(processors(), MOST) if many and not self.source.live else 1

    def _affordable(self, workers: int) -> int:
        """How many models the memory ceiling allows, judged by what the first one took."""
        ceiling = self.options.memory or 0
        total = self._peak.look(now=True)
        if total > ceiling:
            self.progress.note(f"one process alone holds {total / 1e6:.0f} MB, more than --memory allows")
        each = max(total // 2, 1)  # a clone takes about what this process and the first model do together, by half
        return max(1, min(workers, 1 + max(ceiling - total, 0) // each))

    # -- what is there already --------------------------------------------------------------------------------------

    @property
    def _record_path(self) -> Path:
        return self.output.beside(".run.json")

    @property
    def _held_path(self) -> Path:
        assert self.output.path is not None, "only a file is held back"
        return self.output.path.with_name(f".{self.output.path.name}.held")

    def _refuse_existing(self) -> None:
        path = self.output.path
        if path is not None and self.source.reads(path):
            raise UsageError(f"{path} is the input itself; name another output")
        if path is not None and path.exists() and not self.output.device and not self.options.overwrite:
            if path.is_dir():
                raise SinkError(f"{path} is a folder; name a file in it")
            raise OutputExists(f"{path} is there already; --overwrite replaces it")

    def _already(self) -> Report | None:
        """A report where the output is the result of this very plan."""
        path = self.output.path
        if path is None or not path.exists() or self.options.overwrite or not self.plan.repeatable:
            return None
        known = Record.load(self._record_path)
        if known is None or known.plan != self.plan.key or not known.fits(path):
            return None
        return self._again("already complete", known)

    def _again(self, status: str, known: Record) -> Report:
        told = known.told
        return replace(
            self._report(status, None),
            read=int(told["read"]),
            predicted=int(told["predicted"]),
            rejected=int(told["rejected"]),
            rejects=told["rejects"],
            columns=tuple(told["columns"]),
            chunks=int(told["chunks"]),
        )

    def _hold(self, sink: FileSink, rejects: Rejects, report: Report) -> None:
        """Too many rows were refused: publish nothing, but keep what is predicted for the command that accepts it."""
        rejects.keep()
        if self.plan.repeatable:
            told = record(report, sink.temporary)
            sink.hold(self._held_path)
            write_whole(self._held_record, told)
        else:
            sink.abort()
        raise self._too_many(rejects.count, report.read, rejects.first)

    @property
    def _held_record(self) -> Path:
        return self._held_path.with_name(f"{self._held_path.name}.json")

    def _held(self) -> Report | None:
        """Publish what an earlier run of this plan held back, if it is acceptable now."""
        known = Record.load(self._held_record)
        if known is None:
            return None
        told = self.output.beside(".rejects.jsonl")
        if known.plan != self.plan.key or not known.fits(self._held_path) or not told.exists():
            self._held_path.unlink(missing_ok=True)
            self._held_record.unlink(missing_ok=True)
            return None
        self._refuse_existing()
        report = self._again("complete", known)
        if not self.options.allowed.accepts(report.rejected, report.read):
            raise self._too_many(report.rejected, report.read, read_first(told))
        assert self.output.path is not None, "only a file is held back"
        write_whole(self._record_path, record(report, self._held_path))
        move(self._held_path, self.output.path, overwrite=self.options.overwrite, name=str(self.output.path))
        self._held_record.unlink(missing_ok=True)
        return report

    def _too_many(self, count: int, read: int, first: Sequence[Reject]) -> TooManyRejects:
        shown = "\n".join(f"  {reject}" for reject in first)
        more = f"\n  all are in {self.output.beside('.rejects.jsonl')}"
        return TooManyRejects(
            f"{rows(count)} of {read:,} rejected, nothing was published:\n{shown}{more}\n"
            f"to publish the other {read - count:,}: {self._command(count)}"
        )

    def _command(self, count: int) -> str:
        """The command that accepts the rejects."""
        options = self.options
        words = ["bimodal", "predict", self._model_name(), *self._inputs, "-o", self._named or "-"]
        if options.keep != "auto":
            words += ["--keep", options.keep if isinstance(options.keep, str) else ",".join(options.keep)]
        if options.outputs != self.model.resolve_outputs(None):
            words += ["--outputs", ",".join(options.outputs)]
        if options.threshold is not None:
            words += ["--threshold", str(options.threshold)]
        if options.features is not None:
            words += ["--features", ",".join(options.features)]
        for column, feature in (options.rename or {}).items():
            words += ["--rename", f"{column}={feature}"]
        if options.target is not None:
            words += ["--target", options.target]
        if options.missing is not None:
            words += ["--na", ",".join(options.missing)]
        if options.overwrite:
            words.append("--overwrite")
        return shlex.join([*words, "--max-rejects", str(count)])

    def _model_name(self) -> str:
        """The model as the user named it."""
        return self.model.location.given or self.model.location.source.path

    # -- telling ----------------------------------------------------------------------------------------------------

    def _tell_notes(self) -> None:
        for note in self._notes():
            self.progress.note(note)

    def _notes(self) -> tuple[str, ...]:
        notes = [*self.source.notes, *self.columns.notes]
        if self.source.kind == "csv" and self.columns.reading.missing == MISSING:
            notes.append("missing values in CSV: empty, NA, NaN, null and the others of pandas (--na changes that)")
        return tuple(notes)

    def _finished(self, rejects: Rejects) -> Report:
        self._peak.look(now=True)
        path = str(rejects.path) if rejects.path and rejects.count else None
        if self._crew.problem:
            self.progress.note(self._crew.problem)
        return replace(self._report("complete", None), rejected=rejects.count, rejects=path)

    def _report(self, status: str, scored: Scored | None) -> Report:
        totals = self._totals
        if scored is not None:
            totals.read, totals.predicted, totals.chunks = scored.chunk.count, scored.table.num_rows, 1
            totals.columns = tuple(scored.table.column_names)
        return Report(
            status=status,
            model=self.model.name,
            version=self.model.version,
            digest=self.model.digest,
            runtime=self.model.runtime.name,
            input=self._inputs,
            output=self._named,
            read=totals.read,
            predicted=totals.predicted,
            rejected=totals.read - totals.predicted,
            chunks=totals.chunks,
            columns=totals.columns or tuple(self.schema.names),
            seconds=time.monotonic() - self._clock,
            stages=Stages(round(totals.reading, 3), round(totals.predicting, 3), round(totals.writing, 3)),
            workers=self._crew.size,
            memory=self._peak.bytes,
            bytes=self.source.total_bytes,
            notes=self._notes(),
            started=self._started.isoformat(timespec="seconds"),
            host=socket.gethostname(),
            plan=self.plan.told(),
        )


def is_large(source: Source, times: int = 1) -> bool:
    """Whether the input is known to have LARGE rows, so many times over."""
    known, weight = source.total_rows, source.total_bytes
    if known is not None:
        return known >= times * LARGE
    return weight is not None and weight >= times * LARGE_BYTES


def leave_quietly() -> None:
    """The reader of standard output left, as `head` does: what is still in the buffer has nowhere to go."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def head(chunk: Chunk, count: int) -> Chunk:
    """The chunk's first rows."""
    places = None if chunk.places is None else chunk.places[:count]
    last = chunk.row(min(count, chunk.features.num_rows) - 1) if chunk.features.num_rows else chunk.first_row
    return replace(
        chunk,
        features=chunk.features.slice(0, count),
        kept=chunk.kept.slice(0, count),
        places=places,
        rejects=tuple(bad for bad in chunk.rejects if bad.row <= last),
        records=None if chunk.records is None else chunk.records[:count],
    )
