"""Stock: what of the repository is served, each version from a copy of its own, and what a change makes of it.

A model is loaded from a private copy of its files: a file that is replaced, or half written, under a running server
changes nothing of what is served, also not when a worker or a model's process has to start again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bimodal.errors import BimodalError, ModelFailed, Overloaded
from bimodal.location import Location
from bimodal.private import PrivateFolder
from bimodal.realtime.named import Named, look
from bimodal.realtime.repository import DEFAULT, Found, Stamp, chosen
from bimodal.realtime.states import astray

if TYPE_CHECKING:
    from bimodal.realtime.shelf import Aliases  # with NumPy, which a server's parent process does without

LINGER = 120.0  # seconds that the copy of a model is kept which is served no longer: it may still have to answer
PAST = 16  # of which there are no more than so many
ROOM = 1024  # names of models that counters are kept of

Key = tuple[str, str]  # name and version


@dataclass(frozen=True, eq=False)
class Held:
    """A version that is or will be served. found: where it is in the repository, or where a named model is. spec,
    folder: of its copy; a model that is served as it was named has none.
    """

    found: Found
    stamp: Stamp
    digest: str
    spec: Mapping[str, Any]
    folder: PrivateFolder | None

    @property
    def key(self) -> Key:
        return self.spec["name"], self.spec["label"] or self.digest[:12]

    @classmethod
    def take(cls, found: Found, loading: Mapping[str, Any]) -> Held:
        """Copy a version aside. Raises what is wrong with it, as far as that is seen without loading it."""
        stamp, folder = found.stamp(), PrivateFolder()
        root = found.copied(folder)
        try:
            spec = _told(found, root, loading)
        except BimodalError as error:
            raise ModelFailed(str(error).replace(str(root), str(found.root))) from None
        return cls(found, stamp, spec["digest"], spec, folder)

    def told(self, message: str) -> str:
        """A message with the place in the repository, not that of the copy."""
        if self.folder is None:
            return message
        return message.replace(str(Path(self.folder.path, self.found.root.name)), str(self.found.root))


def _told(found: Found, copy: Path, loading: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a version's copy."""
    if isinstance(found, Named):
        return found.told(copy)
    assert found.path is not None
    location = Location.find(copy / found.path.relative_to(found.root), name=found.name, **loading)
    return replace(location, label=found.version or None).spec()


@dataclass(eq=False)
class Plan:
    """A change. lineup: of each name that it is about, the versions that will be served, from the oldest on. before:
    those that are. needed: those without which nothing changes. failed: the reasons, by name and the version's folder.
    """

    lineup: dict[str, list[Held]]
    before: Mapping[str, list[Held]]
    aliases: Aliases
    needed: set[Key] = field(default_factory=set)
    failed: dict[Key, str] = field(default_factory=dict)

    @property
    def come(self) -> list[Held]:
        known = {held for versions in self.before.values() for held in versions}
        return [held for versions in self.lineup.values() for held in versions if held not in known]

    @property
    def gone(self) -> list[Key]:
        stay = {held.key for versions in self.lineup.values() for held in versions}
        return [held.key for name in self.lineup for held in self.before.get(name, ()) if held.key not in stay]

    def fail(self, held: Held, message: str) -> None:
        """It cannot be served: what was served before stays. Raises ModelFailed where it is needed."""
        name, version = held.found.name, held.found.version
        reason = held.told(message)
        self.failed[name, version] = reason
        if held.key in self.needed:
            raise Refused(name, held.found, reason)
        self.lineup[name].remove(held)
        _keep(self.lineup[name], self.before.get(name, ()))

    def defaults(self) -> dict[str, str]:
        """The version of each name that answers where none is named."""
        found = {}
        for name, versions in {**self.before, **self.lineup}.items():
            if versions:
                there = [held.key[1] for held in versions]
                named = self.aliases.get(name, {}).get(DEFAULT)
                found[name] = named if named in there else there[-1]
        return found


class Refused(ModelFailed):
    """Something that is needed cannot be served. found: what, None where there is nothing; reason: why."""

    def __init__(self, name: str, found: Found | None, reason: str) -> None:
        version = "" if found is None or not found.version else f", version {found.version},"
        super().__init__(f"{name}{version} cannot be served, and nothing has changed: {reason}")
        self.key = (name, "" if found is None else found.version)
        self.reason = reason


def _keep(lineup: list[Held], before: Sequence[Held]) -> None:
    """Where something failed, what was served before goes on beside what is left."""
    there = {held.found.version for held in lineup}
    lineup[:0] = [held for held in before if held.found.version not in there]


class Stock:
    """held: what is served, by name, from the oldest version to the newest. loading: how models are loaded, as
    `Location.find` takes it. most: versions of a name, besides those that have an alias. named: specs of models that
    the workers begin with, and that are none of the repository.
    """

    def __init__(self, loading: Mapping[str, Any], most: int, named: Sequence[Mapping[str, Any]] = ()) -> None:
        self.held: dict[str, list[Held]] = {}
        self.named = named
        self.failed: dict[Key, str] = {}
        self.aliases: Aliases = {}
        self.counted = [str(each["name"]) for each in named]
        self._loading, self._most = loading, most
        self._past: deque[tuple[float, Held]] = deque()
        self.begin(named)

    def begin(self, named: Sequence[Mapping[str, Any]]) -> None:
        """The workers begin with these, as they stand in the server's spec."""
        self.named = named
        for name, (found,) in look(named).items():
            self.held[name] = [Held(found, found.stamp(), found.spec["digest"], found.spec, None)]

    def keep(self) -> list[str]:
        """Copy aside what the workers began with, for those that start again: its place may hold something else by
        then. Why what cannot be is not, one sentence each.
        """
        lost = []
        for name, versions in list(self.held.items()):
            for held in versions:
                if held.folder is None:
                    try:
                        copied = Held.take(held.found, self._loading)
                    except BimodalError as error:
                        lost.append(f"{name}: a worker that starts again loads it from its place: {error.message}")
                        continue
                    if copied.digest == held.digest:
                        self.held[name] = [replace(copied, stamp=held.stamp)]
        return lost

    def lose(self, found: Mapping[str, Sequence[Found]]) -> list[str]:
        """What was named and stands in its place no more: a sentence for each that is newly so. found: what does."""
        told = []
        for name in {str(each["name"]) for each in self.named} & self.held.keys() - found.keys():
            place = self.held[name][-1].found.root
            reason = f"its file {place} is gone; what was loaded stays"
            if self.failed.get((name, "")) != reason:
                self.failed[name, ""] = reason
                told.append(f"{name}: {reason}")
        return sorted(told)

    def plan(
        self, found: Mapping[str, Sequence[Found]], aliases: Aliases, *, strict: bool, closely: bool = False
    ) -> Plan:
        """What is to be served of these names. strict: their default versions and those with an alias must be.
        closely: files that seem unchanged are read. Raises ModelFailed.
        """
        for name in found:
            self._count(name)
        plan = Plan({}, dict(self.held), {**self.aliases, **{name: aliases.get(name, {}) for name in found}})
        for name, versions in found.items():
            wanted = chosen(versions, plan.aliases[name], self._most)
            needed = _needed(wanted, plan.aliases[name]) if strict else []
            if strict and not wanted:
                raise Refused(name, None, _without(versions))
            self._line_up(plan, name, wanted, needed, closely=closely)
        return plan

    def _line_up(
        self, plan: Plan, name: str, wanted: Sequence[Found], needed: Sequence[Found], *, closely: bool
    ) -> None:
        before = self.held.get(name, [])
        lineup = plan.lineup[name] = []
        complete = True
        for each in wanted:
            try:
                held = self._taken(each, before, closely=closely)
            except BimodalError as error:
                plan.failed[name, each.version] = error.message
                if each in needed:
                    raise Refused(name, each, error.message) from None
                complete = False
                continue
            lineup.append(held)
            if each in needed:
                plan.needed.add(held.key)
        if not complete:
            _keep(lineup, before)

    def _taken(self, found: Found, before: Sequence[Held], *, closely: bool) -> Held:
        """The version as it is served, where nothing has changed; else a new copy."""
        known = next((held for held in before if held.found.version == found.version), None)
        if known is not None and known.stamp == found.stamp() and not (closely and self._differs(found, known)):
            return known
        held = Held.take(found, self._loading)
        return known if known is not None and known.digest == held.digest else held

    def _differs(self, found: Found, known: Held) -> bool:
        """Whether the files hold something else by now."""
        try:
            return str(_told(found, found.root, self._loading)["digest"]) != known.digest
        except BimodalError:
            return True

    def away(self, name: str) -> Plan:
        """A name is served no longer."""
        return Plan({name: []}, dict(self.held), {key: each for key, each in self.aliases.items() if key != name})

    def settle(self, plan: Plan) -> None:
        """The change is made."""
        now = time.monotonic()
        for name, versions in plan.lineup.items():
            self._past.extend((now, held) for held in self.held.get(name, ()) if held not in versions)
            self.held[name] = versions
            self.failed = {key: reason for key, reason in self.failed.items() if key[0] != name}
        self.held = {name: versions for name, versions in self.held.items() if versions}
        self.failed |= plan.failed
        self.aliases = plan.aliases
        while self._past and (now - self._past[0][0] > LINGER or len(self._past) > PAST):
            self._past.popleft()

    def astray(self) -> dict[str, list[str]]:
        """What is wrong with aliases of the models that are served, by name: those of a version that is not."""
        found: dict[str, list[str]] = {}
        for name, aliases in self.aliases.items():
            served = [held.key[1] for held in self.held.get(name, ())]
            for alias, version in aliases.items():
                if served and version not in served:
                    instead = served[-1] if alias == DEFAULT else ""
                    found.setdefault(name, []).append(astray(alias, version, served, instead))
        return found

    def told(self, plan: Plan | None = None) -> dict[str, Any]:
        """The stock as a worker's spec has it; with a plan, as it will be."""
        plan = plan or Plan({}, self.held, self.aliases)
        held = {**plan.before, **plan.lineup}
        return {
            "models": [
                dict(each.spec) for versions in held.values() for each in versions if each.spec not in self.named
            ],
            "aliases": plan.aliases,
            "defaults": plan.defaults(),
            "counted": self.counted,
        }

    def _count(self, name: str) -> None:
        if name not in self.counted:
            if len(self.counted) >= ROOM:
                raise Overloaded(f"{ROOM} names of models were served here, and are counted; start the server again")
            self.counted.append(name)


def _needed(wanted: Sequence[Found], aliases: Mapping[str, str]) -> list[Found]:
    """The default version, and those that have an alias."""
    default = next((each for each in wanted if each.version == aliases.get(DEFAULT)), None)
    newest = list(wanted[-1:]) if default is None else [default]
    return [*newest, *[each for each in wanted if each.version and each.version in aliases.values()]]


def _without(versions: Sequence[Found]) -> str:
    reasons = "; ".join(f"{each.version}: {each.reason}" if each.version else each.reason for each in versions[-3:])
    return f"there is no model to load ({reasons})"
