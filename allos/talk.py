"""One conversation with a model, without I/O: what to ask, which tools to run, when it is over.

`Client` and `AsyncClient` ask and run; what is asked and when to stop is decided here, once for both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Self

import openai
import pydantic

from allos.errors import ConfigurationError
from allos.messages import Message, MessageLike, OutputFormat, Reply, Request, ToolCall, ToolChoice
from allos.tools import Toolbox, ToolLike
from allos.wire import chat, responses

__all__ = ["SchemaLike", "Talk", "as_messages", "output_format"]

SchemaLike = type[Any] | Mapping[str, Any]

_MAX_STEPS = 8
# What a caller may say as a keyword; the rest of a request is said by other arguments.
_FIELDS = frozenset(field.name for field in fields(Request)) - {"messages", "tools", "extra", "stream"}
_INSTEAD = {
    "messages": "the first argument",
    "input": "the first argument",
    "stream": "the method `stream`",
    "response_format": "schema= or format=",
}


def as_messages(value: MessageLike | Iterable[MessageLike]) -> tuple[Message, ...]:
    """Messages from a text, a `Message`, an OpenAI-style dict of either API, or a sequence of those."""
    if isinstance(value, (str, Message, Mapping)):
        value = [value]
    found: list[Message] = []
    for entry in value:
        if isinstance(entry, Message):
            found.append(entry)
        elif isinstance(entry, str):
            found.append(Message.user(entry))
        elif isinstance(entry, Mapping):
            codec, name = (chat, "messages") if _is_chat(entry) else (responses, "input")
            found += codec.load_request({name: [entry]}).messages
        else:
            raise ConfigurationError(f"{entry!r} is not a message: pass a text, a Message or an OpenAI-style dict.")
    return tuple(found)


def _is_chat(entry: Mapping[str, Any]) -> bool:
    """A dict with a role and no item type is a Chat message unless its content parts are those of Responses."""
    if "role" not in entry or entry.get("type") == "message":
        return False
    content = entry.get("content")
    kinds = [part.get("type", "") for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    return not any(str(kind).startswith(("input_text", "input_image", "input_file", "output_")) for kind in kinds)


def output_format(schema: SchemaLike) -> OutputFormat:
    """The output format of a pydantic model, of another type that pydantic can describe, or of a JSON schema."""
    if isinstance(schema, Mapping):
        return OutputFormat("json_schema", str(schema.get("title", "answer")), schema)
    if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
        function = openai.pydantic_function_tool(schema)["function"]  # the SDK's own strict form of the schema
        return OutputFormat("json_schema", schema.__name__, function["parameters"], True)
    described = pydantic.TypeAdapter(schema).json_schema()
    return OutputFormat("json_schema", getattr(schema, "__name__", "answer"), described)


def _tool_choice(value: str | ToolChoice | Mapping[str, Any]) -> ToolChoice:
    """A tool choice from its mode, the name of a tool, or the dict of either API."""
    if isinstance(value, ToolChoice):
        return value
    if isinstance(value, str):
        return ToolChoice(value) if value in ("auto", "none", "required") else ToolChoice("tool", value)
    loaded: ToolChoice | None = chat.load_request({"tool_choice": value}).tool_choice  # reads the flat form too
    assert loaded is not None  # one was given
    return loaded


class Talk:
    """The state of one `chat` or `stream` call: `request` is what to ask next."""

    def __init__(
        self,
        request: Request,
        *,
        tools: Iterable[ToolLike] = (),
        schema: SchemaLike | None = None,
        max_steps: int = _MAX_STEPS,
    ) -> None:
        if not request.messages and request.instructions is None:
            raise ConfigurationError("There is nothing to ask: the list of messages is empty.")
        self.toolbox = Toolbox(tools)
        self.schema = schema
        self._steps_left = max_steps
        self.request = request.replace(
            tools=(*request.tools, *self.toolbox.tools),
            format=request.format if schema is None else output_format(schema),
        )

    @classmethod
    def begin(
        cls,
        messages: MessageLike | Iterable[MessageLike],
        options: Mapping[str, Any],
        defaults: Mapping[str, Any],
        *,
        system: str | None = None,
    ) -> Self:
        """The talk that a call's arguments ask for; None in `options` counts as not given.

        `defaults` are request fields and `system` the instructions that hold where the call gives none.
        A keyword that is no field of `Request` goes to the service as it is.
        """
        given = {name: value for name, value in options.items() if value is not None}
        tools, schema = given.pop("tools", ()), given.pop("schema", None)
        max_steps, system = given.pop("max_steps", _MAX_STEPS), given.pop("system", system)
        extra = dict(given.pop("extra", {}))
        if wrong := sorted(_INSTEAD.keys() & given.keys()):
            raise ConfigurationError(f"{wrong[0]}= is not taken here; use {_INSTEAD[wrong[0]]} for it.")
        said = as_messages(messages)
        if system:
            said = (Message.system(system), *said)
        known = {**defaults, **{name: given.pop(name) for name in list(given) if name in _FIELDS}}
        if known.get("tool_choice") is not None:
            known["tool_choice"] = _tool_choice(known["tool_choice"])
        if known.get("stop") is not None:
            known["stop"] = (known["stop"],) if isinstance(known["stop"], str) else tuple(known["stop"])
        request = Request(messages=said, extra={**extra, **given}, **known)
        return cls(request, tools=tools, schema=schema, max_steps=max_steps)

    def calls(self, reply: Reply) -> Sequence[ToolCall]:
        """The tool calls of a reply that are to be run here; none when the conversation is over."""
        self._steps_left -= 1
        return reply.tool_calls if self._steps_left > 0 and self.toolbox.answers(reply.tool_calls) else ()

    def answer(self, reply: Reply, results: Iterable[Message]) -> None:
        """Add the results, so that `request` asks for the next step.

        A forced tool choice holds for the first step only: kept, it would never let the model answer.
        """
        choice = self.request.tool_choice
        if choice is not None and choice.mode in ("required", "tool"):
            choice = ToolChoice("auto")
        messages = (*self.request.messages, reply.message, *results)
        self.request = self.request.replace(messages=messages, tool_choice=choice)

    def finished(self, reply: Reply) -> Reply:
        """The last reply, with `parsed` where a schema was asked for.

        `parsed` stays None for a refusal, a cut answer or one that calls tools. Raises `pydantic.ValidationError` or
        `ValueError` for a text that does not fit the schema.
        """
        if (
            self.schema is None
            or reply.refusal
            or reply.tool_calls
            or reply.finish_reason in ("length", "content_filter")
        ):
            return reply
        if isinstance(self.schema, Mapping):
            return replace(reply, parsed=json.loads(reply.text))
        return replace(reply, parsed=pydantic.TypeAdapter(self.schema).validate_json(reply.text))
