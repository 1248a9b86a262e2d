"""The one table of settings: an option counts more than the environment (BIMODAL_*), that more than the default.

From this table come the options of the commands, the names in the environment and the page in the reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bimodal.errors import UsageError

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def size(text: str) -> int:
    """Bytes of a text such as 2GB, 600MB, 16MiB or 1048576."""
    word = text.strip().lower()
    number = word.rstrip("bkmgi")
    try:
        return int(float(number) * UNITS[word[len(number) :].strip()])
    except (KeyError, ValueError):
        raise UsageError(f"{text!r} is no size; write it like 2GB or 600MB") from None


def seconds(text: str) -> float:
    """Seconds of a text such as 0.5, 500ms, 10s or 2min."""
    word = text.strip().lower()
    for unit, factor in (("ms", 0.001), ("min", 60.0), ("s", 1.0), ("", 1.0)):
        if word.endswith(unit):
            try:
                return float(word.removesuffix(unit)) * factor
            except ValueError:
                break
    raise UsageError(f"{text!r} is no time; write it like 500ms, 10s or 2min")


def names(text: str) -> tuple[str, ...]:
    """A list of names, separated by commas."""
    return tuple(each.strip() for each in text.split(",") if each.strip())


@dataclass(frozen=True)
class Setting:
    """One setting. read: turns the text of an option or of the environment into the value."""

    name: str
    read: Callable[[str], Any]
    default: Any
    help: str

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"BIMODAL_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"


RUNTIMES = ("auto", "exact", "onnx", "native")


def runtime(text: str) -> str:
    """One of RUNTIMES."""
    if text not in RUNTIMES:
        raise UsageError(f"there is no runtime {text!r}; it is one of {', '.join(RUNTIMES)}")
    return text


RUNTIME = Setting(
    "runtime", runtime, "auto", "What executes the model: auto (the fastest that is proven), exact, onnx or native."
)

SERVE = (
    Setting("host", str, "127.0.0.1", "Address to listen on."),
    Setting("port", int, 8000, "Port to listen on; 0 takes a free one."),
    Setting("workers", int, 1, "Processes that answer; each loads the models for itself."),
    RUNTIME,
    Setting(
        "outputs", names, None, "Outputs that are answered when a request names none, such as prediction,probability."
    ),
    Setting("threshold", float, None, "Probability from which on the second of two classes is predicted."),
    Setting("cors", names, (), "Origins whose pages may call the server, such as https://shop.example."),
    Setting("queue_target", seconds, 0.1, "Longest time that a request may wait in the queue; beyond it: 429."),
    Setting("deadline", seconds, 10.0, "Time within which a request is answered; beyond it: 504."),
    Setting("body_limit", size, 16 * 2**20, "Largest body of a request; beyond it: 413."),
    Setting("row_limit", int, 10_000, "Most rows of a request; beyond it: 413."),
    Setting("header_timeout", seconds, 10.0, "Time for the head of a request to arrive; beyond it: 408."),
    Setting("body_timeout", seconds, 30.0, "Time for the body of a request to arrive; beyond it: 408."),
    Setting("idle_timeout", seconds, 60.0, "Time after which a connection without requests is closed."),
)

PREDICT = (
    RUNTIME,
    Setting(
        "max_rejects", str, "0", "Rejected rows with which the result is still published: a number or a share like 1%."
    ),
    Setting("na", names, None, "What stands for a missing value in CSV (default: the markers that pandas knows)."),
    Setting("memory", size, None, "Memory of all processes of the run together, such as 2GB."),
    Setting("ahead", int, None, "Chunks that are read, predicted or written at once (default: measured)."),
    Setting("call_rows", int, None, "Rows that the model is given in one call (default: measured)."),
    Setting(
        "timeout",
        seconds,
        None,
        "Time for one call of the model; beyond it the rows that hang are looked for (default: measured).",
    ),
)


def table(group: tuple[Setting, ...]) -> Mapping[str, Setting]:
    return {each.name: each for each in group}


def resolve(setting: Setting, given: Any = None, environment: Mapping[str, str] = os.environ) -> Any:
    """The value that counts: the one given, else the environment's, else the default."""
    if given is not None:
        return setting.read(given) if setting is RUNTIME else given
    text = environment.get(setting.variable)
    if text is None:
        return setting.default
    try:
        return setting.read(text)
    except ValueError:
        raise UsageError(f"{setting.variable}={text!r} cannot be read as {setting.read.__name__}") from None
