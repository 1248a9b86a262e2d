"""The compiled kernels, where there are any: without a compiler at installation the other runtimes serve."""

from __future__ import annotations

from typing import Any

from bimodal.errors import NotCompiled

kernels: Any
try:
    from bimodal.runtimes.exact import kernels
except ImportError:
    kernels = None


def require() -> None:
    """Raise NotCompiled where the kernels were not built."""
    if kernels is None:
        raise NotCompiled(
            "the kernels of the exact engine were not built here: there was no C compiler at installation"
        )
