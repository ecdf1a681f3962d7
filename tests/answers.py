"""What a faultless server of either API answers, written by hand: the other side of `mock_client`."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from doors import http

USAGE = {
    "chat": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    "responses": {
        "input_tokens": 7,
        "output_tokens": 3,
        "total_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}


def body(request: Any) -> dict[str, Any]:
    """What a request asks."""
    return dict(json.loads(request.content))


def wire_of(request: Any) -> str:
    """The API that a request speaks, by its path."""
    return {"completions": "chat", "responses": "responses"}[request.url.path.rpartition("/")[2]]


def answer(request: Any, *pieces: str) -> Any:
    """A text, whole or streamed piece by piece, as the request asks."""
    wire = wire_of(request)
    if body(request).get("stream"):
        return events(stream(wire, *pieces))
    return http.Response(200, json=whole(wire, "".join(pieces)))


def call(request: Any, *made: tuple[str, str, str]) -> Any:
    """Tool calls, (id, name, arguments) each, whole or streamed as the request asks."""
    wire = wire_of(request)
    if body(request).get("stream"):
        return events(call_stream(wire, *made))
    return http.Response(200, json=calls(wire, *made))


def results(request: Any) -> dict[str, str]:
    """The results of tools that a request hands back, by the ids of their calls."""
    said = body(request)
    if wire_of(request) == "chat":
        return {entry["tool_call_id"]: entry["content"] for entry in said["messages"] if entry["role"] == "tool"}
    return {entry["call_id"]: entry["output"] for entry in said["input"] if entry.get("type") == "function_call_output"}


def whole(wire: str, text: str) -> dict[str, Any]:
    """A whole answer that says this."""
    if wire == "chat":
        return _chat({"role": "assistant", "content": text}, "stop")
    return _response(_message(text))


def cut(wire: str, text: str, reason: str = "length") -> dict[str, Any]:
    """A whole answer that the service ended: for "length" or "content_filter"."""
    if wire == "chat":
        return _chat({"role": "assistant", "content": text}, reason)
    why = {"length": "max_output_tokens"}.get(reason, reason)
    return _response(_message(text)) | {"status": "incomplete", "incomplete_details": {"reason": why}}


def refusal(wire: str, text: str) -> dict[str, Any]:
    """A whole answer in which the model declines."""
    if wire == "chat":
        return _chat({"role": "assistant", "content": None, "refusal": text}, "stop")
    return _response(_message("") | {"content": [{"type": "refusal", "refusal": text}]})


def refusal_stream(wire: str, *pieces: str) -> list[str]:
    """The lines of a stream in which the model declines."""
    if wire == "chat":
        deltas: list[dict[str, Any]] = [
            {"role": "assistant", "content": None},
            *({"refusal": piece} for piece in pieces),
        ]
        lines = [_chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        return [*lines, _chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]), "data: [DONE]"]
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "refusal", "refusal": "".join(pieces)}
    item = _message("") | {"content": [part]}
    begun = item | {"content": [], "status": "in_progress"}
    said: list[dict[str, Any]] = [
        *_opening(),
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.content_part.added", **place, "part": part | {"refusal": ""}},
        *({"type": "response.refusal.delta", **place, "delta": piece} for piece in pieces),
        {"type": "response.refusal.done", **place, "refusal": part["refusal"]},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": _response(item)},
    ]
    return [event(payload | {"sequence_number": number}) for number, payload in enumerate(said)]


def calls(wire: str, *calls: tuple[str, str, str]) -> dict[str, Any]:
    """A whole answer that calls tools: (id, name, arguments) each."""
    if wire == "chat":
        made = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in calls
        ]
        return _chat({"role": "assistant", "content": None, "tool_calls": made}, "tool_calls")
    return _response(*(_function_call(*call) for call in calls))


def stream(wire: str, *pieces: str) -> list[str]:
    """The lines of a streamed text, one event each."""
    if wire == "chat":
        chunks = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
        lines = [_chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in chunks]
        end = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
        return [*lines, _chunk(end), _chunk([], usage=USAGE["chat"]), "data: [DONE]"]
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    text = "".join(pieces)
    item, part = _message(text), {"type": "output_text", "text": text, "annotations": []}
    said: list[dict[str, Any]] = [
        *_opening(),
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"content": [], "status": "in_progress"},
        },
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": _response(item)},
    ]
    return [event(payload | {"sequence_number": number}) for number, payload in enumerate(said)]


def call_stream(wire: str, *calls: tuple[str, str, str]) -> list[str]:
    """The lines of a stream that calls tools, the arguments in two pieces each."""
    if wire == "chat":
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
        for index, (id, name, arguments) in enumerate(calls):
            halves = arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]
            opened = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
            pieces = [{"index": index, "function": {"arguments": half}} for half in halves]
            deltas += [{"tool_calls": [piece]} for piece in (opened, *pieces)]
        lines = [_chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        end = [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
        return [*lines, _chunk(end), _chunk([], usage=USAGE["chat"]), "data: [DONE]"]
    items = [_function_call(*call) for call in calls]
    said: list[dict[str, Any]] = [*_opening()]
    for index, item in enumerate(items):
        half, place = len(item["arguments"]) // 2, {"item_id": item["id"], "output_index": index}
        started = item | {"arguments": "", "status": "in_progress"}
        said += [
            {"type": "response.output_item.added", "output_index": index, "item": started},
            {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"][:half]},
            {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"][half:]},
            {
                "type": "response.function_call_arguments.done",
                **place,
                "name": item["name"],
                "arguments": item["arguments"],
            },
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
    said.append({"type": "response.completed", "response": _response(*items)})
    return [event(payload | {"sequence_number": number}) for number, payload in enumerate(said)]


def with_own_id(response: Any, name: str = "") -> Any:
    """The response with an id of this name, or one that no other answer has: by its id a call is found again."""
    text = re.sub(r"(chatcmpl-|resp_)1\b", rf"\g<1>{name or uuid.uuid4().hex}", response.text)
    headers = {"content-type": response.headers.get("content-type", "")}
    return http.Response(response.status_code, headers=headers, content=text)


def event(payload: Mapping[str, Any]) -> str:
    """The lines of one event, named by its `type` where it has one."""
    name = f"event: {payload['type']}\n" if "type" in payload else ""
    return f"{name}data: {json.dumps(payload)}"


def events(lines: Iterable[str]) -> Any:
    """An answer that is an event stream."""
    content = "".join(f"{line}\n\n" for line in lines).encode()
    return http.Response(200, content=content, headers={"content-type": "text/event-stream"})


def _chat(message: dict[str, Any], finish_reason: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": USAGE["chat"],
    }


def _chunk(choices: list[dict[str, Any]], **more: Any) -> str:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m-1"}
    return event({**head, "choices": choices, **more})


def _function_call(id: str, name: str, arguments: str) -> dict[str, Any]:
    call = {"call_id": id, "name": name, "arguments": arguments, "status": "completed"}
    return {"type": "function_call", "id": f"fc_{id}", **call}


def _opening() -> list[dict[str, Any]]:
    return [{"type": f"response.{step}", "response": _begun()} for step in ("created", "in_progress")]


def _begun() -> dict[str, Any]:
    return _response() | {"status": "in_progress", "usage": None}


def _message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def _response(*output: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "status": "completed",
        "model": "m-1",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": USAGE["responses"],
    }
