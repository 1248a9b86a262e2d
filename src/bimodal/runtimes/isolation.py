"""Isolation: what is asked of the process that a native model runs in."""

from __future__ import annotations

from dataclasses import dataclass

from bimodal import settings
from bimodal.errors import UsageError
from bimodal.runtimes import memory

_, ALWAYS, NEVER = settings.SPARES


@dataclass(frozen=True)
class Isolation:
    """spare: whether another process that has loaded the model is kept ready (`settings.SPARES`). memory: bytes that
    the model may hold; None: a share of what the machine or the container has. load: seconds that it may take to load.
    """

    spare: str = NEVER
    memory: int | None = None
    load: float = settings.LOAD_TIMEOUT.default

    @classmethod
    def of(cls, spare: str, model_memory: int | str | None, load_timeout: float | None = None) -> Isolation:
        """From the values of the settings. Raises UsageError."""
        size = settings.size(model_memory) if isinstance(model_memory, str) else model_memory
        if size is not None and size <= 0:
            raise UsageError(f"model_memory {model_memory}: a model needs some; write it like 2GB or 600MB")
        load = settings.LOAD_TIMEOUT.default if load_timeout is None else load_timeout
        if not load > 0:
            raise UsageError(f"load_timeout {load:g}: a model needs some; write it like 30s or 10 min")
        return cls(settings.spare(spare), size, load)

    @property
    def allowed(self) -> int | None:
        """Bytes; None where the system does not tell what there is."""
        return memory.allowed(self.memory)


APART = Isolation()  # as a batch run has it: no other process is kept ready


def slow(allowed: float) -> str:
    """What is told of a model that took longer to load."""
    return f"the model did not load within {allowed:g} s (load_timeout)"


def greedy(allowed: int) -> str:
    """What is told of a process that wanted more."""
    return f"wanted more than the {memory.told(allowed)} of memory that it may hold (model_memory)"
