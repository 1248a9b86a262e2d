"""States of a model in the repository, and what may be asked of it: the words of the Open Inference extension."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bimodal.errors import UsageError

READY, LOADING, UNLOADING, UNAVAILABLE = "READY", "LOADING", "UNLOADING", "UNAVAILABLE"

NO_REPOSITORY = (
    "this server has no repository, so models cannot be loaded or unloaded; start it with a folder of models: "
    "bimodal serve FOLDER"
)
STATISTICS = "stats"  # no model is called so: the protocol has the statistics of all models at /v2/models/stats
TAKEN = (
    f"no model can be served under the name {STATISTICS!r}: /v2/models/{STATISTICS} is the statistics of all models; "
    "call its file or its folder otherwise, or name it in bimodal.toml"
)

_folders = re.compile(r"(?<![\w.:/~-])/(?!v[12]/)(?:[^/\n:;'\"]+/)+(?=[^/\s])").sub  # of absolute paths, but no routes
_SHOWN = 8  # versions told in a sentence


def entry(name: str, version: str, state: str, reason: str = "") -> dict[str, str]:
    """One line of the index. version: empty where it has none before it is loaded."""
    told = {"name": name, "version": version, "state": state, "reason": without_folders(reason)}
    return told if version else {key: value for key, value in told.items() if key != "version"}


def without_folders(reason: str) -> str:
    """A reason as callers are told it: files by their names alone. The log has the places."""
    return _folders("", reason)


def astray(alias: str, version: str, served: Sequence[str], instead: str = "") -> str:
    """What is wrong with an alias of a version that is not served. instead: the version that answers in its place."""
    shown = ", ".join(served[:_SHOWN]) + (f" and {len(served) - _SHOWN} more" if len(served) > _SHOWN else "")
    there = f"served {'is' if len(served) == 1 else 'are'} {shown}"
    told = f"the alias {alias!r} names version {version!r}, which is not served; {there}"
    return f"{told}; where none is named, {instead} answers" if instead else told


def check_load(name: str, parameters: Mapping[str, Any]) -> None:
    """Raises UsageError for what would bring a model, or its settings, from somewhere else than the repository."""
    for key in parameters:
        if key == "config" or key.startswith("file:"):
            raise UsageError(
                f"the parameter {'config' if key == 'config' else 'file:…'} is refused: only what stands in the "
                "repository is loaded, so that nobody who can reach the server can bring a model of his own; put the "
                "files into the repository, and load the model without it"
            )
        raise UsageError("load takes no parameters: it loads the model as it stands in the repository")


def check_unload(parameters: Mapping[str, Any]) -> None:
    """unload_dependents is taken and changes nothing: no model here depends on another."""
    for key, value in parameters.items():
        if key != "unload_dependents":
            raise UsageError("unload takes the parameter unload_dependents alone")
        if not isinstance(value, bool):
            raise UsageError("the parameter unload_dependents is true or false")
