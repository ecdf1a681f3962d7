"""Responses and conversations for endpoints that keep none: their history is replayed and served from here.

Everything works on JSON bodies as the Responses API writes them, so a turn that one endpoint answered can be
continued on any other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from allos.errors import AllosError
from allos.store import JSON, Item, Store, open_store
from allos.wire import responses
from allos.wire.collect import deltas
from allos.wire.responses.items import fresh_id

__all__ = ["Served", "Sessions", "StateError", "echo", "open_store"]

_STATE_FIELDS = ("previous_response_id", "conversation", "store")
_MOST_LISTED = 100
_USUALLY_LISTED = 20


class StateError(AllosError):
    """A refusal as OpenAI words it: the HTTP status and the error body to answer with."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: JSON = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


@dataclass(frozen=True, slots=True)
class Served:
    """An answer given from here: a body, or the events of a stream."""

    status: int
    body: JSON | None = None
    events: list[JSON] | None = None


def echo(body: Mapping[str, Any]) -> JSON:
    """What a Response says of the state that its request named; an endpoint that was sent the history can't know."""
    named = _conversation_id(body)
    said: JSON = {"previous_response_id": body.get("previous_response_id"), "store": body.get("store") is not False}
    return said if named is None else {**said, "conversation": {"id": named}}


class Sessions:
    """The state of the Responses API on top of a store; it holds nothing itself, so threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # What goes out, and what comes back.

    def knows(self, body: Mapping[str, Any]) -> bool:
        """Whether the history that a request names is kept here."""
        previous, conversation = body.get("previous_response_id"), body.get("conversation")
        if isinstance(conversation, Mapping):
            conversation = conversation.get("id")
        named = ((_response_key, previous), (_conversation_key, conversation))
        return any(one is not None and self._store.get(key(one)) is not None for key, one in named)

    def expand(self, body: Mapping[str, Any]) -> JSON:
        """The request with its whole history as input, for an endpoint that keeps nothing.

        Earlier inputs and outputs come first, in their order; instructions of earlier turns are not carried over.
        Raises `StateError` for an id that is not kept here.
        """
        previous, conversation = body.get("previous_response_id"), _conversation_id(body)
        if previous is not None and conversation is not None:
            raise StateError(
                400,
                "Mutually exclusive parameters. Ensure you are only providing one of: 'previous_response_id' or "
                "'conversation'.",
                code="mutually_exclusive_parameters",
            )
        plain = {name: value for name, value in body.items() if name not in _STATE_FIELDS}
        if previous is not None:
            earlier = self._history(previous)
        elif conversation is not None:
            self._conversation(conversation)
            earlier = self._store.items(_conversation_key(conversation))
        elif any(map(_is_reference, _said(body))):
            earlier = []
        else:
            return plain
        new = [self._resolved(item) for item in _said(body)]
        return {**plain, "input": [*(_replayed(item.data) for item in earlier), *new]}

    def remember(self, body: Mapping[str, Any], response: Mapping[str, Any]) -> None:
        """Keep the turn that a response ended, unless its request says `store: false`.

        `body` is the request as the caller made it. A conversation that it names gets the turn in any case, except
        when the response failed.
        """
        inputs = [_named(self._resolved(item, strict=False)) for item in _said(body)]
        items = [*inputs, *map(_named, _objects(response.get("output"), "output"))]
        conversation = _conversation_id(body)
        if conversation is not None and response.get("status") not in ("failed", "cancelled"):
            self._store.append(_conversation_key(conversation), items)
        response_id = response.get("id")
        if body.get("store") is not False and isinstance(response_id, str):
            record = {"response": {**response, **echo(body), "output": []}, "inputs": len(inputs)}
            self._store.put(_response_key(response_id), record, items)

    def _history(self, response_id: object) -> list[Item]:
        """The items of a response and of all before it, oldest first."""
        turns: list[list[Item]] = []
        seen = set()
        while response_id is not None:
            record = self._store.get(_response_key(response_id))
            if record is None or response_id in seen:  # seen: a server that gives all its responses one id
                raise _no_previous(response_id)
            seen.add(response_id)
            turns.append(self._store.items(_response_key(response_id)))
            response = record["response"]
            if response.get("conversation") is not None:
                turns.append(self._before(response_id, turns[-1], response["conversation"]["id"]))
                break
            response_id = response["previous_response_id"]
        return [item for turn in reversed(turns) for item in turn]

    def _before(self, response_id: object, turn: Sequence[Item], conversation_id: str) -> list[Item]:
        """What a conversation held when a response was made in it."""
        items = self._store.items(_conversation_key(conversation_id))
        own = {item.id for item in turn}
        first = next((index for index, item in enumerate(items) if item.id in own), None)
        if first is None:
            raise _no_previous(response_id)
        return items[:first]

    def _resolved(self, item: JSON, *, strict: bool = True) -> JSON:
        """The item itself in place of a reference to it."""
        if not _is_reference(item):
            return item
        found = self._store.find(str(item.get("id")))
        if found is not None:
            return {**_replayed(found.data), "id": found.id}
        if strict:
            raise StateError(
                404,
                f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is set to false. Try "
                "again with `store` set to true, or remove this item from your input.",
                param="input",
            )
        return item

    # The resources of their own.

    def serve(self, method: str, path: str, query: Mapping[str, Any], body: Mapping[str, Any] | None) -> Served | None:
        """The answer to a call about stored responses and conversations; None for any other call."""
        asked = [method.upper(), *(unquote(step) for step in path.partition("?")[0].strip("/").split("/"))]
        try:
            match asked:
                case [verb, "responses", response_id, *rest]:
                    return self._serve_response(verb, response_id, rest, query)
                case ["POST", "conversations"]:
                    return Served(200, self._begin(body or {}))
                case [verb, "conversations", conversation_id]:
                    return self._serve_conversation(verb, conversation_id, body or {})
                case [verb, "conversations", conversation_id, "items", *rest]:
                    return self._serve_items(verb, conversation_id, rest, query, body or {})
        except StateError as error:
            return Served(error.status, error.body)
        return None

    def _serve_response(self, verb: str, response_id: str, rest: list[str], query: Mapping[str, Any]) -> Served | None:
        key = _response_key(response_id)
        match [verb, *rest]:
            case ["GET"]:
                response = self._response(response_id)
                if str(query.get("stream")).lower() != "true":
                    return Served(200, response)
                after = _whole_number(query, "starting_after", -1)
                return Served(200, events=[event for event in _events(response) if event["sequence_number"] > after])
            case ["GET", "input_items"]:
                count = self._record(response_id)["inputs"]
                return Served(200, _page(self._store.items(key)[:count], query))
            case ["POST", "cancel"]:
                response = self._response(response_id)
                if not response.get("background"):
                    raise StateError(400, "Cannot cancel a synchronous response.")
                return Served(200, response)
            case ["DELETE"]:
                if not self._store.delete(key):
                    raise _no_response(response_id)
                return Served(200, {"id": response_id, "object": "response.deleted", "deleted": True})
        return None

    def _serve_conversation(self, verb: str, conversation_id: str, body: Mapping[str, Any]) -> Served | None:
        key = _conversation_key(conversation_id)
        match verb:
            case "GET":
                return Served(200, self._conversation(conversation_id))
            case "POST":
                changed = {**self._conversation(conversation_id), "metadata": body.get("metadata") or {}}
                self._store.change(key, changed)
                return Served(200, changed)
            case "DELETE":
                if not self._store.delete(key):
                    raise _no_conversation(conversation_id)
                return Served(200, {"id": conversation_id, "object": "conversation.deleted", "deleted": True})
        return None

    def _serve_items(
        self, verb: str, conversation_id: str, rest: list[str], query: Mapping[str, Any], body: Mapping[str, Any]
    ) -> Served | None:
        key = _conversation_key(conversation_id)
        conversation = self._conversation(conversation_id)
        match [verb, *rest]:
            case ["GET"]:
                return Served(200, _page(self._store.items(key), query))
            case ["POST"]:
                items = [_named(self._resolved(item)) for item in _objects(body.get("items"), "items")]
                self._store.append(key, items)
                return Served(200, _list([_listed(item) for item in items]))
            case ["GET", item_id]:
                for item in self._store.items(key):
                    if item.id == item_id:
                        return Served(200, _listed(item))
                raise _no_item(item_id)
            case ["DELETE", item_id]:
                if not self._store.remove(key, item_id):
                    raise _no_item(item_id)
                return Served(200, conversation)
        return None

    def _begin(self, body: Mapping[str, Any]) -> JSON:
        items = [_named(self._resolved(item)) for item in _objects(body.get("items"), "items")]
        conversation: JSON = {
            "id": fresh_id("conv"),
            "object": "conversation",
            "created_at": int(time.time()),
            "metadata": body.get("metadata") or {},
        }
        self._store.put(_conversation_key(conversation["id"]), conversation, items)
        return conversation

    def _record(self, response_id: str) -> JSON:
        record = self._store.get(_response_key(response_id))
        if record is None:
            raise _no_response(response_id)
        return record

    def _response(self, response_id: str) -> JSON:
        record = self._record(response_id)
        made = self._store.items(_response_key(response_id))[record["inputs"] :]
        return {**record["response"], "output": [item.data for item in made]}

    def _conversation(self, conversation_id: str) -> JSON:
        found = self._store.get(_conversation_key(conversation_id))
        if found is None:
            raise _no_conversation(conversation_id)
        return found


def _response_key(response_id: object) -> str:
    return f"responses/{response_id}"


def _conversation_key(conversation_id: object) -> str:
    return f"conversations/{conversation_id}"


def _no_previous(response_id: object) -> StateError:
    message = f"Previous response with id '{response_id}' not found."
    return StateError(400, message, param="previous_response_id", code="previous_response_not_found")


def _no_response(response_id: str) -> StateError:
    return StateError(404, f"Response with id '{response_id}' not found.")


def _no_conversation(conversation_id: str) -> StateError:
    return StateError(404, f"Conversation with id '{conversation_id}' not found.")


def _no_item(item_id: str) -> StateError:
    return StateError(404, f"Item with id '{item_id}' not found.")


def _wrong_type(param: str, expected: str) -> StateError:
    return StateError(400, f"Invalid type for '{param}': expected {expected}.", param=param, code="invalid_type")


# Items: what was said, what is said again, and how a list shows it.

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}
# The kinds of item that a list shows with a status, though an input may leave it out.
_WITH_STATUS = frozenset(_PREFIXES) - {"reasoning"} | {
    "computer_call_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
}


def _conversation_id(body: Mapping[str, Any]) -> str | None:
    named = body.get("conversation")
    if isinstance(named, Mapping):
        named = named.get("id") or named
    if named is not None and not isinstance(named, str):
        raise _wrong_type("conversation", "an id or an object with an id")
    return named


def _said(body: Mapping[str, Any]) -> list[JSON]:
    """The input of a request as a list of items."""
    said = body.get("input")
    if isinstance(said, str):
        return [{"type": "message", "role": "user", "content": said}]
    return _objects(said, "input")


def _objects(items: object, name: str) -> list[JSON]:
    """The objects of a list; raises `StateError` for anything else."""
    if items is None:
        return []
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, Mapping) for item in items):
        raise _wrong_type(name, "an array of objects")
    return [dict(item) for item in items]


def _is_reference(item: JSON) -> bool:
    """Whether an item only names another; its type may be left out."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and item.keys() <= {"id", "type"})


def _named(item: JSON) -> Item:
    """The item with the id that it has, or a new one."""
    known = item.get("id")
    return Item(known if isinstance(known, str) and known else fresh_id(_PREFIXES.get(_kind(item), "item")), item)


def _kind(item: JSON) -> str:
    return str(item.get("type") or "message")


def _replayed(item: JSON) -> JSON:
    """An item as an input may hold it: an output says null where an input must say nothing, and names its maker."""
    return {name: value for name, value in item.items() if value is not None and name != "created_by"}


def _listed(item: Item) -> JSON:
    """An item as a list of the API shows it: complete, and with its content as parts."""
    kind = _kind(item.data)
    shown = {**_replayed(item.data), "id": item.id, "type": kind}
    if kind in _WITH_STATUS:
        shown.setdefault("status", "completed")
    if kind == "message":
        shown["content"] = _parts(shown.get("content", ""), is_output=shown.get("role") == "assistant")
    elif kind == "reasoning":
        shown.setdefault("summary", [])
    elif isinstance(shown.get("output"), list):
        shown["output"] = _parts(shown["output"])
    return shown


def _parts(content: object, *, is_output: bool = False) -> list[JSON]:
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    return [_part(part, is_output=is_output) for part in _objects(parts, "content")]


def _part(part: JSON, *, is_output: bool) -> JSON:
    kind = part.get("type")
    if is_output and kind in ("input_text", "output_text"):
        return {"annotations": [], **part, "type": "output_text"}
    return {"detail": "auto", **part} if kind == "input_image" else part


# Lists.


def _page(items: Sequence[Item], query: Mapping[str, Any]) -> JSON:
    """One page of a list: `limit` items in an `order`, beginning behind the item `after`."""
    limit = _whole_number(query, "limit", _USUALLY_LISTED)
    if not 1 <= limit <= _MOST_LISTED:
        raise _bad_limit(limit)
    order = query.get("order") or "desc"
    if order not in ("asc", "desc"):
        message = f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'."
        raise StateError(400, message, param="order", code="invalid_value")
    ordered = list(items if order == "asc" else reversed(items))
    after = query.get("after")
    if after is not None:
        # The last one counts where a caller gave two items one id: a reader of pages must come to an end.
        places = [place for place, item in enumerate(ordered) if item.id == after]
        if not places:
            raise StateError(400, f"Item with id '{after}' not found.", param="after")
        ordered = ordered[places[-1] + 1 :]
    return _list([_listed(item) for item in ordered[:limit]], has_more=len(ordered) > limit)


def _list(data: list[JSON], *, has_more: bool = False) -> JSON:
    first, last = (data[0]["id"], data[-1]["id"]) if data else ("", "")  # the SDK's types allow no null here
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}


def _whole_number(query: Mapping[str, Any], name: str, default: int) -> int:
    value = query.get(name)
    if value is None:
        return default
    try:
        return int(str(value))
    except ValueError:
        raise _wrong_type(name, "an integer") from None


def _bad_limit(limit: int) -> StateError:
    side, sign, bound = ("maximum", "<=", _MOST_LISTED) if limit > _MOST_LISTED else ("minimum", ">=", 1)
    where = "above" if side == "maximum" else "below"
    message = (
        f"Invalid 'limit': integer {where} {side} value. Expected a value {sign} {bound}, but got {limit} instead."
    )
    return StateError(400, message, param="limit", code=f"integer_{where}_{side[:3]}_value")


# Streams.


_ENDINGS = {"completed": "response.completed", "failed": "response.failed"}


def _events(response: JSON) -> list[JSON]:
    """The events in which a stored response would have been streamed."""
    begun = {**response, "status": "in_progress", "output": []}
    begun |= dict.fromkeys(("usage", "completed_at", "error", "incomplete_details"))
    events: list[JSON] = [{"type": kind, "response": begun} for kind in ("response.created", "response.in_progress")]
    for place, item in enumerate(response["output"]):
        events += _growth(item, place)
    events.append({"type": _ENDINGS.get(str(response.get("status")), "response.incomplete"), "response": response})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _growth(item: JSON, place: int) -> list[JSON]:
    """The events in which one output item grows, until it is what was stored."""
    reply = responses.load_reply({"status": "completed", "output": [item]})
    encoder = responses.Encoder()
    made = [event for delta in deltas(reply) for event in encoder.feed(delta)] + encoder.end(reply)
    events = [{**event, "output_index": place} for event in made if "output_index" in event]
    if not events:  # it holds nothing that could grow
        kinds = ("response.output_item.added", "response.output_item.done")
        return [{"type": kind, "output_index": place, "item": item} for kind in kinds]
    for event in events:
        if "item_id" in event and "id" in item:
            event["item_id"] = item["id"]
    if "id" in item:
        events[0]["item"] = {**events[0]["item"], "id": item["id"]}
    events[-1]["item"] = item
    return events
