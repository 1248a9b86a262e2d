"""Magic: what a file is by its first bytes, whatever its name says."""

from __future__ import annotations

import re

from bimodal.dialect import MARKS
from bimodal.errors import WrongFormat

PICKLE = "a pickle of Python"
MAGIC = {
    b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "an Arrow stream", b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "a zip archive or an Excel file",
    **{bytes([0x80, protocol]): PICKLE for protocol in range(2, 6)},
    b"\x89HDF\r\n": "HDF5", b"SQLite format 3\x00": "a database of SQLite", b"%PDF-": "PDF", b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture", b"\x93NUMPY": "an array of NumPy", b"GGUF\x03\x00": "a model (GGUF)",
    b"\x7fELF": "a program", b"BZh91AY&SY": "bzip2", b"\xfd7zXZ": "xz",
}  # fmt: skip
ENDINGS = {"Parquet": ".parquet", "Arrow": ".arrow", "an Arrow stream": ".arrows", "gzip": ".gz", "zstd": ".zst"}
OLD = re.compile(rb"c[\w.]+\n[\w.]+\np\d+\n")  # a pickle of protocol 0: the name of a class, put down in the memo
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # characters that no text has
MOST = 0.05  # of a text, that such may be: a damaged row is set aside, and the others are read


def format_of(head: bytes) -> str | None:
    """The format that begins like this, in words; None for text, and for what is not known."""
    return next(
        (words for magic, words in MAGIC.items() if head.startswith(magic)), PICKLE if OLD.match(head) else None
    )


def is_binary(head: bytes) -> bool:
    """Whether it is no text in any encoding that is told by its mark, or of single bytes. Behind a first line that is
    text, all else is for the rows to say.
    """
    if head.startswith(tuple(mark for mark, _ in MARKS)) or not CONTROL.search(head.partition(b"\n")[0]):
        return False
    return len(CONTROL.findall(head)) > max(3, MOST * len(head))


def demand_text(name: str, head: bytes, encoding: str | None = None, *, wanted: str = "CSV") -> None:
    """Raise WrongFormat where a file that should be text begins like another format, or holds no text.

    encoding: the one that the user says it has. wanted: the format that is read there.
    """
    found = format_of(head) or ("binary data" if encoding is None and is_binary(head) else None)
    if found is None:
        return
    ending = ENDINGS.get(found)
    add = f"{name}{ending}" if ending in (".gz", ".zst") else f"a name that ends in {ending}"
    remedy = f"give it {add}" if ending else f"save it as {wanted}"
    raise WrongFormat(f"{name} holds {found}, not text as its name says: {remedy}")
