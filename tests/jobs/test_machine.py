"""Random operations of several owners, clocks that jump among them, against a model of the store in plain Python."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from bimodal.config.tables import Overlap
from bimodal.jobs.opening import open_store
from bimodal.jobs.store import JobRun, LeaseLost, Status, due_slot

TTL = 10.0
JOBS = ("a", "b")
TIMES = st.integers(0, 30).map(float)
STATUSES: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
OVERLAPS: tuple[Overlap, ...] = ("queue", "skip", "replace")


class Model:
    """What a store has to hold: runs in the order of entry, marks, memories. extra: (how long a lease or wait was
    given for, claimed alone).
    """

    def __init__(self) -> None:
        self.runs: dict[str, JobRun] = {}
        self.extra: dict[str, tuple[float | None, bool]] = {}
        self.marks: dict[str, float] = {}
        self.memories: dict[str, dict[str, Any]] = {}

    def put(self, run: JobRun, lasts: float | None = None, alone: bool = False) -> None:
        self.runs[run.id] = run
        self.extra[run.id] = (lasts, alone)

    def change(self, run: str, **values: Any) -> None:
        self.runs[run] = replace(self.runs[run], **values)

    def of_slot(self, run: JobRun) -> JobRun | None:
        return next((each for each in self.runs.values() if (each.job, each.slot) == (run.job, run.slot)), None)

    def active(self, job: str) -> list[JobRun]:
        return [run for run in self.runs.values() if run.job == job and run.status in ("queued", "running")]

    def held(self, run: JobRun, now: float) -> bool:
        return run.status == "running" and run.lease_until is not None and run.lease_until > now

    def put_right(self, now: float) -> None:
        for run in list(self.runs.values()):
            lasts = self.extra[run.id][0]
            if lasts is not None and run.status == "running" and (run.lease_until or 0) > now + lasts:
                self.change(run.id, lease_until=now + lasts)
            if lasts is not None and run.status == "queued" and run.not_before > now + lasts:
                self.change(run.id, not_before=now + lasts)
            found = self.runs[run.id]
            if found.status == "running" and found.cancelled and not self.held(found, now):
                self.change(run.id, status="cancelled", ended=now, lease_until=None)

    def claim(self, owner: str, now: float, alone: bool) -> JobRun | None:
        if not any(run.status in ("queued", "running") for run in self.runs.values()):
            return None
        self.put_right(now)
        order = sorted(self.runs.values(), key=lambda run: run.created)  # stable: then the order of entry
        for run in order:
            free = (run.status == "queued" and run.not_before <= now) or (
                run.status == "running" and not self.held(run, now)
            )
            beside = any(self.held(each, now) for each in self.active(run.job) if each.id != run.id)
            if free and not (alone and beside):
                taken = replace(
                    run,
                    status="running",
                    owner=owner,
                    fence=run.fence + 1,
                    attempt=run.attempt + 1,
                    lease_until=now + TTL,
                    started=run.started if run.started is not None else now,
                )
                self.put(taken, TTL, alone)
                return taken
        return None

    def owned(self, run: JobRun) -> bool:
        known = self.runs[run.id]
        return known.status == "running" and known.fence == run.fence


class Machine(RuleBasedStateMachine):
    placing: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.owners: list[JobRun] = []  # what somebody believes to own
        self.now = 1000.0
        self.number = 0

    @initialize()
    def begin(self) -> None:
        self.place = type(self).placing()
        self.store = open_store(self.place, Path.cwd())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    def fresh(self, job: str, due: float | None = None) -> JobRun:
        self.number += 1
        slot = f"run:{self.number}" if due is None else due_slot(due)
        return JobRun(f"r{self.number}", job, slot, "queued", self.now, due)

    @rule(by=st.sampled_from([0.0, 1.0, 3.0, 11.0, 100.0, -1.0, -11.0, -100.0]))
    def clock(self, by: float) -> None:
        self.now += by

    @rule(job=st.sampled_from(JOBS), due=st.none() | TIMES)
    def ask(self, job: str, due: float | None) -> None:
        run = self.fresh(job, due)
        known = self.model.of_slot(run)
        assert self.store.ask(run) == ((run, True) if known is None else (known, False))
        if known is None:
            self.model.put(run)

    @rule(owner=st.sampled_from(["ann", "bob"]), alone=st.booleans())
    def claim(self, owner: str, alone: bool) -> None:
        expected = self.model.claim(owner, self.now, alone)
        found = self.store.claim(owner, self.now, TTL, one_per_job=alone)
        assert found == expected
        if found is not None:
            self.owners.append(found)

    def believed(self, which: int) -> JobRun | None:
        return self.owners[which % len(self.owners)] if self.owners else None

    @rule(which=st.integers(0, 20))
    def renew(self, which: int) -> None:
        run = self.believed(which)
        if run is None:
            return
        known, (_, alone) = self.model.runs[run.id], self.model.extra[run.id]
        others = [each for each in self.model.active(run.job) if each.id != run.id]
        beside = (
            alone and not self.model.held(known, self.now) and any(self.model.held(each, self.now) for each in others)
        )
        if self.model.owned(run) and not beside:
            self.model.put(replace(known, lease_until=self.now + TTL, progress={"rows": which}), TTL, alone)
            assert self.store.renew(run, self.now, TTL, {"rows": which}) == self.model.runs[run.id]
        else:
            with pytest.raises(LeaseLost):
                self.store.renew(run, self.now, TTL, {"rows": which})

    @rule(which=st.integers(0, 20))
    def settle(self, which: int) -> None:
        run = self.believed(which)
        if run is None:
            return
        if self.model.owned(run):
            self.model.change(run.id, parameters={"date": str(which)})
        with suppress(LeaseLost):
            assert self.store.settle(run, {"date": str(which)}) == self.model.runs[run.id]

    @rule(
        which=st.integers(0, 20), status=st.sampled_from(STATUSES), wait=st.none() | st.sampled_from([0.0, 5.0, 60.0])
    )
    def finish(self, which: int, status: Status, wait: float | None) -> None:
        run = self.believed(which)
        if run is None:
            return
        known = self.model.runs[run.id]
        again = known.fence == run.fence and known.status == ("queued" if wait is not None else status)
        retry_at = None if wait is None else self.now + wait
        memory = {"run": run.id}
        if not again and not self.model.owned(run):
            with pytest.raises(LeaseLost):
                self.store.finish(run, status, self.now, retry_at=retry_at, memory=memory)
            return
        found = self.store.finish(run, status, self.now, retry_at=retry_at, memory=memory)
        if not again:
            self.finished(known, status, wait)
        assert found == self.model.runs[run.id]

    def finished(self, known: JobRun, status: Status, wait: float | None) -> None:
        if wait is not None and known.cancelled:
            status, wait = "cancelled", None
        if status != "cancelled":
            known = replace(known, error=None)
        if wait is not None:
            self.model.put(replace(known, status="queued", not_before=self.now + wait, lease_until=None), wait)
            return
        self.model.put(replace(known, status=status, ended=self.now, lease_until=None))
        if status == "succeeded":
            self.model.memories[known.job] = {"run": known.id}

    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        if not self.model.runs:
            return
        run = list(self.model.runs)[which % len(self.model.runs)]
        self.cancelled(self.model.runs[run], None, self.now)
        assert self.store.cancel(run, self.now) == self.model.runs[run]

    def cancelled(self, run: JobRun, reason: str | None, now: float) -> None:
        error = reason if reason is not None else run.error
        if run.status == "queued":
            self.model.change(run.id, status="cancelled", cancelled=True, ended=now, error=error)
        elif run.status == "running":
            self.model.change(run.id, cancelled=True, error=error)

    @rule(job=st.sampled_from(JOBS), until=TIMES, number=st.integers(0, 3), overlap=st.sampled_from(OVERLAPS))
    def advance(self, job: str, until: float, number: int, overlap: Overlap) -> None:
        runs = [self.fresh(job, until - back) for back in reversed(range(number))]
        found = self.store.advance(job, until, runs, overlap=overlap)
        mark = self.model.marks.get(job)
        if mark is not None and until <= mark:
            assert found == []
            return
        entered = []
        for run in runs:
            assert run.due is not None
            if (mark is None or run.due > mark) and self.model.of_slot(run) is None:
                entered.append(self.entered(run, overlap))
        assert found == [self.model.runs[run] for run in entered]
        self.model.marks[job] = until

    def entered(self, run: JobRun, overlap: Overlap) -> str:
        others = self.model.active(run.job)
        if others and overlap == "skip":
            reason = f"run {others[0].id} of the job was still {others[0].status}"
            run = replace(run, status="skipped", ended=run.created, error=reason)
        elif overlap == "replace":
            for each in others:
                if each.slot.startswith("due:"):
                    self.cancelled(each, f"run {run.id} of a later due time took its place", run.created)
        self.model.put(run)
        return run.id

    @rule()
    def again(self) -> None:
        """Another process: a store of its own."""
        self.store.close()
        self.store = open_store(self.place, Path.cwd())

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "store"):
            return
        assert {run.id: run for run in self.store.runs(limit=1000)} == self.model.runs
        assert {job: mark.until for job, mark in self.store.marks().items()} == self.model.marks
        assert {job: self.store.memory(job) for job in self.model.memories} == self.model.memories


def check(placing: Callable[[], str], examples: int) -> None:
    machine = type("Machine", (Machine,), {"placing": staticmethod(placing)})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None))


@pytest.fixture
def file(light: Path) -> Callable[[], str]:
    return lambda: f"sqlite:///{tempfile.mkdtemp(dir=light)}/state.db"


@pytest.fixture
def schema(postgres_server: str) -> Iterator[Callable[[], str]]:
    """A schema of its own for each example, in one database."""
    host = quote(postgres_server, safe="")
    numbers = count()
    with psycopg.connect(f"postgresql://postgres@{host}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE machine")

        def placing() -> str:
            with psycopg.connect(f"postgresql://postgres@{host}/machine", autocommit=True) as made:
                name = f"m{next(numbers)}"
                made.execute(f"CREATE SCHEMA {name}".encode())
            return f"postgresql://postgres@{host}/machine?options=-csearch_path%3D{name}"

        yield placing
        connection.execute("DROP DATABASE machine WITH (FORCE)")


def test_owners_and_clocks(file: Callable[[], str]) -> None:
    check(file, 25)


def test_owners_and_clocks_in_postgresql(schema: Callable[[], str]) -> None:
    check(schema, 4)


@pytest.mark.soak
def test_owners_and_clocks_at_length(file: Callable[[], str]) -> None:
    check(file, 1000)


@pytest.mark.soak
def test_owners_and_clocks_at_length_in_postgresql(schema: Callable[[], str]) -> None:
    check(schema, 200)
