"""Entrance: what stands between the address of a server and those who reach it. Decided before anything listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bimodal import keys
from bimodal.errors import UsageError
from bimodal.realtime.hosts import is_loopback

OPEN = (
    "any machine that reaches {host} may use the models, change them and read the metrics, without a key (--insecure); "
    "`bimodal keys add NAME` closes it"
)
CLEAR = (
    "keys and data travel in clear text to {host}: add --tls-cert FILE, or let a proxy in front end TLS and be "
    "the only one that reaches this port"
)
EMPTY = "no key in {keys} is live: all but health is refused; `bimodal keys add NAME --keys {keys}` makes one"
EXPOSED = "other users of this machine may read {keys}: chmod 600 {keys}"


@dataclass(frozen=True)
class Entrance:
    """host: the address listened on. keys: path of a file. mutual: callers show certificates. secure: TLS. insecure:
    whoever reaches the address may come in.
    """

    host: str
    keys: str | None = None
    secure: bool = False
    mutual: bool = False
    insecure: bool = False

    def check(self) -> None:
        """Raises UsageError for an address that other machines reach, where nothing is asked of them; and what keeps
        the keys from being read.
        """
        live = self.live
        if self.is_local or self.mutual or self.insecure or live:
            return
        lacks = "" if self.keys is None else f" (no key in {self.keys} is live)"
        raise UsageError(
            f"host {self.host} can be reached from other machines, and anybody there could use the models{lacks}: stay "
            "on 127.0.0.1, ask for a key (bimodal keys add NAME) or a certificate (--tls-client-ca FILE), or add "
            "--insecure if the network is trusted"
        )

    @property
    def live(self) -> int:
        """How many keys are taken."""
        now = datetime.now(UTC)
        return 0 if self.keys is None else sum(each.live(now) for each in keys.load(self.keys))

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    @property
    def warning(self) -> str | None:
        """What everybody is told who asks whether the server is ready."""
        if self.is_local or self.mutual or self.keys is not None:
            return None
        return OPEN.format(host=self.host)

    def warnings(self) -> list[str]:
        """What the operator should know."""
        told = [] if self.warning is None else [self.warning]
        if self.keys is not None:
            told += [CLEAR] if not (self.secure or self.is_local) else []
            told += [] if self.live else [EMPTY]
            told += [EXPOSED] if keys.is_exposed(self.keys) else []
        return [each.format(host=self.host, keys=self.keys) for each in told]

    def guard(self, told: Mapping[str, Any], names: Sequence[str] = ()) -> dict[str, Any]:
        """What a worker's guard is made of (`guard.guard_of`). told: the settings. names: of the certificate."""
        return {
            **told,
            "address": self.host,
            "hosts": [*told.get("hosts", ()), *names],
            "certified": self.mutual,
            "secure": self.secure,
            "warning": self.warning,
        }
