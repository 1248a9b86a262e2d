"""Magic: what a file is by its first bytes, whatever its name says."""

from __future__ import annotations

from bimodal.errors import WrongFormat

MAGIC = {
    b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "an Arrow stream", b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "a zip archive or an Excel file",
}  # fmt: skip
ENDINGS = {"Parquet": ".parquet", "Arrow": ".arrow", "an Arrow stream": ".arrows", "gzip": ".gz", "zstd": ".zst"}


def format_of(head: bytes) -> str | None:
    """The format that begins like this, in words; None for text, and for what is not known."""
    return next((words for magic, words in MAGIC.items() if head.startswith(magic)), None)


def demand_text(name: str, head: bytes) -> None:
    """Raise WrongFormat where a file that should be text begins like another format."""
    found = format_of(head)
    if found is None:
        return
    ending = ENDINGS.get(found)
    add = f"{name}{ending}" if ending in (".gz", ".zst") else f"a name that ends in {ending}"
    remedy = f"give it {add}" if ending else "save it as CSV"
    raise WrongFormat(f"{name} holds {found}, not text as its name says: {remedy}")
