"""Record: the run record `OUTPUT.run.json`, durable before the output is, and how the output is known by it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bimodal.batch.sinks.durable import put


def write_record(place: Path, report: Mapping[str, Any], output: Path, run: str) -> None:
    """The record of a finished output that is still in the work folder. Raises OSError."""
    told = {**report, "output_file": {"run": run, **stamp(output)}}
    put(place, msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n", output.parent)


def read_record(place: Path, output: Path) -> dict[str, Any] | None:
    """The record, if it can be read and the output is still the one that it was written for."""
    try:
        told: dict[str, Any] = msgspec.json.decode(place.read_bytes(), type=dict[str, Any])
        known = dict(told["output_file"])
        known.pop("run")
        return told if isinstance(told["plan"], dict) and known == stamp(output) else None
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None


def run_of(record: Mapping[str, Any]) -> str:
    """The id of the run that a record tells of."""
    return str(record["output_file"]["run"])


def stamp(output: Path) -> dict[str, Any]:
    """What an output is known by, and a rename does not change: of a file its size in bytes and the time of its last
    change in nanoseconds, of a folder the number of its files, their total size and a digest of their names and sizes.
    """
    if not output.is_dir():
        status = output.stat()
        return {"size": status.st_size, "changed": status.st_mtime_ns}
    names = {each.name: each.stat().st_size for each in output.iterdir()}
    digest = hashlib.sha256(msgspec.json.encode(names, order="sorted")).hexdigest()
    return {"files": len(names), "size": sum(names.values()), "names": digest}
