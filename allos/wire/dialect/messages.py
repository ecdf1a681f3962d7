"""Messages in the order and form that a service takes."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from allos.messages import Note
from allos.wire.dialect.values import Dialect, ResponsesDialect

__all__ = ["adapted", "adapted_items"]

Messages = list[dict[str, Any]]


def adapted(messages: Messages, dialect: Dialect, notes: list[Note]) -> Messages:
    """The messages as this endpoint takes them."""
    messages = _with_pictures_after_tools(messages, notes)
    if not dialect.developer_role:
        messages = _without_developer(messages, "messages", notes)
    messages = _without_emptiness(messages, dialect, notes)
    if dialect.system_messages != "any":
        messages = _system_first(messages, dialect.system_messages == "one", notes)
    if dialect.alternation:
        messages = _taking_turns(messages, notes)
    if dialect.string_content:
        messages = _with_strings(messages, dialect.string_content, notes)
    if dialect.tool_call_id_length is not None:
        messages = _with_short_ids(messages, dialect.tool_call_id_length, notes)
    if not dialect.json_arguments:
        messages = _with_json_arguments(messages, notes)
    if dialect.reasoning_filler is not None:
        messages = _with_reasoning(messages, dialect.reasoning_replay, dialect.reasoning_filler, notes)
    if dialect.prefix_field and messages and messages[-1].get("role") == "assistant":
        messages = [*messages[:-1], {**messages[-1], dialect.prefix_field: True}]
        notes.append(Note("changed", "messages[]", f"a last message of the assistant needs {dialect.prefix_field!r}"))
    return messages


def adapted_items(items: Messages, dialect: ResponsesDialect, notes: list[Note]) -> Messages:
    """The items of a Responses request as this endpoint takes them."""
    if not dialect.developer_role:
        items = _without_developer(items, "input", notes)
    if not dialect.item_status:
        note = Note("changed", "input[].status", "this service takes no status of earlier items: it was not sent")
        items = _changed(
            items, lambda item: {key: value for key, value in item.items() if key != "status"}, note, notes
        )
    return items


def _changed(
    messages: Messages, change: Callable[[dict[str, Any]], dict[str, Any]], note: Note, notes: list[Note]
) -> Messages:
    """Every message after `change`, with one note if any became another."""
    after = [change(message) for message in messages]
    if after != messages:
        notes.append(note)
    return after


def _with_pictures_after_tools(messages: Messages, notes: list[Note]) -> Messages:
    """A tool message holds only text; what else a tool gave follows its group in a message of the user."""
    after: Messages = []
    waiting: list[Any] = []
    for message in messages:
        if waiting and message.get("role") != "tool":
            after.append({"role": "user", "content": waiting})
            waiting = []
        other = [part for part in _parts(message) if part.get("type") != "text"]
        if message.get("role") == "tool" and other:
            texts = [part for part in _parts(message) if part.get("type") == "text"]
            call = message.get("tool_call_id")
            waiting += [{"type": "text", "text": f"The tool call {call} also gave this:"}, *other]
            message = {**message, "content": texts or "See the next message."}
            notes.append(Note("changed", "messages[].content", "a tool's pictures follow in a message of the user"))
        after.append(message)
    return [*after, {"role": "user", "content": waiting}] if waiting else after


def _without_developer(messages: Messages, place: str, notes: list[Note]) -> Messages:
    note = Note("changed", f"{place}[].role", "this service knows no developer: it is said as system")
    return _changed(
        messages, lambda said: {**said, "role": "system"} if said.get("role") == "developer" else said, note, notes
    )


def _without_emptiness(messages: Messages, dialect: Dialect, notes: list[Note]) -> Messages:
    if not dialect.null_fields:
        note = Note("changed", "messages[]", "this service takes no null: such fields were not sent")
        messages = _changed(
            messages, lambda said: {key: value for key, value in said.items() if value is not None}, note, notes
        )
    if not dialect.empty_assistant:
        kept = [m for m in messages if m.get("role") != "assistant" or m.get("content") or m.get("tool_calls")]
        if len(kept) < len(messages):
            notes.append(Note("left out", "messages[]", "this service takes no empty message of the assistant"))
        messages = kept
    return messages


def _is_system(message: Mapping[str, Any]) -> bool:
    return message.get("role") in ("system", "developer")


def _system_first(messages: Messages, as_one: bool, notes: list[Note]) -> Messages:
    system = [message for message in messages if _is_system(message)]
    others = [message for message in messages if not _is_system(message)]
    if as_one and len(system) > 1:
        system = [{"role": "system", "content": "\n\n".join(_text(message) for message in system)}]
    if [*system, *others] == messages:
        return messages
    notes.append(Note("changed", "messages[]", f"this service takes system messages only {_PLACE[as_one]}"))
    return [*system, *others]


_PLACE = {False: "at the start", True: "as one at the start"}


def _taking_turns(messages: Messages, notes: list[Note]) -> Messages:
    after: Messages = []
    for message in messages:
        last = after[-1] if after else None
        if (
            last is not None
            and last.get("role") == message.get("role")
            and message.get("role") in ("user", "assistant")
        ):
            after[-1] = {**last, **message, "content": _joined(last.get("content"), message.get("content"))}
        else:
            after.append(message)
    if len(after) < len(messages):
        notes.append(Note("changed", "messages[]", "user and assistant must take turns here: neighbours were joined"))
    return after


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, list) or isinstance(second, list):
        return [*_as_parts(first), *_as_parts(second)]
    return "\n\n".join(text for text in (first, second) if text)


def _as_parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _with_strings(messages: Messages, roles: Iterable[str], notes: list[Note]) -> Messages:
    texts = frozenset(roles)

    def plain(message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if message.get("role") not in texts or not isinstance(content, list):
            return message
        if any(part.get("type") != "text" for part in _parts(message)):
            return message
        return {**message, "content": _text(message)}

    note = Note("changed", "messages[].content", "this service takes text as a string and not as a list of parts")
    return _changed(messages, plain, note, notes)


def _with_short_ids(messages: Messages, length: int, notes: list[Note]) -> Messages:
    def renamed(message: dict[str, Any]) -> dict[str, Any]:
        if isinstance(message.get("tool_call_id"), str):
            message = {**message, "tool_call_id": _short_id(message["tool_call_id"], length)}
        if isinstance(calls := message.get("tool_calls"), list):
            calls = [{**call, "id": _short_id(call["id"], length)} if call.get("id") else call for call in calls]
            message = {**message, "tool_calls": calls}
        return message

    note = Note("changed", "messages[].tool_calls[].id", f"this service takes ids of {length} letters and digits")
    return _changed(messages, renamed, note, notes)


_SIGNS = string.digits + string.ascii_letters


def _short_id(given: str, length: int) -> str:
    """An id of that length, the same for the same id; one that fits already stays."""
    if len(given) == length and given.isascii() and given.isalnum():
        return given
    number = int.from_bytes(hashlib.sha256(given.encode("utf-8", "replace")).digest())
    signs = ""
    for _ in range(length):
        number, sign = divmod(number, len(_SIGNS))
        signs += _SIGNS[sign]
    return signs


def _with_json_arguments(messages: Messages, notes: list[Note]) -> Messages:
    """Arguments that a model wrote badly, as the text in an object, so that the conversation can go on."""

    def mended(call: Any) -> Any:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or _is_json(function.get("arguments")):
            return call
        return {**call, "function": {**function, "arguments": json.dumps({"text": function.get("arguments")})}}

    def with_calls(message: dict[str, Any]) -> dict[str, Any]:
        calls = message.get("tool_calls")
        return {**message, "tool_calls": [mended(call) for call in calls]} if isinstance(calls, list) else message

    note = Note("changed", "messages[].tool_calls[].function.arguments", "this service takes only JSON")
    return _changed(messages, with_calls, note, notes)


def _is_json(text: Any) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, TypeError, RecursionError):
        return False


def _with_reasoning(messages: Messages, name: str | None, filler: str, notes: list[Note]) -> Messages:
    def filled(message: dict[str, Any]) -> dict[str, Any]:
        lacks = (
            bool(name)
            and message.get("role") == "assistant"
            and message.get("tool_calls")
            and not message.get(str(name))
        )
        return {**message, str(name): filler} if lacks else message

    note = Note("changed", f"messages[].{name}", "this service wants the field beside every tool call")
    return _changed(messages, filled, note, notes)


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in _parts(message))
