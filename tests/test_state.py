"""Responses and conversations served from here: continued, listed, streamed, deleted, as OpenAI would."""

from __future__ import annotations

import functools
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.conversations import Conversation, ConversationDeletedResource, ConversationItem, ConversationItemList
from openai.types.responses import Response, ResponseInputItemParam, ResponseItemList, ResponseStreamEvent
from pydantic import TypeAdapter

from allos.state import Served, Sessions, StateError, echo, open_store
from allos.store import FileStore, MemoryStore

JSON = dict[str, Any]
NUMBERS = itertools.count()


@pytest.fixture(params=["memory", "file"])
def sessions(request: pytest.FixtureRequest, tmp_path: Path) -> Sessions:
    return Sessions(MemoryStore() if request.param == "memory" else FileStore(str(tmp_path / "state.db")))


adapter = functools.cache(TypeAdapter)


def valid(kind: Any, value: Any) -> Any:
    """The value, if it is strictly what the SDK's type says."""
    adapter(kind).validate_json(json.dumps(value), strict=True)
    return value


def message(text: str, number: int = 0) -> JSON:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{number or next(NUMBERS)}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def answer(*output: JSON, **fields: Any) -> JSON:
    """A Response as a server that was sent no state writes it."""
    return {
        "id": f"resp_{next(NUMBERS)}",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5,
        },
        **fields,
    }


def turn(sessions: Sessions, said: Any, *output: JSON, **body: Any) -> str:
    """One call and its answer; the id of the response."""
    asked = {"model": "m", "input": said, **body}
    sessions.expand(asked)
    response = answer(*(output or (message(f"answer to {said}"),)))
    sessions.remember(asked, response)
    return str(response["id"])


def texts(body: JSON) -> list[str]:
    """The texts of an input, whoever said them."""
    found = []
    for item in body["input"]:
        content = item["content"]
        found.append(content if isinstance(content, str) else "".join(part["text"] for part in content))
    return found


def get(sessions: Sessions, path: str, **query: Any) -> JSON:
    served = sessions.serve("GET", path, query, None)
    assert served is not None
    assert served.status == 200, served.body
    assert served.body is not None
    return served.body


def post(sessions: Sessions, path: str, body: JSON | None = None) -> JSON:
    served = sessions.serve("POST", path, {}, body)
    assert served is not None
    assert served.status == 200, served.body
    assert served.body is not None
    return served.body


def refusal(served: Served | None) -> tuple[int, JSON]:
    assert served is not None
    assert served.body is not None
    error: JSON = served.body["error"]
    assert error["type"] == "invalid_request_error"
    return served.status, error


# Continuing.


def test_the_third_turn_sends_the_first_two(sessions: Sessions) -> None:
    first = turn(sessions, "one", message("uno"), instructions="be brief")
    second = turn(sessions, [{"role": "user", "content": "two"}], message("due"), previous_response_id=first)
    body = sessions.expand({"model": "m", "input": "three", "previous_response_id": second, "store": True, "top_p": 1})
    assert texts(body) == ["one", "uno", "two", "due", "three"]
    assert [item["role"] for item in body["input"]] == ["user", "assistant", "user", "assistant", "user"]
    assert body.keys() == {"model", "input", "top_p"}  # no instructions of an earlier turn, and no state
    valid(list[ResponseInputItemParam], body["input"])


def test_one_response_may_be_continued_twice(sessions: Sessions) -> None:
    root = turn(sessions, "root", message("r"))
    left = turn(sessions, "left", message("l"), previous_response_id=root)
    right = turn(sessions, "right", message("rr"), previous_response_id=root)
    assert texts(sessions.expand({"input": "x", "previous_response_id": left})) == ["root", "r", "left", "l", "x"]
    assert texts(sessions.expand({"input": "x", "previous_response_id": right})) == ["root", "r", "right", "rr", "x"]


@given(st.lists(st.integers(0, 100), max_size=12))
def test_any_tree_of_turns_replays_the_path_to_its_root(parents: list[int]) -> None:
    sessions = Sessions(MemoryStore())
    ids = [turn(sessions, "0", message("a0"))]
    paths = [["0", "a0"]]
    for number, parent in enumerate(parents, 1):
        at = parent % len(ids)
        ids.append(turn(sessions, str(number), message(f"a{number}"), previous_response_id=ids[at]))
        paths.append([*paths[at], str(number), f"a{number}"])
    for known, path in zip(ids, paths, strict=True):
        assert texts(sessions.expand({"input": "end", "previous_response_id": known})) == [*path, "end"]


def test_a_request_without_state_passes_as_it_is(sessions: Sessions) -> None:
    for said in ("hello", [{"role": "user", "content": "hello"}], [message("x")]):
        body = {"model": "m", "input": said, "instructions": "i", "previous_response_id": None, "conversation": None}
        assert sessions.expand(body) == {"model": "m", "input": said, "instructions": "i"}
        assert body["input"] is said


def test_a_turn_with_tools_and_thoughts_is_replayed_in_order_and_valid(sessions: Sessions) -> None:
    thought = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": None, "status": None}
    call = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "c",
        "name": "f",
        "arguments": "{}",
        "status": "completed",
    }
    result = {"type": "function_call_output", "call_id": "c", "output": "42"}
    first = turn(sessions, "ask", thought, {**call, "created_by": "m"})
    second = turn(sessions, [result], message("42 it is"), previous_response_id=first)
    body = sessions.expand({"input": "thanks", "previous_response_id": second})
    assert body["input"][1] == {"id": "rs_1", "type": "reasoning", "summary": []}  # null is no input
    assert body["input"][2] == call
    assert body["input"][3] == result  # as the caller said it, without an id of ours
    assert [item["type"] for item in body["input"][4:]] == ["message", "message"]
    valid(list[ResponseInputItemParam], body["input"])


def test_a_response_with_store_false_is_unknown_afterwards(sessions: Sessions) -> None:
    kept = turn(sessions, "kept")
    gone = turn(sessions, "secret", previous_response_id=kept, store=False)
    with pytest.raises(StateError):
        sessions.expand({"input": "x", "previous_response_id": gone})
    assert refusal(sessions.serve("GET", f"/responses/{gone}", {}, None))[0] == 404
    assert not sessions.knows({"previous_response_id": gone})
    assert sessions.knows({"previous_response_id": kept})


def test_an_unknown_response_is_refused_in_openais_words(sessions: Sessions) -> None:
    with pytest.raises(StateError) as caught:
        sessions.expand({"input": "x", "previous_response_id": "resp_nowhere"})
    assert caught.value.status == 400
    assert caught.value.body == {
        "error": {
            "message": "Previous response with id 'resp_nowhere' not found.",
            "type": "invalid_request_error",
            "param": "previous_response_id",
            "code": "previous_response_not_found",
        }
    }


def test_a_chain_with_a_deleted_turn_names_that_turn(sessions: Sessions) -> None:
    first = turn(sessions, "one")
    second = turn(sessions, "two", previous_response_id=first)
    third = turn(sessions, "three", previous_response_id=second)
    assert sessions.serve("DELETE", f"/responses/{second}", {}, None) == Served(
        200, {"id": second, "object": "response.deleted", "deleted": True}
    )
    with pytest.raises(StateError, match=f"Previous response with id '{second}' not found"):
        sessions.expand({"input": "x", "previous_response_id": third})
    assert texts(sessions.expand({"input": "x", "previous_response_id": first})) == ["one", "answer to one", "x"]
    assert refusal(sessions.serve("DELETE", f"/responses/{second}", {}, None))[0] == 404


def test_what_the_memory_had_to_forget_is_a_clear_error() -> None:
    sessions = Sessions(MemoryStore(most_records=2))
    ids = [turn(sessions, str(number)) for number in range(3)]
    with pytest.raises(StateError, match=f"'{ids[0]}' not found"):
        sessions.expand({"input": "x", "previous_response_id": ids[0]})
    assert texts(sessions.expand({"input": "x", "previous_response_id": ids[2]})) == ["2", "answer to 2", "x"]


def test_a_server_that_gives_all_answers_one_id_does_not_hang_the_replay(sessions: Sessions) -> None:
    for said in ("one", "two"):
        sessions.remember({"input": said, "previous_response_id": "resp_same"}, answer(id="resp_same"))
    with pytest.raises(StateError, match="resp_same"):
        sessions.expand({"input": "x", "previous_response_id": "resp_same"})


def test_turns_of_one_client_are_continued_by_another_through_a_file(tmp_path: Path) -> None:
    first = turn(Sessions(open_store(tmp_path / "state.db")), "one", message("uno"))
    body = Sessions(FileStore(str(tmp_path / "state.db"))).expand({"input": "two", "previous_response_id": first})
    assert texts(body) == ["one", "uno", "two"]


# References.


@pytest.mark.parametrize("reference", [{"type": "item_reference"}, {"type": None}, {}], ids=["typed", "null", "bare"])
def test_a_reference_becomes_the_item(sessions: Sessions, reference: JSON) -> None:
    made = message("uno", 77)
    turn(sessions, "one", made)
    body = {"input": [{"id": "msg_77", **reference}, {"role": "user", "content": "and?"}]}
    assert sessions.expand(body)["input"] == [made, {"role": "user", "content": "and?"}]
    later = answer()
    sessions.remember(body, later)
    followed = sessions.expand({"input": "x", "previous_response_id": later["id"]})
    assert texts(followed) == ["uno", "and?", "x"]


def test_a_reference_to_an_input_item_uses_the_id_that_its_list_showed(sessions: Sessions) -> None:
    first = turn(sessions, "one")
    shown = get(sessions, f"/responses/{first}/input_items")["data"][0]["id"]
    found = sessions.expand({"input": [{"type": "item_reference", "id": shown}]})["input"]
    assert [(item["id"], item["role"], item["content"]) for item in found] == [(shown, "user", "one")]


@pytest.mark.parametrize("reference", [{"type": "item_reference", "id": "msg_nowhere"}, {"type": "item_reference"}])
def test_an_unknown_reference_is_refused(sessions: Sessions, reference: JSON) -> None:
    with pytest.raises(StateError, match="Item with id") as caught:
        sessions.expand({"input": [reference]})
    assert caught.value.status == 404
    assert caught.value.body["error"]["param"] == "input"


# Conversations.


@pytest.mark.parametrize("as_object", [False, True])
def test_a_conversation_gathers_its_turns(sessions: Sessions, as_object: bool) -> None:
    greeting = {"role": "developer", "content": "rhyme"}
    made = valid(Conversation, post(sessions, "/conversations", {"items": [greeting], "metadata": {"topic": "x"}}))
    named = {"id": made["id"]} if as_object else made["id"]
    turn(sessions, "one", message("uno"), conversation=named)
    second = turn(sessions, "two", message("due"), conversation=named, store=False)
    body = sessions.expand({"input": "three", "conversation": named})
    assert texts(body) == ["rhyme", "one", "uno", "two", "due", "three"]
    assert body.keys() == {"input"}
    assert not sessions.knows({"previous_response_id": second})
    assert sessions.knows({"conversation": named})
    valid(ConversationItemList, get(sessions, f"/conversations/{made['id']}/items"))


def test_a_response_made_in_a_conversation_is_continued_from_where_it_stood(sessions: Sessions) -> None:
    named = post(sessions, "/conversations")["id"]
    turn(sessions, "one", message("uno"), conversation=named)
    second = turn(sessions, "two", message("due"), conversation=named)
    turn(sessions, "three", message("tre"), conversation=named)
    assert texts(sessions.expand({"input": "x", "previous_response_id": second})) == ["one", "uno", "two", "due", "x"]
    assert get(sessions, f"/responses/{second}")["conversation"] == {"id": named}


def test_a_failed_response_does_not_enter_the_conversation(sessions: Sessions) -> None:
    named = post(sessions, "/conversations")["id"]
    error = {"code": "server_error", "message": "out of luck"}
    sessions.remember({"input": "one", "conversation": named}, answer(status="failed", error=error))
    assert get(sessions, f"/conversations/{named}/items")["data"] == []


def test_a_conversation_is_read_changed_and_deleted(sessions: Sessions) -> None:
    made = post(sessions, "/conversations", {})
    path = f"/conversations/{made['id']}"
    assert valid(Conversation, get(sessions, path)) == made
    changed = valid(Conversation, post(sessions, path, {"metadata": {"a": "b"}}))
    assert changed == {**made, "metadata": {"a": "b"}} == get(sessions, path)
    served = sessions.serve("DELETE", path, {}, None)
    assert served is not None
    assert valid(ConversationDeletedResource, served.body) == {
        "id": made["id"],
        "object": "conversation.deleted",
        "deleted": True,
    }
    for method in ("GET", "POST", "DELETE"):
        status, error = refusal(sessions.serve(method, path, {}, {"metadata": {}}))
        assert (status, error["message"]) == (404, f"Conversation with id '{made['id']}' not found.")
    with pytest.raises(StateError, match=f"Conversation with id '{made['id']}' not found"):
        sessions.expand({"input": "x", "conversation": made["id"]})


def test_items_of_a_conversation_are_added_read_and_deleted(sessions: Sessions) -> None:
    made = post(sessions, "/conversations")
    path = f"/conversations/{made['id']}/items"
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "42"}
    said = {"items": [{"role": "user", "content": "hi"}, call, result, {"role": "assistant", "content": "hello"}]}
    added = valid(ConversationItemList, post(sessions, path, said))
    ids = [item["id"] for item in added["data"]]
    assert [known.partition("_")[0] for known in ids] == ["msg", "fc", "fco", "msg"]
    assert (added["first_id"], added["last_id"], added["has_more"]) == (ids[0], ids[3], False)
    assert valid(ConversationItem, get(sessions, f"{path}/{ids[1]}")) == added["data"][1]
    served = sessions.serve("DELETE", f"{path}/{ids[1]}", {}, None)
    assert served == Served(200, made)
    for method in ("GET", "DELETE"):
        assert refusal(sessions.serve(method, f"{path}/{ids[1]}", {}, None))[0] == 404
    left = get(sessions, path, order="asc")["data"]
    assert left == [added["data"][0], *added["data"][2:]]
    assert left[-1]["content"] == [{"type": "output_text", "text": "hello", "annotations": []}]


def test_a_response_and_a_conversation_at_once_are_refused(sessions: Sessions) -> None:
    first, named = turn(sessions, "one"), post(sessions, "/conversations")["id"]
    with pytest.raises(StateError, match="only providing one of") as caught:
        sessions.expand({"input": "x", "previous_response_id": first, "conversation": named})
    assert caught.value.status == 400
    assert caught.value.body["error"]["code"] == "mutually_exclusive_parameters"


def test_a_response_is_no_conversation(sessions: Sessions) -> None:
    first, named = turn(sessions, "one"), post(sessions, "/conversations")["id"]
    assert refusal(sessions.serve("GET", f"/conversations/{first}", {}, None))[0] == 404
    assert refusal(sessions.serve("GET", f"/responses/{named}", {}, None))[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"input": {"role": "user"}, "previous_response_id": "resp"},
        {"input": ["bare text"], "previous_response_id": "resp"},
        {"input": "x", "conversation": 7},
    ],
)
def test_an_input_of_the_wrong_form_is_refused_before_anything_is_sent(sessions: Sessions, body: JSON) -> None:
    sessions.remember({"input": "one"}, answer(id="resp"))
    with pytest.raises(StateError, match="Invalid type for") as caught:
        sessions.expand(body)
    assert caught.value.status == 400


# What is served of a response.


def test_a_response_is_retrieved_as_it_was_answered(sessions: Sessions) -> None:
    first = turn(sessions, "one")
    asked = {"input": "two", "previous_response_id": first}
    response = answer(message("due"), {"id": "rs_9", "type": "reasoning", "summary": [], "encrypted_content": None})
    sessions.remember(asked, response)
    kept = get(sessions, f"/responses/{response['id']}")
    assert valid(Response, kept) == {**response, "previous_response_id": first}
    assert list(kept) == list(response)
    assert echo(asked) == {"previous_response_id": first, "store": True}


def test_input_items_are_those_of_the_turn_and_complete(sessions: Sessions) -> None:
    first = turn(sessions, "one")
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    said = [
        {"role": "user", "content": [{"type": "input_text", "text": "what is it?"}, image]},
        {"role": "assistant", "content": "a cat"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [image]},
        {"type": "reasoning", "id": "rs_given"},
    ]
    second = turn(sessions, said, previous_response_id=first)
    page = valid(ResponseItemList, get(sessions, f"/responses/{second}/input_items", order="asc"))
    assert [item["type"] for item in page["data"]] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
    ]
    assert page["data"][-1]["id"] == "rs_given"
    assert page["data"][0]["content"][1] == {**image, "detail": "auto"}
    assert get(sessions, f"/responses/{second}/input_items", order="asc") == page  # ids stay


@pytest.mark.parametrize(
    "output",
    [
        [message("héllo")],
        [],
        [message("one", 51), message("two", 52), message("", 53), {**message("no parts", 54), "content": []}],
        [
            {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {
                "id": "fc_1",
                "type": "function_call",
                "call_id": "c",
                "name": "f",
                "arguments": "{}",
                "status": "completed",
            },
        ],
    ],
    ids=["text", "nothing", "messages", "thought-and-call"],
)
@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({}, "response.completed"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "response.incomplete"),
        ({"status": "failed", "error": {"code": "server_error", "message": "no"}}, "response.failed"),
    ],
    ids=["completed", "incomplete", "failed"],
)
def test_a_response_is_streamed_as_it_would_have_been(
    sessions: Sessions, output: list[JSON], fields: JSON, ending: str
) -> None:
    response = answer(*output, **fields)
    sessions.remember({"input": "one"}, response)
    path = f"/responses/{response['id']}"
    served = sessions.serve("GET", path, {"stream": "true"}, None)
    assert served is not None
    assert served.events is not None
    events = valid(list[ResponseStreamEvent], served.events)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert (events[0]["response"]["status"], events[0]["response"]["output"]) == ("in_progress", [])
    assert (events[-1]["type"], events[-1]["response"]) == (ending, get(sessions, path))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == output
    for event in events[2:-1]:
        assert event.get("item_id", event.get("item", {}).get("id")) == output[event["output_index"]]["id"]
    said = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    parts = [part["text"] for item in output for part in item.get("content", [])]
    assert "".join(said) == "".join(parts)
    later = sessions.serve("GET", path, {"stream": True, "starting_after": 1}, None)
    assert later == Served(200, events=events[2:])


def test_a_response_made_at_once_cannot_be_cancelled(sessions: Sessions) -> None:
    first = turn(sessions, "one")
    status, error = refusal(sessions.serve("POST", f"/responses/{first}/cancel", {}, None))
    assert (status, error["message"]) == (400, "Cannot cancel a synchronous response.")
    assert refusal(sessions.serve("POST", "/responses/resp_nowhere/cancel", {}, None))[0] == 404
    sessions.remember({"input": "one", "background": True}, answer(id="resp_b", background=True))
    assert post(sessions, "/responses/resp_b/cancel")["status"] == "completed"


def test_an_unknown_response_is_404_in_openais_words(sessions: Sessions) -> None:
    message = "Response with id 'resp_0' not found."
    expected = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    for method, path in [("GET", ""), ("GET", "/input_items"), ("DELETE", ""), ("POST", "/cancel")]:
        assert refusal(sessions.serve(method, f"/responses/resp_0{path}", {}, None)) == (404, expected)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/responses"),
        ("POST", "/responses/compact"),
        ("POST", "/responses/input_tokens"),
        ("POST", "/chat/completions"),
        ("GET", "/models"),
        ("GET", "/conversations"),
        ("GET", "/responses/resp_1/unheard-of"),
        ("PUT", "/conversations/conv_1"),
    ],
)
def test_other_paths_are_left_to_the_endpoint(sessions: Sessions, method: str, path: str) -> None:
    assert sessions.serve(method, path, {}, {}) is None


def test_ids_in_paths_are_unquoted(sessions: Sessions) -> None:
    sessions.remember({"input": "one"}, answer(id="resp/ü 1"))
    assert get(sessions, "responses/resp%2F%C3%BC%201/")["id"] == "resp/ü 1"


# Lists.


@given(
    st.integers(0, 9),
    st.none() | st.integers(1, 12),
    st.sampled_from([None, "asc", "desc"]),
    st.none() | st.integers(0, 8),
)
def test_pages_are_those_of_a_plain_model(count: int, limit: int | None, order: str | None, after: int | None) -> None:
    sessions = Sessions(MemoryStore())
    ids = [f"msg_{number}" for number in range(count)]
    said = [{"id": known, "role": "user", "content": known} for known in ids]
    response = turn(sessions, said, message("ok"))
    named = post(sessions, "/conversations", {"items": said})["id"]
    query = {"limit": limit, "order": order, "after": after if after is None else f"msg_{after}"}
    query = {name: value for name, value in query.items() if value is not None}
    ordered = ids if order == "asc" else ids[::-1]
    for path in (f"/responses/{response}/input_items", f"/conversations/{named}/items"):
        if after is not None and after >= count:
            assert refusal(sessions.serve("GET", path, query, None))[1]["param"] == "after"
            continue
        rest = ordered if after is None else ordered[ordered.index(f"msg_{after}") + 1 :]
        page = valid(ConversationItemList, get(sessions, path, **query))
        assert [item["id"] for item in page["data"]] == rest[: limit or 20]
        assert page["has_more"] is (len(rest) > (limit or 20))
        if page["data"]:
            assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])


@pytest.mark.parametrize("limit", [1, 2, 3, 20])
def test_following_the_pages_shows_everything_once(sessions: Sessions, limit: int) -> None:
    named = post(sessions, "/conversations", {"items": [{"role": "user", "content": str(n)} for n in range(7)]})["id"]
    seen: list[str] = []
    query: JSON = {"limit": str(limit), "order": "asc"}
    while True:
        page = get(sessions, f"/conversations/{named}/items", **query)
        seen += [item["content"][0]["text"] for item in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert seen == list("0123456")


def test_pages_end_even_where_two_items_have_one_id(sessions: Sessions) -> None:
    said = [{"id": known, "role": "user", "content": "x"} for known in ("a", "b", "a")]
    named = post(sessions, "/conversations", {"items": said})["id"]
    page = get(sessions, f"/conversations/{named}/items", order="asc", limit=1, after="a")
    assert (page["data"], page["has_more"]) == ([], False)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": 0}, "integer_below_min_value"),
        ({"limit": "101"}, "integer_above_max_value"),
        ({"limit": "many"}, "invalid_type"),
        ({"order": "random"}, "invalid_value"),
    ],
)
def test_a_bad_query_is_refused_and_named(sessions: Sessions, query: JSON, code: str) -> None:
    status, error = refusal(sessions.serve("GET", f"/responses/{turn(sessions, 'one')}/input_items", query, None))
    assert (status, error["code"], error["param"]) == (400, code, next(iter(query)))


@pytest.mark.parametrize("named", [{}, {"id": None}, {"id": 5}, 5, ["conv_1"]])
def test_a_conversation_that_names_none_is_refused_and_not_forgotten(sessions: Sessions, named: Any) -> None:
    with pytest.raises(StateError, match="Invalid type for 'conversation'"):
        sessions.expand({"model": "m", "input": "one", "conversation": named})


# Real traffic.

RECORDINGS = Path(os.environ.get("ALLOS_RECORDINGS", Path(__file__).parents[2] / "shared" / "recordings"))


def recorded() -> list[JSON]:
    """Whole answers of the Responses API with the requests that they answer."""
    found = []
    for path in sorted(RECORDINGS.glob("*/*-responses-n-*.json")):
        record = json.loads(path.read_text("utf-8"))
        if record["request"]["body"] and record["request"]["method"] == "POST" and record["response"]["status"] == 200:
            body = json.loads(record["response"]["body"])
            if body.get("object") == "response":
                found.append({"id": record["id"], "asked": record["request"]["body"], "answered": body})
    return found


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recorded exchanges are not here (ALLOS_RECORDINGS)")
def test_recorded_turns_come_back_as_they_were_and_can_be_continued(sessions: Sessions) -> None:
    turns = recorded()
    assert len(turns) > 20
    for record in turns:
        asked: JSON = {"input": []} | {
            name: value for name, value in record["asked"].items() if name != "previous_response_id"
        }
        asked["store"] = True
        answered = record["answered"]
        sessions.remember(asked, answered)
        kept = get(sessions, f"/responses/{answered['id']}")
        assert kept == {**answered, "previous_response_id": None, "store": True}, record["id"]
        said = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        body = sessions.expand({"input": "go on", "previous_response_id": answered["id"]})
        assert len(body["input"]) == len(said) + len(answered["output"]) + 1, record["id"]
        shown = get(sessions, f"/responses/{answered['id']}/input_items", order="asc", limit=100)
        assert len(shown["data"]) == len(said), record["id"]
        valid(ResponseItemList, shown)
        streamed = sessions.serve("GET", f"/responses/{answered['id']}", {"stream": True}, None)
        assert streamed is not None
        assert streamed.events is not None
        done = [event["item"] for event in streamed.events if event["type"] == "response.output_item.done"]
        assert done == answered["output"], record["id"]


def test_nothing_of_a_prompt_is_logged(sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0):
        first = turn(sessions, "a secret")
        turn(sessions, "more of it", previous_response_id=first)
        get(sessions, f"/responses/{first}")
    assert caplog.records == []
    assert "a secret" not in repr(sessions)
