"""What programs do with the official SDK, each thing once: in both colours, natively and translated both ways.

The service speaks one API and answers 404 at the path of the other.
It is a handwritten one, and then a real llama.cpp server that runs inside this process.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import answers
import openai
import pytest
import reference
from doors import http
from openai.lib.streaming.chat import ChatCompletionStreamState
from programs import MODEL, PROGRAMS, City, Pieces, Program, close, copies, done, each, first, opened, tool_runner

import allos
from allos.failures import IncompleteReplyError

CITY = '{"name": "Paris", "country": "France"}'
CALL = ("call_1", "get_weather", '{"city": "Paris"}')
QUESTION = "What is the capital of France?"
OTHER = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}


@dataclass
class Service:
    """Speaks one API; what it answers follows from what is asked."""

    wire: str
    requests: list[Any] = field(default_factory=list)
    sent: str = ""

    def __call__(self, request: Any) -> Any:
        self.requests.append(request)
        response = answers.with_own_id(self._answer(request))
        text = response.text
        if "include_usage" not in request.content.decode():
            text = re.sub(r'data: [^\n]*"choices": \[\][^\n]*\n\n', "", text)
        headers = {"content-type": response.headers["content-type"]}
        self.sent = text
        return http.Response(response.status_code, headers=headers, content=text)

    def _answer(self, request: Any) -> Any:
        if OTHER.get(request.url.path) != self.wire:
            return http.Response(404, text="404 page not found")
        body = answers.body(request)
        asked = json.dumps(body)
        if body["model"] == "wrong":
            error = {"message": "no such size", "type": "invalid_request_error", "param": "size", "code": "bad_size"}
            return http.Response(400, json={"error": error})
        if "refuse" in asked:
            return self._refusal(body)
        if body.get("tools") and not answers.results(request):
            return answers.call(request, CALL)
        if answers.results(request):
            return answers.answer(request, "It is ", "raining.")
        if "json_schema" in asked:
            return answers.answer(request, CITY[:9], CITY[9:])
        if "cut" in asked:
            return answers.events(answers.stream(self.wire, "Par", "is")[:-3])
        return answers.answer(request, "Par", "is.")

    def _refusal(self, body: dict[str, Any]) -> Any:
        if body.get("stream"):
            return answers.events(answers.refusal_stream(self.wire, "I can't ", "help."))
        return http.Response(200, json=answers.refusal(self.wire, "I can't help."))

    def transport(self, colour: str) -> Any:
        """An HTTP client that reaches only this service."""
        kind = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
        return kind(transport=http.MockTransport(self))


@dataclass
class Place:
    """One road: the API asked, the API spoken, a colour, and clients that take it."""

    asked: str
    spoken: str
    colour: str
    service: Service
    made: list[Any] = field(default_factory=list)

    def client(self, **options: Any) -> Any:
        kind = allos.OpenAI if self.colour == "sync" else allos.AsyncOpenAI
        where = {"base_url": "http://mock.test/v1", "api_key": "sk-mock-key", "max_retries": 0, "wire": self.spoken}
        transport = self.service.transport(self.colour)
        client = kind("chat_completions", http_client=transport, **where | options)
        self.made.append(client)
        return client

    def program(self, **options: Any) -> Any:
        return PROGRAMS[self.asked](self.client(**options))


ROADS = [("chat", "chat"), ("responses", "responses"), ("responses", "chat"), ("chat", "responses")]


@pytest.fixture(params=ROADS, ids=["chat", "responses", "responses-over-chat", "chat-over-responses"])
def road(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def place(road: tuple[str, str], colour: str) -> AsyncIterator[Place]:
    made = Place(*road, colour, Service(road[1]))
    yield made
    for client in made.made:
        await close(client)


@pytest.fixture
def program(place: Place) -> Program:
    return place.program()


async def test_create_gives_the_official_object(program: Any) -> None:
    answer = await program.create(QUESTION)
    kind = openai.types.chat.ChatCompletion if program.asked == "chat" else openai.types.responses.Response
    assert type(answer) is kind
    kind.model_validate_json(answer.to_json(exclude_unset=False), strict=True)
    assert program.text(answer) == "Paris."
    assert program.usage(answer) == (7, 3)


async def test_a_stream_gives_events_that_add_up_to_the_answer(program: Any) -> None:
    events = await program.events(QUESTION)
    assert program.streamed_text(events) == "Paris."
    if program.asked == "responses":
        assert events[-1].response.output_text == "Paris."
        assert program.usage(events[-1].response) == (7, 3)
    else:
        assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
        state = ChatCompletionStreamState()
        for event in events:
            state.handle_chunk(event)
        assert state.get_final_completion().choices[0].message.content == "Paris."


async def test_a_chat_stream_counts_tokens_where_that_was_asked(place: Place) -> None:
    if place.asked == "responses":
        pytest.skip("a Response always counts")
    program = place.program()
    assert not any(event.usage for event in await program.events(QUESTION))
    events = await program.events(QUESTION, stream_options={"include_usage": True})
    assert events[-1].usage.total_tokens == 10
    assert events[-1].choices == []


async def test_every_event_is_complete_and_in_order(place: Place) -> None:
    program = place.program()
    for said, options in ((QUESTION, {}), ("refuse", {}), (QUESTION, {"tools": [program.tool]})):
        events = reference.payloads(await program.lines(said, **options))
        reference.hold(place.asked, events)
        if place.asked == place.spoken:
            assert events == reference.payloads(place.service.sent.splitlines()), "a regular stream passes as it came"


async def test_the_stream_helper_gives_the_final_object(program: Any) -> None:
    async with opened(program.helper(QUESTION)) as stream:
        events = await each(stream)
        final = await program.final(stream)
    assert program.helped_text(events) == program.text(final) == "Paris."


async def test_the_final_object_comes_without_reading_the_events(program: Any) -> None:
    async with opened(program.helper(QUESTION)) as stream:
        assert program.text(await program.final(stream)) == "Paris."


async def test_the_stream_helper_parses_a_schema(program: Any) -> None:
    async with opened(program.helper(QUESTION, **{program.schema: City})) as stream:
        await each(stream)
        assert program.parsed(await program.final(stream)) == City(name="Paris", country="France")


async def test_the_stream_helper_gives_the_calls_of_tools(program: Any) -> None:
    async with opened(program.helper(QUESTION, tools=[program.tool])) as stream:
        events = await each(stream)
        final = await program.final(stream)
    assert program.calls(final) == [CALL[1:]]
    names = {event.type for event in events}
    assert names & {"tool_calls.function.arguments.done", "response.function_call_arguments.done"}


async def test_parse_gives_an_object_of_the_model(program: Any) -> None:
    answer = await done(program.resource.parse(model=MODEL, **program.said(QUESTION), **{program.schema: City}))
    assert program.parsed(answer) == City(name="Paris", country="France")


async def test_parse_reads_the_arguments_of_tools(program: Any) -> None:
    answer = await done(program.resource.parse(model=MODEL, **program.said(QUESTION), tools=[program.tool]))
    arguments = program.arguments(answer)
    assert getattr(arguments, "city", None) or arguments["city"] == "Paris"


async def test_a_tool_is_called_and_its_result_goes_back(place: Place) -> None:
    program = place.program()
    answer = await program.create(QUESTION, tools=[program.tool])
    assert program.calls(answer) == [CALL[1:]]
    turn = program.next_turn(QUESTION, answer, "rain")
    again = await done(program.resource.create(model=MODEL, tools=[program.tool], **turn))
    assert program.text(again) == "It is raining."
    assert list(answers.results(place.service.requests[-1]).values()) == ["rain"]


async def test_the_sdks_own_tool_runner_runs_to_the_end(place: Place) -> None:
    if place.asked == "chat":
        pytest.skip("the SDK's runner speaks Responses")
    for stream in (False, True):
        response = await done(tool_runner(place.colour).run(place.client(), _ASKED, max_steps=3, stream=stream))
        assert response.output_text == "It is raining."
        assert list(answers.results(place.service.requests[-1]).values()) == ["rain in Paris"]


_ASKED = {"model": MODEL, "input": [{"type": "message", "role": "user", "content": QUESTION}]}


async def test_a_raw_response_parses_to_the_same(program: Any) -> None:
    raw = await done(program.resource.with_raw_response.create(model=MODEL, **program.said(QUESTION)))
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/json"
    assert json.loads(raw.text)["object"] == ("chat.completion" if program.asked == "chat" else "response")
    assert program.text(await done(raw.parse())) == "Paris."


async def test_a_raw_stream_parses_to_the_events(program: Any) -> None:
    raw = await done(program.resource.with_raw_response.create(model=MODEL, stream=True, **program.said(QUESTION)))
    assert program.streamed_text(await each(await done(raw.parse()))) == "Paris."


async def test_a_streamed_body_has_the_lines_of_the_api_asked(program: Any) -> None:
    lines = await program.lines(QUESTION)
    if program.asked == "chat":
        assert lines[-2:] == ["data: [DONE]", ""]
    else:
        assert [line for line in lines if line.startswith("event: ")][-1] == "event: response.completed"


async def test_a_streaming_response_may_be_parsed_or_read(program: Any) -> None:
    resource = program.resource.with_streaming_response
    async with opened(resource.create(model=MODEL, **program.said(QUESTION))) as response:
        assert program.text(await done(response.parse())) == "Paris."
    async with opened(resource.create(model=MODEL, **program.said(QUESTION))) as response:
        assert b"Paris." in await done(response.read())


async def test_a_refusal_is_apart_from_the_text(program: Any) -> None:
    answer = await program.create("refuse")
    assert program.refusal(answer) == "I can't help."
    async with opened(program.helper("refuse")) as stream:
        await each(stream)
        assert program.refusal(await program.final(stream)) == "I can't help."


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_error_is_the_officials_with_the_servers_fields(program: Any, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="no such size") as caught:
        await done(program.resource.create(model="wrong", stream=stream, **program.said(QUESTION)))
    error = caught.value
    assert (error.status_code, error.param, error.code, error.type) == (
        400,
        "size",
        "bad_size",
        "invalid_request_error",
    )


async def test_a_cut_stream_is_an_error_that_keeps_the_text(program: Any) -> None:
    stream = await program.create("cut", stream=True)
    events: list[Any] = []
    with pytest.raises(IncompleteReplyError, match="incomplete") as caught:
        await _fill(events, stream)
    assert program.streamed_text(events) == caught.value.reply.text == "Paris"


async def _fill(events: list[Any], stream: Any) -> None:
    if hasattr(stream, "__aiter__"):
        async for event in stream:
            events.append(event)
    else:
        events.extend(iter(stream))


async def test_a_stream_left_early_closes_its_connection(place: Place) -> None:
    watched = _Watched(place.service)
    place.service.transport = watched.transport  # type: ignore[method-assign]
    program = place.program()
    async with opened(program.helper(QUESTION)) as stream:
        await first(stream)
    assert watched.closed == 1
    stream = await program.create(QUESTION, stream=True)
    await first(stream)
    await close(stream)
    assert watched.closed == 2


class _Watched:
    """A service whose bodies come piece by piece, and which counts those that were closed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.closed = 0

    def transport(self, colour: str) -> Any:
        kind = openai.DefaultHttpxClient if colour == "sync" else openai.DefaultAsyncHttpxClient
        return kind(transport=http.MockTransport(self._answer))

    def _answer(self, request: Any) -> Any:
        response = self._service(request)
        body = Pieces(response.content, self._count)
        return http.Response(response.status_code, headers={"content-type": "text/event-stream"}, stream=body)

    def _count(self) -> None:
        self.closed += 1


async def test_copies_keep_the_road(place: Place) -> None:
    for copy in copies(place.client()):
        program = PROGRAMS[place.asked](copy)
        assert program.text(await program.create(QUESTION)) == "Paris."
        assert OTHER[place.service.requests[-1].url.path] == place.spoken


async def test_a_path_without_its_slash_is_the_same_road(place: Place) -> None:
    program = place.program()
    path = {"chat": "chat/completions", "responses": "responses"}[place.asked]
    answer = await done(place.client().post(path, body={"model": MODEL, **program.said(QUESTION)}, cast_to=object))
    assert answer["object"] == {"chat": "chat.completion", "responses": "response"}[place.asked]
    assert OTHER[place.service.requests[-1].url.path] == place.spoken


async def test_every_object_has_its_receipt(place: Place) -> None:
    program = place.program()

    def held(thing: Any) -> None:
        receipt = allos.receipt(thing)
        assert receipt is not None, type(thing)
        assert (receipt.asked, receipt.spoken, receipt.base_url) == (place.asked, place.spoken, "http://mock.test/v1")

    resource, said = program.resource, program.said(QUESTION)
    held(await program.create(QUESTION))
    held(await done(resource.parse(model=MODEL, **said, **{program.schema: City})))
    held(await done(resource.with_raw_response.create(model=MODEL, **said)))
    stream = await program.create(QUESTION, stream=True)
    held(stream)
    events = await each(stream)
    if program.asked == "responses":
        held(events[-1].response)
    held(await done(resource.with_raw_response.create(model=MODEL, stream=True, **said)))
    manager = resource.with_streaming_response.create(model=MODEL, **said)
    async with opened(manager) as response:
        held(response)
        held(manager)
    manager = program.helper(QUESTION)
    async with opened(manager) as stream:
        held(stream)
        held(manager)
        await each(stream)
        held(await program.final(stream))
    with pytest.raises(openai.BadRequestError) as caught:
        await done(resource.create(model="wrong", **said))
    held(caught.value)


async def test_an_error_in_mid_stream_has_its_receipt(place: Place) -> None:
    stream = await place.program().create("cut", stream=True)
    with pytest.raises(IncompleteReplyError) as caught:
        await _fill([], stream)
    assert allos.receipt(caught.value) is allos.receipt(stream) is not None
