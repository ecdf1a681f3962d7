"""A value for every field of either API, and what becomes of it over the other one."""

from __future__ import annotations

from typing import Any

from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from allos import settings
from allos.errors import Unsupported
from allos.exchange import plan
from allos.messages import Wire

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
CHAT_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"name": "s", "schema": {"type": "object", "properties": {}}}
VALUES: dict[Wire, dict[str, Any]] = {
    "responses": {
        "background": True,
        "context_management": [{"type": "compaction"}],
        "conversation": "conv_1",
        "include": ["message.output_text.logprobs"],
        "input": "hi",
        "instructions": "be brief",
        "max_output_tokens": 9,
        "max_tool_calls": 2,
        "metadata": {"a": "b"},
        "model": "m",
        "parallel_tool_calls": False,
        "previous_response_id": "resp_1",
        "prompt": {"id": "pmpt_1"},
        "reasoning": {"effort": "low"},
        "service_tier": "flex",
        "store": False,
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "temperature": 0.5,
        "text": {"format": {"type": "json_schema", **SCHEMA}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [TOOL],
        "top_logprobs": 2,
        "top_p": 0.5,
        "truncation": "auto",
    },
    "chat": {
        "audio": {"voice": "alloy", "format": "mp3"},
        "frequency_penalty": 0.5,
        "function_call": {"name": "f"},
        "functions": [{"name": "f", "parameters": {"type": "object", "properties": {}}}],
        "logit_bias": {"1": 1},
        "logprobs": True,
        "max_completion_tokens": 9,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
        "metadata": {"a": "b"},
        "modalities": ["text", "audio"],
        "model": "m",
        "n": 2,
        "parallel_tool_calls": False,
        "prediction": {"type": "content", "content": "x"},
        "presence_penalty": 0.5,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": SCHEMA},
        "seed": 1,
        "service_tier": "flex",
        "stop": ["x"],
        "store": False,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "tools": [CHAT_TOOL],
        "top_logprobs": 2,
        "top_p": 0.5,
        "verbosity": "low",
        "web_search_options": {},
    },
}
OTHERS: dict[Wire, Any] = {  # fields whose value is a plain text
    "responses": response_create_params.ResponseCreateParamsBase,
    "chat": completion_create_params.CompletionCreateParamsBase,
}
LEAST: dict[Wire, dict[str, Any]] = {
    "responses": {"model": "m", "input": "hi"},
    "chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}


def names(asked: Wire) -> list[str]:
    """The fields of that API's request, as this SDK knows them."""
    return sorted({*OTHERS[asked].__annotations__, "stream"})


def outcome(asked: Wire, spoken: Wire, field: str) -> set[str] | str:
    """The fields that this one becomes, "left out" or "refused"."""
    target = settings.resolve("chat_completions", base_url="http://mock.test/v1", wire=spoken)
    given = VALUES[asked].get(field, "x")
    tools = {"tools": VALUES[asked]["tools"]} if field == "tool_choice" else {}
    tools |= {"functions": VALUES["chat"]["functions"]} if field == "function_call" else {}
    tools |= {"logprobs": True} if field == "top_logprobs" and asked == "chat" else {}
    try:
        made = plan(asked, spoken, {**LEAST[asked], **tools, field: given}, target)
    except Unsupported:
        return "refused"
    before = plan(asked, spoken, {**LEAST[asked], **tools}, target).sent_body
    if any(note.action == "left out" for note in made.receipt.notes):
        return "left out"
    return {name for name, value in made.sent_body.items() if before.get(name) != value or field in LEAST[asked]}
