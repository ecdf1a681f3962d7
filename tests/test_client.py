"""What `Client` and `AsyncClient` do, over both APIs: one test body for both colours, against a faultless server."""

from __future__ import annotations

import warnings

import answers
import openai
import pytest
from doors import asked, http

import allos
from allos.messages import Message


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def streamed(request: pytest.FixtureRequest) -> bool:
    """The answer is asked for as a whole or as a stream."""
    return bool(request.param)


async def test_a_text_is_answered(mock_door, wire, streamed):
    sent = []

    def server(request):
        sent.append((request.url.path, answers.body(request)))
        return answers.answer(request, "Par", "is")

    reply = await asked(mock_door(server, wire=wire), "The capital of France?", streamed=streamed)
    assert (reply.text, reply.finish_reason, reply.model) == ("Paris", "stop", "m-1")
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (7, 3, 10)
    [(path, body)] = sent
    assert path == {"chat": "/v1/chat/completions", "responses": "/v1/responses"}[wire]
    assert body["model"] == "m"


async def test_what_was_left_out_is_warned_of_where_it_was_asked(mock_door, streamed):
    door = mock_door(lambda request: answers.answer(request, "hi"), wire="responses")
    with pytest.warns(allos.UnsupportedWarning, match="seed") as warned:
        await asked(door, "hi", streamed=streamed, seed=3)
    assert {warning.filename.rpartition("/")[2] for warning in warned} <= {"doors.py", "thread.py", "test_client.py"}


@pytest.mark.parametrize("by", ["argument", "environment"])
async def test_what_can_not_be_said_is_an_error_where_that_is_wished(mock_door, streamed, by, monkeypatch):
    if by == "environment":
        monkeypatch.setenv("ALLOS_ON_UNSUPPORTED", "error")
    given = {"on_unsupported": "error"} if by == "argument" else {}
    door = mock_door(lambda request: answers.answer(request, "hi"), wire="responses", **given)
    with pytest.raises(allos.Unsupported, match="seed") as caught:
        await asked(door, "hi", streamed=streamed, seed=3)
    assert caught.value.param == "seed"


async def test_what_was_left_out_stands_on_the_reply_where_no_one_is_warned(mock_door, streamed):
    door = mock_door(lambda request: answers.answer(request, "hi"), wire="responses", on_unsupported="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reply = await asked(door, "hi", streamed=streamed, seed=3)
    assert [(note.action, note.what) for note in reply.notes] == [("left out", "seed")]


async def test_an_error_in_a_stream_that_has_said_nothing_yet_is_tried_again(mock_door):
    failed = {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}}

    def server(request):
        tries.append(request)
        if len(tries) == 1:
            return answers.events([answers.stream("responses")[0], answers.event(failed)])
        return answers.answer(request, "Paris")

    tries = []
    door = mock_door(server, wire="responses", max_retries=1, base_url="http://fails-once.test/v1")
    reply = await asked(door, "hi", streamed=True)
    assert reply.text == "Paris"
    assert len(tries) == 2


async def test_an_unknown_model_in_a_stream_names_those_that_are_there(mock_door):
    def server(request):
        if request.method == "GET":
            return http.Response(200, json={"data": [{"id": "llama-9"}, {"id": "m-9"}]})
        fault = {"type": "error", "code": "404", "message": "Model 'm' not found."}
        return answers.events([answers.stream("responses")[0], answers.event(fault)])

    with pytest.raises(openai.NotFoundError, match="llama-9"):
        await asked(mock_door(server, wire="responses"), "hi", streamed=True)


async def test_messages_may_be_text_values_or_dicts_of_either_api(mock_door, wire):
    sent = []

    def server(request):
        sent.append(answers.body(request))
        return answers.answer(request, "fine")

    door = mock_door(server, wire=wire)
    await door.chat("one")
    await door.chat(Message.user("one"))
    await door.chat({"role": "user", "content": "one"})
    await door.chat([{"role": "user", "content": [{"type": "input_text", "text": "one"}]}])
    await door.chat([{"type": "message", "role": "user", "content": "one"}])
    assert all(body == sent[0] for body in sent)
