"""The run: read, judge, predict and write, side by side and in order; go on where one was killed; publish once."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from bimodal.batch import dry, preview, quality
from bimodal.batch.bounds import SLOW, Bounds, calm_call, is_large
from bimodal.batch.columns import Columns, Keep
from bimodal.batch.crew import Crew
from bimodal.batch.engines.local import LocalEngine, Totals
from bimodal.batch.history import History
from bimodal.batch.marks import Begun, Published
from bimodal.batch.memory import Peak
from bimodal.batch.options import Options, as_path, asked, named
from bimodal.batch.plan import Plan
from bimodal.batch.progress import Progress, chosen
from bimodal.batch.rejects import SHOWN, Allowed, Reject
from bimodal.batch.repeats import repeated
from bimodal.batch.report import Report, Stages, rows
from bimodal.batch.scoring import MARK, Scored, Scorer
from bimodal.batch.sinks.contract import Sink
from bimodal.batch.sinks.opening import open_output
from bimodal.batch.sources.contract import CHUNK_ROWS, MISSING, Cursor, Source
from bimodal.batch.sources.inputs import Named, open_input
from bimodal.batch.sources.without import Known, Without
from bimodal.batch.spelling import see_spelling
from bimodal.chat.requests import of_requests
from bimodal.dialect import Overrides, said_of_header
from bimodal.errors import ModelCrashed, ModelFailed, OutputExists, SourceChanged, TooManyRejects, UsageError
from bimodal.location import Location
from bimodal.model import Model
from bimodal.runtimes.process import Limit, ProcessRuntime
from bimodal.settings import RUNTIMES, seconds, size
from bimodal.table import flat_schema

PROOF = 3  # as many times as large: from there on, some 800,000 rows, a run waits for the proof of a compiled form
ROUNDS = 4  # answers that each of a streaming model's places gives in one call: the fewer, the less is lost with a kill
PATIENCE = 30.0  # seconds that a run waits for another one that holds the output


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
    query: str | None = None,
    into: str | None = None,
    mode: str = "create",
    key: str | Sequence[str] = (),
    overwrite: bool = False,
    fresh: bool = False,
    max_rejects: int | str | None = 0,
    na: Sequence[str] | None = None,
    workers: int | None = None,
    ahead: int | None = None,
    call_rows: int | None = None,
    memory: int | str | None = None,
    timeout: float | str | None = None,
    code: str | Path | Sequence[str | Path] = (),
    trust: str | Sequence[str] = (),
    sample: Any = None,
    runtime: str | None = None,
    allow_drift: bool = False,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    header: str | None = None,
    dry_run: bool = False,
    progress: str | Progress | None = None,
    run: str | None = None,
    guard: Callable[[], None] | None = None,
    known: Known | None = None,
    fingerprint: bool = False,
) -> Report:
    """Predict every row of a data set and save the result, every row once, however often the run is interrupted.

    model: a path or a Model. input: a file, a pattern, a folder, a list of them, an object store's URL, a database
    address with a table (or with `query`), or "-" for standard input. output: a file, a folder, a URL, a database
    address with a table (or with `into`), or "-" for standard output; without one, the first rows are shown on a
    terminal, all as CSV in a pipe. The same call again goes on where an interrupted one stopped.
    keep: the columns that are carried: "auto" (those that are no features), "all", "none", or names. proba: the
    probability of each class too. features, rename: which column is which feature. target: the column with the truth;
    it is no feature, and the report then says how good the predictions are.
    mode: of a table: create, append, replace, or upsert by `key`. overwrite: replace an output that is there. fresh:
    throw the progress of an interrupted run away.
    max_rejects: with how many refused rows the result is still published, a number or a share ("1%").
    na: what stands for a missing value in the features of a CSV file. workers: how many predict at once (measured).
    ahead: chunks under way at once (measured). call_rows: rows of one call of the model (measured). memory: a ceiling
    in bytes, or like "2GB", on all processes of the run. timeout: seconds for one call (measured).
    runtime: as of `load`; auto takes the proven runtime that is fastest in bulk, and lets a run of a million rows wait
    for the proof where there is none yet; a run that goes on keeps the one it began with. allow_drift: as of `load`.
    separator, decimal, encoding: how a CSV file is written (recognised). header: `present` or `absent` (recognised):
    whether its first row names the columns. dry_run: try a few rows, write nothing.
    progress: "auto", "json", "quiet", or a Progress.
    run: the id of a run that several processes may try after one another, such as a job's: what another run began and
    left is thrown away, and once this run is published, it is complete for good, whatever `overwrite` says.
    guard: called right before the result is published; what it raises ends the run, which keeps its progress.
    known: keys; rows that have one of them are left out.

    fingerprint: a last column `row_fingerprint`: 64 bits of the row's feature values, by which a prediction store sees
    that a row has changed.

    Raises SourceError, InputError (columns do not fit the model), OutputExists, OutputHeld (another run writes there),
    PlanChanged (an unfinished run of another plan stands there), SinkError, TooManyRejects (nothing was published; the
    refused rows are in `OUTPUT.rejects.jsonl`), ModelFailed.
    """
    show_few = output is None and into is None and sys.stdout.isatty()
    told = chosen(progress, data_on_stdout=output is None or output == "-")
    options = Options(
        input=named(input),
        output=as_path(output),
        keep=keep,
        outputs=None if outputs is None else tuple(outputs),
        threshold=threshold,
        features=features,
        rename=rename,
        target=target,
        missing=None if na is None else tuple(na),
        query=query,
        into=into,
        mode=mode,
        key=(key,) if isinstance(key, str) else tuple(key),
        overwrite=overwrite,
        fresh=fresh,
        allowed=Allowed.read(max_rejects),
        workers=workers,
        ahead=ahead,
        call_rows=call_rows,
        memory=size(memory) if isinstance(memory, str) else memory,
        timeout=seconds(timeout) if isinstance(timeout, str) else timeout,
        loading={"code": code, "trust": trust, "sample": sample, "runtime": runtime, "allow_drift": allow_drift},
        dialect={"separator": separator, "decimal": decimal, "encoding": encoding, "header": header},
        run=run,
        fingerprint=fingerprint,
    )
    options.check()
    with contextlib.ExitStack() as stack, _ended_by_errors(told):
        told.stage("opening the input")
        source = open_input(input, Overrides(separator, decimal, encoding, said_of_header(header)), query=query)
        source = source if known is None else Without(source, known)
        stack.callback(source.close)
        if isinstance(model, str | os.PathLike):
            see_spelling(os.fspath(model))
        if not isinstance(model, Model):
            told.stage("loading the model")
            found = Location.find(model, **options.loading, timeout=options.timeout)
            model = stack.enter_context(Model.open(found, background=False))
            for warning in model.warnings:
                told.note(f"{model.name}: {warning}")
        model, asked_of = of_requests(model, source.columns), model
        if model is not asked_of and (twice := repeated(source)) is not None:
            told.note(twice)
        model.check_threshold(threshold)
        options = replace(
            options,
            model=model.location.given or model.location.source.path,
            outputs=model.resolve_outputs(asked(outputs, proba, model)),
        )
        sink = open_output("-" if output is None and into is None else output, options, like=source.kind)
        if sink.table:
            for note in sink.see_input(source):
                told.note(note)
            source.keep_clear(sink.database)
            if options.memory is not None:
                sink.database.limit_memory(options.memory // 4)
        elif sink.text:
            source.carry_as_text()
        made = Run(model, source, sink, options, told, guard)
        if dry_run:
            return made.try_out()
        return made.show() if show_few else made.execute()


@contextlib.contextmanager
def _ended_by_errors(told: Progress) -> Iterator[None]:
    """Whatever ends a run early ends its progress, or a terminal would stay without its cursor."""
    try:
        yield
    except BaseException:
        told.end(None)
        raise


class Run:
    """One execution of a plan."""

    def __init__(
        self,
        model: Model,
        source: Source,
        sink: Sink,
        options: Options,
        progress: Progress,
        guard: Callable[[], None] | None = None,
    ) -> None:
        self.model, self.source, self.sink, self.options, self.progress = model, source, sink, options, progress
        self._guard = guard
        self.id = options.run or secrets.token_hex(6)
        self._started, self._clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        self.columns = Columns.find(
            model.signature,
            source,
            keep=options.keep,
            features=options.features,
            rename=options.rename,
            target=options.target,
            missing=options.missing,
        )
        self.outputs = options.outputs or ()
        self.schema = self._expected()
        self._totals, self._peak, self._history = Totals(), Peak(), History()
        self._engine: LocalEngine | None = None
        self._calls = 0

    def _expected(self) -> pa.Schema:
        """The columns of the output, before anything is predicted."""
        kept = self.source.kept_schema(self.columns.kept)
        results = flat_schema(self.outputs, self.model.signature)
        if self.options.fingerprint:
            results = results.append(MARK)
        both = [name for name in results.names if name in kept.names]
        if both:
            raise UsageError(
                f"the input has a column {both[0]!r} too, so the output would have it twice; leave it out: "
                f"--keep {','.join(name for name in kept.names if name not in both) or 'none'}"
            )
        return pa.schema([*kept, *results])

    def _plan(self, runtime: str, calls: int | None = None) -> Plan:
        """calls: rows of a call as an earlier run of this plan had them, where the user leaves that to the run."""
        options, model = self.options, self.model
        calls = options.call_rows or (self._calls if calls is None else calls)
        table = self.sink.table
        return Plan(
            model=model.name,
            version=model.version,
            digest=model.digest,
            runtime=runtime,
            source=self.source.fingerprint(),
            features=self.columns.binding.features,
            kept=self.columns.kept,
            outputs=self.outputs,
            threshold=options.threshold,
            missing=self.columns.reading.missing,
            sink=self.sink.kind,
            mode=options.mode if table else "",
            key_columns=options.key if table else (),
            target=options.target,
            call_rows=calls if runtime == "native" else 0,
            fingerprint=options.fingerprint,
        )

    def _take(self, runtime: str | None, calls: int | None = None) -> None:
        """The model that predicts in bulk; runtime, calls: those that an earlier run of this plan had. calls: rows of
        one of its calls; None: to be found out.
        """
        if is_large(self.source, PROOF) and self.model.verifying:
            self.progress.stage("proving a compiled form")
        self.model = self.model.in_bulk(wait=is_large(self.source, PROOF), runtime=runtime)
        if isinstance(self.model.runtime, ProcessRuntime):
            self.model.runtime.limit = Limit(self.options.timeout, self.model.costs)
        self._calls = self._calm() if calls is None else calls
        self.plan = self._plan(self.model.runtime.name)

    def _calm(self) -> int:
        """Rows of one call: of a slow model so few that the run shows how far it is, and loses little when it is
        killed. Tried on the first rows of the input, unless the model is known to be fast, or answers each row by
        itself: that may cost money, and nothing is asked twice to be timed.
        """
        if self.model.side_by_side and not self.options.call_rows and not self.source.live:
            return ROUNDS * self.model.side_by_side
        if self.model.runtime.proven or self.options.call_rows or self.source.live or self._fast:
            return 0
        chunk = next(self.source.chunks(self.columns.reading), None)
        rows = None if chunk is None else self._scorer.judge(chunk)[0]
        if rows is None or not rows.count:
            return 0

        def run(count: int) -> float:
            started = time.perf_counter()
            self.model.run(rows.slice(0, count), self.outputs, threshold=self.options.threshold)
            return (time.perf_counter() - started) * count / min(count, rows.count)

        try:
            return calm_call(run)
        except (ModelFailed, ModelCrashed):  # the run itself finds out which rows are to blame
            return 0

    @property
    def _fast(self) -> bool:
        """Whether made-up rows tell that a chunk in one call is quick; a model that somebody wrote may be slow on
        others.
        """
        costs = sorted(self.model.costs.items())
        if len(costs) < 2 or self.model.format == "python":
            return False
        (few, least), (many, most) = costs[0], costs[-1]
        return (most - least) / (many - few) * CHUNK_ROWS < SLOW / 4

    # -- the short twins --------------------------------------------------------------------------------------------

    def show(self) -> Report:
        """Predict the first rows and print them."""
        self._take(None, 0)
        self._tell_notes()
        scored = self._first(preview.ROWS)
        self.progress.end(None)
        for reject in scored.rejects if scored else ():
            self.progress.note(f"rejected: {reject}")
        preview.show(scored.table if scored else self.schema.empty_table())
        self.progress.note("these are the first rows; -o FILE predicts all")
        return self._report("preview", scored)

    def try_out(self) -> Report:
        """Say what a run would do, from the first chunk; write nothing."""
        done = self._already() if self.sink.resumable and self.sink.exists() else None
        if done is not None:
            self.progress.end(done)
            return done
        self.progress.stage("trying a sample")
        self._take(None)
        self._tell_notes()
        self._refuse_existing()
        note = self.progress.note
        for each in self.sink.check(self.schema):
            note(each)
        note(f"the output has the columns {', '.join(self.schema.names)}")
        scorer = replace(self._scorer, call_rows=self.plan.call_rows)
        first = dry.sample(self.source, scorer, self.model, self.sink, self.model.side_by_side or 2 * self._calls)
        bounds = Bounds(self.options, self.source, self.model, Crew(self.model), self._peak)
        expected = dry.expected(self.source, self.columns.reading, first, bounds.workers, dry.place_of(self.sink))
        for each in expected.told():
            note(each)
        if self.options.key:
            note(dry.twice(self.source, self.options.key))
        for reject in first.scored.rejects[:SHOWN] if first else ():
            note(f"would be rejected: {reject}")
        if first is not None:
            note(dry.rejected(first))
        report = replace(self._report("dry run", first.scored if first else None), expected=asdict(expected))
        self.progress.end(report)
        return report

    def _first(self, count: int) -> Scored | None:
        """The first rows of the first chunk, predicted."""
        for chunk in self.source.chunks(self.columns.reading):
            return self._scorer.score(dry.head(chunk, count), self.model)
        return None

    @property
    def _scorer(self) -> Scorer:
        options = self.options
        return Scorer(
            self.columns,
            self.outputs,
            options.threshold,
            decimal=self.source.decimal,
            fingerprint=options.fingerprint,
        )

    def _made(self) -> LocalEngine:
        self._engine = LocalEngine(
            self.model,
            self.source,
            self.sink,
            self._scorer,
            self.schema,
            self.plan,
            self.options,
            self.progress,
            self._peak,
            self._totals,
        )
        return self._engine

    # -- the run ----------------------------------------------------------------------------------------------------

    def execute(self) -> Report:
        """Predict all that is not done yet, and publish."""
        if not self.sink.resumable:
            return self._stream_out()
        try:
            self.progress.stage("taking the output")
            self.sink.hold(PATIENCE, self.progress.note)
            report = self._already() or self._resumed_or_new()
        except KeyboardInterrupt:
            self.progress.end(None)
            self._note_end("interrupted")
            done = self._totals.read + self._kept
            if self._engine is not None and (self._totals.chunks or done) and self.plan.repeatable:
                verb = "is" if done == 1 else "are"
                self.progress.note(f"{rows(done)} {verb} done and kept; the same command goes on there")
            elif self._engine is not None:
                self.progress.note("nothing is kept of what was done; the same command begins anew")
            raise
        except BaseException as error:
            self._note_end("failed", error)
            raise
        finally:
            self.sink.release()
        self._note(report.told())
        self.progress.end(report)
        return report

    def _note_end(self, status: str, error: BaseException | None = None) -> None:
        """In the history, if it knows of this execution."""
        if self._history.noted:
            said = {} if error is None else {"error": (str(error) or type(error).__name__).splitlines()[0]}
            self._note({**self._report(status, None).told(), **said})

    def _note(self, told: Mapping[str, Any], *, now: bool = True) -> None:
        """In the history, with the output as it was named."""
        given, into = self.options.output, self.options.into
        self._history.note({**told, "given": [given, f"{given}#{into}"] if into else [given]}, now=now)

    def _already(self) -> Report | None:
        """A report where the output is the result of this very plan."""
        latest = self.sink.published()
        if latest is None:
            return None
        if self._is_own(latest):
            self.plan = self._plan(str(latest.plan["runtime"]), int(latest.plan.get("call_rows", 0)))
            return self._again(latest)
        again = self.options.overwrite or self.options.fresh
        begun = self.sink.begun() if self.sink.table else None
        if begun is not None and begun.plan.get("key") == latest.plan.get("key"):
            again = True  # it was to be done once more, with --fresh, and was interrupted
        if again and self.options.run is None:
            return None
        names = (str(latest.plan.get("runtime", "")), *RUNTIMES) if self._open_choice else (self.model.runtime.name,)
        calls = int(latest.plan.get("call_rows", 0))
        for plan in [self._plan(name, calls) for name in dict.fromkeys(names)]:
            done = self.sink.published(plan.key)
            if done is None:
                continue
            same = not again and not done.changed and plan.repeatable and self.source.unchanged(done.end)
            if same or self._is_own(done):
                self.plan = plan
                return self._again(done)
        return None

    def _is_own(self, done: Published) -> bool:
        """Whether this very run published it, in another process."""
        return self.options.run is not None and done.report.get("run") == self.options.run

    @property
    def _open_choice(self) -> bool:
        """Whether the user leaves the runtime to the run."""
        return self.model.location.runtime == "auto"

    def _again(self, known: Published) -> Report:
        told = known.report
        return replace(
            self._report("already complete", None),
            runtime=str(told["runtime"]),
            read=int(told["read"]),
            predicted=int(told["predicted"]),
            rejected=int(told["rejected"]),
            rejects=told["rejects"],
            columns=tuple(told["columns"]),
            chunks=int(told["chunks"]),
        )

    def _resumed_or_new(self) -> Report:
        begun = self._unfinished()
        self._refuse_existing()
        self._take(
            str(begun.plan["runtime"]) if begun and self._open_choice else None,
            int(begun.plan.get("call_rows", 0)) if begun else None,
        )
        if begun is not None:
            self.plan.demand(begun.plan, self.sink.name)
        engine = self._made()
        if begun is not None:
            self._go_on(begun, engine)
        else:
            for note in self.sink.check(self.schema):
                self.progress.note(note)
            self.sink.start(self.plan.told(), self.id)
        self._tell_notes()
        self._note(self._report("running", None).told())
        if self._history.problem:
            self.progress.note(self._history.problem)
        end = begun.last.cursor if begun and begun.last else None
        if begun is None or not begun.complete:
            end = engine.run(end, self._note_progress)
            self.progress.stage("making it durable")
            self.sink.complete()
        return self._publish(end)

    def _note_progress(self) -> None:
        self._note(self._report("running", None).told(), now=False)

    def _unfinished(self) -> Begun | None:
        """The run that stands here and is gone on with; another plan's is refused before anything is loaded for it."""
        if self.options.fresh:
            self.sink.drop()
            return None
        begun = self.sink.begun()
        if begun is None:
            return None
        if self.options.run not in (None, begun.run):
            self.sink.drop()  # nobody goes on with it: this run is another one
            return None
        runtime = str(begun.plan.get("runtime")) if self._open_choice else self.model.runtime.name
        plan = self._plan(runtime, int(begun.plan.get("call_rows", 0)))
        if not plan.repeatable or (begun.complete and self._outdated(plan, begun)):
            self.sink.drop()  # held back for its rejects, and now the input is mended: there is nothing to accept
            return None
        plan.demand(begun.plan, self.sink.name)
        return begun

    def _outdated(self, plan: Plan, begun: Begun) -> bool:
        return plan.outdates(begun.plan) or not self.source.unchanged(begun.last.cursor if begun.last else None)

    def _go_on(self, begun: Begun, engine: LocalEngine) -> None:
        self.sink.resume(begun)
        totals = self._totals
        totals.read, totals.predicted, totals.rejected = begun.read, begun.predicted, begun.rejected
        kept = 0 if begun.complete else engine.survey(begun.last.number if begun.last else -1)
        totals.before, totals.chunks = begun.read + kept, begun.chunks
        self.id, self._started = begun.run, begun.started
        if begun.schema is not None:
            engine.settle(pa.ipc.read_schema(pa.BufferReader(begun.schema)))
        verb = "is" if totals.before == 1 else "are"
        done = "everything is predicted already" if begun.complete else f"{rows(totals.before)} {verb} done already"
        if self.plan.call_rows and self.sink.spool is None and not begun.complete:
            done += "; of the chunk behind them nothing is kept in a database, so it is begun again"
        self.progress.note(f"going on with the run of {begun.started}: {done}")

    @property
    def _kept(self) -> int:
        """Rows of chunks that are not written, whose answers are kept."""
        return 0 if self._engine is None else self._engine.kept

    def _publish(self, end: Cursor | None) -> Report:
        totals, allowed = self._totals, self.options.allowed
        report = self._measured(self._finished())
        if not allowed.accepts(totals.rejected, totals.read):
            raise self._too_many(totals.rejected, totals.read)
        if self.plan.repeatable and self.source.fingerprint() != self.plan.source:
            raise SourceChanged(
                f"the input changed while it was read, so nothing is published; give the same command again to read "
                f"{', '.join(self.options.input)} as it is now"
            )
        self.progress.stage("publishing")
        if self._guard is not None:
            self._guard()
        kept = self.sink.publish({**report.told(), "end": end})
        return replace(report, rejects=kept.get("rejects"), notes=tuple(kept.get("notes", report.notes)))

    def _measured(self, report: Report) -> Report:
        """With how good the predictions are, where the right answers were named."""
        target = self.columns.truth
        if target is None:
            return report
        self.progress.stage("measuring the quality")
        found = quality.measure(self.sink.scored, self.model.signature, target)
        return report if found is None else replace(report, quality=found.told(), quality_lines=tuple(found.lines()))

    def _stream_out(self) -> Report:
        """To standard output: what is written is published. A reader that leaves has what it wanted."""
        self._take(None)
        try:
            self.sink.check(self.schema)
            self.sink.start(self.plan.told(), self.id)
            self._tell_notes()
            self._made().run(None, lambda: None)
            self.sink.complete()
            report = self._measured(self._finished())
            self.sink.publish({})
        except BrokenPipeError:
            leave_quietly()
            self.progress.end(None)
            return self._report("stopped", None)
        finally:
            self.sink.release()
        self.progress.end(report)
        if not self.options.allowed.accepts(report.rejected, report.read):
            raise TooManyRejects(f"{rows(report.rejected)} of {report.read:,} rejected; the others were predicted")
        return report

    # -- refusing ---------------------------------------------------------------------------------------------------

    def _refuse_existing(self) -> None:
        path = self.sink.path
        same = not self.sink.table and self.options.output in self.options.input
        if same or (path is not None and self.source.reads(path)):
            raise UsageError(f"{self.options.output} is the input itself; name another output")
        told = self.sink.rejects_path
        if told is not None and self.source.reads(told):
            raise UsageError(f"{told} is where the rows that this run refuses are told; give it another name first")
        for what, place in self.options.others:
            if path is not None and place and path.exists() and os.path.exists(place) and path.samefile(place):
                raise UsageError(f"{self.options.output} is the {what} itself; name another output")
        adding = self.sink.table and self.options.mode != "create"
        if self.sink.exists() and not self.options.overwrite and not adding:
            raise OutputExists(self.sink.taken())

    def _too_many(self, count: int, read: int) -> TooManyRejects:
        place = self.sink.show_rejects()
        first: list[Reject] = []
        for block in self.sink.rejects():
            first += [msgspec.json.decode(line, type=Reject) for line in block.splitlines()[: SHOWN - len(first)]]
            if len(first) == SHOWN:
                break
        shown = "\n".join(f"  {reject}" for reject in first)
        if count > len(first):
            shown += f"\n  and {count - len(first):,} more"
        others = f"\nto publish the other {read - count:,}: {self.options.command(count)}" if read > count else ""
        return TooManyRejects(
            f"{rows(count)} of {read:,} rejected, nothing was published:\n{shown}\n  all are in {place}{others}"
        )

    # -- telling ----------------------------------------------------------------------------------------------------

    def _tell_notes(self) -> None:
        for note in (*self._notes(), *self.sink.remarks):
            self.progress.note(note)

    def _notes(self) -> tuple[str, ...]:
        notes = [*self.source.notes, *self.sink.notes, *self.columns.notes]
        notes += [] if self._totals.note is None else [self._totals.note]
        if self.source.kind == "csv" and self.columns.reading.missing == MISSING:
            notes.append("missing values in CSV: empty, NA, NaN, null and the others of pandas (--na changes that)")
        return tuple(notes)

    def _finished(self) -> Report:
        self._peak.look(now=True)
        if self._engine is not None and self._engine.crew.problem:
            self.progress.note(self._engine.crew.problem)
        return self._report("complete", None)

    def _report(self, status: str, scored: Scored | None) -> Report:
        totals, kept = self._totals, self._kept
        if scored is not None:
            totals.read, totals.predicted, totals.chunks = scored.chunk.count, scored.table.num_rows, 1
            totals.rejected, totals.columns = len(scored.rejects), tuple(scored.table.column_names)
        return Report(
            status=status,
            run=self.id,
            model=self.model.name,
            version=self.model.version,
            digest=self.model.digest,
            runtime=self.model.runtime.name,
            input=self.options.input,
            output=self.sink.name if self.sink.table else self.options.output,
            read=totals.read + kept,
            predicted=totals.predicted + kept,
            rejected=totals.rejected,
            resumed=totals.before,
            chunks=totals.chunks,
            columns=totals.columns or tuple(self.schema.names),
            seconds=time.monotonic() - self._clock,
            stages=Stages(round(totals.reading, 3), round(totals.predicting, 3), round(totals.writing, 3)),
            workers=self._engine.crew.size if self._engine is not None else 1,
            memory=self._peak.bytes,
            bytes=self.source.total_bytes,
            notes=self._notes(),
            started=self._started,
            host=socket.gethostname(),
            plan=self.plan.told(),
        )


def leave_quietly() -> None:
    """The reader of standard output left, as `head` does: what is still in the buffer has nowhere to go."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
