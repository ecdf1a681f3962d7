"""One conversation with a model, without I/O: what to ask, which tools to run, when it is over.

`Client` and `AsyncClient` ask and run; what is asked and when to stop is decided here, once for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Self, get_args

import openai
import pydantic

from allos.arguments import check, sayable, unsayable
from allos.deadline import Deadline
from allos.errors import ConfigurationError, ParseError, argument
from allos.ladder import Ladder, fitting
from allos.messages import Delta, Message, MessageLike, Note, OutputFormat, Part, Reply, Request, ToolCall, ToolChoice
from allos.settings import Target
from allos.tools import Toolbox, ToolLike, why_no_schema
from allos.wire import chat, responses
from allos.wire.dialect.tools import unknown_tool
from allos.wire.objects import extracted, values

__all__ = ["SchemaLike", "Talk", "as_messages", "output_format"]

SchemaLike = type[Any] | Mapping[str, Any]

_MAX_STEPS = 8
# What a caller may say as a keyword; the rest of a request is said by other arguments.
_FIELDS = frozenset(field.name for field in fields(Request)) - {"messages", "tools", "extra", "stream"}
_OF_THE_CLIENT = (
    "api_key base_url connect_timeout env_file fallback http_client max_retries on_retry on_unsupported timeout wire"
)
# What a call does not take, and what to use for it: as a field of the request it would have no effect, and a key would
# go to the service in the body.
_INSTEAD = {
    **{name: f"Client({name}=…)" for name in _OF_THE_CLIENT.split()},
    "extra_body": "extra=",
    "extra_headers": "Client(http_client=…)",
    "extra_query": "Client(http_client=…)",
    "max_completion_tokens": "max_tokens=",
    "max_output_tokens": "max_tokens=",
    "messages": "the first argument",
    "input": "the first argument",
    "stream": "the method `stream`",
    "response_format": "schema= or format=",
}


def as_messages(value: MessageLike | Iterable[MessageLike]) -> tuple[Message, ...]:
    """Messages from a text, a `Message`, an OpenAI-style dict of either API, or a sequence of those.

    Raises `ConfigurationError` for anything else.
    """
    if isinstance(value, (str, bytes, Message, Mapping)) or not isinstance(value, Iterable):
        value = [value]
    found: list[Message] = []
    for entry in value:
        if isinstance(entry, Message):
            found.append(_whole(entry))
        elif isinstance(entry, str):
            found.append(Message.user(entry))
        elif isinstance(entry, Mapping) and {"role", "type", "id"} & entry.keys():  # an id alone is an item's
            codec, name = (chat, "messages") if _is_chat(entry) else (responses, "input")
            with sayable({"messages": entry}):
                found += codec.load_request({name: [entry]}).messages
        else:
            raise ConfigurationError(
                f"{entry!r} is not a message: pass a text, a Message or an OpenAI-style dict with a 'role' or 'type'."
            )
    return tuple(found)


def _whole(message: Message) -> Message:
    """The message, if its parts are parts."""
    if (wrong := next((part for part in message.parts if not isinstance(part, get_args(Part))), None)) is not None:
        raise ConfigurationError(f"{wrong!r} is not a part of a message: Message.user(…) takes texts, Text, Image, ….")
    return message


def _is_chat(entry: Mapping[str, Any]) -> bool:
    """A dict with a role and no item type is a Chat message unless its content parts are those of Responses."""
    if "role" not in entry or entry.get("type") == "message":
        return False
    content = entry.get("content")
    kinds = [part.get("type", "") for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    return not any(str(kind).startswith(("input_text", "input_image", "input_file", "output_")) for kind in kinds)


def output_format(schema: SchemaLike) -> OutputFormat:
    """The output format of a pydantic model, of another type that pydantic can describe, or of a JSON schema.

    Raises `ConfigurationError` for a type that has no JSON schema, and for a schema that is none.
    """
    if isinstance(schema, Mapping):
        if (reason := unsayable(schema)) is not None:
            raise ConfigurationError(f"schema={schema!r} can't be a schema: {reason}.")
        return OutputFormat("json_schema", _name(str(schema.get("title", "answer"))), schema)
    try:
        if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
            function = openai.pydantic_function_tool(schema)["function"]  # the SDK's own strict form of the schema
            return OutputFormat("json_schema", _name(schema.__name__), function["parameters"], True)
        described = pydantic.TypeAdapter(schema).json_schema()
    except (pydantic.PydanticUserError, TypeError, NameError) as error:
        raise ConfigurationError(
            f"schema={schema!r} can't be a schema: {why_no_schema(error)}. "
            "Pass a pydantic model, another type or a JSON schema."
        ) from None
    return OutputFormat("json_schema", _name(getattr(schema, "__name__", "answer")), described)


def _name(words: str) -> str:
    """A name as the APIs take it: letters, digits, underscores and dashes, 64 at most."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", words)[:64] or "answer"


def _tool_choice(value: str | ToolChoice | Mapping[str, Any]) -> ToolChoice:
    """A tool choice from its mode, the name of a tool, or the dict of either API."""
    if isinstance(value, ToolChoice):
        return value
    if isinstance(value, str):
        return ToolChoice(value) if value in ("auto", "none", "required") else ToolChoice("tool", value)
    loaded: ToolChoice | None = chat.load_request({"tool_choice": value}).tool_choice  # reads the flat form too
    assert loaded is not None  # one was given
    return loaded


def _check_choice(request: Request) -> None:
    """Refuse a tool choice that names a tool which is not there: not every service would say so."""
    choice = request.tool_choice
    if choice is None or {"tools", "prompt"} & request.extra.keys():  # these bring tools that are not seen here
        return
    named = choice.names if choice.mode == "allowed" else (choice.name,) if choice.mode == "tool" else ()
    if (said := unknown_tool(named, [tool.name for tool in request.tools])) is not None:
        raise ConfigurationError(f"{said} It is one of them, or 'auto', 'none' or 'required'.")


class Talk:
    """The state of one `chat` or `stream` call: `request` is what to ask next."""

    def __init__(
        self,
        request: Request,
        target: Target,
        *,
        tools: Iterable[ToolLike] = (),
        schema: SchemaLike | None = None,
        max_steps: int = _MAX_STEPS,
        deadline: float | Deadline | None = None,
    ) -> None:
        if not request.messages and request.instructions is None:
            raise ConfigurationError("There is nothing to ask: the list of messages is empty.")
        self.toolbox = Toolbox(tools)
        self.schema = schema
        self._steps_left = max_steps
        self.deadline = Deadline.of(deadline)
        self.told = set[Note]()  # what the caller was warned of
        self.place = 0  # which of a client's places was asked last
        self._request = request.replace(tools=(*request.tools, *self.toolbox.tools))
        _check_choice(self._request)
        self._ladder: Ladder | None = None
        if schema is not None:
            self._ladder = Ladder(
                output_format(schema),
                target,
                wire=target.speaks,
                model=request.model or target.model,
                may_force=not self._request.tools,
                may_repeat="conversation" not in request.extra,
            )
        self._misfit: ParseError | None = None  # the first answer that did not fit, while it is asked for again

    @property
    def request(self) -> Request:
        """What to ask next."""
        return self._request if self._ladder is None else self._ladder.ask(self._request)

    @classmethod
    def begin(
        cls,
        messages: MessageLike | Iterable[MessageLike],
        options: Mapping[str, Any],
        target: Target,
    ) -> Self:
        """The talk that a call's arguments ask for; None in `options` counts as not given.

        The model, options and instructions of `target` hold where the call gives none.
        A keyword that is no field of `Request` goes to the service as it is.
        """
        given = {name: value for name, value in options.items() if value is not None}
        check(given)
        tools, schema = given.pop("tools", ()), given.pop("schema", None)
        deadline = given.pop("deadline", target.deadline)
        max_steps, system = given.pop("max_steps", _MAX_STEPS), given.pop("system", target.system)
        extra = dict(given.pop("extra", {}))
        if wrong := sorted(_INSTEAD.keys() & given.keys()):
            raise ConfigurationError(f"{wrong[0]}= is not taken here; use {_INSTEAD[wrong[0]]} for it.")
        said = as_messages(messages)
        if system:
            said = (Message.system(system), *said)
        fields_given = {name: given.pop(name) for name in list(given) if name in _FIELDS}
        known = {**target.options, "model": target.model, **fields_given}
        if known.get("tool_choice") is not None:
            known["tool_choice"] = _tool_choice(known["tool_choice"])
        if known.get("stop") is not None:
            known["stop"] = (known["stop"],) if isinstance(known["stop"], str) else tuple(known["stop"])
        request = Request(messages=said, extra={**extra, **given}, **known)
        return cls(request, target, tools=tools, schema=schema, max_steps=max_steps, deadline=deadline)

    def calls(self, reply: Reply) -> Sequence[ToolCall]:
        """The tool calls of a reply that are to be run here; none when the conversation is over."""
        if self._ladder is not None:
            self._ladder.answered()
        self._steps_left -= 1
        return reply.tool_calls if self._steps_left > 0 and self.toolbox.answers(reply.tool_calls) else ()

    def answer(self, reply: Reply, results: Iterable[Message]) -> None:
        """Add the results, so that `request` asks for the next step.

        A forced tool choice holds for the first step only: kept, it would never let the model answer.
        """
        choice = self._request.tool_choice
        if choice is not None and choice.mode in ("required", "tool"):
            choice = ToolChoice("auto")
        messages = (*self._request.messages, reply.message, *results)
        self._request = self._request.replace(messages=messages, tool_choice=choice)

    def steps_down(self, error: openai.APIError) -> bool:
        """Whether the service refused the way in which an object was asked for, so that `request` asks in another.

        Raises `ParseError` where an answer had come before that did not fit: it is not lost to the question after it.
        """
        if isinstance(error, openai.APIStatusError) and self._ladder is not None and self._ladder.refused(error):
            return True
        if self._misfit is not None:
            raise self._misfit from error
        return False

    def shown(self, delta: Delta) -> Delta:
        """A delta as the caller sees it: an object is text, however it was asked for."""
        return delta if self._ladder is None else self._ladder.shown(delta)

    def finished(self, reply: Reply) -> Reply:
        """The last reply, with `parsed` where a schema was asked for; None while it still calls tools.

        Raises `ParseError` for a refusal, a cut answer, and a text that does not fit the schema.
        """
        if self._ladder is None:
            return reply
        reply = self._ladder.unpacked(reply)
        reply = replace(reply, notes=(*reply.notes, *self._ladder.notes()))
        if reply.tool_calls:
            return reply
        if reply.refusal or reply.finish_reason == "refusal":
            raise ParseError(f"The model declined to answer: {_short(reply.refusal or reply.text)}", reply=reply)
        if reply.finish_reason in _CUT:
            why = _CUT[reply.finish_reason].format(limit=argument("max_tokens"))
            raise ParseError(f"The answer is not whole: {why}", reply=reply)
        try:
            parsed = self._parsed(reply.text)
        except ValueError as error:
            name = getattr(self.schema, "__name__", "asked for")
            text = f"The answer does not fit the schema {name}: {_reason(error)}. It was {_short(reply.text)}"
            raise ParseError(text, reply=reply) from error
        self._ladder.held()
        return replace(reply, parsed=parsed)

    def ended(self, reply: Reply) -> Reply:
        """`finished` for a stream, in which an answer is not asked for again: the next call begins another way."""
        try:
            return self.finished(reply)
        except ParseError as error:
            if self._ladder is not None and isinstance(error.__cause__, ValueError):
                self._ladder.misread(error.reply)
            raise

    def result(self, reply: Reply) -> Reply | None:
        """`finished`, or None where `request` now asks once more, as the object did not fit."""
        try:
            return self.finished(reply)
        except ParseError as error:
            misfit = error.__cause__
            if self._ladder is None or not isinstance(misfit, ValueError):
                if self._misfit is not None:
                    raise self._misfit from error
                raise
            said = self._ladder.misfit(error.reply, _reason(misfit))
            if said is None:
                raise
            self._misfit = self._misfit or error
            self._request = self._request.replace(messages=(*self._request.messages, *said))
            return None

    def _parsed(self, text: str) -> Any:
        assert self.schema is not None  # asked only where there is one
        assert self._ladder is not None  # likewise
        found = extracted(text, self._ladder.schema) or (values(text) or [text])[-1]
        if isinstance(self.schema, Mapping):
            return fitting(found, self.schema)
        return pydantic.TypeAdapter(self.schema).validate_json(found)


_CUT = {
    "length": "it reached its token limit; `{limit}` sets a higher one.",
    "content_filter": "the service's content filter ended it.",
}


def _reason(error: ValueError) -> str:
    """What is wrong, in a sentence: where in the object, and what pydantic says of it."""
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    first, *more = error.errors(include_url=False, include_input=False)
    place = ".".join(str(step) for step in first["loc"])
    also = f" (and {len(more)} more)" if more else ""
    return f"{place}: {first['msg']}{also}" if place else f"{first['msg']}{also}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:199]}…")
