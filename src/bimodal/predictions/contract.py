"""PredictionStore: a job's committed result, by key. Written by jobs, read by the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

LONGEST = 4096  # characters of a key that can be asked for


class Edition(msgspec.Struct, frozen=True):
    """One committed result of one job: what all answers from it have in common.

    version: grows with each commit. digest, model: which model scored it, `name/version`. committed: seconds since the
    epoch. kind: of its keys, "int" or "text". outputs: the names of what is stored of each key. fingerprints: whether
    each result knows the row that it was scored from. due: the due time of the run, seconds since the epoch; None
    where it is not known: an edition of an earlier version.
    """

    version: int
    job: str
    run: str
    model: str
    digest: str
    committed: float
    kind: str
    outputs: tuple[str, ...]
    fingerprints: bool
    count: int
    due: float | None = None


class Found(msgspec.Struct, frozen=True, gc=False):
    """A result. body: its outputs as JSON text, an object without its braces: `"prediction":1,"probability":[0.1,0.9]`.
    fingerprint: of the row that was scored; 0 where it is not known.
    """

    body: bytes
    fingerprint: int


class StoreReader(ABC):
    """Reads the current edition. One snapshot an answer: all keys of a request come from one edition.

    prompt: `look` takes microseconds, so an event loop may call it; otherwise it is called beside the loop, from one
    thread at a time.
    """

    prompt = False

    @abstractmethod
    def edition(self) -> Edition | None:
        """The one that counts now; None: there is no result yet. Costs next to nothing."""

    @abstractmethod
    def look(self, keys: Sequence[int | str]) -> tuple[Edition | None, list[Found | None]]:
        """The results of the keys, in their order, of one edition."""

    def find(self, key: int | str) -> tuple[Edition | None, Found | None]:
        """The result of one key."""
        edition, found = self.look((key,))
        return edition, found[0]

    @abstractmethod
    def close(self) -> None: ...


class StoreWriter(ABC):
    """Writes one edition, then makes it the current one in one step."""

    @abstractmethod
    def add(self, keys: Sequence[int | str], bodies: Sequence[bytes], fingerprints: Sequence[int]) -> None:
        """Results, in any order. Keys of one kind: integers of 64 bits, or texts. fingerprints: int64; 0 where unknown.

        Raises InputError for a key that comes twice, here or in `commit` (the row is named, not the key), and for one
        of another kind.
        """

    @abstractmethod
    def commit(self, committed: float) -> Edition:
        """Durable, then current, in one step. An edition whose run is current already is left as it is."""

    @abstractmethod
    def abandon(self) -> None:
        """Leave nothing behind."""
