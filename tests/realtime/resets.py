"""An attacker: python -m tests.realtime.resets PORT COUNT

Opens calls and resets each at once, on connection after connection (CVE-2023-44487), and says what became of it.
"""

from __future__ import annotations

import socket
import struct
import sys

from bimodal.realtime.http2 import frames
from bimodal.realtime.http2.frames import GOAWAY, PREFACE, Code, rst_stream
from tests.realtime.frames import data, headers, parted

FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/test.Test/Never"),
    (b":authority", b"test"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)
EACH = 1000  # calls of a connection


def main(port: int, count: int) -> None:
    """A thousand calls a connection, of which the server takes what its budget allows."""
    message = b"\0" + struct.pack(">I", 1) + b"x"
    told = PREFACE + frames.settings({})
    for number in range(1, 2 * EACH, 2):
        told += headers(number, FIELDS, frames.END_HEADERS) + data(number, message, frames.END_STREAM)
        told += rst_stream(number, Code.CANCEL)
    sent = thrown = 0
    while sent < count:
        thrown += attack(port, told)
        sent += EACH
    print(f"{sent:,} resets on {sent // EACH:,} connections, {thrown:,} of them told to calm down")
    assert thrown == sent // EACH, "some connections were not ended for it"


def attack(port: int, told: bytes) -> bool:
    """Whether the server ended the connection for it."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(told)
        heard = b""
        while piece := connection.recv(65536):
            heard += piece
    return any(each.kind == GOAWAY and each.code is Code.ENHANCE_YOUR_CALM for each in parted(heard))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
