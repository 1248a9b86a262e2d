"""What every job store keeps: inherited by the tests of each. Time is a parameter."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bimodal.errors import NotFound
from bimodal.jobs.store import JobRun, JobStore, LeaseLost, due_slot

T = 1_800_000_000.0
TTL = 30.0


def queued(run: str, job: str = "nightly", *, due: float | None = None, created: float = T) -> JobRun:
    """A run as it is asked for: of a due time, or of its own."""
    return JobRun(run, job, f"run:{run}" if due is None else due_slot(due), "queued", created, due)


def claimed(store: JobStore, now: float = T, owner: str = "ann", **options: object) -> JobRun:
    """A run that must be there to be claimed."""
    run = store.claim(owner, now, TTL, **options)  # type: ignore[arg-type]  # the options of claim
    assert run is not None
    return run


class StoreContract(ABC):
    """Each test gets `opened`, which opens the same store again, and `place`, what a process opens it by."""

    @pytest.fixture
    @abstractmethod
    def place(self, tmp_path: Path) -> str: ...

    @pytest.fixture
    @abstractmethod
    def opened(self, place: str) -> Callable[[], JobStore]: ...

    @pytest.fixture
    def store(self, opened: Callable[[], JobStore]) -> JobStore:
        return opened()

    # -- asked for ----------------------------------------------------------------------------------------------------

    def test_a_slot_has_one_run(self, store: JobStore) -> None:
        first, fresh = store.ask(queued("a1", due=T))
        again, second = store.ask(queued("b2", due=T))
        other, third = store.ask(queued("c3", "weekly", due=T))
        assert (fresh, second, third) == (True, False, True)
        assert again == first == store.find("a1")
        assert other.job == "weekly"

    def test_a_run_comes_back_as_it_was_given(self, store: JobStore, opened: Callable[[], JobStore]) -> None:
        given = replace(
            queued("a1", due=T + 0.25),
            parameters={"date": "2026-11-22", "files": ["a.csv", 'ü"\x00\ud83d'], "bounds": [1, 2.5, None, True]},
            not_before=T + 7.125,
            error="a\nb",
        )
        store.ask(given)
        assert opened().find("a1") == given

    def test_a_run_is_found_by_the_beginning_of_its_id(self, store: JobStore) -> None:
        for each in ("abc1", "abd2", "ab"):
            store.ask(queued(each))
        assert store.find("abc").id == "abc1"
        assert store.find("ab").id == "ab"
        for wrong in ("a", "x", "", "%", "abc1%"):
            with pytest.raises(NotFound):
                store.find(wrong)

    def test_runs_come_latest_first(self, store: JobStore) -> None:
        for number in range(5):
            store.ask(queued(f"n{number}", created=T + number // 2))
        store.ask(queued("w", "weekly"))
        store.cancel("n3", T)
        assert [run.id for run in store.runs("nightly")] == ["n4", "n3", "n2", "n1", "n0"]
        assert [run.id for run in store.runs("nightly", limit=2)] == ["n4", "n3"]
        assert [run.id for run in store.runs("nightly", statuses=("cancelled", "failed"))] == ["n3"]
        assert len(store.runs()) == 6

    # -- owned --------------------------------------------------------------------------------------------------------

    def test_the_oldest_run_is_claimed(self, store: JobStore) -> None:
        store.ask(queued("late", "a", created=T + 1))
        store.ask(queued("early", "b"))
        store.ask(queued("same", "c"))
        assert store.claim("ann", T, TTL, jobs=["x"]) is None
        first = claimed(store)
        assert (first.id, first.status, first.owner, first.attempt) == ("early", "running", "ann", 1)
        assert (first.lease_until, first.started) == (T + TTL, T)
        assert claimed(store).id == "same"
        assert claimed(store, jobs=["a", "b"]).id == "late"
        assert store.claim("ann", T, TTL) is None

    def test_a_run_waits_for_its_time(self, store: JobStore) -> None:
        store.ask(replace(queued("a"), not_before=T + 60))
        assert store.claim("ann", T + 59, TTL) is None
        assert claimed(store, T + 60).id == "a"

    def test_one_run_of_a_job_at_a_time(self, store: JobStore) -> None:
        for each in ("a", "b", "c"):
            store.ask(queued(each))
        assert claimed(store).id == "a"
        assert store.claim("bob", T, TTL) is None
        assert store.claim("bob", T, TTL, run="b") is None
        assert claimed(store, run="b", one_per_job=False).id == "b"
        assert claimed(store, T + TTL, "bob").id == "a"  # its lease has ended; b's too

    def test_a_lease_that_ended_is_taken_with_a_greater_fence(self, store: JobStore) -> None:
        store.ask(queued("a"))
        ann = claimed(store)
        ann = store.settle(ann, {"date": "2026-11-22"})
        assert store.claim("bob", T + TTL - 1, TTL) is None
        bob = claimed(store, T + TTL, "bob")
        assert (bob.fence > ann.fence, bob.attempt, bob.owner, bob.started) == (True, 2, "bob", T)
        assert bob.parameters == {"date": "2026-11-22"}
        with pytest.raises(LeaseLost):
            store.renew(ann, T + 31, TTL)
        with pytest.raises(LeaseLost):
            store.settle(ann, {"date": "other"})
        with pytest.raises(LeaseLost):
            store.finish(ann, "succeeded", T + 31, memory={"x": 1})
        with pytest.raises(LeaseLost):
            store.finish(ann, "failed", T + 31, retry_at=T + 90)
        assert store.find("a") == bob
        assert store.memory("nightly") == {}

    def test_a_lease_that_nobody_took_is_renewed(self, store: JobStore) -> None:
        store.ask(queued("a"))
        run = claimed(store)
        run = store.renew(run, T + 500, TTL, {"rows": 7})
        assert (run.lease_until, run.progress) == (T + 500 + TTL, {"rows": 7})
        assert store.renew(run, T + 501, TTL).progress == {"rows": 7}
        assert store.claim("bob", T + 501, TTL) is None

    def test_a_late_owner_does_not_run_beside_another_run_of_its_job(self, store: JobStore) -> None:
        store.ask(queued("a"))
        store.ask(queued("b"))
        ann = claimed(store)
        bob = claimed(store, T + TTL, "bob", run="b")
        with pytest.raises(LeaseLost):
            store.renew(ann, T + TTL + 1, TTL)
        store.finish(bob, "succeeded", T + TTL + 2)
        assert claimed(store, T + TTL + 3, "cid").id == "a"

    def test_the_end_of_a_run(self, store: JobStore) -> None:
        store.ask(queued("a"))
        run = claimed(store)
        memory, files = {"watermark": 17}, [("in/a.csv", "f1", "d1"), ("in/ü\udcff\n.csv", "f2", "d1")]
        ended = store.finish(run, "succeeded", T + 5, report={"rows": 3}, memory=memory, files=files)
        assert (ended.status, ended.ended, ended.report, ended.lease_until) == ("succeeded", T + 5, {"rows": 3}, None)
        assert store.memory("nightly") == memory
        assert store.files("nightly") == {path: (print_, digest) for path, print_, digest in files}
        assert (store.memory("weekly"), store.files("weekly")) == ({}, {})
        with pytest.raises(LeaseLost):
            store.renew(run, T + 6, TTL)
        assert store.finish(run, "succeeded", T + 9, memory={"watermark": 99}) == ended  # told twice
        assert store.memory("nightly") == memory
        with pytest.raises(LeaseLost):
            store.finish(run, "failed", T + 9)

    def test_files_and_memory_are_replaced(self, store: JobStore) -> None:
        for number, digest in enumerate(("d1", "d2")):
            store.ask(queued(f"r{number}"))
            run = claimed(store)
            store.finish(run, "succeeded", T, memory={"digest": digest}, files=[("a.csv", f"f{number}", digest)])
        assert store.files("nightly") == {"a.csv": ("f1", "d2")}
        assert store.memory("nightly") == {"digest": "d2"}

    def test_a_failed_run_leaves_no_memory(self, store: JobStore) -> None:
        store.ask(queued("a"))
        ended = store.finish(claimed(store), "failed", T, error="no\0 \udcff", memory={"x": 1}, files=[("a", "f", "d")])
        assert (ended.status, ended.error) == ("failed", "no ?")
        assert (store.memory("nightly"), store.files("nightly")) == ({}, {})

    def test_a_retry_waits_and_goes_on(self, store: JobStore) -> None:
        store.ask(queued("a"))
        run = store.settle(claimed(store), {"date": "x"})
        again = store.finish(run, "failed", T + 5, error="the disk is full", retry_at=T + 65)
        assert (again.status, again.not_before, again.ended, again.error) == (
            "queued",
            T + 65,
            None,
            "the disk is full",
        )
        assert store.finish(run, "failed", T + 5, retry_at=T + 999) == again  # told twice
        assert store.claim("bob", T + 64, TTL) is None
        bob = claimed(store, T + 65, "bob")
        assert (bob.attempt, bob.fence > run.fence, bob.parameters) == (2, True, {"date": "x"})

    # -- cancelled ----------------------------------------------------------------------------------------------------

    def test_a_queued_run_is_cancelled_at_once(self, store: JobStore) -> None:
        store.ask(queued("abc"))
        assert store.cancel("ab", T + 1).status == "cancelled"
        assert store.claim("ann", T + 2, TTL) is None
        assert store.cancel("abc", T + 9).ended == T + 1
        with pytest.raises(NotFound):
            store.cancel("x", T)

    def test_the_owner_of_a_cancelled_run_is_told(self, store: JobStore) -> None:
        store.ask(queued("a"))
        run = claimed(store)
        assert store.cancel("a", T + 1).status == "running"
        assert store.renew(run, T + 2, TTL).cancelled
        ended = store.finish(run, "failed", T + 3, retry_at=T + 60)  # nothing is tried again that nobody wants
        assert (ended.status, ended.ended) == ("cancelled", T + 3)

    def test_a_cancelled_run_whose_owner_died_is_over(self, store: JobStore) -> None:
        store.ask(queued("a"))
        store.ask(queued("b"))
        run = claimed(store)
        store.cancel("a", T + 1)
        assert claimed(store, T + TTL, "bob").id == "b"
        assert store.find("a").status == "cancelled"
        with pytest.raises(LeaseLost):
            store.renew(run, T + TTL + 1, TTL)

    # -- scheduled ----------------------------------------------------------------------------------------------------

    def test_due_times_are_entered_once_and_never_back(self, store: JobStore) -> None:
        assert store.scheduled("nightly") is None
        entered = store.advance("nightly", T + 60, [queued("a", due=T), queued("b", due=T + 60)], spec="s")
        assert [(run.id, run.due) for run in entered] == [("a", T), ("b", T + 60)]
        assert store.scheduled("nightly") == T + 60
        assert store.marks()["nightly"].spec == "s"
        assert store.advance("nightly", T + 60, [queued("c", due=T + 60)], spec="s") == []
        assert store.advance("nightly", T, [queued("d", due=T)], spec="s") == []
        later = store.advance("nightly", T + 120, [queued("e", due=T + 30), queued("f", due=T + 120)], spec="s")
        assert [run.id for run in later] == ["f"]
        assert store.scheduled("nightly") == T + 120
        assert len(store.runs("nightly")) == 3

    def test_another_schedule_starts_anew_and_doubles_nothing(self, store: JobStore) -> None:
        store.advance("nightly", T + 120, [queued("a", due=T + 60), queued("b", due=T + 120)], spec="s")
        assert store.advance("nightly", T, [], spec="other") == []
        assert (store.scheduled("nightly"), store.marks()["nightly"].spec) == (T, "other")
        again = store.advance("nightly", T + 90, [queued("c", due=T + 60), queued("d", due=T + 90)], spec="other")
        assert [run.id for run in again] == ["d"]

    def test_a_due_time_that_somebody_asked_for_is_left_as_it_is(self, store: JobStore) -> None:
        asked, _ = store.ask(queued("a", due=T))
        run = claimed(store)
        assert store.advance("nightly", T, [queued("b", due=T)], overlap="replace") == []
        assert store.find("a") == run
        assert asked.slot == run.slot

    def test_overlap(self, store: JobStore) -> None:
        store.advance("nightly", T, [queued("a", due=T)], overlap="skip")
        running = claimed(store)
        store.ask(queued("person"))
        (skipped,) = store.advance("nightly", T + 1, [queued("b", due=T + 1)], overlap="skip")
        assert (skipped.status, skipped.ended, "run a " in str(skipped.error)) == ("skipped", T, True)
        (waits,) = store.advance("nightly", T + 2, [queued("c", due=T + 2)], overlap="queue")
        assert waits.status == "queued"
        (instead,) = store.advance("nightly", T + 3, [queued("d", due=T + 3)], overlap="replace")
        assert instead.status == "queued"
        assert store.find("c").status == "cancelled"
        assert store.find("person").status == "queued"
        assert store.renew(running, T + 4, TTL).cancelled

    def test_a_late_run_is_told_once(self, store: JobStore, opened: Callable[[], JobStore]) -> None:
        store.advance("nightly", T + 1, [queued("a", due=T), queued("b", due=T + 1)])
        store.ask(queued("w", "weekly", due=T))
        store.finish(claimed(store, run="a"), "succeeded", T + 5)
        assert store.late({"nightly": 60}, T + 61) == []
        assert [run.id for run in store.late({"nightly": 60}, T + 62)] == ["b"]
        assert store.late({"nightly": 60}, T + 63) == []
        assert opened().late({"nightly": 60}, T + 63) == []
        assert store.find("b").late

    def test_prune_keeps_what_the_schedule_needs(self, store: JobStore) -> None:
        for number in range(4):
            store.ask(queued(f"d{number}", due=T + number))
            store.finish(claimed(store, T + number), "succeeded", T + number)
        store.ask(queued("k"))
        store.finish(claimed(store), "failed", T)
        store.ask(queued("open"))
        store.advance("nightly", T + 1, [])
        assert store.prune(T) == 0
        assert store.prune(T + 100) == 3  # d0 and d1, before the mark, and k
        assert {run.id for run in store.runs()} == {"d2", "d3", "open"}
        store.advance("nightly", T + 9, [])
        assert store.prune(T + 100) == 1
        assert not store.ask(queued("again", due=T + 3))[1]  # the latest due time stays

    # -- clocks -------------------------------------------------------------------------------------------------------

    def test_a_clock_that_was_set_back_keeps_no_lease_and_no_retry(self, store: JobStore) -> None:
        day = 86400.0
        store.ask(queued("a"))
        store.ask(queued("b", "weekly"))
        dead = claimed(store, T + day)
        failed = claimed(store, T + day)
        store.finish(failed, "failed", T + day, retry_at=T + day + 60)
        assert store.claim("bob", T, TTL) is None
        assert store.claim("bob", T + TTL - 1, TTL) is None
        again = claimed(store, T + TTL, "bob")
        assert (again.id, again.fence > dead.fence) == ("a", True)
        store.finish(again, "succeeded", T + TTL)
        assert claimed(store, T + 60, "bob").id == "b"

    # -- many at once -------------------------------------------------------------------------------------------------

    def test_many_processes_claim_each_run_once(self, store: JobStore, place: str, tmp_path: Path) -> None:
        total = 120
        for number in range(total):
            store.ask(queued(f"r{number}", f"j{number % 7}"))
        crew = [_started("claim", place, str(tmp_path / f"claims{number}")) for number in range(4)]
        _raced(crew)
        lines = [
            line.split() for number in range(4) for line in (tmp_path / f"claims{number}").read_text().splitlines()
        ]
        owners = Counter(run for run, _ in lines)
        assert owners == Counter({f"r{number}": 1 for number in range(total)})
        assert {run.status for run in store.runs(limit=total)} == {"succeeded"}
        assert len({who for _, who in lines}) > 1  # or it was no race

    def test_processes_that_ask_for_one_slot_get_one_run(self, store: JobStore, place: str, tmp_path: Path) -> None:
        crew = [_started("ask", place, str(tmp_path / f"asks{number}")) for number in range(4)]
        _raced(crew)
        answers = [(tmp_path / f"asks{number}").read_text().splitlines() for number in range(4)]
        assert len(set(map(tuple, answers))) == 1  # each slot's run is the same for all
        assert len(store.runs(limit=1000)) == len(answers[0]) == 40

    def test_a_writer_that_is_killed_leaves_whole_transactions(
        self, store: JobStore, place: str, tmp_path: Path
    ) -> None:
        for number in range(6):
            log = tmp_path / f"killed{number}"
            with _started("advance", place, str(log), str(number)) as writer:
                assert writer.stdin is not None
                writer.stdin.write("go\n")
                writer.stdin.flush()
                while not log.exists() or len(log.read_text().splitlines()) < 2 + number:
                    assert writer.poll() is None
                writer.kill()
            told = len(log.read_text().splitlines())
            runs, until = store.runs(f"k{number}", limit=10**6), store.scheduled(f"k{number}")
            assert until is not None
            assert len(runs) == 3 * (until - T)  # three runs a step, with their mark
            assert until - T in (told, told + 1)  # what was told is there; one more may be

    def test_threads_share_a_store(self, store: JobStore) -> None:
        for number in range(40):
            store.ask(queued(f"r{number}", f"j{number}"))
        found: list[str] = []

        def work() -> None:
            while (run := store.claim("ann", T, TTL)) is not None:
                found.append(run.id)

        crew = [threading.Thread(target=work) for _ in range(4)]
        for each in crew:
            each.start()
        for each in crew:
            each.join()
        assert Counter(found) == Counter({f"r{number}": 1 for number in range(40)})


def _started(what: str, *values: str) -> subprocess.Popen[str]:
    """A process that has the store open; it begins with the first that is written to it."""
    command = [sys.executable, "-m", "tests.jobs.rival", what, *values]
    made = subprocess.Popen(command, cwd=os.getcwd(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


def _raced(crew: list[subprocess.Popen[str]]) -> None:
    """Let all begin at once, and wait for their good end."""
    for each in crew:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in crew:
        each.communicate(timeout=60)
    assert [each.returncode for each in crew] == [0] * len(crew)
