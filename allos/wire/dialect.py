"""How an endpoint deviates from the API that it speaks, as a value, and what that does to a request body.

Each field has a default that means "as OpenAI's reference says". The rows of `endpoints.toml` set the others.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from allos.errors import Unsupported
from allos.messages import Note, Wire
from allos.wire.schema import without_references

__all__ = ["Dialect", "ResponsesDialect", "apply"]

Body = dict[str, Any]
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class ResponsesDialect:
    """The deviations of an endpoint's own Responses API. The fields mean what they mean in `Dialect`."""

    developer_role: bool = True
    drop: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    tool_choice: tuple[str, ...] | None = None
    whole_defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """The deviations of one endpoint; all fields but the last concern Chat Completions.

    Names in `drop` and `ignored` are fields of the body; `messages[].name` means that field of every message.
    """

    # Fields of the request
    max_tokens_field: str | None = None  # the one name of the token limit that counts here
    rename: Mapping[str, str] = field(default_factory=dict)  # fields that have another name here
    drop: tuple[str, ...] = ()  # refused here, and the answer is the same in kind without them
    refuse: tuple[str, ...] = ()  # not to be had here, and the answer would be another without them
    ignored: tuple[str, ...] = ()  # taken and not obeyed: sent, and noted
    accepts: tuple[str, ...] | None = None  # the only top-level fields that this endpoint takes
    n_max: int | None = None
    temperature_max: float | None = None
    reasoning_effort: tuple[str, ...] | None = None  # the words taken; others become the nearest
    stop_list: bool = False  # `stop` must be a list
    logprobs_integer: bool = False  # `logprobs` is the number of alternatives
    stream_usage: bool = True  # False: no `stream_options`
    whole_defaults: Mapping[str, Any] = field(default_factory=dict)  # added, where absent, unless streaming

    # Messages
    developer_role: bool = True
    system_messages: Literal["any", "first", "one"] = "any"  # anywhere, only at the start, or only one at the start
    alternation: bool = False  # user and assistant must take turns
    string_content: tuple[str, ...] = ()  # roles whose content is a string where it holds only text
    part_types: tuple[str, ...] | None = None  # the content parts taken
    image_urls: bool = True  # False: pictures only as `data:` URLs
    null_fields: bool = True  # False: a field of a message may not be null
    empty_assistant: bool = True  # False: an assistant message needs content or tool calls
    prefix_field: str | None = None  # must be true in a last message of the assistant
    reasoning_replay: str | None = "source"  # field for earlier reasoning; "source": where it came in; "": none
    reasoning_filler: str | None = None  # stands for missing reasoning in an assistant message with tool calls

    # Tools and schemas
    tool_choice: tuple[str, ...] | None = None  # forms taken: none auto required any function allowed_tools
    tool_call_id_length: int | None = None  # ids of exactly so many letters and digits
    empty_tools: bool = True  # False: `tools: []`, or `tool_choice` without tools, is an error
    response_format: tuple[str, ...] | None = None  # forms taken: text json_object json_schema
    schema_refs: bool = True  # False: `$ref` is written out
    schema_drop: tuple[str, ...] = ()  # keywords that a schema may not have at its top

    # Answers
    think_tags: bool = False  # reasoning may open the text, between <think> and </think>
    quota_codes: tuple[str, ...] = ()  # codes or types of a 429 that no waiting heals

    responses: ResponsesDialect = field(default_factory=ResponsesDialect)


def apply(body: Mapping[str, Any], dialect: Dialect, wire: Wire, notes: list[Note]) -> Body:
    """The body as this endpoint takes it; `body` itself stays as it is.

    Each change is added to `notes`. Raises `Unsupported` for what can't be left out without changing the answer.
    """
    said = dict(body)
    if wire == "responses":
        _apply_to_responses(said, dialect.responses, notes)
    else:
        for rule in _RULES:
            rule(said, dialect, notes)
        if isinstance(said.get("messages"), list):
            said["messages"] = _messages(said["messages"], dialect, notes)
        _fields(said, dialect, notes)
    return said


def _apply_to_responses(body: Body, dialect: ResponsesDialect, notes: list[Note]) -> None:
    if not dialect.developer_role and isinstance(body.get("input"), list):
        body["input"] = _without_developer(body["input"], "input", notes)
    _choose_tools(body, dialect.tool_choice, notes)
    _leave_out(body, dialect.drop, notes)
    _tell_ignored(body, dialect.ignored, notes)
    _add_defaults(body, dialect.whole_defaults, notes)


# Rules about the whole request. Each replaces values of `body`, which is a copy, and changes none in place.


def _refuse(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    for name in dialect.refuse:
        if body.get(name):
            raise Unsupported(f"This service has no {name!r}: leave it out, or use another provider.", param=name)
    count = body.get("n")
    if dialect.n_max is not None and isinstance(count, int) and count > dialect.n_max:
        raise Unsupported(f"This service gives at most {dialect.n_max} answer to a request, not n={count}.", param="n")
    for index, message in enumerate(body.get("messages") or ()):
        for part in _parts(message):
            _refuse_part(part, f"messages[{index}].content", dialect)


def _refuse_part(part: Mapping[str, Any], place: str, dialect: Dialect) -> None:
    kind = part.get("type")
    if dialect.part_types is not None and kind not in dialect.part_types:
        raise Unsupported(f"This service takes no content part of type {kind!r}.", param=place)
    if kind == "image_url" and not dialect.image_urls:
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if isinstance(url, str) and not url.startswith("data:"):
            raise Unsupported(
                "This service takes pictures only as data: URLs, and Allos fetches none by itself; "
                "see Image.from_bytes.",
                param=place,
            )


def _say_format(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    """An answer's form that the service does not know: the nearest that it knows, and the schema in the prompt."""
    wanted, accepted = body.get("response_format"), dialect.response_format
    if accepted is None or not isinstance(wanted, Mapping) or wanted.get("type") in (*accepted, "text"):
        return
    kind = wanted.get("type")
    if kind == "json_object" and "json_schema" in accepted:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}},
        }
        notes.append(Note("changed", "response_format", "this service knows json_schema and no json_object"))
        return
    if "json_object" in accepted:
        body["response_format"] = {"type": "json_object"}
    else:
        del body["response_format"]
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    body["messages"] = _with_instruction(body.get("messages") or [], _in_words(schema))
    notes.append(Note("changed", "response_format", f"this service knows no {kind}: the prompt asks for the form"))


def _in_words(schema: Any) -> str:
    if not schema:
        return "Answer with one JSON object and nothing else."
    import json

    return f"Answer with one JSON object and nothing else. It must fit this JSON schema:\n{json.dumps(schema)}"


def _with_instruction(messages: Sequence[Any], text: str) -> list[Any]:
    start = next((index for index, message in enumerate(messages) if not _is_system(message)), len(messages))
    return [*messages[:start], {"role": "system", "content": text}, *messages[start:]]


def _choose(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    if not dialect.empty_tools and not body.get("tools") and ("tools" in body or "tool_choice" in body):
        _leave_out_tools(body)
        notes.append(Note("changed", "tools", "this service takes no empty list of tools: it was not sent"))
    _choose_tools(body, dialect.tool_choice, notes)


def _choose_tools(body: Body, accepted: tuple[str, ...] | None, notes: list[Note]) -> None:
    """Say a tool choice in the forms that the service takes. Fewer tools say what `none` and names would have."""
    choice = body.get("tool_choice")
    form = choice.get("type") if isinstance(choice, Mapping) else choice
    if accepted is None or form is None or form in accepted:
        return
    if form == "none":
        _leave_out_tools(body)
        notes.append(Note("changed", "tool_choice", "this service does not obey 'none': the tools were not sent"))
        return
    names, form = _chosen(choice, form)
    if names is not None:
        body["tools"] = [tool for tool in body.get("tools") or () if _name(tool) in names]
        notes.append(Note("changed", "tools", f"this service can't be told to choose among tools: only {names} sent"))
    if form == "required" and "required" not in accepted:
        form = "any" if "any" in accepted else None
    if form is None or (form == "auto" and "auto" not in accepted):
        del body["tool_choice"]
        if form is None:
            notes.append(Note("left out", "tool_choice", "this service can't be made to call a tool"))
    else:
        body["tool_choice"] = form


def _chosen(choice: Any, form: str) -> tuple[list[str] | None, str | None]:
    """The names that a tool choice allows, None for all, and the word for how much it asks."""
    if not isinstance(choice, Mapping):
        return None, form
    if form == "allowed_tools":
        inner = choice.get("allowed_tools", choice)
        return [_name(tool) for tool in inner.get("tools", ())], inner.get("mode", "auto")
    return [_name(choice)], "required"


def _name(tool: Mapping[str, Any]) -> str:
    inner = tool.get(str(tool.get("type")), tool)
    return str(inner.get("name", "")) if isinstance(inner, Mapping) else ""


def _leave_out_tools(body: Body) -> None:
    for name in ("tools", "tool_choice", "parallel_tool_calls"):
        body.pop(name, None)


def _simplify_schemas(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    if dialect.schema_refs and not dialect.schema_drop:
        return
    tools = body.get("tools")
    if isinstance(tools, list):
        body["tools"] = [_with_schema(tool, "function", "parameters", dialect, notes) for tool in tools]
    wanted = body.get("response_format")
    if isinstance(wanted, Mapping):
        body["response_format"] = _with_schema(wanted, "json_schema", "schema", dialect, notes)


def _with_schema(owner: Any, outer: str, inner: str, dialect: Dialect, notes: list[Note]) -> Any:
    holder = owner.get(outer) if isinstance(owner, Mapping) else None
    schema = holder.get(inner) if isinstance(holder, Mapping) else None
    if not isinstance(schema, Mapping):
        return owner
    simple = {key: value for key, value in schema.items() if key not in dialect.schema_drop}
    if not dialect.schema_refs:
        simple = without_references(simple)
    if simple == schema:
        return owner
    notes.append(Note("changed", f"{outer}.{inner}", "written with the keywords that this service takes"))
    return {**owner, outer: {**holder, inner: simple}}  # type: ignore[dict-item]  # a mapping, as schema is one


_RULES: tuple[Callable[[Body, Dialect, list[Note]], None], ...] = (_refuse, _say_format, _choose, _simplify_schemas)


# Rules about messages


def _messages(messages: Messages, dialect: Dialect, notes: list[Note]) -> Messages:
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
    if dialect.reasoning_filler is not None:
        messages = _with_reasoning(messages, dialect.reasoning_replay, dialect.reasoning_filler, notes)
    if dialect.prefix_field and messages and messages[-1].get("role") == "assistant":
        messages = [*messages[:-1], {**messages[-1], dialect.prefix_field: True}]
        notes.append(Note("changed", "messages[]", f"a last message of the assistant needs {dialect.prefix_field!r}"))
    return messages


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


# Rules about single fields


def _fields(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    _limit(body, dialect, notes)
    for name, other in _renames(dialect).items():
        if name in body:
            value = body.pop(name)
            body.setdefault(other, value)
            notes.append(Note("changed", name, f"it is named {other} here"))
    if not dialect.stream_usage and body.pop("stream_options", None) is not None:
        notes.append(Note("changed", "stream_options", "this service takes none: it was not sent"))
    _leave_out(body, dialect.drop, notes)
    if dialect.accepts is not None:
        _leave_out(body, [name for name in body if name not in dialect.accepts], notes)
    _tell_ignored(body, dialect.ignored, notes)
    _add_defaults(body, dialect.whole_defaults, notes)


def _renames(dialect: Dialect) -> Mapping[str, str]:
    if dialect.max_tokens_field is None:
        return dialect.rename
    other = {"max_tokens": "max_completion_tokens"}.get(dialect.max_tokens_field, "max_tokens")
    return {other: dialect.max_tokens_field, **dialect.rename}


def _limit(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    temperature, highest = body.get("temperature"), dialect.temperature_max
    if highest is not None and isinstance(temperature, (int, float)) and temperature > highest:
        body["temperature"] = highest
        notes.append(Note("changed", "temperature", f"this service takes at most {highest}, not {temperature}"))
    effort = body.get("reasoning_effort")
    if dialect.reasoning_effort is not None and isinstance(effort, str) and effort not in dialect.reasoning_effort:
        _limit_effort(body, effort, dialect.reasoning_effort, notes)
    if dialect.stop_list and isinstance(body.get("stop"), str):
        body["stop"] = [body["stop"]]
        notes.append(Note("changed", "stop", "this service takes a list"))
    if dialect.logprobs_integer and isinstance(body.get("logprobs"), bool):
        count = body.pop("top_logprobs", None) or 1
        if body.pop("logprobs"):
            body["logprobs"] = count
        notes.append(Note("changed", "logprobs", "this service takes the number of alternatives"))


_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def _limit_effort(body: Body, effort: str, accepted: Sequence[str], notes: list[Note]) -> None:
    known = [word for word in _EFFORTS if word in accepted and word != "none"]
    if effort == "none" or effort not in _EFFORTS or not known:
        del body["reasoning_effort"]
        notes.append(Note("left out", "reasoning_effort", f"this service takes {', '.join(accepted)}, not {effort}"))
        return
    place = _EFFORTS.index(effort)
    body["reasoning_effort"] = min(known, key=lambda word: (abs(_EFFORTS.index(word) - place), -_EFFORTS.index(word)))
    notes.append(Note("changed", "reasoning_effort", f"this service takes {', '.join(accepted)}, not {effort}"))


def _leave_out(body: Body, paths: Iterable[str], notes: list[Note]) -> None:
    for path in paths:
        name, _, inner = path.partition("[].")
        if not inner:
            if body.pop(name, None) is not None:
                notes.append(Note("left out", name, "this service does not take it"))
        elif isinstance(body.get(name), list):
            after = [_without(entry, inner.split(".")) for entry in body[name]]
            if after != body[name]:
                body[name] = after
                notes.append(Note("left out", path, "this service does not take it"))


def _without(value: Any, steps: Sequence[str]) -> Any:
    """The value without the field that lies at those steps in it."""
    if not isinstance(value, Mapping) or steps[0] not in value:
        return value
    if len(steps) == 1:
        return {key: entry for key, entry in value.items() if key != steps[0]}
    return {**value, steps[0]: _without(value[steps[0]], steps[1:])}


def _tell_ignored(body: Body, paths: Iterable[str], notes: list[Note]) -> None:
    for path in paths:
        if _holds(body, path.replace("[].", ".[].").split(".")):
            notes.append(Note("left out", path, "it was sent, but this service ignores it"))


def _holds(value: Any, steps: Sequence[str]) -> bool:
    if not steps:
        return value is not None
    if steps[0] == "[]":
        return isinstance(value, list) and any(_holds(entry, steps[1:]) for entry in value)
    return isinstance(value, Mapping) and _holds(value.get(steps[0]), steps[1:])


def _add_defaults(body: Body, defaults: Mapping[str, Any], notes: list[Note]) -> None:
    if body.get("stream"):
        return
    for name, value in defaults.items():
        if name not in body:
            body[name] = value
            notes.append(Note("changed", name, f"set to {value!r}: without a stream this service needs it"))
