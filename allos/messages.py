"""The values that both APIs are translated through: a request, a reply and what they hold.

Everything here is a frozen value without I/O.
What a wire can say and these classes have no name for is kept in `extra` under the wire's own
key, so that a value that was read can be written again without loss.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from allos.errors import ConfigurationError

__all__ = [
    "Audio",
    "Choice",
    "Delta",
    "File",
    "Image",
    "Item",
    "Message",
    "MessageLike",
    "Note",
    "OutputFormat",
    "Part",
    "Reasoning",
    "Refusal",
    "Reply",
    "Request",
    "Role",
    "Text",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Usage",
    "Wire",
]

Extra = Mapping[str, Any]
Role = Literal["system", "developer", "user", "assistant", "tool"]
Wire = Literal["chat", "responses"]
"""The name of an API: Chat Completions or the Responses API."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text that someone wrote or a model answered.

    `annotations` and `logprobs` are the wire's own JSON objects; `logprobs` is None where none were asked for.
    """

    text: str
    annotations: tuple[Mapping[str, Any], ...] = ()
    logprobs: tuple[Mapping[str, Any], ...] | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: an address, a `data:` URL, or the id of an uploaded file."""

    url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    extra: Extra = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str = "image/png", *, detail: str | None = None) -> Image:
        """A picture from its bytes, carried as a `data:` URL."""
        return cls(f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}", detail)


@dataclass(frozen=True, slots=True)
class File:
    """A document: its data as a `data:` URL, an address, or the id of an uploaded file."""

    data: str | None = None
    filename: str | None = None
    file_id: str | None = None
    url: str | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound: base64 data with its format, or the id of an earlier spoken answer."""

    data: str | None = None
    format: str | None = None
    id: str | None = None
    transcript: str | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought before it answered.

    `text` is the thinking itself, `summary` its published summaries.
    `encrypted` and `signature` are opaque to us and must go back to the service unchanged.
    `source` names the Chat field that it came in (`reasoning_content`, `reasoning`, ...), for replay.
    """

    text: str = ""
    summary: tuple[str, ...] = ()
    encrypted: str | None = None
    signature: str | None = None
    id: str | None = None
    source: str | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model's words when it declines."""

    text: str
    logprobs: tuple[Mapping[str, Any], ...] | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to have a tool run.

    `arguments` is the text as the model wrote it: JSON for a function, free text for a custom tool.
    `id` ties the result to the call; `item_id` is the Responses API's second name for the item.
    """

    id: str
    name: str
    arguments: str = ""
    kind: Literal["function", "custom"] = "function"
    item_id: str | None = None
    extra: Extra = field(default_factory=dict)

    def parsed(self) -> Any:
        """The arguments as JSON; an empty text counts as no arguments. Raises `ValueError` on anything else."""
        return json.loads(self.arguments) if self.arguments.strip() else {}


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back for one call: the parts are mostly one `Text`, and images or files where it gave such."""

    call_id: str
    parts: tuple[Part, ...] = ()
    kind: Literal["function", "custom"] = "function"
    extra: Extra = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All text of the result, joined."""
        return _joined(self.parts, Text)


@dataclass(frozen=True, slots=True)
class Item:
    """A part that only one wire knows, such as a web search call: kept whole, said again only on that wire."""

    data: Mapping[str, Any]
    wire: Wire = "responses"

    @property
    def type(self) -> str:
        """The wire's own name of this kind of part."""
        return str(self.data.get("type", ""))


Part = Text | Image | File | Audio | Reasoning | Refusal | ToolCall | ToolResult | Item


def _joined(parts: Iterable[Part], kind: type[Text] | type[Refusal]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, the same on both wires."""

    role: str
    parts: tuple[Part, ...] = ()
    name: str | None = None
    extra: Extra = field(default_factory=dict)

    @classmethod
    def system(cls, content: str | Sequence[str | Part]) -> Message:
        """Instructions that hold for the whole conversation."""
        return cls("system", _parts(content))

    @classmethod
    def developer(cls, content: str | Sequence[str | Part]) -> Message:
        """Instructions of the program's author; sent as `system` where a service knows no `developer`."""
        return cls("developer", _parts(content))

    @classmethod
    def user(cls, content: str | Sequence[str | Part]) -> Message:
        """What the person says: a text, or a list of texts, images, files and audio."""
        return cls("user", _parts(content))

    @classmethod
    def assistant(cls, content: str | Sequence[str | Part] = (), *, tool_calls: Iterable[ToolCall] = ()) -> Message:
        """What the model said, with the tools that it called."""
        return cls("assistant", (*_parts(content), *tool_calls))

    @classmethod
    def tool(cls, call_id: str, content: str | Sequence[str | Part]) -> Message:
        """The result of the tool call with that id."""
        return cls("tool", (ToolResult(call_id, _parts(content)),))

    @property
    def text(self) -> str:
        """All text of the message, joined; a tool's result counts as text too."""
        return "".join(part.text for part in self.parts if isinstance(part, (Text, ToolResult)))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls in the order in which the model made them."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


MessageLike = str | Message | Mapping[str, Any]


def _parts(content: str | Sequence[str | Part]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if not isinstance(content, Iterable):
        raise ConfigurationError(f"{content!r} is no content of a message: pass a text, or a list of texts and parts.")
    return tuple(Text(part) if isinstance(part, str) else part for part in content)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call.

    `kind` is "function", "custom" (free text in, `format` may hold its grammar), or the name of a tool
    that the service itself runs ("web_search", ...), whose settings are then in `extra`.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None
    kind: str = "function"
    format: Mapping[str, Any] | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may, must or must not call tools.

    "auto", "none", "required"; "tool" names one in `name`; "allowed" lists some in `names` with `required`;
    any other mode is the wire's own form, kept in `extra`.
    """

    mode: str = "auto"
    name: str | None = None
    kind: str = "function"
    names: tuple[str, ...] = ()
    required: bool = False
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The form that the answer must have: "text", "json_object", or "json_schema" with its schema.

    `schema` is a JSON schema as a dict, `name` what the service calls it, `strict` whether it must fit exactly.
    """

    kind: str = "text"
    name: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that either API can be asked. None means: not said, so the service decides.

    `instructions` are those of the Responses API, which stand beside the messages. `max_tokens` and `top_logprobs`
    are counts, `temperature` and `top_p` the numbers that the APIs know, `stop` the texts that end an answer, `n` how
    many answers. `max_tokens_field` and `include_usage` keep how a wire said what it said: the name of the limit,
    and whether a stream counts its tokens. `extra` holds fields that have no name here, under the wire's own keys.
    """

    messages: tuple[Message, ...] = ()
    model: str | None = None
    instructions: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    format: OutputFormat | None = None
    max_tokens: int | None = None
    max_tokens_field: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    reasoning_summary: str | None = None
    verbosity: str | None = None
    metadata: Mapping[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    stream: bool | None = None
    include_usage: bool | None = None
    extra: Extra = field(default_factory=dict)

    def replace(self, **changes: Any) -> Request:
        """The same request with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the service counted them. None means that it did not say: zero would be a lie."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a reply; there are several only when `n` asked for them.

    `finish_reason` is "stop", "length", "tool_calls", "content_filter", "refusal", "cancelled" or "error", another
    word of the service as it is, or None while the answer is not finished.
    """

    message: Message = field(default_factory=lambda: Message("assistant"))
    finish_reason: str | None = None
    index: int = 0
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that did not go its way as it was said: which field, what became of it, and why.

    What is "ignored" was sent, and the service does nothing with it.
    """

    action: Literal["left out", "ignored", "changed", "repaired", "routed"]
    what: str
    reason: str

    @property
    def has_no_effect(self) -> bool:
        """Whether what was said has no effect."""
        return self.action in ("left out", "ignored")


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's whole answer.

    `created` is in seconds since 1970. `raw` is the JSON object that the service sent (for a stream, what its
    events added up to), `parsed` the validated object when a schema was asked for, `notes` what was changed on
    the way.
    """

    choices: tuple[Choice, ...] = ()
    id: str | None = None
    model: str | None = None
    created: float | None = None
    usage: Usage | None = None
    service_tier: str | None = None
    extra: Extra = field(default_factory=dict)
    raw: Any = field(default=None, compare=False, repr=False)
    parsed: Any = field(default=None, compare=False)
    notes: tuple[Note, ...] = field(default=(), compare=False)

    @property
    def message(self) -> Message:
        """The first answer, ready to be put into the next request's messages."""
        return self.choices[0].message if self.choices else Message("assistant")

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.message.text

    @property
    def refusal(self) -> str:
        """What the model said when it declined; empty when it did not."""
        return _joined(self.message.parts, Refusal)

    @property
    def reasoning(self) -> str:
        """The thinking that the service showed, or else its summaries."""
        parts = [part for part in self.message.parts if isinstance(part, Reasoning)]
        return "".join(part.text or "\n".join(part.summary) for part in parts)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model wants to have run."""
        return self.message.tool_calls

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped; see `Choice`."""
        return self.choices[0].finish_reason if self.choices else None


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of a streamed reply; most fields are empty in any one of them.

    `text`, `reasoning`, `summary` and `refusal` are what was added. `tool_call` carries the id and name when they
    are first known and a piece of the arguments. `part` is a part that came whole, or the final form of one that
    grew (with what has no delta: encrypted reasoning, annotations). `index` is the part's place in the message.
    `head` comes once, first: id, model and time of the reply.
    """

    text: str = ""
    reasoning: str = ""
    summary: str = ""
    refusal: str = ""
    tool_call: ToolCall | None = None
    part: Part | None = None
    index: int = 0
    choice: int = 0
    logprobs: tuple[Mapping[str, Any], ...] | None = None
    annotations: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    head: Reply | None = None
    extra: Extra = field(default_factory=dict)
