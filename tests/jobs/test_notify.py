"""Who is told how a run ended: by a signed webhook and a command, at least once, and no run fails of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bimodal.config.tables import JobTable, NotifyTable
from bimodal.jobs.notify import Notices, signature
from bimodal.jobs.sqlite import SqliteStore
from bimodal.jobs.store import JobRun
from tests.jobs.desk import Receiver, receiving, until

QUEUED = JobRun("r1", "nightly", "due:100", "queued", 100.0, 100.0)
ENDED = replace(QUEUED, status="failed", attempt=3, ended=160.0, error="it broke", report={"read": 5, "plan": "long"})
SECRET = "correct horse"


def notices(folder: Path, *receivers: NotifyTable) -> Notices:
    job = JobTable(model="m", input="in.csv", output="out.csv", notify=receivers)
    return Notices(folder, {"nightly": job}, pauses=(0.01, 0.02))


def end(told: Notices, run: JobRun = ENDED, code: str = "source") -> None:
    told.prepare(run, run.status, code=code)
    told.release(run)
    told.join(60)


def verified(receiver: Receiver, secret: str) -> bool:
    """As the documents tell a receiver to."""
    headers, body = receiver.taken[-1]
    stamp, given = (part.partition("=")[2] for part in headers["Bimodal-Signature"].split(","))
    right = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(right, given) and abs(time.time() - int(stamp)) < 300


def test_a_webhook_is_signed_and_tells_how_the_run_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with receiving() as receiver:
        told = notices(tmp_path, NotifyTable(url=receiver.url, secret="env:HOOK_SECRET"))
        end(told)
        assert verified(receiver, SECRET)
        assert not verified(receiver, "another")
        body = json.loads(receiver.taken[0][1])
    assert (body["event"], body["job"], body["run"], body["status"]) == ("failure", "nightly", "r1", "failed")
    assert (body["error"], body["report"], body["attempt"]) == ("it broke", {"read": 5}, 3)
    assert [(each.event, each.state, each.tries) for each in told.of("r1")] == [("failure", "delivered", 1)]


@pytest.mark.parametrize(
    ("answers", "state", "tries"), [([500, 503, 200], "delivered", 3), ([500], "failed", 3), ([302], "failed", 3)]
)
def test_a_receiver_that_refuses_is_asked_three_times_and_no_redirect_is_followed(
    answers: list[int], state: str, tries: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(*answers) as receiver, caplog.at_level(logging.DEBUG):
        told = notices(tmp_path, NotifyTable(url=f"{receiver.url}?token=hush"))
        end(told)
        (notice,) = told.of("r1")
        assert (notice.state, notice.tries, len(receiver.taken)) == (state, tries, tries)
    assert "hush" not in caplog.text
    assert not any("hush" in path.read_text() for path in (tmp_path / "notices").glob("*.json"))


def test_a_receiver_that_says_nothing_and_one_that_is_not_there_are_told_of(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        told = notices(tmp_path, NotifyTable(url=url, timeout=0.1), NotifyTable(url="env:NOT_THERE"))
        end(told)
    problems = [each.problem for each in told.of("r1")]
    assert problems == ["TimeoutError", "nothing stands in env:NOT_THERE"] or problems[0] == "timed out"


def test_a_command_gets_the_same_and_variables(tmp_path: Path) -> None:
    script = 'cat > "$1"; echo "$BIMODAL_EVENT $BIMODAL_JOB $BIMODAL_RUN $BIMODAL_STATUS" >> "$1"'
    told = notices(tmp_path, NotifyTable(on=("success",), command=("sh", "-c", script, "sh", str(tmp_path / "got"))))
    end(told)
    assert not (tmp_path / "got").exists(), "it is told of successes alone"
    end(told, replace(ENDED, status="succeeded", error=None))
    body, _, words = (tmp_path / "got").read_text().rpartition("}")
    assert json.loads(body + "}")["event"] == "success"
    assert words == "success nightly r1 succeeded\n"


def test_a_command_is_called_in_the_folder_of_bimodal_toml(tmp_path: Path) -> None:
    told = notices(tmp_path / ".bimodal", NotifyTable(command=("sh", "-c", "echo told > here")))
    end(told)
    assert (tmp_path / "here").read_text() == "told\n"


@pytest.mark.parametrize(("command", "problem"), [(("false",), "exit status 1"), (("/nowhere",), "No such file")])
def test_a_command_that_fails_harms_nobody(command: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    told = notices(tmp_path, NotifyTable(command=command))
    end(told)
    (notice,) = told.of("r1")
    assert notice.state == "failed"
    assert problem in str(notice.problem)


def test_too_many_rejects_are_an_event_of_their_own(tmp_path: Path) -> None:
    with receiving() as receiver:
        both = NotifyTable(on=("failure", "rejects"), url=receiver.url)
        told = notices(tmp_path, both, NotifyTable(on=("rejects",), url=receiver.url))
        end(told, code="too_many_rejects")
        assert [json.loads(body)["event"] for _, body in receiver.taken] == ["rejects", "rejects"]
        end(told, replace(ENDED, id="r2"))
        assert json.loads(receiver.taken[-1][1])["event"] == "failure"
        assert len(receiver.taken) == 3


def test_what_a_crash_left_is_delivered_later_and_never_for_another_end(tmp_path: Path) -> None:
    with receiving() as receiver:
        store = SqliteStore(tmp_path / "state.db")
        for run in ("r1", "r2", "r3"):
            store.ask(replace(QUEUED, id=run, slot=run))
        first = notices(tmp_path, NotifyTable(on=("failure", "success"), url=receiver.url))
        for _ in range(3):
            claimed = store.claim("me", 100.0, 30.0, one_per_job=False)
            assert claimed is not None
            first.prepare(claimed, "failed")
            if claimed.id != "r3":
                store.finish(claimed, "failed" if claimed.id == "r1" else "succeeded", 110.0)
        second = notices(tmp_path, NotifyTable(on=("failure", "success"), url=receiver.url))
        second.recover(store)
        second.join(60)
        assert [json.loads(body)["run"] for _, body in receiver.taken] == ["r1"]
        assert [each.state for run in ("r1", "r2", "r3") for each in second.of(run)] == ["delivered", "prepared"]
        second.recover(store)
        second.join(60)
        assert len(receiver.taken) == 1
        store.close()


def test_lateness_is_told_at_once(tmp_path: Path) -> None:
    with receiving() as receiver:
        told = notices(tmp_path, NotifyTable(on=("late",), url=receiver.url))
        told.late(replace(QUEUED, status="running"))
        until(lambda: receiver.taken)
        told.join(60)
        assert json.loads(receiver.taken[0][1])["event"] == "late"


def test_a_known_signature() -> None:
    """openssl dgst -sha256 -hmac key <<< says the same of '1700000000.{}' (without a line's end)."""
    right = hmac.digest(b"key", b"1700000000.{}", "sha256").hex()
    assert signature(b"key", b"{}", 1_700_000_000) == f"t=1700000000,v1={right}"
