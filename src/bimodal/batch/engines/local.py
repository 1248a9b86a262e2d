"""LocalEngine: reads, predicts and encodes side by side on this machine, and writes in order."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from bimodal.batch.bounds import Bounds, is_large, quickest_call
from bimodal.batch.crew import Crew
from bimodal.batch.marks import Beside, Mark
from bimodal.batch.memory import Peak
from bimodal.batch.options import Options
from bimodal.batch.pipeline import Pipeline
from bimodal.batch.plan import Plan
from bimodal.batch.progress import Progress
from bimodal.batch.rejects import lines_of
from bimodal.batch.scoring import Scored, Scorer
from bimodal.batch.sinks.contract import Encoded, Sink
from bimodal.batch.sources.contract import CHUNK_ROWS, Chunk, Cursor, Piece, Source
from bimodal.batch.spool import Spool
from bimodal.batch.underway import Underway
from bimodal.errors import BooksDoNotBalance
from bimodal.model import Model


@dataclass
class Totals:
    """What a run counts; what was done before it was interrupted is counted too."""

    read: int = 0
    predicted: int = 0
    rejected: int = 0
    chunks: int = 0
    before: int = 0  # rows that an interrupted run had done
    reading: float = 0.0
    predicting: float = 0.0
    writing: float = 0.0
    columns: tuple[str, ...] = ()
    note: str | None = None  # what the first chunk of which there is something to tell has to tell


@dataclass(frozen=True)
class Written:
    """A chunk on its way to the sink. encoded: None for the first one, whose columns settle those of the output."""

    piece: Piece
    scored: Scored
    encoded: Encoded | None
    reading: float
    encoding: float


class LocalEngine:
    """One passage through a source.

    scorer: for a call of a chunk's rows. schema: the output's columns as they are expected. totals: counted on, from
    what an interrupted run had done. Nothing that is measured here changes a byte of the result.
    """

    def __init__(
        self,
        model: Model,
        source: Source,
        sink: Sink,
        scorer: Scorer,
        schema: pa.Schema,
        plan: Plan,
        options: Options,
        progress: Progress,
        peak: Peak,
        totals: Totals,
    ) -> None:
        self._model, self._source, self._sink, self._plan = model, source, sink, plan
        self._underway, self._done = Underway(), 0  # bytes of the source that are written
        self._damaged = 0  # kept answers that were told to be
        self._told = 0, 0  # rows and bytes, to the progress
        several = plan.call_rows > 0  # else a chunk is one call, or quick
        self._spool = Spool(sink.spool) if sink.spool is not None and several else None
        self._scorer = replace(
            scorer,
            call_rows=options.call_rows or plan.call_rows,
            counted=self._underway.count,
            spool=self._spool,
        )
        self._expected, self._progress, self._totals = schema, progress, totals
        self._settled = threading.Event()
        self._schema: pa.Schema | None = None
        self._learned = False
        self.crew = Crew(model)
        self._bounds = Bounds(options, source, model, self.crew, peak)
        self._bounds.measured.call_rows = self._scorer.call_rows or CHUNK_ROWS

    @property
    def kept(self) -> int:
        """Rows of chunks that are not written, whose answers are kept."""
        return 0 if self._spool is None else self._spool.kept

    def survey(self, after: int) -> int:
        """The same, of what an interrupted run left behind this chunk."""
        return 0 if self._spool is None else self._spool.survey(after)

    def settle(self, schema: pa.Schema) -> None:
        """The columns of the output: from the first chunk, or from an interrupted run."""
        self._schema = schema
        self._sink.settle(schema, self._plan.metadata())
        self._totals.columns = tuple(schema.names)
        self._settled.set()

    def run(self, after: Cursor | None, written: Callable[[], None]) -> Cursor | None:
        """Bring all behind `after` into the sink; tell after each chunk. Gives the cursor after the last one."""
        source = self._source
        self._progress.stage("predicting")
        self._progress.begin(source.total_rows, source.total_bytes, self._totals.before)
        self._bounds.begin()
        pipeline = Pipeline(
            source.pieces(self._scorer.columns.reading, after),
            self._work,
            threads=self._bounds.threads,
            bound=self._bounds.ahead,
            abandon=source.live,
            meanwhile=lambda: self._look(written),
        )
        end = after
        try:
            with pipeline as done:
                try:
                    for each in done:
                        self._write(each)
                        end = each.piece.cursor
                        written()
                finally:
                    self._settled.set()  # nobody must wait for a first chunk that failed
            if self._schema is None:
                self.settle(self._expected)
        finally:
            self.crew.close()
        self._check_books()
        return end

    def _work(self, piece: Piece) -> Written:
        """In a worker's thread: everything that can be done side by side."""
        started = time.perf_counter()
        chunk = piece.load()
        reading = time.perf_counter() - started
        self._underway.begin(piece.number, chunk.count, piece.bytes_done)
        first = piece.number == 0 and not self._settled.is_set()
        with self.crew.lent() as model:
            scored = self._scorer.score(chunk, model)
            if first:
                self._tune(chunk, model)
        if not first:
            self._settled.wait()
        if self._schema is None:
            return Written(piece, scored, None, reading, 0.0)
        started = time.perf_counter()
        encoded = self._sink.encode(self._fitted(scored.table))
        return Written(piece, scored, encoded, reading, time.perf_counter() - started)

    def _tune(self, chunk: Chunk, model: Model) -> None:
        """How many rows of a call are predicted fastest, tried on the first chunk."""
        if self._scorer.call_rows or not model.runtime.proven or not is_large(self._source):
            return
        good, _, _ = self._scorer.judge(chunk)
        if good.count:
            best = quickest_call(model, good, self._scorer.outputs)
            self._bounds.measured.call_rows, self._scorer = best, replace(self._scorer, call_rows=best)

    def _fitted(self, table: pa.Table) -> pa.Table:
        schema = self._schema
        return table if schema is None or table.schema.equals(schema) else table.cast(schema)

    def _write(self, written: Written) -> None:
        """In the main thread, in order."""
        scored, totals, started = written.scored, self._totals, time.perf_counter()
        encoded = written.encoded
        if encoded is None:
            self.settle(self._typed(scored.table.schema))
            encoded = self._sink.encode(self._fitted(scored.table))
        if not self._learned:
            self._learn(scored, len(encoded.data))
        read, predicted, rejected = scored.chunk.count, scored.table.num_rows, len(scored.rejects)
        mark = Mark(scored.chunk.number, written.piece.cursor, read, predicted, rejected)
        self._sink.append(mark, encoded, Beside(lines_of(scored.rejects), scored.truth))
        if not self._sink.resumable:
            for reject in scored.rejects:
                sys.stderr.write(f"rejected: {reject}\n")
        totals.read += read
        totals.predicted += predicted
        totals.rejected += rejected
        totals.chunks += 1
        totals.reading += written.reading
        totals.predicting += scored.seconds
        if scored.note is not None and totals.note is None:
            totals.note = scored.note
            self._progress.note(scored.note)
        totals.writing += time.perf_counter() - started + written.encoding
        self._bounds.keep()
        self._underway.end(mark.number)
        self._done = written.piece.bytes_done
        if self._spool is not None:
            self._spool.forget(mark.number)
            self._tell_damage(self._spool)
        self._tell(totals.read, self._done)

    def _look(self, written: Callable[[], None]) -> None:
        """While a chunk is waited for: how far it is, with the rows that are not written yet."""
        rows, done = self._underway.told(self._done)
        self._tell(self._totals.read + rows, done)
        if self._spool is not None:
            written()  # calls of it are

    def _tell_damage(self, spool: Spool) -> None:
        count, self._damaged = spool.damaged - self._damaged, spool.damaged
        if count:
            what = "1 kept answer of the interrupted run is" if count == 1 else f"{count:,} kept answers are"
            self._progress.note(f"{what} damaged or not whole; the rows are predicted again")

    def _tell(self, read: int, done: int) -> None:
        """In the main thread; never fewer than before."""
        self._told = max(read, self._told[0]), max(done, self._told[1])
        self._progress.update(self._told[0], self._totals.rejected, self._told[1])

    def _learn(self, scored: Scored, encoded: int) -> None:
        self._learned = True
        self._bounds.learn(scored, encoded)
        if self._bounds.problem:
            self._progress.note(self._bounds.problem)
        if is_large(self._source):
            self._progress.note(self._bounds.told())

    def _typed(self, found: pa.Schema) -> pa.Schema:
        """The output's columns: as the first chunk has them, but for a column of nulls, which tells no type."""
        expected = {each.name: each for each in self._expected}
        return pa.schema(
            [expected.get(each.name, each) if pa.types.is_null(each.type) else each for each in found],
        )

    def _check_books(self) -> None:
        totals, known = self._totals, self._source.total_rows if self._source.counted else None
        if totals.read != totals.predicted + totals.rejected or (known is not None and totals.read != known):
            raise BooksDoNotBalance(
                f"{known if known is not None else totals.read} rows were there, {totals.predicted} were predicted and "
                f"{totals.rejected} rejected; nothing was published, please report this"
            )
