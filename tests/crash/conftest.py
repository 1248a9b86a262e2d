"""A zygote for each file of tests, and what its commands read. The shim is loaded as Linux does it: elsewhere nothing
here is collected.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.crash.harness import Bench, Place, Zygote, save_model, save_parts, workshop
from tests.nursery import NAMED

if sys.platform != "linux":
    collect_ignore_glob = ["*.py"]


@dataclass(frozen=True)
class Scene:
    """A room with a zygote, a model and a folder of twelve small files, three of whose 240 rows are refused."""

    home: Path
    zygote: Zygote
    model: Path
    parts: Path
    benches: dict[Place, Bench] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        return [str(self.model), str(self.parts), "--runtime", "exact", "--max-rejects", "5", "-q"]

    def bench(self, place: Place) -> Bench:
        """A command with this output; its reference is made once."""
        if place not in self.benches:
            self.benches[place] = Bench(self.zygote, place, self.words, self.home)
        self.benches[place].earlier = {}
        return self.benches[place]


@pytest.fixture(scope="module", autouse=True)
def _started_anew() -> Iterator[None]:
    """Who is killed here, and what is left of it, is as a user has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(NAMED)
        yield


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with workshop() as (home, zygote):
        yield Scene(home, zygote, save_model(home / "model.pkl"), save_parts(home / "parts"))
