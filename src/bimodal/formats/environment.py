"""The libraries that a model was saved with, compared with those that are here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

PINNED = re.compile(r"\s*([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*==\s*([\w.!+-]+)")
TOOLS = ("mlflow", "mlflow-skinny", "pip", "setuptools", "wheel")  # they save models, and have no part in answers


def drifted(lines: Iterable[str]) -> tuple[str, ...]:
    """One sentence where packages pinned by the lines of a requirements file are here in another major or minor
    version; packages that are not here at all are told when something needs them.
    """
    found = []
    for line in lines:
        pinned = PINNED.match(line)
        if pinned is None or pinned[1].lower() in TOOLS:
            continue
        here = installed(pinned[1])
        if here is not None and release(here) != release(pinned[2]):
            found.append((pinned[1], pinned[2], here))
    if not found:
        return ()
    saved = ", ".join(f"{name} {told}" for name, told, _ in found)
    now = ", ".join(f"{name} {here}" for name, _, here in found)
    command = " ".join(f"{name}=={told}" for name, told, _ in found)
    return (f"saved with {saved}, here is {now}: its answers may differ; to be sure: pip install {command}",)


def release(text: str) -> tuple[int, ...]:
    """Major and minor version: `1.5.2` and `1.5.0rc1` alike give (1, 5)."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("!")[2] or text)[:2])


def installed(package: str) -> str | None:
    """The version that is here; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
