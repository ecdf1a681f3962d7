"""From the options to a client, and from its failures to an exit status."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allos.cli import terminal

if TYPE_CHECKING:
    import openai

    from allos.client import Client
    from allos.deadline import Deadline
    from allos.retry import Attempt
    from allos.settings import Target

__all__ = ["chosen_model", "connect"]

NOTEWORTHY_WAIT = 2.0
PATIENCE = 300.0  # seconds without a byte; reasoning models think for minutes between two events
LISTED = 8


@contextmanager
def connect(flags: Mapping[str, Any], *, streamed: bool = False, verbose: bool = False) -> Iterator[Client]:
    """A client for these options; what goes wrong with it ends the command with a message and a status.

    `streamed`: answers are to come piece by piece, so that a long silence means something.
    """
    import openai

    from allos.client import Client

    waits = _Waits(verbose)
    try:
        with Client(**flags, on_unsupported="ignore", on_retry=waits.begin) as client:
            client.wait_by(waits.sleep)
            if streamed:
                for place in client.places:
                    place.target = _impatient(place.target)
            _introduce(client.target, verbose)
            yield client
    except openai.OpenAIError as error:
        raise terminal.Failed(str(error), _status(error)) from error


def _impatient(target: Target) -> Target:
    """The same with the patience of a person, where no timeout is set.

    A server of one's own may be silent longer: it loads a model or reads a long prompt on a slow machine.
    """
    is_known = target.base_url is not None and not target.endpoint.local and target.endpoint.serves(target.base_url)
    return replace(target, timeout=PATIENCE) if target.timeout is None and is_known else target


class _Waits:
    """Shows the waits between two tries: on a terminal a line that counts down and goes away, elsewhere one that stays.

    Short ones are not worth a line, unless all is to be told.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._cause = ""

    def begin(self, attempt: Attempt) -> None:
        """A try failed, and the wait begins."""
        self._cause = str(attempt.error).partition("\n")[0]
        if self._verbose or (attempt.wait >= NOTEWORTHY_WAIT and not terminal.can_redraw()):
            terminal.say(f"Trying again in {attempt.wait:.0f} s: {self._cause}")

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        if seconds >= NOTEWORTHY_WAIT and terminal.can_redraw():
            cause = "" if self._verbose else f": {self._cause}"
            terminal.count_down(seconds, lambda left: f"Trying again in {left} s{cause}")
        else:
            time.sleep(seconds)


@contextmanager
def chosen_model(client: Client, deadline: Deadline, *, verbose: bool = False) -> Iterator[str | None]:
    """The model to ask for where none is named: the only one that the service has.

    None where a model is named already, and where there are several or the service doesn't say: many servers answer
    without a name. One that doesn't is quoted, with the names that it has.
    """
    import openai

    names = _names(client, deadline)
    only = names[0] if len(names) == 1 else None
    if only is not None and verbose:
        terminal.say(f"The model is {only!r}, the only one there.")
    try:
        yield only
    except openai.APIStatusError as error:
        if len(names) < 2 or error.status_code not in (400, 404, 422):
            raise
        listed = f"{', '.join(names[:LISTED])}{', …' if len(names) > LISTED else ''}"
        cause = str(error).partition("\n")[0]
        raise terminal.Failed(f"{cause}\nNo model was named. Choose one with -m: {listed}.", 2) from error


def _names(client: Client, deadline: Deadline) -> list[str]:
    """What there is to choose from where no model is named."""
    import openai

    if client.target.model is not None or client.target.base_url is None:
        return []
    is_only = len(client.places) == 1
    try:
        return client.models(deadline=deadline) if is_only else client._list_models(deadline)
    except openai.APIConnectionError:
        if is_only:
            raise  # who is not reached needs no second question
        return []  # the question itself moves on to the next place
    except openai.APIError:
        return []


def _introduce(target: Target, verbose: bool) -> None:
    """Say where the prompt goes: all of it with `verbose`, else only what the user did not choose."""
    for line in target.why if verbose else target.notices:
        terminal.say(line)


def _status(error: openai.OpenAIError) -> int:
    import openai

    from allos.failures import IncompleteReplyError

    came = getattr(error, "reply", None)
    if isinstance(error, IncompleteReplyError) or (came is not None and came.text):
        return 7
    if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
        return 3
    if isinstance(error, openai.RateLimitError) or getattr(error, "status_code", None) == 402:
        return 4
    return 5 if isinstance(error, openai.APIConnectionError) else 6
