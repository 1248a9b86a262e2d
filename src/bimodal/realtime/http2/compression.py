"""Compressed messages of gRPC: read within a bound, written where the caller compresses its own."""

from __future__ import annotations

import zlib

from bimodal.errors import InputError, TooLarge

CODINGS = {b"gzip": 31, b"deflate": 15}  # zlib's window bits
ACCEPTED = b"identity,deflate,gzip"
LEAST, MOST = 4096, 2**20  # bytes of an answer that is worth the time, and of one that would hold up all others


def inflate(message: bytes, coding: bytes, most: int) -> bytes:
    """The message. Raises TooLarge beyond `most` bytes, InputError for what is not compressed so."""
    reader = zlib.decompressobj(CODINGS[coding])
    try:
        plain = reader.decompress(message, most + 1)
    except zlib.error:
        raise InputError(f"the message is no valid {coding.decode()}") from None
    if len(plain) > most:
        raise TooLarge(f"the message is over {most} bytes when it is decompressed")
    if not reader.eof or reader.unused_data:
        raise InputError(f"the message is no valid {coding.decode()}: it ends too early, or goes on after its end")
    return plain


def deflate(message: bytes, coding: bytes) -> bytes:
    """The message, compressed quickly."""
    writer = zlib.compressobj(1, zlib.DEFLATED, CODINGS[coding])
    return writer.compress(message) + writer.flush()
