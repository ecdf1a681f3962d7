"""What real servers answered, through the official methods: natively and translated, in both colours.

The cassettes are those of `test_servers.py`, each of them recorded over both APIs.
A program asks in its own API what was recorded there, and is answered only if what arrives in the API that is spoken
is what was recorded there, field by field.
No server refused anything in the field that the APIs have for it, so a refusal is played in `test_dropin_matrix.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import openai
import pytest
import reference
import yaml
from doors import http
from programs import PROGRAMS, Pieces, close, copies, done, each, first, opened, tool_runner
from test_dropin_matrix import ROADS
from test_servers import City

import allos
from allos.exchange import PATHS
from allos.messages import Wire
from cassettes import ROOT

pytestmark = pytest.mark.cassette

SERVERS = ["llamacpp", "vllm", "ogx"]
WAYS = ["whole", "stream"]
NOT_RECORDED = {
    ("llamacpp", "responses", "length"): "llama.cpp calls a cut answer of its Responses API completed",
    ("llamacpp", "responses", "schema"): "llama.cpp ignores a schema on its Responses API",
}


@functools.cache
def recorded(server: str, name: str) -> list[dict[str, Any]]:
    """The exchanges of a cassette."""
    text = (ROOT / server / f"{name}.yaml").read_text("utf-8")
    return list(yaml.load(text, Loader=yaml.CSafeLoader)["interactions"])


def said_in(text: str | bytes) -> dict[str, Any]:
    """The body of a request, but for what may be said in two ways."""
    body: dict[str, Any] = json.loads(text)
    if body.get("stream") is False:  # the SDK's `.parse` says so
        del body["stream"]
    for tool in body.get("tools", ()):
        function = tool.get("function", tool)
        if function.get("strict") is False:  # Chat Completions takes it for granted, Responses has to be told
            del function["strict"]
    return body


def asks(asked: str, server: str, case: str) -> dict[str, Any]:
    """What a program asks in its API so that this case was answered; whether it streams, its method says."""
    if (ROOT / server / f"{asked}-{case}.yaml").exists():
        body: dict[str, Any] = json.loads(recorded(server, f"{asked}-{case}")[0]["request"]["body"])
    elif asked == "responses":
        body = as_responses(said_in(recorded(server, f"chat-{case}")[0]["request"]["body"]))
    else:
        body = as_chat(said_in(recorded(server, f"responses-{case}")[0]["request"]["body"]))
    return without(body, ["stream"])


def as_responses(said: dict[str, Any]) -> dict[str, Any]:
    """A question that was recorded over Chat Completions alone."""
    body = {"model": said["model"], "input": said["messages"], "temperature": said["temperature"]}
    if "response_format" in said:
        body["text"] = {"format": {"type": "json_schema", **said["response_format"]["json_schema"]}}
    return {**body, "max_output_tokens": said["max_completion_tokens"]}


def as_chat(said: dict[str, Any]) -> dict[str, Any]:
    """A question that was recorded over Responses alone."""
    question = {"role": "user", "content": said["input"][0]["content"]}
    return {"model": said["model"], "messages": [question], "max_completion_tokens": said["max_output_tokens"]}


def without(body: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """A body but for these fields."""
    return {name: value for name, value in body.items() if name not in fields}


class Played:
    """A road to servers that answer what they once answered; the path of the API that isn't spoken answers 404."""

    def __init__(self, asked: Wire, spoken: Wire, colour: str) -> None:
        self.asked, self.spoken, self.colour = asked, spoken, colour
        self.made: list[Any] = []
        self.closed = 0

    def __call__(self, server: str, case: str, *own: str, again: int = 1) -> Any:
        """A program in front of the server that answered this, `again` times; it says the fields `own` itself."""
        if reason := NOT_RECORDED.get((server, self.spoken, case.partition("-")[0])):
            pytest.skip(reason)
        exchanges = recorded(server, f"{self.spoken}-{case}")
        waiting = iter([one["response"] for one in exchanges] * again)
        expected = [said_in(exchanges[0]["request"]["body"])]  # later ones say again what the other API had answered

        def answer(sent: Any) -> Any:
            if sent.url.path != f"/v1{PATHS[self.spoken]}":
                return http.Response(404, text="404 page not found")
            if expected:
                assert without(said_in(sent.content), own) == without(expected.pop(), own)
            response = next(waiting)
            body = Pieces(response["body"]["string"].encode(), self._count)
            headers = {"content-type": response["headers"]["content-type"][0]}
            return http.Response(response["status"]["code"], headers=headers, stream=body)

        client = self._client(http.MockTransport(answer))
        return PROGRAMS[self.asked](client, without(asks(self.asked, server, case), own))

    def _count(self) -> None:
        self.closed += 1

    def _client(self, transport: Any) -> Any:
        kind: Any = allos.OpenAI if self.colour == "sync" else allos.AsyncOpenAI
        inner = (http.Client if self.colour == "sync" else http.AsyncClient)(transport=transport)
        client = kind("chat_completions", base_url="http://played.test/v1", api_key="k", wire=self.spoken,
                      max_retries=0, http_client=inner)  # fmt: skip
        self.made.append(client)
        return client


@pytest.fixture(params=ROADS, ids=["chat", "responses", "responses-over-chat", "chat-over-responses"])
async def play(request: pytest.FixtureRequest, colour: str) -> AsyncIterator[Played]:
    made = Played(*request.param, colour)
    yield made
    for client in made.made:
        await close(client)


@pytest.mark.parametrize("server", SERVERS)
async def test_a_text_is_read_whole_streamed_and_by_the_helper(server: str, play: Played) -> None:
    program = play(server, "text-whole")
    answer = await program.create("?")
    assert program.text(answer).strip(" .") == "Paris"
    assert all(program.usage(answer))
    assert program.streamed_text(await play(server, "text-stream").events("?")).strip(" .") == "Paris"
    program = play(server, "text-stream")
    async with opened(program.helper("?")) as stream:
        events = await each(stream)
        final = await program.final(stream)
    assert program.helped_text(events).strip(" .") == program.text(final).strip(" .") == "Paris"


@pytest.mark.parametrize("server", SERVERS)
async def test_a_raw_response_is_of_the_api_asked(server: str, play: Played) -> None:
    program = play(server, "text-whole")
    raw = await done(program.resource.with_raw_response.create(**program.asks("?")))
    assert raw.status_code == 200
    assert json.loads(raw.text)["object"] == ("chat.completion" if program.asked == "chat" else "response")
    assert program.text(await done(raw.parse())).strip(" .") == "Paris"
    program = play(server, "text-stream")
    raw = await done(program.resource.with_raw_response.create(**program.asks("?"), stream=True))
    assert program.streamed_text(await each(await done(raw.parse()))).strip(" .") == "Paris"


@pytest.mark.parametrize("server", SERVERS)
async def test_a_streaming_response_is_parsed_and_read(server: str, play: Played) -> None:
    program = play(server, "text-whole", again=2)
    resource = program.resource.with_streaming_response
    async with opened(resource.create(**program.asks("?"))) as response:
        assert program.text(await done(response.parse())).strip(" .") == "Paris"
    async with opened(resource.create(**program.asks("?"))) as response:
        assert b"Paris" in await done(response.read())


STREAMS = [
    *[(server, case) for server in SERVERS for case in ("text", "tool", "length", "schema")],
    *[("llamacpp", "parallel"), ("vllm", "parallel"), ("llamacpp", "reasoning")],
]
MENDED = [
    *[("llamacpp", "responses", case) for case in ("text", "tool", "parallel", "reasoning")],  # they lack fields
    *[("vllm", "responses", case) for case in ("tool", "parallel")],  # `async` and `namespace` are null
    ("ogx", "chat", "tool"),  # it says id, name and type of a call as null once they were said
]


@pytest.mark.parametrize(("server", "case"), STREAMS)
async def test_every_event_is_complete_and_in_order(server: str, case: str, play: Played) -> None:
    events = reference.payloads(await play(server, f"{case}-stream").lines("?"))
    if play.asked != play.spoken or (server, play.spoken, case) in MENDED:
        reference.hold(play.asked, events)
    else:
        body = recorded(server, f"{play.spoken}-{case}-stream")[0]["response"]["body"]["string"]
        assert events == reference.payloads(body.splitlines()), "a stream of the API asked passes as it came"


@pytest.mark.parametrize("server", SERVERS)
async def test_a_schema_is_parsed_whole_and_by_the_helper(server: str, play: Played) -> None:
    known = City(name="Paris", country="France", on_a_river=True)
    program = play(server, "schema-whole", *SCHEMA)
    answer = await done(program.resource.parse(**program.asks("?"), **{program.schema: City}))
    assert program.parsed(answer) == known
    program = play(server, "schema-stream", *SCHEMA)
    async with opened(program.helper("?", **{program.schema: City})) as stream:
        await each(stream)
        assert program.parsed(await program.final(stream)) == known


SCHEMA = ("response_format", "text")  # the method makes it of the model


@pytest.mark.parametrize("server", SERVERS)
async def test_a_call_of_a_tool_is_read_and_its_result_goes_back(server: str, play: Played) -> None:
    program = play(server, "tool-whole")
    answer = await program.create("?")
    assert [name for name, _ in program.calls(answer)] == ["get_weather"]
    turn = program.next_turn("?", answer, "Rain, 11 degrees")
    again = await done(program.resource.create(**program.asks("?") | turn))
    assert "11" in program.text(again)


@pytest.mark.parametrize("server", SERVERS)
async def test_helpers_read_the_arguments_of_tools(server: str, play: Played) -> None:
    program = play(server, "tool-whole", "tools")  # they take strict tools only
    answer = await done(program.resource.parse(**program.asks("?"), tools=[program.tool]))
    arguments = program.arguments(answer)
    assert getattr(arguments, "city", None) or arguments["city"] == "Paris"
    program = play(server, "tool-stream", "tools")
    async with opened(program.helper("?", tools=[program.tool])) as stream:
        await each(stream)
        assert [name for name, _ in program.calls(await program.final(stream))] == ["get_weather"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", SERVERS)
async def test_the_sdks_own_tool_runner_runs_to_the_end(server: str, way: str, play: Played) -> None:
    if play.asked == "chat":
        pytest.skip("the SDK's runner speaks Responses")
    program = play(server, f"tool-{way}", "tools", "include")  # which the runner says itself
    running = tool_runner(play.colour).run(program.client, program.asks("?"), max_steps=3, stream=way == "stream")
    assert "11" in program.text(await done(running))


@pytest.mark.parametrize("server", ["llamacpp", "vllm"])
async def test_parallel_calls_are_two(server: str, play: Played) -> None:
    program = play(server, "parallel-whole")
    assert [name for name, _ in program.calls(await program.create("?"))] == ["get_weather"] * 2
    program = play(server, "parallel-stream", "tools")
    async with opened(program.helper("?", tools=[program.tool])) as stream:
        await each(stream)
        final = await program.final(stream)
    assert [name for name, _ in program.calls(final)] == ["get_weather"] * 2


@pytest.mark.parametrize("server", SERVERS)
async def test_a_cut_answer_is_said_to_be_cut(server: str, play: Played) -> None:
    program = play(server, "length-whole")
    answer = await program.create("?")
    assert program.cut(answer)
    assert program.text(answer).startswith("1, 2, 3")
    events = await play(server, "length-stream").events("?")
    assert program.streamed_text(events) == program.text(answer)
    if play.asked == "responses":
        assert program.cut(events[-1].response)
    else:
        assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "length"


async def test_a_thought_is_apart_from_the_answer(play: Played) -> None:
    program = play("llamacpp", "reasoning-whole")
    answer = await program.create("?")
    assert "Paris" in program.text(answer)
    assert "<think>" not in program.text(answer)
    assert program.reasoning(answer)
    program = play("llamacpp", "reasoning-stream")
    async with opened(program.helper("?")) as stream:
        await each(stream)
        final = await program.final(stream)
    assert "Paris" in program.text(final)
    assert "<think>" not in program.text(final)
    assert program.reasoning(final)


ERRORS = {
    ("llamacpp", "too-long"): (openai.BadRequestError, "exceeds the available context size"),
    ("vllm", "too-long"): (openai.BadRequestError, "maximum context length is 4096"),
    ("llamacpp", "wrong-key"): (openai.AuthenticationError, "Invalid API Key"),
    ("vllm", "no-such-model"): (openai.NotFoundError, "`no-such-model` does not exist"),
    ("ogx", "no-such-model"): (openai.NotFoundError, "'no-such-model' not found"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("server", "case"), ERRORS)
async def test_an_error_is_the_officials_with_the_servers_words(server: str, case: str, way: str, play: Played) -> None:
    kind, words = ERRORS[server, case]
    program = play(server, f"{case}-{way}")
    with pytest.raises(kind, match=words) as caught:
        await (program.events("?") if way == "stream" else program.create("?"))
    assert type(caught.value).status_code == caught.value.status_code


async def test_a_fault_in_a_stream_that_began_well_is_an_error(play: Played) -> None:
    if play.spoken == "chat":
        pytest.skip("no fault came inside a recorded stream of Chat Completions")
    program = play("ogx", "too-long-stream")
    with pytest.raises(openai.APIError, match="context"):
        await program.events("?")


@pytest.mark.parametrize("server", SERVERS)
async def test_a_stream_left_early_closes_its_connection(server: str, play: Played) -> None:
    program = play(server, "text-stream", again=2)
    async with opened(program.helper("?")) as stream:
        await first(stream)
    assert play.closed == 1
    stream = await program.create("?", stream=True)
    await first(stream)
    await close(stream)
    assert play.closed == 2


@pytest.mark.parametrize("server", SERVERS)
async def test_copies_keep_the_road(server: str, play: Played) -> None:
    program = play(server, "text-whole", again=3)
    for copy in copies(program.client):
        again = PROGRAMS[play.asked](copy, program.asks("?"))
        assert program.text(await again.create("?")).strip(" .") == "Paris"
