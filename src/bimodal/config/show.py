"""Show: every value of a configuration and where it comes from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bimodal import settings
from bimodal.config.findings import dotted
from bimodal.config.lines import Key
from bimodal.config.reading import Reading


@dataclass(frozen=True)
class Shown:
    """A key, its value as `read` gives it (a secret is its reference), and where that comes from: `option`, the name
    of a variable, `bimodal.toml:12`, or `default`.
    """

    key: str
    value: Any
    origin: str


def shown(
    reading: Reading, given: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
) -> list[Shown]:
    """given: options by the name of their setting, as a command was called with them."""
    lines = _Lines(reading)
    config = reading.config
    values = [Shown("state", config.state, lines.origin(("state",)))]
    values += [_setting(each, given or {}, environment, lines) for each in settings.SERVE]
    for section, tables in (("models", config.models), ("jobs", config.jobs)):
        for name, table in tables.items():
            values += _table(table, (section, name), lines)
    return values


class _Lines:
    def __init__(self, reading: Reading) -> None:
        self.server = reading.config.server
        self._given = reading.given
        self._name = reading.config.path.name if reading.config.path else ""

    def origin(self, key: Key) -> str:
        line = self._given.get(key)
        return "default" if line is None else f"{self._name}:{line}"


def _setting(
    setting: settings.Setting, given: Mapping[str, Any], environment: Mapping[str, str], lines: _Lines
) -> Shown:
    value = settings.resolve(setting, given.get(setting.name), environment, lines.server)
    if given.get(setting.name) is not None:
        origin = "option"
    elif setting.variable in environment:
        origin = setting.variable
    else:
        origin = lines.origin(("server", setting.name))
    return Shown(f"server.{setting.name}", value, origin)


def _table(table: Any, key: Key, lines: _Lines) -> Iterator[Shown]:
    for each in dataclasses.fields(table):
        value, inner = getattr(table, each.name), (*key, each.name)
        tables = value if isinstance(value, tuple) else ()
        if dataclasses.is_dataclass(value):
            yield from _table(value, inner, lines)
        elif tables and all(dataclasses.is_dataclass(one) for one in tables):
            for place, one in enumerate(tables):
                yield from _table(one, (*inner, place), lines)
        else:
            yield Shown(dotted(inner), value, lines.origin(inner))
