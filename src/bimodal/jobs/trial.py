"""Trial: what an attempt does, in the child process: settle what is to be done, predict, hand the result on."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any, Protocol

from bimodal.batch.progress import Pace, Progress
from bimodal.batch.report import Report
from bimodal.batch.run import predict_file
from bimodal.errors import SourceChanged, TooManyRejects, UsageError
from bimodal.jobs import adhoc, incremental, publishing
from bimodal.jobs.incremental import Reach
from bimodal.jobs.task import Task
from bimodal.location import Location
from bimodal.model import Model, load

ACCEPTS = re.compile(r"(?<=to publish the other )([\d,]+): .*--max-rejects (\S+).*")
OFTEN = 0.5  # seconds between two notes of how far it is


class Parent(Protocol):
    """Whom the trial answers to."""

    def tell(self, event: str, **values: Any) -> None: ...

    def settle(self, parameters: Any) -> None: ...

    def guard(self) -> None: ...


class Told(Progress):
    """Tells the parent."""

    def __init__(self, parent: Parent) -> None:
        self._parent, self._pace, self._last = parent, Pace(), 0.0
        self.notes: list[str] = []

    def stage(self, name: str) -> None:
        self._parent.tell("stage", name=name)

    def begin(self, total_rows: int | None, total_bytes: int | None, done: int = 0) -> None:
        self._pace = Pace(total_rows, total_bytes, done)
        self._parent.tell("progress", rows=done, total_rows=total_rows, total_bytes=total_bytes)

    def note(self, sentence: str) -> None:
        self._parent.tell("note", text=sentence)

    def update(self, read: int, rejected: int, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= OFTEN:
            self._last = now
            totals = {"total_rows": self._pace.total_rows, "total_bytes": self._pace.total_bytes}
            at = self._pace.at(read, done)
            self._parent.tell("progress", rows=read, rejected=rejected, bytes=done, **totals, **at)


class Trial:
    """One attempt of one run."""

    def __init__(self, task: Task, parent: Parent) -> None:
        self.task, self.parent, self.table = task, parent, task.table
        self.store = task.model.store if task.model.store and task.model.store.job == task.job else None
        self.told = Told(parent)

    def run(self) -> dict[str, Any]:
        """Do it all; gives what the worker notes with the end of the run."""
        self.told.stage("looking for what is new" if self.table.incremental else "opening the input")
        where = Reach.of(self.task)
        if self.store is not None:
            publishing.check(self.task)
        location = self._locate()
        if not self.task.settled:
            settled = incremental.settle(self.task, where, location.digest)
            self.task = replace(self.task, parameters=settled, settled=True)
            self.parent.settle(settled)
        reach = incremental.narrowed(self.task, where)
        if not reach.new:
            return self._ended(self._nothing(location), None)
        incremental.make_folder(self.task, reach)
        with self._loaded() as model:
            report, reach = self._predict(model, reach)
            made = (self._result(reach), model, self.parent.guard, self.told.note)
            edition = publishing.publish(self.task, self.store, *made)
        told = report.told()
        keyless = reach.keyless + (0 if reach.known is None else reach.known.keyless)
        if keyless:
            told["without_key"] = keyless
            what = "1 row was" if keyless == 1 else f"{keyless:,} rows were"
            self.told.note(f"{what} left out: the key {', '.join(self.table.key)} is null, so nothing tells them apart")
        if self.store is not None and reach.output is None:
            publishing.clear(self.task)
            told["output"] = None  # the store alone holds the result
        return self._ended(told, edition)

    def _ended(self, report: dict[str, Any], edition: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "report": report if edition is None else {**report, "edition": edition},
            "memory": incremental.remembered(self.task),
            "files": incremental.processed(self.task),
        }

    def _nothing(self, location: Location) -> dict[str, Any]:
        self.told.note("there is nothing new since the last run; nothing was done")
        told = {"status": "nothing new", "read": 0, "predicted": 0, "rejected": 0, "output": self.table.output}
        return {**told, "model": self.task.models_name, "digest": location.digest, "run": self.task.run}

    # -- the model -------------------------------------------------------------------------------------------------

    def _told_of_model(self) -> dict[str, Any]:
        model = self.task.model
        return {
            "code": model.code,
            "sample": model.sample,
            "features": model.features,
            "name": self.task.models_name,
            "runtime": None if model.runtime == "auto" else model.runtime,
            "allow_drift": model.allow_drift,
            "trust": model.trust or (),
        }

    def _locate(self) -> Location:
        return Location.find(self.task.model.path, **self._told_of_model())

    def _loaded(self) -> Model:
        self.told.stage("loading the model")
        return load(self.task.model.path, background=False, **self._told_of_model())

    # -- the prediction --------------------------------------------------------------------------------------------

    def _result(self, reach: Reach) -> str:
        """Where the predictions go."""
        if reach.output is not None:
            return reach.output
        if self.store is None:
            raise UsageError(f"job {self.task.job} has no output, and no prediction store holds its result")
        return str(publishing.place_of(self.task))

    def _predict(self, model: Model, reach: Reach) -> tuple[Report, Reach]:
        """The report, and what was read in the end."""
        try:
            return self._once(model, reach), reach
        except TooManyRejects as error:
            raise TooManyRejects(self._remedied(error)) from error
        except SourceChanged as error:
            self.told.note(f"{error}; the run begins anew with the input as it is now")
            reach = incremental.narrowed(self.task, Reach.of(self.task))
            return self._once(model, reach, fresh=True), reach

    def _remedied(self, error: TooManyRejects) -> str:
        """What happened, with what to write in the job's table, or in the query of a file that is sent."""
        job = self.task.job
        words = f"write max_rejects = \\2 in [jobs.{job}], then: bimodal jobs run {job}"
        if job.startswith(adhoc.BEGIN):
            words = r"send it again with ?max_rejects=\2"
        return ACCEPTS.sub(rf"\1: {words}", error.message)

    def _once(self, model: Model, reach: Reach, *, fresh: bool = False) -> Report:
        table, task = self.table, self.task
        return predict_file(
            model,
            reach.input,
            self._result(reach),
            keep=table.keep,
            proba=table.proba,
            outputs=table.outputs or task.model.outputs,
            threshold=task.model.threshold if table.threshold is None else table.threshold,
            features=table.features,
            rename=table.rename or None,
            target=table.target,
            query=reach.query,
            into=reach.into,
            mode=table.mode,
            key=table.key if table.mode == "upsert" else (),
            overwrite=table.overwrite,
            fresh=fresh,
            max_rejects=table.max_rejects,
            na=table.na,
            workers=table.workers,
            memory=table.memory,
            progress=self.told,
            run=task.run,
            guard=self.parent.guard,
            known=reach.known,
            fingerprint=self.store is not None,
        )
