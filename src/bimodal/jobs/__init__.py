"""Jobs: batch plans with a name and a schedule, and their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bimodal.jobs.running import Jobs, backfill, cancel, history, run, show
    from bimodal.jobs.running import list_jobs as list  # noqa: A004 - as the command is called

__all__ = ["Jobs", "backfill", "cancel", "history", "list", "run", "show"]

_HOMES = {name: name for name in __all__} | {"list": "list_jobs"}


if not TYPE_CHECKING:  # a type checker must see that a misspelt name is not there

    def __getattr__(name: str) -> object:
        """Import a public name when it is asked for: the rooms below this one are imported by way of this file."""
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'bimodal.jobs' has no attribute {name!r}")
        return getattr(import_module("bimodal.jobs.running"), _HOMES[name])

    def __dir__() -> object:
        """Of use to whoever looks around: the functions, too, before they are imported."""
        return sorted({*globals(), *__all__})
