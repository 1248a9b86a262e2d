"""The messages between a process and its model."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from bimodal.rows import Dictionary, Rows
from bimodal.runtimes import wire


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
    ours, theirs = socket.socketpair()
    with ours, theirs:
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
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b"\x10\x00\x00")
        ours.close()
        with pytest.raises(EOFError):
            wire.receive(theirs)


def test_messages_that_wait_behind_each_other_are_read_one_by_one() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for number in range(3):
            wire.send(ours, {"number": number}, Rows({"x": np.full(2, number)}))
        theirs.setblocking(False)
        for number in range(3):
            arriving = wire.Arriving(theirs, alone=False)
            assert arriving.read()
            header, rows = arriving.message()
            assert header["number"] == number
            assert rows is not None
            assert rows.array("x").tolist() == [number, number]
