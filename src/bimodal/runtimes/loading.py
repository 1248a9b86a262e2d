"""Loading: starts a process, and has it load a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from bimodal.errors import ModelCrashed, ModelError, retold
from bimodal.formats.contract import Source
from bimodal.runtimes import aside, watch, wire
from bimodal.runtimes.children import Child
from bimodal.runtimes.isolation import NEVER, Isolation, greedy, slow
from bimodal.runtimes.limit import Limit
from bimodal.signature import Signature


@dataclass(frozen=True)
class Report:
    """What the child found when it loaded the model."""

    signature: Signature
    versions: dict[str, str]
    warnings: tuple[str, ...]
    facts: dict[str, Any]
    costs: dict[int, float]  # seconds of one call, by number of rows
    compiles: bool = False  # it may have a compiled form
    streams: int = 0  # answers in pieces side by side
    hindrance: str = ""  # why its process cannot be forked
    holds: int | None = None  # bytes of memory
    device: bool = False  # it uses one with memory of its own


class Loading:
    """How one model is loaded, again and again."""

    def __init__(self, kind: str, source: Source, isolation: Isolation) -> None:
        self.allowed = isolation.allowed
        self._ask = {
            "op": "load",
            "format": kind,
            "source": msgspec.to_builtins(source),
            "memory": self.allowed,
            "mother": isolation.spare != NEVER,
        }
        self._load = isolation.load
        self._patience = source.patience or Limit.FIRST
        self._untried: tuple[str, ...] = ()

    @property
    def tried(self) -> bool:
        """Whether the model took the rows that loading makes up, or was not given any to die of."""
        return bool(self._ask["source"]["tried"])

    def start(self) -> tuple[Child, Report]:
        """A model that dies or hangs on the rows that loading makes up is loaded once more without them."""
        child = Child()
        watch.over(child, self.allowed)
        if self.allowed is not None:
            child.socket.most = self.allowed
        patience, trying = self._load, False
        try:
            child.socket.settimeout(patience)
            wire.send(child.socket, {**self._ask, "aside": aside.wanted()})
            header, _ = wire.receive(child.socket)
            if "trying" in header:
                patience, trying = self._patience, True
                child.socket.settimeout(patience)
                header, _ = wire.receive(child.socket)
        except TimeoutError as error:
            child.kill()
            child.end()
            if trying:
                return self._start_untried(f"gave no answer within {patience:.3g} s")
            raise ModelError(slow(patience)) from error
        except (EOFError, OSError) as error:
            fate = child.fate(error)
            child.end()
            if trying:
                return self._start_untried(fate)
            raise ModelCrashed(f"the process that loaded the model {fate}") from error
        if "error" in header:
            child.end()
            raise retold(header["error"])
        if self.allowed is not None and (header["holds"] or 0) > self.allowed:  # loaded between two looks of the watch
            child.end()
            raise ModelCrashed(f"the process that loaded the model {greedy(self.allowed)}")
        child.socket.settimeout(None)
        child.streaming = bool(header["streams"])
        return child, self._report(header)

    def _report(self, header: dict[str, Any]) -> Report:
        return Report(
            Signature.retold(header["signature"]),
            header["versions"],
            (*header["warnings"], *self._untried),
            header["facts"],
            {int(count): seconds for count, seconds in header["costs"]},
            header["compiles"],
            header["streams"],
            header["hindrance"],
            header["holds"],
            header["device"],
        )

    def _start_untried(self, fate: str) -> tuple[Child, Report]:
        self._ask["source"]["tried"] = False
        told = f"on a row that was made up to try the model, its process {fate}; it is loaded without a trial"
        self._untried = (f"{told}, and shows what it answers when it is called; --sample FILE has rows that it takes",)
        return self.start()
