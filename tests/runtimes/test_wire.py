"""The messages between a process and its model."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from bimodal.rows import Dictionary, Rows
from bimodal.runtimes import wire
from bimodal.runtimes.exits import Life
from bimodal.runtimes.own import Own
from bimodal.runtimes.streams import Inbox

ANSWER = Rows({"x": np.arange(1000.0)})
ALIKE = np.full(16, 1, np.uint8).tobytes()


@contextmanager
def pair(most: int = wire.MOST) -> Iterator[tuple[wire.Line, Own]]:
    """The end that asks, and the one that answers."""
    ours, theirs = socket.socketpair()
    with wire.Line(ours.detach(), most) as asks, Own(theirs.detach()) as answers:
        yield asks, answers


@contextmanager
def asked(most: int = wire.MOST) -> Iterator[tuple[wire.Line, Own]]:
    """The same after a question."""
    with pair(most) as (asks, answers):
        wire.send(asks, {"op": "run"})
        assert wire.receive(answers)[0] == {"op": "run"}
        yield asks, answers


def test_every_kind_of_column_arrives_as_it_left() -> None:
    rows = Rows(
        {
            "floats": np.array([1.5, np.nan, -0.0]),
            "matrix": np.arange(6, dtype=np.float32).reshape(3, 2),
            "transposed": np.arange(6).reshape(2, 3).T,
            "flags": np.array([True, False, True]),
            "times": np.array(["2026-01-01", "NaT", "1969-12-31"], "datetime64[us]"),
            "text": Dictionary.encode(["a", None, "ü"]),
            "values": np.array([1, "x", None], object),
            "labels": np.array(["setosa", "virginica", "setosa"]),
        }
    )
    with pair() as (ours, theirs):
        sender = threading.Thread(target=wire.send, args=(ours, {"op": "run"}, rows))
        sender.start()
        header, arrived = wire.receive(theirs)
        sender.join()
    assert header["op"] == "run"
    assert arrived is not None
    assert list(arrived) == list(rows)
    for name in rows:
        np.testing.assert_array_equal(arrived.array(name), rows.array(name))


def test_an_end_in_the_middle_is_told() -> None:
    with asked() as (asks, answers):
        answers.sendall(b"\x10\x00\x00")
        answers.close()
        with pytest.raises(EOFError):
            wire.receive(asks)


def test_messages_that_wait_behind_each_other_are_read_one_by_one() -> None:
    with asked() as (asks, answers):
        for number in range(3):
            wire.send(answers, {"number": number}, Rows({"x": np.full(2, number)}))
        asks.setblocking(False)
        for number in range(3):
            arriving = wire.Arriving(asks, alone=False)
            assert arriving.read()
            header, rows = arriving.message()
            assert header["number"] == number
            assert rows is not None
            assert rows.array("x").tolist() == [number, number]


def taken(line: wire.Line) -> None:
    """As a call on the event loop takes its answer."""
    arriving = wire.Arriving(line)
    arriving.read()
    arriving.message()


def fed(line: wire.Line) -> None:
    """As the reader of a stream takes its pieces."""
    inbox = Inbox(line)
    inbox.feed(line.recv(1 << 20))
    while inbox.take():
        pass


@pytest.mark.parametrize("take", [taken, wire.receive, fed])
@pytest.mark.parametrize("count", [1, 4, 8, 16])
@pytest.mark.parametrize("place", ["before", "in the head", "in the rows"])
def test_bytes_of_others_make_an_answer_none(take: object, count: int, place: str) -> None:
    with asked() as (asks, answers):
        data = b"".join(wire.framed(answers, {}, ANSWER))
        at = {"before": 0, "in the head": 40, "in the rows": 4000}[place]
        answers.sendall(data[:at] + ALIKE[:count] + data[at:] + bytes(1000))
        with pytest.raises(wire.Garbled):
            take(asks)  # type: ignore[operator]


def test_bytes_behind_an_answer_make_it_none() -> None:
    with asked() as (asks, answers):
        answers.sendall(b"".join(wire.framed(answers, {}, ANSWER)) + b"x")
        with pytest.raises(wire.Garbled):
            taken(asks)


@pytest.mark.parametrize("take", [taken, wire.receive, fed])
def test_the_answer_to_another_question_is_none(take: object) -> None:
    with asked() as (asks, answers):
        wire.send(asks, {"op": "next"})
        wire.send(answers, {"answers": "the first"})
        with pytest.raises(wire.Garbled):
            take(asks)  # type: ignore[operator]


@pytest.mark.parametrize("take", [taken, wire.receive, fed])
@pytest.mark.parametrize("told", [10_000, 1 << 39, (1 << 64) - 1])
def test_no_memory_is_taken_for_the_length_that_a_message_tells(take: object, told: int) -> None:
    with asked(most=9_999) as (asks, answers):
        answers.sendall(wire.START.pack(answers.token, 0, told))
        with pytest.raises(wire.Garbled):
            take(asks)  # type: ignore[operator]


def test_who_waits_for_a_process_hears_of_its_end_whoever_holds_the_connection() -> None:
    with pair() as (asks, _), subprocess.Popen(["sleep", "0.1"], process_group=0) as process:
        life = Life(process, asks)
        assert asks.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            life.add(asks)
