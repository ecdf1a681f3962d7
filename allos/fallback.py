"""Where to ask when the chosen place fails: the order of places, and which of them to leave alone for a while.

Nothing here sends anything; clients of both colours and both doors ask a `Journey` whom to ask next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import openai
import tenacity

from allos.deadline import Deadline
from allos.failures import IncompleteReplyError, is_quota, worded
from allos.messages import Note
from allos.retry import Policy, failure, retry_after
from allos.settings import Target

__all__ = ["MOST_REQUESTS", "NAMES_A_HISTORY", "Circuit", "Journey", "circuits", "moves", "named"]

MOST_REQUESTS = 3  # of one call by default, wherever they go
# The fields by which a request names what a service has kept of the conversation, instead of holding it.
NAMES_A_HISTORY = frozenset({"previous_response_id", "conversation"})
_FAILURES = 3  # so many calls in a row must fail before a place is left alone
_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 300.0


def moves(error: BaseException, quota_codes: Iterable[str] = ()) -> bool:
    """Whether another place may answer what this one did not.

    It may where the service is not reached, not in time, overloaded, out of quota or broken, where it speaks nonsense,
    and where its stream ended before the first word. A refused key (401, 403) and a refused request (400, 404, ...)
    stay where they are: both want mending, and an answer from elsewhere would hide it.
    `quota_codes` are the service's own words for used-up quota.
    """
    if isinstance(error, openai.APIStatusError):
        return is_quota(error, quota_codes) or error.status_code in (408, 429) or error.status_code >= 500
    if isinstance(error, IncompleteReplyError):
        return not error.reply.message.parts  # nothing was shown
    if isinstance(error, openai.APITimeoutError) and (came := getattr(error, "reply", None)) is not None:
        return not came.message.parts
    return isinstance(error, (openai.APIConnectionError, openai.APIResponseValidationError))


class Circuit:
    """Remembers how one place fares, and closes the way to it while it is down.

    After three failed calls in a row, or as long as a service asks for in Retry-After, it is left alone; then one
    call may try it, and each further failure doubles the pause, up to five minutes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._closed_until = 0.0

    def allows(self) -> bool:
        """Whether the place may be asked now; after a pause, one call only is let through to try it."""
        with self._lock:
            now = self._clock()
            if now < self._closed_until:
                return False
            if self._failures >= _FAILURES:
                self._closed_until = now + self._pause
            return True

    def failed(self, wait: float | None = None) -> None:
        """Count a call that the place did not answer; `wait` are the seconds that it asked for."""
        with self._lock:
            self._failures += 1
            if self._failures > _FAILURES:
                self._pause = min(_LONGEST_PAUSE, self._pause * 2)
            pause = self._pause if self._failures >= _FAILURES else 0.0
            asked = min(wait or 0.0, _LONGEST_PAUSE)
            self._closed_until = self._clock() + max(pause, asked)

    def worked(self) -> None:
        """Count a call that the place answered."""
        with self._lock:
            self._failures, self._pause, self._closed_until = 0, _FIRST_PAUSE, 0.0


_circuits: dict[str | None, Circuit] = {}


def circuits(targets: Iterable[Target]) -> list[Circuit]:
    """The circuits of these places, shared by all clients of the process."""
    return [_circuits.setdefault(target.base_url or target.endpoint.alias, Circuit()) for target in targets]


def named(target: Target) -> str:
    """A place by its alias and model, as one writes it into a list of places."""
    return f"{target.endpoint.alias}/{target.model}" if target.model else target.endpoint.alias


class Journey:
    """The way of one call from place to place: `place` is the index of the one to ask now.

    Each place is asked once, in order, and those that are down are passed over while another is left.
    """

    def __init__(
        self, names: Sequence[str], ways: Sequence[Circuit], *, most: int = MOST_REQUESTS, start: int = 0
    ) -> None:
        self._names = names
        self._ways = ways
        self._most = most
        self._asked = 0
        self.told: list[str] = []
        self.place = start
        if len(ways) > 1 and not ways[start].allows() and (other := self._next(start)) != start:
            self.told.append(f"{names[start]} did not answer lately")
            self.place = other

    def worked(self) -> None:
        """Count the answer that came."""
        self._ways[self.place].worked()

    def failed(self, error: BaseException, quota_codes: Iterable[str] = ()) -> bool:
        """Count a failure; True where `place` is now another one, which may be asked at once."""
        if not moves(error, quota_codes):
            if isinstance(error, openai.APIStatusError):
                self.worked()  # a refusal is a sign of life
            return False
        self._asked += 1
        wait = retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else None
        self._ways[self.place].failed(wait)
        following = self._next(self.place)
        if following == self.place or self._asked >= self._most:
            return False
        self.told.append(str(error).partition("\n")[0].rstrip("."))
        self.place = following
        return True

    def _too_slow(self) -> None:
        """Count a place that had all the time of a call and did not answer."""
        if not self.told:
            self._ways[self.place].failed()

    def _next(self, place: int) -> int:
        """The next place that is not down; the same where there is none."""
        later = range(place + 1, len(self._ways))
        return next((index for index in later if self._ways[index].allows()), place)

    def notes(self) -> tuple[Note, ...]:
        """Where the answer came from, if not from the first place."""
        if not self.told:
            return ()
        return (Note("routed", "provider", f"{self._names[self.place]} answered instead: {'; '.join(self.told)}"),)

    def explained(self, error: openai.APIError) -> openai.APIError:
        """The last error, and which places were asked before."""
        return worded(error, f"{error.message[:330]}{self.before}"[:499]) if self.told else error

    @property
    def before(self) -> str:
        """A line for an error that tells of the places asked before; empty where there were none."""
        return f"\nBefore it: {'; '.join(told[:160] for told in self.told)}" if self.told else ""

    def retrying(self, policies: Sequence[Policy], deadline: Deadline) -> dict[str, Any]:
        """The arguments for tenacity: move on where that is possible, else try again as the place's policy says.

        A move needs no wait and no budget, and is no retry.
        """
        first = policies[0]
        if len(self._ways) == 1:
            return first.options(deadline)
        moved, retries = False, 0
        most = max(first.max_retries + 1, min(len(self._ways), self._most))

        def again(state: tenacity.RetryCallState) -> bool:
            nonlocal moved
            error = failure(state)
            if error is None:
                self.worked()
                policies[self.place].budget.give_back(retries)
                return False
            if deadline.is_over:
                self._too_slow()
                return False
            moved = self.failed(error, policies[self.place].quota_codes)
            return moved or policies[self.place].retries(state)

        def wait(state: tenacity.RetryCallState) -> float:
            return 0.0 if moved else policies[self.place].wait(state)

        def stop(state: tenacity.RetryCallState) -> bool:
            nonlocal retries
            if moved:
                return state.attempt_number >= most or deadline.is_over
            retries += 1
            is_last = state.attempt_number >= most or retries > first.max_retries
            return policies[self.place].stops(state, is_last, deadline)

        return {**first.options(deadline), "retry": again, "wait": wait, "stop": stop}
