"""What `Client` and `AsyncClient` do, over both APIs: one test body for both colours, against a faultless server."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings

import answers
import openai
import pytest
from doors import asked, http

import allos
from allos.messages import Message


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


async def test_a_stream_gives_its_pieces_and_then_the_whole(mock_door, wire):
    steps = mock_door(lambda request: answers.answer(request, "Par", "is"), wire=wire).stream("hi")
    assert steps.so_far == allos.Reply()
    with pytest.raises(RuntimeError, match="so_far"):
        _ = steps.reply
    seen, heads = [], []
    async for delta in steps:
        seen.append(delta.text)
        heads += [delta.head] if delta.head else []
        assert steps.so_far.text.startswith("".join(seen))
    assert [text for text in seen if text] == ["Par", "is"]
    assert [head.model for head in heads] == ["m-1"]
    assert steps.reply.text == steps.so_far.text == "Paris"
    assert steps.reply.usage.total_tokens == 10


async def test_only_a_chat_stream_is_asked_to_count_its_tokens(mock_door, wire, streamed):
    sent = []

    def server(request):
        sent.append(answers.body(request))
        return answers.answer(request, "hi")

    reply = await asked(mock_door(server, wire=wire), "hi", streamed=streamed)
    expected = {"include_usage": True} if streamed and wire == "chat" else None
    assert sent[0].get("stream_options") == expected
    assert not reply.notes


class Body(http.AsyncByteStream, http.SyncByteStream):
    """A streamed answer that knows whether its connection was closed."""

    def __init__(self, wire):
        self.lines = answers.stream(wire, "Par", "is")
        self.closed = threading.Event()

    def __iter__(self):
        yield from (f"{line}\n\n".encode() for line in self.lines)

    async def __aiter__(self):
        for chunk in self:
            yield chunk

    def close(self):
        self.closed.set()

    async def aclose(self):
        self.closed.set()

    def __call__(self, request):
        return http.Response(200, stream=self, headers={"content-type": "text/event-stream"})


async def test_a_stream_left_early_closes_its_connection(mock_door, wire):
    body = Body(wire)
    steps = mock_door(body, wire=wire).stream("hi")
    async for delta in steps:
        if delta.text:
            break
    assert not body.closed.is_set()
    await steps.close()
    assert body.closed.is_set()
    assert steps.so_far.text == "Par"
    with pytest.raises(RuntimeError):
        _ = steps.reply


async def test_a_stream_that_is_let_go_closes_its_connection(mock_door, wire):
    body = Body(wire)
    steps = mock_door(body, wire=wire).stream("hi")
    async for delta in steps:
        if delta.text:
            break
    gc.disable()  # what only the collector would find stays open for a long time
    try:
        del steps
        assert await asyncio.to_thread(body.closed.wait, 10)
    finally:
        gc.enable()


async def test_a_json_format_in_the_settings_holds_for_every_request(mock_door, wire, monkeypatch):
    def server(request):
        sent.append(answers.body(request))
        return answers.answer(request, "{}")

    sent = []
    monkeypatch.setenv("ALLOS_FORMAT", "json")
    await mock_door(server, wire=wire).chat("hi")
    form = sent[0]["response_format"] if wire == "chat" else sent[0]["text"]["format"]
    assert form == {"type": "json_object"}


async def test_settings_and_arguments_reach_the_request(mock_door, wire, monkeypatch):
    sent = []

    def server(request):
        sent.append(answers.body(request))
        return answers.answer(request, "hi")

    monkeypatch.setenv("ALLOS_TEMPERATURE", "0.5")
    monkeypatch.setenv("ALLOS_MAX_TOKENS", "77")
    door = mock_door(server, wire=wire, system="Be brief.")
    await door.chat("hi", max_tokens=5, extra={"top_k": 3}, min_p=0.1, model="other", reasoning_effort="low")
    await door.chat("hi", system="Be long.")
    first, second = sent
    said = "messages" if wire == "chat" else "input"
    limit = "max_completion_tokens" if wire == "chat" else "max_output_tokens"
    assert (first["temperature"], first["model"], first["top_k"], first["min_p"]) == (0.5, "other", 3, 0.1)
    assert first.get(limit, first.get("max_tokens")) == 5
    assert second.get(limit, second.get("max_tokens")) == 77
    assert first["reasoning_effort" if wire == "chat" else "reasoning"] == (
        "low" if wire == "chat" else {"effort": "low"}
    )
    assert "Be brief." in str(first)
    assert "Be brief." not in str(second)
    assert len(second[said]) == (2 if "instructions" not in second else 1)


@pytest.mark.parametrize(
    ("choice", "chat", "responses"),
    [
        ("required", "required", "required"),
        ("look", {"type": "function", "function": {"name": "look"}}, {"type": "function", "name": "look"}),
        (
            {"type": "function", "function": {"name": "look"}},
            {"type": "function", "function": {"name": "look"}},
            {"type": "function", "name": "look"},
        ),
        (
            {"type": "function", "name": "look"},
            {"type": "function", "function": {"name": "look"}},
            {"type": "function", "name": "look"},
        ),
    ],
)
async def test_a_tool_choice_is_a_mode_a_name_or_a_dict(mock_client, wire, choice, chat, responses):
    def server(request):
        assert answers.body(request)["tool_choice"] == {"chat": chat, "responses": responses}[wire]
        return answers.answer(request, "hi")

    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    with mock_client(server, wire=wire) as client:
        assert client.chat("hi", tools=[tool], tool_choice=choice).text == "hi"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "None is not a message"),
        (3, "3 is not a message"),
        (b"hi", "b'hi' is not a message"),
        ({"foo": 1}, "'foo': 1.* is not a message: .* with a 'role' or 'type'"),
        (["hi", {"content": "hi"}], "is not a message"),
        (allos.Message("user", "hi"), "'h' is not a part of a message: Message.user"),
    ],
)
async def test_what_is_no_message_is_refused_in_one_way(mock_door, streamed, wrong, words):
    with pytest.raises(allos.ConfigurationError, match=words):
        await asked(mock_door(lambda request: None), wrong, streamed=streamed)


@pytest.mark.parametrize(
    ("wire", "options", "way"), [("responses", {"stop": ["x"]}, "wire='chat'"), ("chat", {"prompt": {}}, "wire='resp")]
)
def test_what_an_api_can_not_say_is_refused_with_the_way_to_the_other(mock_client, wire, options, way):
    with mock_client(lambda request: None, wire=wire) as client, pytest.raises(allos.Unsupported, match=way):
        client.chat("hi", **options)


@pytest.mark.parametrize("made", [Message.user, Message.assistant, lambda content: Message.tool("call_1", content)])
def test_what_is_no_content_is_refused_where_the_message_is_made(made):
    with pytest.raises(allos.ConfigurationError, match="None is no content of a message: pass a text, or a list of"):
        made(None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stream": True}, "the method `stream`"),
        ({"response_format": {"type": "json_object"}}, "schema="),
        ({"input": "hi"}, "first argument"),
        ({"api_key": "sk-secret"}, r"Client\(api_key=…\)"),
        ({"base_url": "http://elsewhere.test/v1"}, r"Client\(base_url=…\)"),
        ({"timeout": 5}, r"Client\(timeout=…\)"),
        ({"extra_body": {"top_k": 4}}, "extra="),
        ({"max_output_tokens": 5}, "max_tokens="),
    ],
)
def test_a_keyword_that_has_another_place_is_refused_with_it(mock_client, options, words):
    with mock_client(lambda request: None) as client, pytest.raises(allos.ConfigurationError, match=words):
        client.chat("hi", **options)


def test_a_key_given_to_one_call_goes_nowhere(sockets):
    with pytest.raises(allos.ConfigurationError, match="not taken here") as caught:
        allos.chat("hi", provider="ollama", model="m", api_key="sk-secret")
    assert not sockets.requests
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("messages", [[], None, [3], 3])
def test_what_is_no_message_is_refused_before_anything_is_sent(mock_client, messages):
    with mock_client(lambda request: None) as client, pytest.raises((allos.ConfigurationError, TypeError)):
        client.chat(messages)


async def test_a_character_that_came_in_two_halves_is_one_in_the_reply(mock_door, wire):
    door = mock_door(lambda request: answers.answer(request, "A\ud83d", "\ude00B"), wire=wire)
    reply = await asked(door, "Hi", streamed=True)
    assert reply.text == "A😀B"
    assert (await asked(door, [reply.message, "Again"], streamed=True)).text, "the reply can be sent back"


def test_one_call_needs_no_client(monkeypatch):
    from allos import client as module

    made = []

    class Recorded(module.Client):
        def __init__(self, *arguments, **options):
            transport = http.MockTransport(lambda request: answers.answer(request, "Paris"))
            super().__init__(*arguments, **options, http_client=openai.DefaultHttpxClient(transport=transport))
            made.append(self)

    monkeypatch.setattr(module, "Client", Recorded)
    monkeypatch.setenv("ALLOS_BASE_URL", "http://mock.test/v1")
    assert allos.chat("The capital of France?", model="m", max_tokens=5).text == "Paris"
    assert made[0].target.base_url == "http://mock.test/v1"


@pytest.mark.parametrize("body", [{"object": "list", "data": [{"id": "a"}, {"id": "b"}]}, [{"id": "a"}, {"id": "b"}]])
async def test_models_are_named_in_the_order_of_the_endpoint(mock_door, body):
    def server(request):
        assert (request.method, request.url.path) == ("GET", "/v1/models")
        return http.Response(200, json=body)

    assert await mock_door(server).models() == ["a", "b"]


async def test_a_list_of_models_is_asked_for_again_like_any_request(mock_door):
    def server(request):
        tries.append(request)
        return http.Response(200, json={"data": []}) if len(tries) > 1 else http.Response(503, headers=SOON)

    tries = []
    assert await mock_door(server, max_retries=1, base_url="http://models-once.test/v1").models() == []


async def test_a_web_page_instead_of_models_is_an_error_of_the_sdk(mock_door):
    door = mock_door(lambda request: http.Response(200, text="<html><title>Log in</title></html>"))
    with pytest.raises(openai.APIResponseValidationError, match="Log in"):
        await door.models()


SOON = {"retry-after-ms": "1"}


async def test_no_model_is_named_where_none_is_known(mock_door, wire, streamed):
    seen = []

    def server(request):
        seen.append(answers.body(request))
        return answers.answer(request, "Paris")

    await asked(mock_door(server, wire=wire, model=None), "hi", streamed=streamed)
    assert "model" not in seen[0]


async def test_a_stream_that_stops_before_all_answers_came_was_cut(mock_door):
    one, end = answers.stream("chat", "Par", "is")[:-2], "data: [DONE]"
    cut = mock_door(lambda request: answers.events(one)).stream("hi", extra={"n": 2})
    with pytest.raises(allos.IncompleteReplyError, match="after 1 of 2 answers") as caught:
        [delta async for delta in cut]
    assert caught.value.reply.text == "Paris"
    ignored = mock_door(lambda request: answers.events([*one, end])).stream("hi", extra={"n": 2})
    assert "".join([delta.text async for delta in ignored]) == "Paris"


async def test_a_field_that_is_left_out_in_each_step_is_warned_of_once(mock_door, streamed):
    def now() -> str:
        return "noon"

    requests = []

    def server(request):
        requests.append(request)
        return (
            answers.call(request, (f"c{len(requests)}", "now", "{}"))
            if len(requests) < 4
            else answers.answer(request, "noon")
        )

    door = mock_door(server, wire="responses")
    with pytest.warns(allos.UnsupportedWarning, match="seed") as warned:
        reply = await asked(door, "hi", tools=[now], seed=3, streamed=streamed)
    assert len(requests) == 4
    assert len(warned) == 1
    assert [note.what for note in reply.notes] == ["seed"]
