"""Place: what a report depends on besides the model: its libraries, the processor, Python, Bimodal and its kernels."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import bimodal
from bimodal.runtimes import exact


@cache
def place() -> dict[str, str]:
    """Plain words that are equal where a model's answers must be."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "system": f"{sys.platform} {platform.machine()}",
        "processor": _processor(),
        "bimodal": bimodal.__version__,
        "kernels": _kernels(),
    }


def _processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the processor and a digest of its flags: libraries choose their code by them."""
    try:
        first = path.read_text().partition("\n\n")[0]
    except OSError:
        return platform.processor()
    told = dict(line.partition(":")[::2] for line in first.splitlines())
    lines = {key.strip(): value.strip() for key, value in told.items()}
    flags = " ".join(sorted((lines.get("flags") or lines.get("Features") or "").split()))
    return f"{lines.get('model name', platform.processor())} {hashlib.sha256(flags.encode()).hexdigest()[:12]}"


def _kernels() -> str:
    """The digest of the exact engine's binary, "" where it was not built."""
    folder = Path(next(iter(exact.__path__)))
    built = sorted(each for each in folder.glob("kernels*.*") if each.suffix in (".so", ".pyd"))
    return hashlib.sha256(b"".join(each.read_bytes() for each in built)).hexdigest()[:16] if built else ""


def version(distribution: str) -> str:
    """The installed version, "" where there is none; nothing is imported."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
