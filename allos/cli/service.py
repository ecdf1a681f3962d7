"""From the options to a client, and from its failures to an exit status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from allos.cli import terminal

if TYPE_CHECKING:
    import openai

    from allos.client import Client
    from allos.retry import Attempt
    from allos.settings import Target

__all__ = ["connect"]

NOTEWORTHY_WAIT = 2.0


@contextmanager
def connect(flags: Mapping[str, Any], *, verbose: bool = False) -> Iterator[Client]:
    """A client for these options; what goes wrong with it ends the command with a message and a status."""
    import openai

    from allos.client import Client

    def tell(attempt: Attempt) -> None:
        if verbose or attempt.wait >= NOTEWORTHY_WAIT:
            cause = str(attempt.error).partition("\n")[0]
            terminal.say(f"Trying again in {attempt.wait:.0f} s: {cause}")

    try:
        with Client(**flags, on_unsupported="ignore", on_retry=tell) as client:
            _introduce(client.target, verbose)
            yield client
    except openai.OpenAIError as error:
        raise terminal.Failed(str(error), _status(error)) from error


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
