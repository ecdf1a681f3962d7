"""How an endpoint deviates from the API that it speaks, as a value.

Each field has a default that means "as OpenAI's reference says". The rows of `endpoints.toml` set the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Dialect", "ResponsesDialect"]


@dataclass(frozen=True)
class ResponsesDialect:
    """The deviations of an endpoint's own Responses API. A field that `Dialect` has too means the same here."""

    developer_role: bool = True
    item_status: bool = True  # False: earlier items go back without their status
    drop: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    tool_choice: tuple[str, ...] | None = None
    tool_kinds: tuple[str, ...] | None = None
    format_field: str | None = None  # where the answer's form is read instead of in `text.format`
    response_format: tuple[str, ...] | None = None  # forms taken, wherever they are said
    structured: tuple[str, ...] | None = None
    whole_defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """The deviations of one endpoint; all fields but the last concern Chat Completions.

    Names in `drop`, `refuse` and `ignored` are fields of the body; `messages[].name` means that field of every
    message.
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
    refused_parts: tuple[str, ...] = ()  # kinds of content part not taken
    image_urls: bool = True  # False: pictures only as `data:` URLs
    null_fields: bool = True  # False: a field of a message may not be null
    empty_assistant: bool = True  # False: an assistant message needs content or tool calls
    prefix_field: str | None = None  # must be true in a last message of the assistant
    reasoning_replay: str | None = "source"  # field for earlier reasoning; "source": where it came in; "": none
    reasoning_filler: str | None = None  # stands for missing reasoning in an assistant message with tool calls

    # Tools and schemas
    tool_kinds: tuple[str, ...] | None = None  # kinds of tool taken: function custom ...
    tool_choice: tuple[str, ...] | None = None  # forms taken: none auto required any function allowed_tools
    tool_call_id_length: int | None = None  # ids of exactly so many letters and digits
    json_arguments: bool = True  # False: earlier tool calls whose arguments are no JSON are refused
    empty_tools: bool = True  # False: `tools: []`, or `tool_choice` without tools, is an error
    response_format: tuple[str, ...] | None = None  # forms taken: text json_object json_schema
    structured: tuple[str, ...] | None = None  # ways to an object, in this order: json_schema tool json_object prompt
    schema_refs: bool = True  # False: `$ref` is written out
    schema_drop: tuple[str, ...] = ()  # keywords that a schema may not have at its top

    # Answers
    think_tags: bool = False  # reasoning may open the text, between <think> and </think>
    quota_codes: tuple[str, ...] = ()  # codes or types of a 429 that no waiting heals; * stands for any letters

    responses: ResponsesDialect = field(default_factory=ResponsesDialect)
