"""Keeper: the thread of a server's parent process that has its workers serve what stands in the repository, and in the
places of the models that were named.

It does one thing after the other: what a caller asks for, and, where files are followed, what has changed there. A
change that is seen is taken up when the files have stood still from one look to the next.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from bimodal import errors
from bimodal.errors import BimodalError, Conflict, UsageError
from bimodal.realtime.attended import Worker
from bimodal.realtime.control import Ask, Done, States
from bimodal.realtime.named import look
from bimodal.realtime.reload import Reload
from bimodal.realtime.repository import Found, Repository, Stamp
from bimodal.realtime.states import LOADING, READY, UNAVAILABLE, UNLOADING
from bimodal.realtime.stock import Plan, Refused, Stock
from bimodal.realtime.workers import Workers
from bimodal.settings import CONTROLS

log = logging.getLogger("bimodal.repository")

EVERY = 2.0  # seconds between two looks at a folder that is polled
NONE, _, POLL = CONTROLS
PUT_AWAY = "it was unloaded"

if TYPE_CHECKING:
    from bimodal.realtime.shelf import Aliases  # with NumPy, which a server's parent process does without

Look = dict[str, list[tuple[str, str, Stamp]]]


class Keeper:
    """told: the repository as the server's spec has it, None where there is none. named: specs of the models that are
    none of it. follows: what changes in their places is served; else when it is asked for (`refresh`).
    """

    def __init__(
        self,
        told: Mapping[str, Any] | None,
        workers: Workers,
        named: Sequence[Mapping[str, Any]] = (),
        *,
        follows: bool = False,
    ) -> None:
        self.repository = None if told is None else Repository(told["path"])
        self._stock = Stock({}, 0, named) if told is None else Stock(told["loading"], told["versions"], named)
        self._polls = told is not None and told["control"] == POLL
        self._control, self._follows = NONE if told is None else told["control"], follows
        self._fixed = {str(each["name"]) for each in named}
        self._workers = workers
        self._away: set[str] = set()  # names that were unloaded
        self._seen: dict[str, Look] = {}
        self._tried: dict[str, Look] = {}
        self._asks: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._numbers = count(1)
        self._states: dict[tuple[str, str], tuple[str, str]] = {}
        self._opened = False
        self._changes = 0
        self._astray: dict[str, list[str]] = {}
        self._differs: dict[tuple[str, str], str] = {}  # what callers would trip over, by name and version
        self._strangers: set[str] = set()  # names with aliases that are not there
        self._thread = threading.Thread(target=self._run, name="bimodal-repository", daemon=True)
        workers.asked = self._asked

    def start(self) -> None:
        """Load all of the repository; returns when callers may come. What cannot be is told, and left out. Raises why
        where nothing can be, unless the folder is polled.
        """
        if self.repository is not None:
            self._open(self.repository)
        self._asks.put(self._keep)
        self._thread.start()

    def _open(self, repository: Repository) -> None:
        found = {name: each for name, each in repository.look().items() if name not in self._fixed}
        self._carry_out(partial(self._stock.plan, found, self._aliases(), strict=False), *found, together=True)
        if not self.names and not self._polls:
            reasons = [f"{name}: {reason}" for (name, _), (_, reason) in sorted(self._states.items()) if reason]
            told = "; ".join(reasons[:3]) or "it is empty"
            raise errors.ModelError(f"nothing of the repository {repository.folder} can be served: {told}")
        self._opened = True
        self._tell()

    @property
    def names(self) -> list[str]:
        """Of the models of the repository that are served."""
        return [name for name in self._stock.held if name not in self._fixed]

    def close(self) -> None:
        self._asks.put(None)

    def refresh(self) -> None:
        """Have what has changed served, soon."""
        self._asks.put(self._refresh_loudly)

    def begin(self, named: Sequence[Mapping[str, Any]]) -> None:
        """Other workers follow, which begin with these."""
        self._stock.begin(named)
        self._workers.stocked(self._stock.told())
        self._asks.put(self._keep)

    def _asked(self, worker: Worker, ask: Ask) -> None:
        self._asks.put(lambda: self._answer(worker, ask))

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                work = self._asks.get(timeout=EVERY if self._polls or self._follows else None)
            except queue.Empty:
                work = self._poll
            if work is None:
                return
            try:
                work()
            except Exception:
                log.exception("%s cannot be looked at", self._told_place())

    def _keep(self) -> None:
        """What was named is kept, for workers that start again."""
        if self._stock.named:
            for sentence in self._stock.keep():
                log.warning("%s", sentence)
            self._workers.stocked(self._stock.told())

    def _answer(self, worker: Worker, ask: Ask) -> None:
        error = None
        try:
            {"load": self._load, "unload": self._unload}[ask.verb](ask.name)
        except BimodalError as known:
            error = errors.told(known)
            if ask.verb == "load":
                log.warning("a caller's load was refused: %s", " ".join(f"{ask.name}: {known.message}".split()))
        except Exception as unknown:
            log.exception("%s of %s failed", ask.verb, ask.name)
            error = errors.told(BimodalError(f"it could not be done: {type(unknown).__name__}"))
        self._workers.answer(worker, Done(ask.ask, error))

    def _load(self, name: str) -> None:
        repository = self._may(name)
        found = {name: repository.find(name)}
        try:
            aliases = repository.aliases()
        except UsageError as error:  # no fault of the caller's
            told = error.message.replace(f"{repository.folder}/", "")
            raise Conflict(f"a file of the server's repository is wrong, and nothing has changed: {told}") from None
        self._carry_out(lambda: self._stock.plan(found, aliases, strict=True, closely=True), name)
        self._away.discard(name)
        self._tell()

    def _unload(self, name: str) -> None:
        repository = self._may(name)
        if self._polls:
            raise UsageError(
                "this server follows its repository (repository control poll), and would load the model again; take "
                "its folder out of the repository"
            )
        if name not in self._stock.held:
            repository.find(name)  # raises where nothing is known of it
        self._away.add(name)
        self._carry_out(lambda: self._stock.away(name), name, state=UNLOADING)

    def _may(self, name: str) -> Repository:
        if self.repository is None or self._control == NONE:
            raise UsageError("this server loads and unloads nothing (repository control none); restart it to do so")
        if name in self._fixed:
            raise UsageError(
                f"{name} was named when the server was started, and is none of its repository; only what is in the "
                "repository is loaded and unloaded"
            )
        return self.repository

    def _refresh(self, *, closely: bool = False) -> None:
        """Serve what stands in the folder now, but for what cannot be, and what was unloaded. closely: files are read,
        whatever their times say.
        """
        if self.repository is not None:
            found: dict[str, Sequence[Found]] = {
                name: [] if name in self._away else versions
                for name, versions in self.repository.look().items()
                if name not in self._fixed
            }
            found |= {name: [] for name in self.names if name not in found}
            self._take_up(found, self._aliases(), closely=closely)
        self._tell()

    def _refresh_named(self, *, closely: bool = False) -> None:
        """Serve what stands in the places of the models that were named; what cannot be served leaves the old one."""
        found = look(self._stock.named)
        self._take_up(found, {}, closely=closely)
        for sentence in self._stock.lose(found):
            log.warning("%s", sentence)
        self._tell()

    def _take_up(self, found: Mapping[str, Sequence[Found]], aliases: Aliases, *, closely: bool) -> None:
        for name in sorted(found):
            if any(each.path for each in found[name]) or name in self._stock.held:
                try:
                    self._make(self._stock.plan({name: found[name]}, aliases, strict=False, closely=closely))
                except BimodalError as error:
                    log.error("%s: %s", name, error)

    def _refresh_loudly(self) -> None:
        """The same where somebody asked for it, who reads in the log also that nothing has changed."""
        log.info("%s is looked at again", self._told_place())
        before = self._changes
        self._refresh_named(closely=True)
        self._refresh(closely=True)
        if self._changes == before:
            log.info("nothing of it has changed; served are %s", ", ".join(self._stock.held) or "no models")

    def _aliases(self) -> Aliases:
        """As they stand there; a file that is wrong changes nothing. Aliases of models that are not there are told."""
        if self.repository is None:
            return {}
        try:
            aliases = self.repository.aliases()
        except UsageError as error:
            log.error("%s", error)
            return self._stock.aliases
        before, self._strangers = self._strangers, set(aliases) - set(self.repository.look())
        for name in sorted(self._strangers - before):
            log.warning("aliases.toml: %s: no model of that name is in the repository", name)
        return aliases

    def _poll(self) -> None:
        """Take up what has changed and stood still since the last look; what failed is tried again when it changes."""
        if self._follows:
            self._poll_one("named", _stamps(look(self._stock.named)), self._refresh_named)
        if self._polls and self.repository is not None:
            aliases = Found("", "", self.repository.folder / "aliases.toml")
            told = [("", "", aliases.stamp() if aliases.root.is_file() else ())]
            self._poll_one("repository", {**_stamps(self.repository.look()), "": told}, self._refresh)

    def _poll_one(self, which: str, now: Look, refresh: Callable[[], None]) -> None:
        before, self._seen[which] = self._seen.get(which), now
        if now != self._tried.get(which) and now == before:
            self._tried[which] = now
            refresh()

    def _told_place(self) -> str:
        return "what was named" if self.repository is None else f"the repository {self.repository.folder}"

    def _carry_out(self, make: Callable[[], Plan], *names: str, state: str = LOADING, together: bool = False) -> None:
        """Make a change, and tell how it stands meanwhile and afterwards. together: all workers load at once."""
        self._tell(dict.fromkeys(names, state))
        try:
            self._make(make(), together=together)
        except Refused as error:
            self._stock.failed[error.key] = error.reason
            raise
        finally:
            self._tell()

    def _make(self, plan: Plan, *, together: bool = False) -> None:
        """Have all workers make a change, where it is one."""
        if plan.come or plan.gone or plan.aliases != self._stock.aliases:
            reload = Reload(next(self._numbers), plan, self._stock, together=together)
            self._workers.reload(reload)
            self._changes += 1
            self._tell_change(plan, reload)
        known = self._stock.failed
        for (name, version), reason in plan.failed.items():
            if known.get((name, version)) != reason:
                log.error("%s cannot be served: %s", f"{name} {version}".strip(), reason)
        emptied = bool(self.names)
        self._stock.settle(plan)
        if emptied and not self.names:
            log.warning("nothing of %s is served any more", self._told_place())

    def _tell_change(self, plan: Plan, reload: Reload) -> None:
        """A line for each version that came or went."""
        for held in plan.come:
            told = reload.loaded.get(held.key)
            how = f": {told.runtime}, loaded in {told.seconds:.2f} s" if told is not None else ""
            log.info("%s %s is served%s", *held.key, how)
            self._differs.pop(held.key, None)
            if told is not None and told.differs:
                self._differs[held.key] = f"it differs from what was served before: {told.differs}"
                log.warning("%s %s differs from what was served before: %s", *held.key, told.differs)
        for key in plan.gone:
            log.info("%s %s is served no longer", *key)
            self._differs.pop(key, None)
        for name in plan.lineup:
            if plan.aliases.get(name, {}) != self._stock.aliases.get(name, {}):
                aliases = ", ".join(f"{alias} = {version}" for alias, version in plan.aliases.get(name, {}).items())
                log.info("%s has %s", name, f"the aliases {aliases}" if aliases else "no aliases")

    def _tell(self, doing: Mapping[str, str] | None = None) -> None:
        """All workers know of every version that is not served, and why, and of aliases of such versions."""
        states: dict[tuple[str, str], tuple[str, str]] = {}
        astray = self._tell_astray() if doing is None else self._astray
        absent = []
        for key, reason in self._stock.failed.items():
            if key[0] in self._fixed:
                states[key] = (READY, reason)  # what was there before
        for name, versions in self._there().items():
            held = [each.found.version for each in self._stock.held.get(name, ())]
            for each in versions:
                reason = self._stock.failed.get((name, each.version), each.reason)
                if not reason and each.version in held:
                    reason = self._differs.get(self._stock.held[name][held.index(each.version)].key, "")
                if held[-1:] == [each.version]:
                    reason = "; ".join([told for told in (reason, *astray.get(name, ())) if told])
                does = (doing or {}).get(name)
                if each.path is not None and does == (UNLOADING if each.version in held else LOADING):
                    states[name, each.version] = (does, "")
                elif each.version in held:
                    if reason:
                        states[name, each.version] = (READY, reason)
                else:
                    states[name, each.version] = (UNAVAILABLE, reason or self._why(name))
            wanted = name not in self._away and name not in self._fixed and any(each.path for each in versions)
            if wanted and not held:
                absent.append(name)
        self._states = states
        known = [(*key, *told) for key, told in states.items()]
        self._workers.tell(States(known, not absent, self._opened, absent, next(self._numbers)))

    def _there(self) -> Mapping[str, Sequence[Found]]:
        return {} if self.repository is None else self.repository.look()

    def _tell_astray(self) -> dict[str, list[str]]:
        """Aliases that lead nowhere, each told in the log once, until something about it changes."""
        before, self._astray = self._astray, self._stock.astray()
        for name, sentences in self._astray.items():
            for sentence in sentences:
                if sentence not in before.get(name, ()):
                    log.warning("aliases.toml: %s: %s", name, sentence)
        return self._astray

    def _why(self, name: str) -> str:
        if name in self._fixed:
            return "another model of this name was named when the server was started"
        if name in self._away:
            return PUT_AWAY
        return "newer versions are served" if name in self._stock.held else "it is not loaded"


def _stamps(found: Mapping[str, Sequence[Found]]) -> Look:
    return {
        name: [(each.version, str(each.root), each.stamp()) for each in versions] for name, versions in found.items()
    }


def stocked(told: Mapping[str, Any]) -> tuple[Stock, dict[str, Any]]:
    """What stands in a repository now, for a worker without a parent: the stock, which keeps its copies, and what the
    worker's spec has of it.
    """
    repository, stock = Repository(told["path"]), Stock(told["loading"], told["versions"])
    stock.settle(stock.plan(repository.look(), repository.aliases(), strict=False))
    return stock, stock.told()
