"""Shelf: the models that are found now, by name, and by version or alias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bimodal.errors import ModelNotFound
from bimodal.field import listed, nearest
from bimodal.realtime.states import astray

if TYPE_CHECKING:
    from bimodal.realtime.service import Served

Aliases = Mapping[str, Mapping[str, str]]


class Shelf:
    """defaults: the version of each name that answers where none is named; those that came first stand first.
    aliases: other names of versions, by name. All of it changes in one step.
    """

    def __init__(self) -> None:
        self.defaults: dict[str, Served] = {}
        self.aliases: Aliases = {}
        self._chosen: Mapping[str, str] = {}
        self._versions: dict[str, dict[str, Served]] = {}

    def __iter__(self) -> Iterator[Served]:
        return iter([each for versions in self._versions.values() for each in versions.values()])

    @property
    def names(self) -> list[str]:
        return list(self._versions)

    def change(
        self,
        come: Sequence[Served],
        gone: Sequence[Served] = (),
        *,
        aliases: Aliases | None = None,
        chosen: Mapping[str, str] | None = None,
    ) -> None:
        """Those that come take the place of others of their name and version; those that are gone are not found.
        aliases, chosen (the default version of names): from now on; None leaves them.
        """
        versions = {name: dict(each) for name, each in self._versions.items()}
        for served in gone:
            if versions.get(served.model.name, {}).get(served.model.version) is served:
                del versions[served.model.name][served.model.version]
        for served in come:
            versions.setdefault(served.model.name, {})[served.model.version] = served
        self._versions = {name: each for name, each in versions.items() if each}
        if aliases is not None:
            self.aliases = aliases
        if chosen is not None:
            self._chosen = chosen
        self.defaults = {name: self._default(name) for name in self._versions}
        for each in self._versions.values():
            for served in each.values():
                served.versions = tuple(each)

    def _default(self, name: str) -> Served:
        """The one that was chosen, else the one that came last."""
        versions = self._versions[name]
        return versions.get(self._chosen.get(name, "")) or versions[list(versions)[-1]]

    def find(self, name: str, version: str | None = None) -> Served:
        """Raises ModelNotFound naming the nearest."""
        served = self.defaults.get(name)
        if served is None:
            raise ModelNotFound(f"no model of that name is served; {_hint(name, self.names)}")
        if version is None:
            return served
        versions = self._versions[name]
        found = versions.get(version) or versions.get(self.aliases.get(name, {}).get(version, ""))
        if found is None and version in self.aliases.get(name, {}):
            raise ModelNotFound(
                f"the model {name!r}: {astray(version, self.aliases[name][version], self.versions(name))}"
            )
        if found is None:
            there = self.names_of(name)
            more = f"version {there[0]} only" if len(there) == 1 else f"the versions {listed(there)}"
            raise ModelNotFound(f"the model {name!r} is served in {more}")
        return found

    def names_of(self, name: str) -> list[str]:
        """Versions of a model and, after them, the aliases that lead to one of them."""
        versions = self._versions.get(name, {})
        return [*versions, *[alias for alias, to in self.aliases.get(name, {}).items() if to in versions]]

    def versions(self, name: str) -> list[str]:
        """The versions of a model."""
        return list(self._versions.get(name, {}))

    def aliases_of(self, served: Served) -> list[str]:
        """The other names of its version."""
        return [
            alias
            for alias, version in self.aliases.get(served.model.name, {}).items()
            if version == served.model.version
        ]


def _hint(name: str, names: Sequence[str]) -> str:
    if not names:
        return "none is loaded"
    near = nearest(name, list(names))
    return f"did you mean {near!r}?" if near else f"served are {listed(list(names))}"
