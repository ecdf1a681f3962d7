"""One conversation with a model, without I/O: what to ask, which tools to run, when it is over.

`Client` and `AsyncClient` ask and run; what is asked and when to stop is decided here, once for both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import openai
import pydantic

from allos.errors import ConfigurationError
from allos.messages import Message, MessageLike, OutputFormat, Reply, Request, ToolCall, ToolChoice
from allos.tools import Toolbox, ToolLike
from allos.wire import chat, responses

__all__ = ["SchemaLike", "Talk", "as_messages", "output_format"]

SchemaLike = type[Any] | Mapping[str, Any]


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


class Talk:
    """The state of one `chat` or `stream` call: `request` is what to ask next."""

    def __init__(
        self, request: Request, *, tools: Iterable[ToolLike] = (), schema: SchemaLike | None = None, max_steps: int = 8
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
