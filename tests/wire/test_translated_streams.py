"""What a Chat stream becomes as a stream of Responses events, where the two don't match one to one."""

from __future__ import annotations

import json
from typing import Any

from allos.messages import Reply, Text
from allos.wire import chat, responses, sse


def translate(*payloads: Any) -> tuple[list[dict[str, Any]], Reply]:
    """The events that a Chat stream becomes, and the reply that they say when they are read again."""
    decoder, encoder, reader = chat.Decoder(), responses.Encoder(), responses.Decoder()
    events = []
    for payload in payloads:
        for delta in decoder.feed(sse.Event("", json.dumps(payload))):
            events += encoder.feed(delta)
    events += encoder.end(decoder.end())
    for event in events:
        reader.feed(sse.Event(event["type"], json.dumps(event)))
    return events, reader.end()


def chunk(index: int = 0, finish: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return {"id": "x", "model": "m", "created": 1, "choices": [choice]}


CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def grown(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def test_only_the_choice_that_speaks_first_is_told() -> None:
    """fireworks-chat-s-893fc6 and openai-chat-s-55b2dd were asked for several."""
    events, reply = translate(
        chunk(0, content="a"), chunk(1, content="A"), chunk(0, content="b"), chunk(1, "stop"), chunk(0, "stop")
    )
    assert (grown(events), reply.text) == ("ab", "ab")


def test_text_that_goes_on_after_a_call_is_told_once() -> None:
    events, reply = translate(chunk(content="a"), chunk(tool_calls=[CALL]), chunk(content="b"), chunk(0, "tool_calls"))
    assert (grown(events), reply.text) == ("ab", "ab")
    assert [part.text for part in reply.message.parts if isinstance(part, Text)] == ["a", "b"]
    assert [call.name for call in reply.tool_calls] == ["f"]


def test_probabilities_of_a_calls_tokens_tell_no_text_again() -> None:
    """bedrock-chat-s-222aa5"""
    tokens = {"content": [{"token": "{}", "bytes": [123, 125], "logprob": -1.0, "top_logprobs": []}]}
    events, reply = translate(
        chunk(content="a"), chunk(tool_calls=[CALL], logprobs=tokens), chunk(0, "tool_calls", tokens)
    )
    assert (grown(events), reply.text) == ("a", "a")
