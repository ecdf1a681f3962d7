"""The names of fields that only one of the two APIs knows.

A codec asks here what a field of the other API means to it.
A reason says why the answer is the same without the field: it is then left out and noted.
None means that the field changes the answer, so that leaving it out would be a silent wrong answer: it is refused.
Names that stand in neither table belong to a service of its own (`top_k`, ...) and pass on both wires.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allos.errors import Unsupported, argument
from allos.messages import Note

__all__ = ["CHAT_ONLY", "RESPONSES_ONLY", "RESPONSE_FIELDS", "pass_on"]

CHAT_ONLY: Mapping[str, str | None] = {
    "audio": None,
    "frequency_penalty": None,
    "function_call": None,
    "functions": None,
    "logit_bias": None,
    "modalities": None,
    "n": None,
    "prediction": "the Responses API takes no predicted output; it only made the answer faster",
    "presence_penalty": None,
    "seed": "the Responses API takes no seed, which is a hint and no promise",
    "stop": None,
    "web_search_options": None,
}

RESPONSES_ONLY: Mapping[str, str | None] = {
    "access_programs": None,
    "background": None,
    "background_options": "it only matters to answers made in the background",
    "context_management": None,
    "conversation": None,
    "image": None,
    "include": "Chat Completions has no such additions to the answer",
    "max_tool_calls": "it limits the service's own tools, and Chat Completions has none",
    "previous_response_id": None,
    "prompt": None,
    "truncation": "Chat Completions never shortens the input: too long a conversation is an error there",
}

# What means the same as leaving the field out.
_SAME_AS_NOTHING: Mapping[str, Any] = {
    "background": False,
    "frequency_penalty": 0,
    "function_call": "auto",
    "logit_bias": {},
    "modalities": ["text"],
    "n": 1,
    "presence_penalty": 0,
    "truncation": "disabled",
}

# What only a Response object says about itself: the request it answers, and bookkeeping.
RESPONSE_FIELDS = frozenset(
    {
        "access_programs",
        "background",
        "billing",
        "completed_at",
        "content_filters",
        "conversation",
        "error",
        "frequency_penalty",
        "image",
        "incomplete_details",
        "input_transformations",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "moderation",
        "output_text",
        "parallel_tool_calls",
        "presence_penalty",
        "previous_response_id",
        "prompt",
        "prompt_cache_diagnostics",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "status",
        "store",
        "temperature",
        "text",
        "tool_choice",
        "tool_usage",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    }
)


def pass_on(
    fields: Mapping[str, Any], foreign: Mapping[str, str | None], api: str, notes: list[Note] | None
) -> dict[str, Any]:
    """The fields that may be sent to the API named `api`, which does not know the `foreign` ones.

    Raises `Unsupported` for a foreign field that changes the answer.
    """
    kept = {}
    for name, value in fields.items():
        if name not in foreign:
            kept[name] = value
        elif value is not None and value != _SAME_AS_NOTHING.get(name):
            reason = foreign[name]
            if reason is None:
                other = argument("wire", "responses" if api == "Chat Completions" else "chat")
                way = f"leave it out, or use the other API by {other}, where the service has it"
                raise Unsupported(f"{name!r} can't be said over {api}: {way}", param=name)
            if notes is not None:
                notes.append(Note("left out", name, reason))
    return kept
