"""When to try again, how long to wait before it, and when to give up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from scgenept_rt.download.errors import AskedToWaitError, UnreachableError
from scgenept_rt.errors import pluralize

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """Bounds of trying again.

    Attributes
    ----------
    attempts
        Attempts in a row that may bring nothing new.
    most_attempts
        Attempts in all, however much they bring.
    first_wait
        Seconds before the second attempt; doubles with each further one.
    longest_retry_after
        Seconds that a server may ask to wait (Retry-After) before that is an error.
    sleep
        What waits; tests put a recorder here.
    """

    attempts: int = 5
    most_attempts: int = 100
    first_wait: float = 1.0
    longest_retry_after: float = 120.0
    sleep: Callable[[float], None] = time.sleep


class TransientError(Exception):
    """A failure that may pass; `wait` is what the server asks for, 0 to try at once, None for the usual wait."""

    def __init__(self, problem: str, *, wait: float | None = None, status: int = 0) -> None:
        self.problem, self.wait, self.status = problem, wait, status
        super().__init__(problem)


class Retries:
    """Counts the failed attempts at one address."""

    def __init__(self, policy: RetryPolicy, url: str, say: Callable[[str], None]) -> None:
        self._policy, self._url, self._say = policy, url, say
        self._in_a_row = self._in_all = 0
        self._most_bytes = 0

    def wait_after(self, failure: TransientError, n_bytes: int = 0) -> None:
        """Wait before the next attempt; `n_bytes` of the file are here by now.

        Raises
        ------
        UnreachableError
            If too many attempts in a row brought nothing new.
        AskedToWaitError
            If the server asks for a longer wait than the policy allows.
        """
        policy = self._policy
        self._in_all += 1
        # a server without ranges starts again each time: only what is more than ever before counts as new
        self._in_a_row = 0 if n_bytes > self._most_bytes else self._in_a_row + 1
        self._most_bytes = max(self._most_bytes, n_bytes)
        if self._in_a_row >= policy.attempts or self._in_all >= policy.most_attempts:
            raise UnreachableError(self._url, failure.problem, max(self._in_a_row, 1), kept=n_bytes) from failure
        wait = failure.wait
        if wait is None:
            wait = policy.first_wait * 2 ** max(self._in_a_row - 1, 0)
        elif wait > policy.longest_retry_after:
            raise AskedToWaitError(self._url, failure.status, wait, policy.longest_retry_after) from failure
        here = f", {pluralize(n_bytes, 'byte is', 'bytes are')} here" if n_bytes else ""
        self._say(f"{failure.problem}{here}; trying again" + (f" in {wait:,.0f} s" if wait else ""))
        if wait:
            policy.sleep(wait)


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header: seconds, or a date; None if it is absent or neither."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
