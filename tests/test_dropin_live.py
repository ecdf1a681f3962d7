"""The drop-in in front of a real llama.cpp server that has one API only: the path of the other answers 404.

It is the embedded engine with the small model, or the server at `ALLOS_LIVE_LLAMACPP` (a base URL such as
http://127.0.0.1:8101/v1, with a model that calls tools).
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import embedded
import openai
import pytest
import reference
from doors import http
from openai.lib.streaming.chat import ChatCompletionStreamState
from programs import PROGRAMS, City, close, done, each, opened

import allos
from allos import local

pytestmark = pytest.mark.live

PATHS = {"chat": "/chat/completions", "responses": "/responses"}
VARIABLE = "ALLOS_LIVE_LLAMACPP"
HELLO = "Say hello."


class Server(NamedTuple):
    base_url: str
    api_key: str | None


class OneApi(http.HTTPTransport):  # type: ignore[misc]  # of the SDK's own HTTP library
    """The network, in which the server has lost the path of one API; `sent` keeps the paths that were asked."""

    def __init__(self, missing: str, sent: list[str]) -> None:
        super().__init__()
        self._missing, self._sent = missing, sent

    def handle_request(self, request: Any) -> Any:
        self._sent.append(request.url.path)
        if request.url.path.endswith(self._missing):
            return http.Response(404, text="404 page not found")
        return super().handle_request(request)


class AsyncOneApi(http.AsyncHTTPTransport):  # type: ignore[misc]  # as above
    """`OneApi` for asynchronous clients."""

    def __init__(self, missing: str, sent: list[str]) -> None:
        super().__init__()
        self._missing, self._sent = missing, sent

    async def handle_async_request(self, request: Any) -> Any:
        self._sent.append(request.url.path)
        if request.url.path.endswith(self._missing):
            return http.Response(404, text="404 page not found")
        return await super().handle_async_request(request)


@pytest.fixture
def server() -> Server:
    if address := os.environ.get(VARIABLE):
        return Server(address, os.environ.get("ALLOS_LIVE_KEY"))
    embedded.bring("smollm2-135m")
    running = local.start("smollm2-135m")
    return Server(running.base_url, running.api_key)


class Place:
    """One road to the server."""

    def __init__(self, asked: str, spoken: str, colour: str, server: Server) -> None:
        self.asked, self.spoken, self.colour, self._server = asked, spoken, colour, server
        self.sent: list[str] = []
        self.made: list[Any] = []

    def client(self, provider: str | None = "llamacpp", **options: Any) -> Any:
        missing = PATHS["chat" if self.spoken == "responses" else "responses"]
        if self.colour == "sync":
            kind: Any = allos.OpenAI
            transport = http.Client(transport=OneApi(missing, self.sent))
        else:
            kind = allos.AsyncOpenAI
            transport = http.AsyncClient(transport=AsyncOneApi(missing, self.sent))
        where = {"base_url": self._server.base_url, "api_key": self._server.api_key or "none", "max_retries": 0}
        wire = {} if provider is None else {"wire": self.spoken}
        client = kind(provider, http_client=transport, timeout=120, **where | wire | options)
        self.made.append(client)
        return client

    def program(self) -> Any:
        return PROGRAMS[self.asked](self.client())


ROADS = [("chat", "chat"), ("responses", "responses"), ("responses", "chat"), ("chat", "responses")]


@pytest.fixture(params=ROADS, ids=["chat", "responses", "responses-over-chat", "chat-over-responses"])
async def place(request: pytest.FixtureRequest, colour: str, server: Server) -> AsyncIterator[Place]:
    made = Place(*request.param, colour, server)
    yield made
    for client in made.made:
        await close(client)


def limit(program: Any, tokens: int = 8) -> dict[str, Any]:
    return {**program.limit(tokens), "temperature": 0}


async def test_whole_and_streamed_answers_say_the_same(place: Place) -> None:
    program = place.program()
    whole = await program.create(HELLO, **limit(program))
    events = await program.events(HELLO, **limit(program))
    assert program.text(whole)
    assert program.streamed_text(events) == program.text(whole)
    assert all(program.usage(whole))
    assert {path.rpartition("/v1")[2] for path in place.sent} == {PATHS[place.spoken]}


async def test_every_event_is_complete_and_in_order(place: Place) -> None:
    program = place.program()
    events = reference.payloads(await program.lines(HELLO, **limit(program)))
    reference.hold(place.asked, events)


async def test_the_stream_helper_gives_the_final_object(place: Place) -> None:
    program = place.program()
    async with opened(program.helper(HELLO, **limit(program, 100))) as stream:  # the SDK refuses a cut answer here
        events = await each(stream)
        final = await program.final(stream)
    assert program.helped_text(events) == program.text(final) != ""
    assert allos.receipt(final).spoken == place.spoken


async def test_a_schema_is_parsed(place: Place) -> None:
    is_ignored = place.spoken == "responses"  # llama.cpp then needs the prompt, and the prompt a model
    if is_ignored and VARIABLE not in os.environ:
        pytest.skip(f"the small model obeys no prompt: {VARIABLE} names a server with one that does")
    program = place.program()
    schema = {program.schema: City}
    said = program.said("Describe Paris.")
    answer = await done(program.resource.parse(model="m", **said, **schema, **limit(program, 60)))
    assert isinstance(program.parsed(answer), City)
    if is_ignored:
        return  # what a stream has shown can't be asked for again
    async with opened(program.helper("Describe Paris.", **schema, **limit(program, 60))) as stream:
        await each(stream)
        assert isinstance(program.parsed(await program.final(stream)), City)


async def test_raw_responses_are_of_the_api_asked(place: Place) -> None:
    program = place.program()
    raw = await done(program.resource.with_raw_response.create(model="m", **program.said(HELLO), **limit(program)))
    assert program.text(await done(raw.parse()))
    streaming = program.resource.with_streaming_response
    async with opened(streaming.create(model="m", **program.said(HELLO), **limit(program))) as response:
        assert program.text(await done(response.parse()))


async def test_a_tool_is_called_and_its_result_is_used(place: Place) -> None:
    if VARIABLE not in os.environ:
        pytest.skip(f"the small model calls no tools: {VARIABLE} names a server with one that does")
    program = place.program()
    question = "Use the tool: what is the weather in Paris?"
    answer = await program.create(question, tools=[program.tool], **limit(program, 100))
    assert [name for name, _ in program.calls(answer)] == ["get_weather"]
    turn = program.next_turn(question, answer, "rain, 11 degrees")
    again = await done(program.resource.create(model="m", tools=[program.tool], **turn, **limit(program, 100)))
    assert "11" in program.text(again)
    async with opened(program.helper(question, tools=[program.tool], **limit(program, 100))) as stream:
        await each(stream)
        final = await program.final(stream)
    assert [(name, json.loads(said)) for name, said in program.calls(final)] == [("get_weather", {"city": "Paris"})]


async def test_a_prompt_that_is_too_long_is_the_officials_error(place: Place) -> None:
    program = place.program()
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="too long for the model") as caught:
            await program.create("word " * 20_000, stream=stream)
        assert caught.value.status_code == 400


async def test_a_stream_left_early_leaves_the_client_usable(place: Place) -> None:
    program = place.program()
    stream = await program.create("Count to a hundred.", stream=True, **limit(program, 400))
    if place.colour == "sync":
        next(iter(stream))
    else:
        await anext(aiter(stream))
    await close(stream)
    assert program.text(await program.create(HELLO, **limit(program)))


async def test_a_response_is_continued_and_kept_here(place: Place) -> None:
    if place.asked == "chat":
        pytest.skip("Chat Completions keeps nothing")
    client = place.client()
    first = await done(client.responses.create(model="m", input="My name is Ada.", max_output_tokens=8))
    second = await done(
        client.responses.create(model="m", input="Hi.", previous_response_id=first.id, max_output_tokens=8)
    )
    assert second.usage.input_tokens > first.usage.input_tokens
    assert (await done(client.responses.retrieve(second.id))).previous_response_id == first.id


async def test_an_unknown_host_is_found_out_by_asking_it(place: Place) -> None:
    from allos.dropin.route import _learned

    _learned.clear()
    program = PROGRAMS[place.asked](place.client(None))
    if place.asked == place.spoken:
        assert program.text(await program.create(HELLO, **limit(program)))
        assert _learned == {}
        return
    with pytest.warns(allos.UnsupportedWarning, match="it is spoken to over"):
        events = await program.events(HELLO, **limit(program))
    if place.asked == "chat":
        state = ChatCompletionStreamState()
        for event in events:
            state.handle_chunk(event)
        assert state.get_final_completion().choices[0].message.content
    else:
        assert events[-1].response.output_text
    assert [path.rpartition("/v1")[2] for path in place.sent] == [PATHS[place.asked], PATHS[place.spoken]]
