"""Patience: how long and how often one call is tried.

Tried again is what cannot have done anything twice: a connection that was refused; one that was cut before a byte of
the answer, and refusals for want of room (429, 503), where the question is safe. Never after a byte of an answer.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from bimodal.errors import BimodalError, DeadlineExceeded, Overloaded, ServerUnreachable, Unavailable, UsageError

NO_TLS = "it speaks no TLS there; use an address with http:// (or grpc://)"
ASKED = "it asks for a certificate of the caller: cert=(FILE, KEY) shows one"
UNSURE = (
    "if it asks for a certificate of the caller, cert=(FILE, KEY) shows one that it trusts"  # many end without a word
)
UNFIT = "it does not take the certificate that cert names"
ALERTS = {  # what a server says of a caller's certificate (RFC 8446, section 6.2), by the end of OpenSSL's name for it
    "CERTIFICATE_REQUIRED": ASKED,
    "HANDSHAKE_FAILURE": ASKED,  # in TLS 1.2
    "UNKNOWN_CA": "it does not know who signed the certificate that cert names",
    "CERTIFICATE_EXPIRED": "the certificate that cert names has expired",
    "BAD_CERTIFICATE": UNFIT,
    "UNSUPPORTED_CERTIFICATE": UNFIT,
    "CERTIFICATE_UNKNOWN": UNFIT,
    "CERTIFICATE_REVOKED": UNFIT,
}
CLOSED = "the client is closed; make another one"
LONGEST = 1e8  # seconds: about three years, which every timer can hold
FIRST, MOST = 0.05, 1.0  # seconds before the first try again; twice as long before each further one; half by chance


class Cut(Exception):
    """There is no answer, or but a part of it. sent: the question may have arrived. begun: a part of the answer has.
    stale: the connection had been idle, and the other side may have closed it long ago. why: what to tell the caller
    of a server that cannot be reached, where it is known.
    """

    def __init__(
        self, reason: str, *, sent: bool = True, begun: bool = False, stale: bool = False, why: str | None = None
    ) -> None:
        super().__init__(reason)
        self.why = why
        self.sent = sent
        self.begun = begun
        self.stale = stale


class Unwelcome(Cut):
    """The server's TLS does not let this caller in, which no further try will mend."""


def ended(error: BaseException | None, *, begun: bool = False, stale: bool = False, secure: bool = False) -> Cut:
    """The end of a connection. secure: it spoke TLS."""
    unsure = UNSURE if secure and not stale else None
    return unwelcome(getattr(error, "reason", None)) or Cut(
        str(error or "the connection ended"), begun=begun, stale=stale, why=unsure
    )


def unwelcome(words: str | None) -> Unwelcome | None:
    """What a server's alert says of this caller's certificate; None where it is about something else."""
    _, _, alert = (words or "").replace(" ", "_").upper().partition("ALERT_")
    why = next((told for name, told in ALERTS.items() if alert.startswith(name)), None)
    return None if why is None else Unwelcome(why, sent=False, why=why)


def not_reached(error: OSError, host: str) -> Cut:
    """The end of a connection that was never made. Certificates are not judged here."""
    refused = unwelcome(getattr(error, "reason", None))
    if refused is not None:
        return refused
    why = None
    if isinstance(error, socket.gaierror):
        why = unknown(host)
    elif isinstance(error, ssl.SSLError):
        why = NO_TLS
    return Cut(str(error), sent=False, why=why)


def unknown(host: str) -> str:
    """What is told of a name that has no address."""
    return f"the name {host!r} is not known; is it spelled right?"


def checked(timeout: float) -> float:
    """Seconds for one call. Raises UsageError."""
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not 0 < timeout <= LONGEST:
        raise UsageError(f"the timeout is a positive number of seconds, at most {LONGEST:g}, not {timeout!r}")
    return float(timeout)


class Patience:
    """Of one call. timeout: seconds for all of its tries together, of a stream up to its first piece and then for each
    further one; retries: how many may follow the first.
    """

    def __init__(self, timeout: float, retries: int, place: str) -> None:
        self.timeout = timeout
        self.deadline = monotonic() + timeout
        self.place = place
        self._retries = retries
        self._tried = 0
        self._pieces = 0

    @property
    def left(self) -> float:
        """Seconds, above 0. Raises DeadlineExceeded."""
        left = self.deadline - monotonic()
        if left <= 0:
            raise self.late()
        return left

    def late(self) -> DeadlineExceeded:
        what = "give another piece" if self._pieces else "answer"
        return DeadlineExceeded(f"the server at {self.place} did not {what} within {self.timeout:g} s")

    def renew(self) -> None:
        """A piece has come, and another one is asked for."""
        self._pieces += 1
        self.deadline = monotonic() + self.timeout

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Of a stream: what its end before its time means, for want of a piece with what had come."""
        try:
            yield
        except Cut as cut:
            raise self.broken(cut) from cut
        except DeadlineExceeded as error:  # whoever did not wait for it
            came = f"{self._pieces} piece{' had' if self._pieces == 1 else 's had'} come"
            raise DeadlineExceeded(
                f"{error}; {came}; timeout= is for each, and may be raised up to the server's --deadline"
            ) from None

    def distrusted(self, error: ssl.SSLCertVerificationError) -> ServerUnreachable:
        """The server's certificate is not good, which no further try will mend."""
        return ServerUnreachable(
            f"the certificate of the server at {self.place} is not trusted ({error.verify_message}); "
            "verify=PATH names the authorities that are"
        )

    def again(self, error: Cut | BimodalError, *, safe: bool) -> float:
        """Seconds to wait before another try. Raises what is to be told where there is none."""
        if isinstance(error, Cut):
            if isinstance(error, Unwelcome) or error.begun or (error.sent and not safe):
                raise self.broken(error) from error
            if error.stale:
                return 0.0  # no fault of the server: a fresh connection decides
            failed: BimodalError = self.broken(error)
        elif isinstance(error, Overloaded | Unavailable) and safe:
            failed = error
        else:
            raise error
        wait: float = min(MOST, FIRST * 2.0 ** min(self._tried, 10)) * random.uniform(0.5, 1)  # noqa: S311 - no secret
        if isinstance(failed, Overloaded | Unavailable):
            wait = max(wait, float(failed.retry_after))
        self._tried += 1
        if self._tried > self._retries or wait >= self.deadline - monotonic():
            raise failed from error
        return wait

    def broken(self, cut: Cut) -> ServerUnreachable:
        """What a connection's end means to the caller."""
        if isinstance(cut, Unwelcome):
            return ServerUnreachable(f"the server at {self.place} refuses this caller; {cut.why}")
        if cut.begun:
            return ServerUnreachable(f"the server at {self.place} ended its answer in the middle")
        why = "" if cut.why is None else f"; {cut.why}"
        if cut.sent:
            return ServerUnreachable(f"the server at {self.place} closed the connection without an answer{why}")
        why = why or "; is `bimodal serve` running?"
        return ServerUnreachable(f"the server at {self.place} cannot be reached{why}")
