"""Odd answers by hand, each named after where it was seen: what the SDK makes of them through the drop-in.

The recordings hold most of these; here they stand where the recordings are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import openai
import pytest
from doors import http

from allos.dropin import OpenAI

HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
Answering = Callable[..., OpenAI]


@pytest.fixture
def answering() -> Answering:
    """`answering(payloads, wire)`: a drop-in client whose endpoint streams these, a string as it is."""

    def make(payloads: Iterable[Any], wire: str = "chat") -> OpenAI:
        lines = [payload if isinstance(payload, str) else json.dumps(payload) for payload in payloads]
        content = "".join(f"data: {line}\n\n" for line in lines).encode()
        answer = {"content": content, "headers": {"content-type": "text/event-stream"}}
        transport = http.MockTransport(lambda request: http.Response(200, **answer))
        return OpenAI(
            "chat_completions",
            base_url="http://mock.test/v1",
            api_key="sk-mock",
            wire=wire,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(transport=transport),
        )

    return make


def chunk(finish: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}]}


def call(**fields: Any) -> dict[str, Any]:
    return {"index": 0, **fields}


def completion(client: OpenAI) -> Any:
    with client.chat.completions.stream(model="m", messages=[]) as stream:
        return stream.get_final_completion()


def named(**more: Any) -> dict[str, Any]:
    return call(id="c", type="function", function={"name": "f", **more})


CALLS = {
    "id repeated (llama.cpp)": [
        named(arguments="{"),
        call(id="c", function={"arguments": "}"}),
    ],
    "name repeated (llama.cpp)": [
        named(arguments="{"),
        call(function={"name": "f", "arguments": "}"}),
    ],
    "type null on later pieces (Together, vLLM as dumped by the SDK)": [
        named(arguments="{"),
        call(id=None, type=None, function={"name": None, "arguments": "}"}),
    ],
    "arguments left out at first (OpenRouter)": [
        named(),
        call(function={"arguments": "{}"}),
    ],
    "no index (Gemini)": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


@pytest.mark.parametrize("way", CALLS)
def test_the_stream_helper_puts_a_call_together(answering: Answering, way: str) -> None:
    pieces = [chunk(tool_calls=[piece]) for piece in CALLS[way]]
    (choice,) = completion(answering([chunk(role="assistant"), *pieces, chunk("tool_calls"), "[DONE]"])).choices
    (made,) = choice.message.tool_calls
    assert (made.id, made.type, made.function.name, made.function.arguments) == ("c", "function", "f", "{}")


A, B, END = chunk(content="a"), chunk(content="b"), chunk("stop")
CHUNKS = {
    "no role": [A, B, END],
    "a role on each": [chunk(role="assistant", content=text) for text in "ab"] + [chunk("stop", role="assistant")],
    "role null": [chunk(role=None, content="a"), B, END],
    "choices null": [{**HEAD, "choices": None}, A, B, END],
    "choices absent": [HEAD, A, HEAD, B, END],
    "choices empty": [{**HEAD, "choices": []}, A, B, END],
    "delta null": [A, {**HEAD, "choices": [{"index": 0, "delta": None, "finish_reason": None}]}, B, END],
    "finish reason empty": [chunk("", content="a"), B, END],
    "finish reason of another API": [A, B, chunk("end_turn")],
    "finish reason twice": [A, B, END, END],
    "content a list": [chunk(content=[{"type": "text", "text": "a"}]), B, END],
    "no head": [{"choices": chunk(content=text)["choices"]} for text in "ab"] + [{"choices": END["choices"]}],
    "no DONE": [A, B, END, ""],
}


@pytest.mark.parametrize("way", CHUNKS)
def test_the_stream_helper_puts_a_text_together(answering: Answering, way: str) -> None:
    (choice,) = completion(answering([*CHUNKS[way], *([] if "DONE" in way else ["[DONE]"])])).choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == ("ab", "assistant", "stop")


def test_annotations_without_an_index_do_not_break_the_stream_helper(answering: Answering) -> None:
    """OpenRouter sends them one by one."""
    cites = [{"type": "url_citation", "url_citation": {"url": url}} for url in ("http://a.test", "http://b.test")]
    client = answering([*(chunk(content="x", annotations=[cite]) for cite in cites), chunk("stop"), "[DONE]"])
    message = completion(client).choices[0].message
    assert message.content == "xx"
    assert [note.url_citation.url for note in message.annotations] == ["http://a.test", "http://b.test"]


def test_a_stream_that_names_no_finish_reason_ends_with_one(answering: Answering) -> None:
    """llama.cpp of 2024, and OpenAI with sound."""
    client = answering([chunk(content="a"), {**HEAD, "choices": [], "usage": USAGE}, "[DONE]"])
    made = completion(client)
    assert made.choices[0].finish_reason == "stop"
    assert made.usage.total_tokens == 3


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_thinking_is_told_once_in_a_stream_that_is_mended(answering: Answering) -> None:
    """Avian and Doubleword say it in two fields, and change the id after the first chunk."""

    def thought(text: str) -> dict[str, Any]:
        details = [{"type": "reasoning.text", "text": text, "index": 0}]
        return {**chunk(reasoning_content=text, reasoning_details=details), "id": "y"}

    client = answering([chunk(role="assistant"), thought("h"), thought("m"), chunk("stop", content="a"), "[DONE]"])
    steps = client.chat.completions.create(model="m", messages=[], stream=True)
    deltas = [step.choices[0].delta.to_dict() for step in steps if step.choices]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm"
    details = [entry for delta in deltas for entry in delta.get("reasoning_details", ())]
    assert "".join(entry["text"] for entry in details) == "hm"


def test_probabilities_that_are_a_number_are_left_out(answering: Answering) -> None:
    """Together, through OpenRouter."""
    client = answering([chunk(content="a", logprobs=-1.5), chunk("stop"), "[DONE]"])
    assert completion(client).choices[0].logprobs is None


# Responses


def response(name: str = "resp_1", *output: Any, status: str = "completed") -> dict[str, Any]:
    unsaid = dict.fromkeys(("error", "incomplete_details", "instructions", "temperature", "top_p"))
    fixed = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}}
    head = {"id": name, "object": "response", "created_at": 1, "model": "m", "status": status}
    return {**head, **unsaid, **fixed, "output": list(output)}


def message(name: str = "msg_1", *texts: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": name, "role": "assistant", "status": "completed", "content": content}


def stream(place: int = 0, ids: Iterable[str] = ("1",) * 9, *, first: str = "created", tell: bool = True) -> list[Any]:
    """A streamed Response that says "ab", its parts counted from `place` and its ids ending in these."""
    names = iter(ids)
    where = {"output_index": 0, "content_index": place}
    part = {"type": "output_text", "text": "", "annotations": []}

    def at(kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "item_id": f"msg_{next(names)}", **where, **fields}

    said = [
        {"type": f"response.{first}", "response": response(f"resp_{next(names)}", status="in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": message(f"msg_{next(names)}")},
        at("content_part.added", part=part),
        at("output_text.delta", delta="a", logprobs=[]),
        at("output_text.delta", delta="b", logprobs=[]),
        at("output_text.done", text="ab", logprobs=[]),
        at("content_part.done", part={**part, "text": "ab"}),
        {"type": "response.output_item.done", "output_index": 0, "item": message(f"msg_{next(names)}", "ab")},
    ]
    output = [message(f"msg_{next(names)}", "ab")] if tell else []
    said.append({"type": "response.completed", "response": response("resp_1", *output)})
    return [{**event, "sequence_number": number} for number, event in enumerate(said)]


RESPONSES = {
    "by the reference": stream(),
    "another id on each event (GitHub Copilot)": stream(ids="123456789"),
    "parts counted from 1 (Bedrock)": stream(1),
    "nothing in the last event (ChatGPT's Codex backend)": stream(tell=False),
    "begins with another event (a Response in the background)": stream(first="queued"),
}


@pytest.mark.parametrize("way", RESPONSES)
def test_the_stream_helper_puts_a_response_together(answering: Answering, way: str) -> None:
    client = answering(RESPONSES[way], "responses")
    with client.responses.stream(model="m", input="?") as steps:
        events = list(steps)
        final = steps.get_final_response()
    assert final.output_text == "ab"
    assert len({event.response.id for event in events if hasattr(event, "response")} | {final.id}) == 1
    assert len({event.item_id for event in events if hasattr(event, "item_id")} | {final.output[0].id}) == 1


def test_an_event_that_the_sdk_does_not_know_is_handed_on(answering: Answering) -> None:
    first, *rest = stream()
    news = {"type": "response.rate_limits.updated", "sequence_number": 1, "left": 7}
    with answering([first, news, *rest], "responses").responses.create(model="m", input="?", stream=True) as events:
        kept = [event for event in events if event.type == news["type"]]
    assert [event.left for event in kept] == [7]


def test_thoughts_among_the_parts_of_the_content_are_all_told(answering: Answering) -> None:
    """Mistral's reasoning models, with several parts in one chunk."""

    def thinking(text: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    client = answering([chunk(content=[thinking("h"), thinking("m")]), chunk("stop", content="a"), "[DONE]"])
    message = completion(client).choices[0].message
    assert (message.content, message.reasoning_content) == ("a", "hm")


DATA = [
    "",
    " ",
    "null",
    "{}",
    "[]",
    "3",
    '"ok"',
    "{not json}",
    pytest.param("[" * 100_000, id="deep"),
    '{"type": 7}',
    '{"choices": 3}',
    '{"choices": [3]}',
    '{"choices": [{"index": [], "delta": {}}]}',
    '{"choices": [{"index": "0", "delta": "a"}]}',
    '{"response": 3, "type": "response.completed"}',
    '{"item": 3, "output_index": "0"}',
]


@pytest.mark.parametrize("wire", ["chat", "responses"])
@pytest.mark.parametrize("asked", ["chat", "responses"])
@pytest.mark.parametrize("data", DATA)
def test_an_event_that_says_nothing_is_passed_over_or_the_sdks_error(
    answering: Answering, wire: str, asked: str, data: str
) -> None:
    first, *rest = stream() if wire == "responses" else [A, B, END, "[DONE]"]
    client = answering([first, data, *rest], wire)
    try:
        if asked == "chat":
            steps = list(client.chat.completions.create(model="m", messages=[], stream=True))
            assert "".join(step.choices[0].delta.content or "" for step in steps if step.choices) == "ab"
        else:
            events = list(client.responses.create(model="m", input="?", stream=True))
            assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "ab"
    except openai.APIError:
        pass


# Whole Responses: what is missing is added, and nothing that came is lost.


def responded(body: dict[str, Any]) -> Any:
    transport = http.MockTransport(lambda request: http.Response(200, json=body))
    http_client = openai.DefaultHttpxClient(transport=transport)
    made = {"base_url": "http://mock.test/v1", "api_key": "sk-mock", "max_retries": 0, "http_client": http_client}
    with OpenAI("chat_completions", wire="responses", **made) as client:
        return client.responses.create(model="m", input="hi")


MESSAGE = {
    "type": "message",
    "role": "assistant",
    "phase": "final_answer",
    "agent": {"agent_name": "scout"},
    "content": [{"type": "output_text", "text": "Paris.", "note": 1}],
}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": ""}]}
CALL = {"type": "function_call", "id": "", "call_id": "call_1", "name": "look", "arguments": "{}"}


def test_a_response_that_lacks_fields_gets_them_and_loses_none() -> None:
    response = responded({"id": "resp_1", "output": [THOUGHT, MESSAGE, CALL], "novelty": [1], "usage": None})
    assert (response.object, response.status, response.tools) == ("response", "completed", [])
    assert response.output_text == "Paris."
    thought, message, call = (item.to_dict() for item in response.output)
    assert (thought, call) == (THOUGHT, CALL)
    assert message.pop("id").startswith("msg_")
    assert message == MESSAGE
    assert response.to_dict()["novelty"] == [1]


def test_an_item_in_a_form_that_the_sdk_can_not_read_is_written_anew() -> None:
    response = responded({"id": "resp_1", "output": [MESSAGE | {"content": "Paris."}]})
    assert response.output_text == "Paris."


def test_what_has_the_wrong_type_is_replaced() -> None:
    response = responded({"id": 7, "created_at": "now", "tools": None, "output": [MESSAGE | {"id": "msg_1"}]})
    assert isinstance(response.id, str)
    assert isinstance(response.created_at, (int, float))
    assert response.tools == []
    assert response.output[0].id == "msg_1"


def test_a_null_is_left_out_only_where_the_reference_lets_it_not_be() -> None:
    items = [MESSAGE | {"id": "msg_1", "phase": None}, CALL | {"async": None, "namespace": None, "caller": None}]
    message, call = (item.to_dict() for item in responded({"id": "resp_1", "output": items}).output)
    assert message["phase"] is None
    assert call == CALL | {"caller": None}
