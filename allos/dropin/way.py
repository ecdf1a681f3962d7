"""A call's way from place to place, where a client has others to ask when its own fails."""

from __future__ import annotations

import json
from typing import Any

import openai

from allos.dropin.answers import like
from allos.dropin.route import Call
from allos.failures import from_transport
from allos.fallback import Journey, circuits, named
from allos.receipts import MARK
from allos.transport import transport_errors

__all__ = ["Way", "failures"]


class Way:
    """The way of one call from place to place, without the sending."""

    def __init__(self, client: Any, request: Any) -> None:
        self._call: Call = request.extensions[MARK]
        self._call.may_move = False
        target = self._call.route.target
        places = [target, *target.fallback]
        self._client, self._request = client, request
        self._journey = Journey([named(place) for place in places], circuits(places))

    def client(self) -> Any:
        """The client of the place to ask now. A local model is started for it where there is none yet."""
        place = self._journey.place
        return self._client._spare(place) if place else self._client

    def request(self, client: Any, arguments: dict[str, Any]) -> Any:
        """What that client has to send; a spare place is sent none of the first one's credentials."""
        if client is self._client:
            return self._request
        arguments.pop("auth", None)
        options, target = self._call.asked, client._route.target
        body = {**options.json_data, **(options.extra_json or {})}
        body["model"] = target.model or body.get("model")
        kept = {} if isinstance(options.headers, openai.NotGiven) else dict(options.headers or {})
        kept = {name: value for name, value in kept.items() if name.lower().startswith(("x-stainless-", "accept"))}
        changed = {"json_data": body, "extra_json": None, "headers": kept, "params": {}}
        return client._build_request(options.model_copy(update=changed))

    def failed(self, error: Exception) -> None:
        """Count an error; raises it where no other place is left."""
        client = self.client()
        said = error if isinstance(error, openai.APIError) else from_transport(error, client._route.target)
        if self._journey.failed(said, _quota_codes(client)):
            return
        if self._journey.told:
            raise self._journey.explained(said) from error
        raise error

    def answered(self, response: Any) -> Any:
        """The response that the program gets; None where another place is to be asked."""
        if response.is_success:
            self._journey.worked()
            response.request.extensions[MARK].exchange.receipt.notes += self._journey.notes()
            return response
        body = _error_of(response.content)
        error = openai.APIStatusError(str(body.get("message", "")), response=response, body=body)
        if self._journey.failed(error, _quota_codes(self.client())):
            return None
        if not self._journey.told:
            return response
        said = {"error": {**body, "message": self._journey.explained(error).message}}
        made = like(response, json.dumps(said).encode())
        made.headers["x-should-retry"] = "false"  # the other places were the retries
        return made


def failures() -> tuple[type[Exception], ...]:
    """What sending may raise where the place is at fault."""
    return (openai.APIError, *transport_errors())


def _quota_codes(client: Any) -> tuple[str, ...]:
    return tuple(client._route.target.endpoint.dialect.quota_codes)


def _error_of(content: bytes) -> dict[str, Any]:
    data = json.loads(content)
    error = data.get("error", data)
    return error if isinstance(error, dict) else {"message": str(error)}
