"""What real servers answered, through the official methods: natively and translated, in both colours.

The cassettes are those of `test_servers.py`. Here their answers are played whatever is asked, since the program asks
in its own API; what is sent over the one that is spoken is held elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import reference
import yaml
from doors import http
from programs import PROGRAMS, close, done, each, opened
from test_dropin_matrix import ROADS

import allos
from allos.exchange import PATHS
from cassettes import ROOT

pytestmark = pytest.mark.cassette

SERVERS = ["llamacpp", "vllm", "ogx"]


@functools.cache
def answers_of(server: str, case: str) -> list[tuple[int, str, str]]:
    """Status, content type and body of each answer of a cassette."""
    recorded = yaml.load((ROOT / server / f"{case}.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader)
    found = [exchange["response"] for exchange in recorded["interactions"]]
    return [(one["status"]["code"], one["headers"]["content-type"][0], one["body"]["string"]) for one in found]


Play = Callable[..., Any]


@pytest.fixture(params=ROADS, ids=["chat", "responses", "responses-over-chat", "chat-over-responses"])
async def play(request: pytest.FixtureRequest, colour: str) -> AsyncIterator[Play]:
    """`play(server, case)`: a program in front of the server that answered this."""
    asked, spoken = request.param
    made: list[Any] = []

    def start(server: str, case: str) -> Any:
        waiting = iter(answers_of(server, f"{spoken}-{case}"))

        def answer(sent: Any) -> Any:
            assert sent.url.path == f"/v1{PATHS[spoken]}"
            status, kind, body = next(waiting)
            return http.Response(status, headers={"content-type": kind}, content=body.encode())

        transport = http.MockTransport(answer)
        kind: Any = allos.OpenAI if colour == "sync" else allos.AsyncOpenAI
        inner = (http.Client if colour == "sync" else http.AsyncClient)(transport=transport)
        client = kind("chat_completions", base_url="http://played.test/v1", api_key="k", wire=spoken, max_retries=0,
                      http_client=inner)  # fmt: skip
        made.append(client)
        return PROGRAMS[asked](client)

    yield start
    for client in made:
        await close(client)


@pytest.mark.parametrize("server", SERVERS)
async def test_a_text_is_read_whole_streamed_and_by_the_helper(server: str, play: Play) -> None:
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


@pytest.mark.parametrize("case", ["text", "tool", "parallel", "length"])
@pytest.mark.parametrize("server", SERVERS)
async def test_every_translated_event_is_complete_and_in_order(server: str, case: str, play: Play) -> None:
    try:
        program = play(server, f"{case}-stream")
    except FileNotFoundError:
        pytest.skip("this server was not recorded with it")
    lines = await program.lines("?")
    if program.asked != program.client._route.target.wire:
        reference.hold(program.asked, reference.payloads(lines))


@pytest.mark.parametrize("server", SERVERS)
async def test_a_call_of_a_tool_is_read_and_its_result_goes_back(server: str, play: Play) -> None:
    program = play(server, "tool-whole")
    answer = await program.create("?", tools=[program.tool])
    assert [name for name, _ in program.calls(answer)] == ["get_weather"]
    turn = program.next_turn("?", answer, "Rain, 11 degrees")
    again = await done(program.resource.create(model="m", tools=[program.tool], **turn))
    assert "11" in program.text(again)
    program = play(server, "tool-stream")
    async with opened(program.helper("?", tools=[program.tool])) as stream:
        await each(stream)
        assert [name for name, _ in program.calls(await program.final(stream))] == ["get_weather"]


@pytest.mark.parametrize("server", ["llamacpp", "vllm"])
async def test_parallel_calls_are_two(server: str, play: Play) -> None:
    program = play(server, "parallel-stream")
    async with opened(program.helper("?", tools=[program.tool])) as stream:
        await each(stream)
        final = await program.final(stream)
    assert [name for name, _ in program.calls(final)] == ["get_weather"] * 2
