"""Chat Completions requests: a JSON body to a `Request`, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from allos.errors import Unsupported
from allos.messages import (
    Audio,
    Image,
    Item,
    Message,
    Note,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from allos.wire.chat import reasoning as thinking
from allos.wire.chat.content import (
    as_text,
    dump_annotation,
    dump_call,
    dump_content,
    load_annotations,
    load_call,
    load_content,
    load_images,
    rest,
    said,
)
from allos.wire.names import RESPONSES_ONLY, pass_on

__all__ = ["ASSISTANT_FIELDS", "dump_request", "is_legacy", "load_assistant", "load_audio", "load_request"]

Json = Mapping[str, Any]
API = "Chat Completions"
_PLAIN = (
    "model",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "seed",
    "n",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "verbosity",
    "metadata",
    "store",
    "service_tier",
    "stream",
)
_SHAPED = ("messages", "tools", "tool_choice", "response_format", "stop", "stream_options")
ASSISTANT_FIELDS = (
    *("role", "content", "name", "refusal", "annotations", "audio", "images", "tool_calls", "function_call"),
    *thinking.FIELDS,
)
_LEGACY = "function_call"  # in `Request.extra`: the caller wrote `functions`, the form before `tools`
_HOSTED = (
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use",
    "computer_use_preview",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "namespace",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_preview",
)
_OF_AN_ITEM = {"id", "status"}  # fields that mean nothing elsewhere
# Past runs of the service's own tools: the answer that followed from them stands in the conversation.
_PAST = (
    "code_interpreter_call",
    "file_search_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
)


def is_legacy(request: Request | None) -> bool:
    """Whether the caller speaks the old `functions` instead of `tools`, and wants its answer in that form."""
    return request is not None and _LEGACY in request.extra and all(tool.kind == "function" for tool in request.tools)


# Reading


def load_request(body: Mapping[str, Any]) -> Request:
    """Read a Chat Completions request body.

    Fields without a name in `Request` are kept in `extra`; a null counts as not said.
    Raises `Unsupported` where the body is not of the API's form.
    """
    said = {key: value for key, value in body.items() if value is not None}
    messages = [_load_message(data, place) for place, data in enumerate(_list(said, "messages"))]
    tools = [_load_tool(data, f"tools[{place}]") for place, data in enumerate(_list(said, "tools"))]
    choice = _load_tool_choice(said, "tool_choice")
    extra = rest(said, (*_PLAIN, *_SHAPED, "max_completion_tokens", "functions", "function_call"))
    if "functions" in said or "function_call" in said:
        tools += [_load_tool({"function": data}, "functions") for data in _list(said, "functions")]
        choice = choice or _load_tool_choice(said, "function_call")
        extra[_LEGACY] = "auto"
    options = _object(said, "stream_options") or {}
    if more := rest(options, ("include_usage",)):
        extra["stream_options"] = more
    limit = "max_completion_tokens" if "max_completion_tokens" in said else "max_tokens"
    return Request(
        messages=tuple(_with_results_paired(messages)),
        tools=tuple(tools),
        tool_choice=choice,
        format=_load_format(_object(said, "response_format")),
        max_tokens=said.get(limit),
        max_tokens_field="max_tokens" if limit in said and limit == "max_tokens" else None,
        stop=_load_stop(said),
        include_usage=options.get("include_usage"),
        extra={key: value for key, value in extra.items() if key != limit},
        **{name: said[name] for name in _PLAIN if name in said},
    )


def _list(body: Json, name: str) -> list[Json]:
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise _wrong(name, "a list of objects", value)
    return value


def _object(body: Json, name: str) -> Json | None:
    value = body.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(name, "an object", value)
    return value


def _kind(data: Json, default: str, path: str) -> str:
    kind = data.get("type") or default
    if not isinstance(kind, str):
        raise _wrong(f"{path}.type", "a string", kind)
    return kind


def _wrong(path: str, wanted: str, value: Any) -> Unsupported:
    return Unsupported(f"{path!r} must be {wanted}, not {value!r:.60}", param=path, code="invalid_type")


def _load_stop(body: Json) -> tuple[str, ...] | None:
    stop = body.get("stop")
    words = [stop] if isinstance(stop, str) else stop
    if words is not None and not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise _wrong("stop", "a string or a list of strings", stop)
    return None if words is None else tuple(words)


def _load_message(data: Json, place: int) -> Message:
    role = data.get("role")
    if not isinstance(role, str):
        raise Unsupported("A message needs a 'role'", param=f"messages[{place}].role", code="invalid_value")
    name = data.get("name")
    if role in ("tool", "function"):
        result = ToolResult(as_text(data.get("tool_call_id")), tuple(load_content(data.get("content"))))
        return Message("tool", (result,), name, rest(data, ("role", "content", "name", "tool_call_id")))
    if role != "assistant":
        parts = tuple(load_content(data.get("content")))
        return Message(role, parts, name, rest(data, ("role", "content", "name")))
    return Message(role, tuple(load_assistant(data, keep_empty=True)), name, rest(data, ASSISTANT_FIELDS))


def load_assistant(data: Json, *, keep_empty: bool = False, fallback_ids: Iterable[str] = ()) -> list[Part]:
    """The parts of an assistant's message in Chat's order: thinking, content, refusal, audio, tool calls."""
    thought = thinking.load_fields(data, keep_empty=keep_empty)
    content = load_content(data.get("content"))
    annotations = load_annotations(data.get("annotations"))
    if annotations:
        place = next((i for i, part in enumerate(content) if isinstance(part, Text)), None)
        if place is None:
            content.append(Text("", annotations))
        else:
            content[place] = replace(cast(Text, content[place]), annotations=annotations)
    parts: list[Part] = [*([thought] if thought else ()), *content]
    if data.get("refusal"):
        parts.append(Refusal(as_text(data["refusal"])))
    if (audio := load_audio(data.get("audio"))) is not None:
        parts.append(audio)
    parts += load_images(data.get("images"))
    spare = iter(fallback_ids)
    calls = data.get("tool_calls")
    calls = calls if isinstance(calls, list) else [calls]
    parts += [load_call(call, fallback_id=next(spare, "")) for call in calls if isinstance(call, Mapping)]
    old = data.get("function_call")
    if isinstance(old, Mapping) and old.get("name"):
        parts.append(load_call({"function": old}, fallback_id=next(spare, "")))
    return parts


def load_audio(data: Any) -> Audio | None:
    """A spoken answer; one service fills the object with empty values, which say nothing."""
    if not isinstance(data, Mapping) or not (data.get("id") or data.get("data") or data.get("transcript")):
        return None
    known = ("data", "id", "transcript")
    found = {key: data[key] for key in known if data.get(key) not in (None, "")}
    return Audio(**found, extra=rest(data, known))


def _with_results_paired(messages: Sequence[Message]) -> Iterable[Message]:
    """Give the old functions, which have no ids, ids that tie result to call, and results the kind of their call."""
    kinds: dict[str, Literal["function", "custom"]] = {}
    waiting = ""
    for place, message in enumerate(messages):
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                if not part.id:
                    waiting = f"call_{place}"
                    part = replace(part, id=waiting)
                kinds[part.id] = part.kind
            elif isinstance(part, ToolResult):
                identity = part.call_id or waiting
                part = replace(part, call_id=identity, kind=kinds.get(identity, "function"))
            parts.append(part)
        yield replace(message, parts=tuple(parts))


def _load_tool(data: Json, path: str) -> Tool:
    kind = _kind(data, "custom" if "custom" in data else "function", path)
    if kind not in ("function", "custom"):
        return Tool(str(data.get("name", kind)), kind=kind, extra=rest(data, ("type",)))
    inner = data.get(kind)
    flat = not isinstance(inner, Mapping)  # as the Responses API writes it
    known = ("name", "description", "parameters", "strict") if kind == "function" else ("name", "description", "format")
    named: Json = data if flat else cast(Json, inner)
    extra = rest(data, (*(known if flat else ("name",)), "type", kind))
    if not flat and (more := rest(named, (*known, "type"))):
        extra[kind] = more
    return Tool(
        as_text(named.get("name")),
        named.get("description"),
        named.get("parameters") if kind == "function" else None,
        named.get("strict") if kind == "function" else None,
        kind,
        _flat_format(named.get("format")) if kind == "custom" else None,
        extra,
    )


def _flat_format(form: Any) -> Json | None:
    """A custom tool's format as the Responses API writes it: the grammar beside its type."""
    if not isinstance(form, Mapping):
        return None
    inner = form.get("grammar")
    return {**rest(form, ("grammar",)), **inner} if isinstance(inner, Mapping) else form


def _load_tool_choice(body: Json, field: str) -> ToolChoice | None:
    if isinstance(body.get(field), str):
        return ToolChoice(body[field])
    choice = _object(body, field)
    if choice is None:
        return None
    kind = _kind(choice, "function", field)
    if kind in ("function", "custom"):
        inner = choice.get(kind)
        return ToolChoice("tool", (inner if isinstance(inner, Mapping) else choice).get("name"), kind)
    if kind == "allowed_tools":
        allowed = _object(choice, "allowed_tools") or {}
        entries = _list(allowed, "tools")
        inners = [entry.get(_kind(entry, "function", field)) for entry in entries]
        names = [inner["name"] for inner in inners if isinstance(inner, Mapping) and isinstance(inner.get("name"), str)]
        if names and len(names) == len(entries):
            return ToolChoice("allowed", names=tuple(names), required=allowed.get("mode") == "required")
    return ToolChoice(kind, extra=dict(choice))


def _load_format(form: Json | None) -> OutputFormat | None:
    if form is None:
        return None
    kind = _kind(form, "text", "response_format")
    inner = _object(form, "json_schema") if kind == "json_schema" else None
    if inner is None:
        return OutputFormat(kind, extra=rest(form, ("type",)))
    known = ("name", "schema", "strict", "description")
    extra = rest(form, ("type", "json_schema"))
    if more := rest(inner, known):
        extra["json_schema"] = more
    return OutputFormat(kind, **{name: inner[name] for name in known if inner.get(name) is not None}, extra=extra)


# Writing


def dump_request(
    request: Request, *, notes: list[Note] | None = None, reasoning: str | None = "source"
) -> dict[str, Any]:
    """The body that asks Chat Completions for this.

    `reasoning` says how earlier thinking goes back: "source" under the field that it came in, None not at all,
    else under the field named. What is left out is added to `notes`; what Chat can't say but would change the
    answer raises `Unsupported`.
    """
    legacy = is_legacy(request)
    body: dict[str, Any] = {name: value for name in _PLAIN if (value := getattr(request, name)) is not None}
    body["messages"] = _dump_messages(request, notes, reasoning)
    if request.tools:
        tools = [_dump_tool(tool, place) for place, tool in enumerate(request.tools)]
        body["functions" if legacy else "tools"] = [tool["function"] for tool in tools] if legacy else tools
    if request.tool_choice is not None:
        choice = _dump_tool_choice(request.tool_choice, request.tools)
        if legacy and isinstance(choice, dict):
            choice = choice.get("function", choice)
        body["function_call" if legacy else "tool_choice"] = choice
    if request.format is not None:
        body["response_format"] = _dump_format(request.format)
    if request.max_tokens is not None:
        body[request.max_tokens_field or "max_completion_tokens"] = request.max_tokens
    if request.stop is not None:
        body["stop"] = list(request.stop)
    if request.reasoning_summary is not None:
        _leave_out(notes, "reasoning.summary", "Chat Completions has no summaries of reasoning")
    extra = pass_on(rest(request.extra, (_LEGACY,)), RESPONSES_ONLY, API, notes)
    usage = {} if request.include_usage is None else {"include_usage": request.include_usage}
    if options := {**usage, **extra.pop("stream_options", {})}:
        body["stream_options"] = options
    return {**body, **extra}


def _dump_messages(request: Request, notes: list[Note] | None, field: str | None) -> list[dict[str, Any]]:
    legacy = is_legacy(request)
    dumped: list[dict[str, Any]] = []
    if request.instructions is not None:
        dumped.append({"role": "system", "content": request.instructions})
    for place, message in enumerate(_turns(request.messages)):
        path = f"messages[{place}]"
        if message.role == "tool":
            dumped += _dump_results(message, path, notes, legacy=legacy)
        elif message.role == "assistant":
            dumped += _dump_assistant(message, path, notes, field, legacy=legacy)
        else:
            content = dump_content(message.parts, f"{path}.content")
            dumped.append({"role": message.role, "content": content, **_name(message), **message.extra})
    return dumped


def _turns(messages: Iterable[Message]) -> list[Message]:
    """The messages with what one assistant turn said in several of them put together.

    Many servers refuse two assistant messages in a row; two that both hold text stay apart, because then it was
    the caller who wrote them so.
    """
    turns: list[Message] = []
    for message in messages:
        last = turns[-1] if turns else None
        if (
            last is not None
            and last.role == message.role == "assistant"
            and not (_has_text(last) and _has_text(message))
            and last.name == message.name
        ):
            turns[-1] = replace(last, parts=last.parts + message.parts, extra={**last.extra, **message.extra})
        else:
            turns.append(message)
    return turns


def _has_text(message: Message) -> bool:
    return any(isinstance(part, (Text, Refusal)) and part.text for part in message.parts)


def _dump_assistant(
    message: Message, path: str, notes: list[Note] | None, field: str | None, *, legacy: bool
) -> list[dict[str, Any]]:
    parts = [part for part in message.parts if not (isinstance(part, Item) and _is_past(part, path, notes))]
    if message.parts and not parts:
        return []
    thoughts = [part for part in parts if isinstance(part, Reasoning)]
    fields, inside = thinking.dump_fields(thoughts, field, notes, path)
    fields |= _answer_fields(parts, legacy=legacy)
    spoken = [part for part in parts if isinstance(part, (Text, Item)) or part in inside]
    content: Any = [thinking.dump_part(part) if isinstance(part, Reasoning) else part for part in spoken]
    if not inside:
        content = dump_content(spoken, f"{path}.content")
    else:
        content = [part if isinstance(part, dict) else _only(part, path) for part in content]
    if not spoken and (fields.keys() & {"tool_calls", "function_call", "refusal", "audio"}):
        content = None
    for name in sorted({name for part in parts for name in _tie(part)} - _OF_AN_ITEM):
        _leave_out(notes, f"{path}.{name}", f"no message of {API} has this field")
    if kept := _dump_annotations(parts, path, notes):
        fields["annotations"] = kept
    return [{"role": "assistant", "content": content, **fields, **_name(message), **message.extra}]


def _tie(part: Part) -> Mapping[str, Any]:
    """What the Responses item said beside its text."""
    return part.extra.get("item", {}) if isinstance(part, (Text, Refusal)) else {}


def _only(part: Part, path: str) -> Any:
    content = dump_content([part], f"{path}.content")
    return {"type": "text", "text": content} if isinstance(content, str) else content[0]


def _answer_fields(parts: Sequence[Part], *, legacy: bool) -> dict[str, Any]:
    """What stands beside the content of an assistant's message."""
    fields: dict[str, Any] = {}
    if refusal := "".join(part.text for part in parts if isinstance(part, Refusal)):
        fields["refusal"] = refusal
    for part in parts:
        if isinstance(part, Audio) and part.id:
            fields["audio"] = {"id": part.id}  # the service keeps the sound itself
        elif isinstance(part, Image):
            content = dump_content([part], "images")
            fields.setdefault("images", []).extend(content)
    calls = [dump_call(part) for part in parts if isinstance(part, ToolCall)]
    if calls and legacy:
        fields["function_call"] = calls[-1]["function"]
    elif calls:
        fields["tool_calls"] = calls
    return fields


def _dump_annotations(parts: Iterable[Part], path: str, notes: list[Note] | None) -> list[dict[str, Any]]:
    """Citations only point into the past answer; a service's own kinds may be there to be sent back."""
    found = [entry for part in parts if isinstance(part, Text) for entry in part.annotations]
    kept = [
        dump_annotation(entry) for entry in found if not str(entry.get("type", "")).endswith(("citation", "file_path"))
    ]
    if len(kept) < len(found):
        _leave_out(notes, f"{path}.annotations", "a Chat request has no place for an earlier answer's citations")
    return kept


def _dump_results(message: Message, path: str, notes: list[Note] | None, *, legacy: bool) -> list[dict[str, Any]]:
    dumped = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            content = dump_content(part.parts, f"{path}.content")
            tie = {} if legacy else {"tool_call_id": part.call_id}
            role = "function" if legacy else "tool"
            dumped.append({"role": role, **tie, "content": content, **_name(message), **said(part), **message.extra})
        elif not (isinstance(part, Item) and _is_past(part, path, notes)):
            raise Unsupported(f"A tool's message can't hold {type(part).__name__!r} over {API}", param=path)
    return dumped


def _is_past(item: Item, path: str, notes: list[Note] | None) -> bool:
    """Whether a Responses item may be left out; raises `Unsupported` for one that carries meaning."""
    if item.wire == "chat":
        return False
    if item.type not in _PAST:
        raise Unsupported(f"An item of type {item.type!r} can't be said over {API}", param=path)
    _leave_out(notes, path, f"a past {item.type!r} can't be said over {API}")
    return True


def _name(message: Message) -> dict[str, Any]:
    return {} if message.name is None else {"name": message.name}


def _leave_out(notes: list[Note] | None, what: str, why: str) -> None:
    if notes is not None:
        notes.append(Note("left out", what, why))


def _dump_tool(tool: Tool, place: int) -> dict[str, Any]:
    extra = rest(tool.extra, ())
    if tool.kind not in ("function", "custom"):
        if tool.kind.startswith(_HOSTED):
            raise Unsupported(
                f"The built-in tool {tool.kind!r} exists only on the Responses API: take a function, or a service "
                "that speaks Responses",
                param=f"tools[{place}]",
            )
        return {"type": tool.kind, **extra}
    inner: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.kind == "function":
        inner |= {"parameters": tool.parameters, "strict": tool.strict}
    elif tool.format is not None:
        inner["format"] = _nested_format(tool.format)
    return {"type": tool.kind, tool.kind: {**rest(inner, ()), **extra.pop(tool.kind, {})}, **extra}


def _nested_format(form: Json) -> Json:
    if form.get("type") != "grammar" or "grammar" in form:
        return form
    grammar = ("syntax", "definition")
    return {**rest(form, grammar), "grammar": {name: form[name] for name in grammar if name in form}}


def _dump_tool_choice(choice: ToolChoice, tools: Iterable[Tool]) -> str | dict[str, Any]:
    if choice.mode == "tool":
        return {"type": choice.kind, choice.kind: {"name": choice.name}}
    if choice.mode == "allowed":
        kinds = {tool.name: tool.kind for tool in tools}
        named = [(name, kinds.get(name, "function")) for name in choice.names]
        allowed = [{"type": kind, kind: {"name": name}} for name, kind in named]
        mode = "required" if choice.required else "auto"
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}
    if not choice.extra:
        return choice.mode
    if choice.mode.startswith(_HOSTED):
        raise Unsupported(f"The built-in tool {choice.mode!r} can't be chosen over {API}", param="tool_choice")
    return dict(choice.extra)


def _dump_format(form: OutputFormat) -> dict[str, Any]:
    extra = dict(form.extra)
    if form.kind != "json_schema":
        return {"type": form.kind, **extra}
    named = {"name": form.name, "description": form.description, "schema": form.schema, "strict": form.strict}
    return {"type": "json_schema", "json_schema": {**rest(named, ()), **extra.pop("json_schema", {})}, **extra}
