"""A request of the Responses API ⇄ `Request`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from allos.errors import Unsupported
from allos.messages import Item, Message, Note, OutputFormat, Part, Reasoning, Request, Tool, ToolChoice, ToolResult
from allos.wire.names import CHAT_ONLY, pass_on
from allos.wire.responses.items import (
    dump_content,
    dump_output,
    dump_result,
    load_content,
    load_output,
    load_result,
    rest,
)

__all__ = ["dump_format", "dump_request", "dump_tool", "dump_tool_choice", "load_request"]

JSON = Mapping[str, Any]
API = "the Responses API"
_LOGPROBS = "message.output_text.logprobs"
_SAME_NAME = (
    "model",
    "instructions",
    "temperature",
    "top_p",
    "top_logprobs",
    "parallel_tool_calls",
    "metadata",
    "store",
    "service_tier",
    "stream",
)
_KNOWN = {*_SAME_NAME, "input", "max_output_tokens", "tools", "tool_choice", "text", "reasoning", "include"}


def load_request(body: JSON) -> Request:
    """Read the body of `POST /responses`.

    Null and leaving out are the same. Raises `Unsupported` for what is not of the API's form.
    """
    text, reasoning = _mapping(body, "text"), _mapping(body, "reasoning")
    include = _list(body, "include")
    others = [name for name in include if name != _LOGPROBS]
    extra = rest(body, *_KNOWN)
    extra |= {"include": others} if others else {}
    extra |= {"text": more} if (more := rest(text, "format", "verbosity")) else {}
    extra |= {"reasoning": more} if (more := rest(reasoning, "effort", "summary", "generate_summary")) else {}
    return Request(
        messages=tuple(_load_input(body.get("input"))),
        tools=tuple(_load_tool(tool) for tool in _objects(body, "tools")),
        tool_choice=_load_tool_choice(body.get("tool_choice")),
        format=_load_format(text.get("format")),
        max_tokens=body.get("max_output_tokens"),
        logprobs=True if _LOGPROBS in include else None,
        reasoning_effort=reasoning.get("effort"),
        reasoning_summary=reasoning.get("summary", reasoning.get("generate_summary")),
        verbosity=text.get("verbosity"),
        extra=extra,
        **{name: body.get(name) for name in _SAME_NAME},
    )


def _mapping(body: JSON, name: str) -> JSON:
    value = body.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise _wrong_type(name, value, "an object")
    return value or {}


def _list(body: JSON, name: str) -> list[Any]:
    values = body.get(name)
    if values is not None and not isinstance(values, list):
        raise _wrong_type(name, values, "a list")
    return values or []


def _objects(body: JSON, name: str) -> list[JSON]:
    for index, value in enumerate(values := _list(body, name)):
        if not isinstance(value, Mapping):
            raise _wrong_type(f"{name}[{index}]", value, "an object")
    return values


def _wrong_type(name: str, value: object, wanted: str) -> Unsupported:
    return Unsupported(f"{name!r} must be {wanted}, not {value!r:.60}", param=name, code="invalid_type")


def _load_input(given: object) -> Iterator[Message]:
    """The conversation. What the model did between two other items is one message of the assistant."""
    if given is None:
        return
    if isinstance(given, str):
        yield Message("user", load_content(given))
        return
    turn: list[Part] = []
    for item in _objects({"input": given}, "input"):
        message = _load_message(item)
        if turn and (message is not None or _begins_turn(item, turn)):
            yield Message("assistant", tuple(turn))
            turn = []
        if message is not None:
            yield message
        else:
            turn += load_output(item)
    if turn:
        yield Message("assistant", tuple(turn))


def _load_message(item: JSON) -> Message | None:
    """The message that an item is by itself; None where it belongs to the assistant's turn."""
    kind, role = item.get("type"), item.get("role")
    if kind == "message" or (kind is None and role is not None):
        if role == "assistant":
            return None
        if not isinstance(role, str):
            raise Unsupported("A message needs a 'role'", param="input", code="invalid_value")
        return Message(role, load_content(item.get("content")), extra=rest(item, "type", "role", "content"))
    if kind in ("function_call_output", "custom_tool_call_output"):
        return Message("tool", (load_result(item),))
    if isinstance(kind, str) and kind.endswith(("_output", "_response")):
        return Message("tool", (Item(dict(item)),))
    return None


def _begins_turn(item: JSON, turn: list[Part]) -> bool:
    """Whether this item of the assistant can't follow what the turn already holds."""
    if item.get("type") == "reasoning":
        return not all(isinstance(part, Reasoning) for part in turn)
    is_message = item.get("type", "message") == "message"
    return is_message and not all(isinstance(part, (Reasoning, Item)) for part in turn)


def _load_tool(tool: JSON) -> Tool:
    """A tool. `extra["strict"]` says that a function left `strict` to this API, where that does not mean false."""
    kind = str(tool.get("type", "function"))
    name = str(tool.get("name") or kind)
    if kind == "function":
        extra = rest(tool, "type", "name", "description", "parameters", "strict")
        if tool.get("strict") is None:
            extra["strict"] = None
        return Tool(name, tool.get("description"), tool.get("parameters"), tool.get("strict"), extra=extra)
    if kind == "custom":
        extra = rest(tool, "type", "name", "description", "format")
        return Tool(name, tool.get("description"), kind=kind, format=tool.get("format"), extra=extra)
    return Tool(name, kind=kind, extra=rest(tool, "type"))


def _load_tool_choice(choice: object) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        return ToolChoice(choice)
    if not isinstance(choice, Mapping):
        raise _wrong_type("tool_choice", choice, "a name or an object")
    kind = str(choice.get("type"))
    if kind in ("function", "custom"):
        return ToolChoice("tool", str(choice.get("name")), kind, extra=rest(choice, "type", "name"))
    tools = _objects(choice, "tools")
    if kind == "allowed_tools" and all(tool.get("type") in ("function", "custom") for tool in tools):
        names = tuple(str(tool.get("name")) for tool in tools)
        return ToolChoice("allowed", names=names, required=choice.get("mode") == "required")
    return ToolChoice(kind, extra=dict(choice))


def _load_format(data: object) -> OutputFormat | None:
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise _wrong_type("text.format", data, "an object")
    extra = rest(data, "type", "name", "schema", "strict", "description")
    name, schema, strict, description = (data.get(key) for key in ("name", "schema", "strict", "description"))
    return OutputFormat(str(data.get("type", "text")), name, schema, strict, description, extra)


def dump_request(request: Request, *, notes: list[Note] | None = None) -> dict[str, Any]:
    """The body of `POST /responses`.

    Hints that only Chat Completions takes are left out and noted; what would change the answer raises `Unsupported`.
    """
    foreign = {"n": request.n, "stop": list(request.stop) if request.stop else None, "seed": request.seed}
    extra = pass_on({**foreign, **request.extra}, CHAT_ONLY, API, notes)
    include = [*extra.pop("include", ()), *([_LOGPROBS] if request.logprobs else ())]
    reasoning = rest({"effort": request.reasoning_effort, "summary": request.reasoning_summary})
    reasoning |= extra.pop("reasoning", None) or {}
    text = rest({"format": request.format and dump_format(request.format), "verbosity": request.verbosity})
    text |= extra.pop("text", None) or {}
    choice = request.tool_choice and dump_tool_choice(request.tool_choice, request.tools)
    body = {
        **{name: getattr(request, name) for name in _SAME_NAME[:2]},
        "input": [item for message in request.messages for item in _dump_message(message, notes)] or None,
        "tools": [dump_tool(tool) for tool in request.tools] or None,
        "tool_choice": choice,
        "text": text or None,
        "reasoning": reasoning or None,
        "max_output_tokens": request.max_tokens,
        "include": include or None,
        **{name: getattr(request, name) for name in _SAME_NAME[2:]},
    }
    return {**rest(body), **extra}


def _dump_message(message: Message, notes: list[Note] | None) -> Iterable[dict[str, Any]]:
    if message.name is not None and notes is not None:
        notes.append(Note("left out", "messages.name", f"messages have no name on {API}"))
    if message.role == "assistant":
        items = dump_output(message.parts, notes=notes)
        return [{**item, **message.extra} if item.get("type") == "message" else item for item in items]
    if message.role == "tool":
        return [_dump_tool_part(part) for part in message.parts]
    return [{"type": "message", "role": message.role, "content": dump_content(message.parts), **message.extra}]


def _dump_tool_part(part: Part) -> dict[str, Any]:
    if isinstance(part, ToolResult):
        return dump_result(part)
    if isinstance(part, Item) and part.wire == "responses":
        return dict(part.data)
    raise Unsupported(
        "a message with the role 'tool' needs a ToolResult, which names the call that it answers", param="messages"
    )


def dump_tool(tool: Tool) -> dict[str, Any]:
    """One of the request's tools.

    `strict` is always said: left out it means true here, and false in `Tool` and on Chat Completions.
    """
    if tool.kind not in ("function", "custom"):
        return {"type": tool.kind, **tool.extra}
    data = {"type": tool.kind, "name": tool.name, **rest({"description": tool.description, "format": tool.format})}
    if tool.kind == "function":
        data |= {"parameters": tool.parameters, "strict": bool(tool.strict), **tool.extra}
        return data if data["strict"] is not None else rest(data, "strict")
    return {**data, **tool.extra}


def dump_tool_choice(choice: ToolChoice, tools: Iterable[Tool] = ()) -> str | dict[str, Any]:
    """The choice among the request's tools; their kinds are looked up in `tools`."""
    if choice.mode == "tool":
        return {"type": choice.kind, "name": choice.name, **choice.extra}
    if choice.mode == "allowed":
        kinds = {tool.name: tool.kind for tool in tools}
        allowed = [{"type": kinds.get(name, "function"), "name": name} for name in choice.names]
        return {"type": "allowed_tools", "mode": "required" if choice.required else "auto", "tools": allowed}
    return dict(choice.extra) or choice.mode


def dump_format(form: OutputFormat) -> dict[str, Any]:
    """The `text.format` of a request; a schema must have a name here."""
    data = rest({"name": form.name, "schema": form.schema, "strict": form.strict, "description": form.description})
    if form.kind == "json_schema":
        data.setdefault("name", "answer")
    return {"type": form.kind, **data, **form.extra}
