"""The compiled kernels, where there are any: without a compiler at installation the other runtimes serve."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bimodal.errors import NotCompiled


def _kernels() -> Any:
    try:
        return import_module("bimodal.runtimes.exact.kernels")
    except ImportError:
        return None


kernels: Any = _kernels()


def require() -> None:
    """Raise NotCompiled where the kernels were not built."""
    if kernels is None:
        raise NotCompiled("the exact engine's kernels were not built: there was no C compiler at installation")
