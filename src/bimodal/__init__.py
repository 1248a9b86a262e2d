"""Bimodal: one trained model, predicted in batch or served in real time, with one answer.

The names below are imported when they are first used, so that `import bimodal` costs next to nothing. One that needs a
library that is not installed says so then (MissingLibrary), with the command that installs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bimodal.advice.advising import advise
    from bimodal.agreement import verify
    from bimodal.batch import predict_batches, predict_file
    from bimodal.client import AsyncClient, Client
    from bimodal.comparison import compare
    from bimodal.field import Field
    from bimodal.model import Model, load
    from bimodal.packing import pack
    from bimodal.realtime.mount import asgi
    from bimodal.realtime.serving import serve
    from bimodal.rows import Rows
    from bimodal.signature import Signature

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "Field",
    "Model",
    "Rows",
    "Signature",
    "__version__",
    "advise",
    "asgi",
    "compare",
    "load",
    "pack",
    "predict_batches",
    "predict_file",
    "serve",
    "verify",
]

_HOMES = {
    "AsyncClient": "bimodal.client",
    "Client": "bimodal.client",
    "Field": "bimodal.field",
    "Model": "bimodal.model",
    "Rows": "bimodal.rows",
    "Signature": "bimodal.signature",
    "advise": "bimodal.advice.advising",
    "asgi": "bimodal.realtime.mount",
    "compare": "bimodal.comparison",
    "load": "bimodal.model",
    "pack": "bimodal.packing",
    "predict_batches": "bimodal.batch",
    "predict_file": "bimodal.batch",
    "serve": "bimodal.realtime.serving",
    "verify": "bimodal.agreement",
}


if not TYPE_CHECKING:  # a type checker must see that a misspelt name is not there

    def __getattr__(name: str) -> object:
        """Import a public name from the module where it lives."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'bimodal' has no attribute {name!r}")
        try:
            value: object = getattr(import_module(home), name)
        except ModuleNotFoundError as error:
            from bimodal.formats.library import missing

            raise missing(error.name or home) from error
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
