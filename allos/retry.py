"""When to ask again and how long to wait before: one tenacity policy for both colours."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import openai
import tenacity

from allos.deadline import Deadline
from allos.failures import IncompleteReplyError, is_lacking, is_quota, worded

__all__ = ["Attempt", "Budget", "Policy", "budget_for", "failure", "retry_after"]

LONGEST_WAIT = 120.0
_FIRST_WAIT, _WAIT_LIMIT = 0.5, 8.0


def retry_after(headers: Any, now: float | None = None) -> float | None:
    """The seconds that a server asks to wait, from `retry-after-ms` or `Retry-After`; None without a usable value.

    Zero, negative, past and unreadable values count as nothing said.
    https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Retry-After
    """
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    for text, scale in ((milliseconds, 1000.0), (value, 1.0)):
        try:
            seconds = float(text) / scale
        except (TypeError, ValueError):
            continue
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    try:
        seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What `on_retry` is told before a wait: how often was asked, why it failed, and how many seconds will pass."""

    number: int
    error: openai.APIError
    wait: float


class Budget:
    """Retries that many calls share, so that a dead service is asked less than twice a call on average.

    Each call earns half a retry and each retry costs a whole one; a few are there to begin with. Retries that ended
    in an answer are given back.
    """

    def __init__(self, start: float = 10.0) -> None:
        self._left = self._most = start

    def earn(self) -> None:
        """Count one call."""
        with _lock:
            self._left = min(self._most, self._left + 0.5)

    def spend(self) -> bool:
        """Take one retry if there is one."""
        with _lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def give_back(self, retries: int) -> None:
        """Count retries that were worth it."""
        if retries:
            with _lock:
                self._left = min(self._most, self._left + retries)


_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child must not inherit a lock that nobody will release
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
_budgets: dict[str, Budget] = {}


def budget_for(base_url: object) -> Budget:
    """The budget of that address, shared by all clients of the process, whatever their kind and key."""
    return _budgets.setdefault(str(base_url).rstrip("/"), Budget())


class Policy:
    """Asks again at most `max_retries` times, and only where a further try can help."""

    def __init__(
        self,
        max_retries: int = 2,
        *,
        on_retry: Callable[[Attempt], None] | None = None,
        budget: Budget | None = None,
        quota_codes: Iterable[str] = (),
    ) -> None:
        self.max_retries = max_retries
        self.on_retry = on_retry
        self.sleep: Callable[[float], None] | None = None  # instead of `time.sleep`
        self.quota_codes = tuple(quota_codes)
        self.budget = budget if budget is not None else Budget()

    def helps(self, error: BaseException) -> bool:
        """Whether the same request may succeed in a moment."""
        if isinstance(error, openai.APIStatusError):
            asked = error.response.headers.get("x-should-retry")
            if asked == "false" or (retry_after(error.response.headers) or 0) > LONGEST_WAIT:
                return False
            if is_quota(error, self.quota_codes) or is_lacking(error):
                return False
            return asked == "true" or error.status_code in (408, 409, 429) or error.status_code >= 500
        if isinstance(error, IncompleteReplyError):
            return not error.reply.message.parts  # nothing was shown
        return isinstance(error, openai.APIConnectionError)

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next try: what the server asked for, else full jitter under a doubling limit."""
        error = failure(state)
        if isinstance(error, openai.APIStatusError) and (asked := retry_after(error.response.headers)) is not None:
            return asked
        return random.uniform(0, min(_WAIT_LIMIT, _FIRST_WAIT * 2**state.attempt_number))  # noqa: S311  # no secret

    def options(self, deadline: Deadline) -> dict[str, Any]:
        """The arguments for `tenacity.Retrying` and `tenacity.AsyncRetrying`, one call each."""
        self.budget.earn()
        return {
            "stop": lambda state: self.stops(state, state.attempt_number > self.max_retries, deadline),
            "wait": self.wait,
            "retry": self.retries,
            "before_sleep": self.tell,
            "reraise": True,
            **({} if self.sleep is None else {"sleep": self.sleep}),
        }

    def retries(self, state: tenacity.RetryCallState) -> bool:
        """Whether a further try may help after what failed."""
        error = failure(state)
        if error is None:
            self.budget.give_back(state.attempt_number - 1)
        return error is not None and self.helps(error)

    def stops(self, state: tenacity.RetryCallState, is_last: bool, deadline: Deadline) -> bool:
        """Whether there is no further try all the same, as the tries, the time or the budget are used up.

        A wait that would pass the deadline is not begun: the error says so at once.
        """
        if is_last or deadline.is_over:
            return True
        if state.upcoming_sleep >= deadline.left:
            _say_no_time(failure(state), state.upcoming_sleep, deadline)
            return True
        return not self.budget.spend()

    def tell(self, state: tenacity.RetryCallState) -> None:
        """Tell who watches of the wait that begins."""
        error = failure(state)
        if self.on_retry is not None and isinstance(error, openai.APIError):
            wait = state.next_action.sleep if state.next_action is not None else 0.0
            self.on_retry(Attempt(state.attempt_number, error, wait))


def failure(state: tenacity.RetryCallState) -> BaseException | None:
    """What the last try raised."""
    return state.outcome.exception() if state.outcome is not None else None


def _say_no_time(error: BaseException | None, wait: float, deadline: Deadline) -> None:
    if isinstance(error, openai.APIError):
        worded(
            error,
            f"{error.message[:380]}\nNot tried again: a wait of {wait:.1f} s would pass the deadline, "
            f"as {deadline.left:.1f} of {deadline.seconds:g} s are left.",
        )
