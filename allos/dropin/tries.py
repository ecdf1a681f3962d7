"""The requests of one call that asks for an object, until it has one: which answer the program gets."""

from __future__ import annotations

from typing import Any

from allos.dropin.route import Call
from allos.receipts import MARK

__all__ = ["Tries"]


class Tries:
    """The responses to one call, without the sending: a further question never costs the answer before it."""

    def __init__(self) -> None:
        self._best: Any = None
        self._last: Any = None

    def took(self, response: Any) -> Call | None:
        """Count a response; what to ask next, where there is more to ask."""
        self._last = response
        if response.is_success and _worth(response) >= _worth(self._best):
            self._best = response
        call: Call = response.request.extensions[MARK]
        return call.again

    def failed(self, error: Exception) -> None:
        """Raise the error, unless an answer had come before."""
        if self._best is None:
            raise error

    @property
    def result(self) -> Any:
        """The response that the program gets."""
        return self._last if self._best is None else self._best


def _worth(response: Any) -> int:
    """What an answer is worth to who wants an object."""
    if response is None:
        return 0
    call: Call = response.request.extensions[MARK]
    ladder = call.exchange.ladder if call.exchange is not None else None
    return 1 if ladder is None or call.reply is None else ladder.worth(call.reply)
