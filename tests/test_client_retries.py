"""When the clients ask again: through both doors, whole and streamed, without a second of real waiting."""

from __future__ import annotations

import itertools

import answers
import openai
import pytest
from doors import asked, http

import allos

SOON = {"retry-after-ms": "1"}
_hosts = itertools.count()


@pytest.fixture
def own_host() -> str:
    """An address of its own for each test, since clients of one address share a budget of retries."""
    return f"http://retries-{next(_hosts)}.test/v1"


@pytest.fixture(autouse=True)
def no_real_waiting(monkeypatch):
    monkeypatch.setattr("allos.retry.random.uniform", lambda low, high: 0.0)


class Flaky:
    """A server that answers with these failures first: a status, headers and all, or an exception."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        if not self.failures:
            return answers.answer(request, "Par", "is")
        failure = self.failures.pop(0)
        if isinstance(failure, type):
            raise failure("broken", request=request)
        if isinstance(failure, int):
            return http.Response(failure, headers=SOON, json={"error": {"message": "busy"}})
        return failure


async def test_what_may_heal_is_asked_again_and_told(mock_door, wire, streamed, own_host):
    told = []
    server = Flaky(429, 503)
    door = mock_door(server, wire=wire, max_retries=2, on_retry=told.append, base_url=own_host)
    reply = await asked(door, "hi", streamed=streamed)
    assert reply.text == "Paris"
    assert len(server.requests) == 3
    assert [(attempt.number, attempt.error.status_code, attempt.wait) for attempt in told] == [
        (1, 429, 0.001),
        (2, 503, 0.001),
    ]


def test_a_program_may_do_the_waiting_itself(mock_client, own_host):
    waits = []
    client = mock_client(Flaky(429, 503), max_retries=2, base_url=own_host)
    client.wait_by(waits.append)
    assert client.chat("hi").text == "Paris"
    assert waits == [0.001, 0.001]


async def test_the_wait_is_the_one_that_the_server_asked_for(mock_door, streamed, own_host):
    told = []
    busy = http.Response(429, headers={"retry-after": "0.002"}, json={})
    door = mock_door(Flaky(busy), max_retries=1, on_retry=told.append, base_url=own_host)
    await asked(door, "hi", streamed=streamed)
    assert [attempt.wait for attempt in told] == [0.002]


async def test_a_wait_of_more_than_two_minutes_is_said_and_not_waited(mock_door, streamed, own_host):
    server = Flaky(http.Response(429, headers={"retry-after": "3600"}, json={}))
    with pytest.raises(openai.RateLimitError, match="3600"):
        await asked(mock_door(server, max_retries=2, base_url=own_host), "hi", streamed=streamed)
    assert len(server.requests) == 1


@pytest.mark.parametrize("limit", [0, 1, 5])
async def test_there_are_no_more_tries_than_max_retries_allows(mock_door, wire, streamed, own_host, limit):
    server = Flaky(*[503] * 9)
    with pytest.raises(openai.InternalServerError, match="busy"):
        await asked(mock_door(server, wire=wire, max_retries=limit, base_url=own_host), "hi", streamed=streamed)
    assert len(server.requests) == 1 + limit


async def test_the_official_client_below_adds_no_tries_of_its_own(mock_door, streamed, own_host):
    server = Flaky(*[http.ConnectError] * 9)
    with pytest.raises(openai.APIConnectionError):
        await asked(mock_door(server, max_retries=0, base_url=own_host), "hi", streamed=streamed)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (400, {}, {"message": "no"}),
        (401, {}, {"message": "no"}),
        (402, {}, {"message": "no"}),
        (404, {}, {"message": "no"}),
        (429, {}, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
        (503, {"x-should-retry": "false"}, {"message": "busy"}),
        (500, {}, {"message": "image input is not supported"}),
    ],
)
async def test_what_can_not_heal_is_asked_once(mock_door, streamed, own_host, status, headers, error):
    server = Flaky(http.Response(status, headers=headers, json={"error": error}))
    with pytest.raises(openai.APIStatusError):
        await asked(mock_door(server, max_retries=2, base_url=own_host), "hi", streamed=streamed)
    assert len(server.requests) == 1


async def test_an_answer_that_is_nonsense_is_not_asked_for_again(mock_door, wire, own_host):
    server = Flaky(http.Response(200, text="<html><title>Log in</title>"))
    with pytest.raises(openai.APIResponseValidationError, match="Log in"):
        await asked(mock_door(server, wire=wire, max_retries=2, base_url=own_host), "hi", streamed=False)
    assert len(server.requests) == 1


def cut_after(wire: str, text: str):
    """The events of a stream up to and with that piece of text."""
    lines = answers.stream(wire, "Par", "is")
    last = next(place for place, line in enumerate(lines) if f'"{text}"' in line)
    return answers.events(lines[: last + 1])


async def test_nothing_is_asked_again_once_a_word_was_shown(mock_door, wire, own_host):
    server = Flaky(cut_after(wire, "Par"))
    steps = mock_door(server, wire=wire, max_retries=2, base_url=own_host).stream("hi")
    seen = []
    with pytest.raises(allos.IncompleteReplyError) as caught:
        [seen.append(delta.text) async for delta in steps]
    assert "".join(seen) == "Par"
    assert caught.value.reply.text == "Par"
    assert steps.so_far.text == "Par"
    assert len(server.requests) == 1


async def test_a_stream_that_ended_before_its_first_word_is_asked_again(mock_door, wire, own_host):
    begun = answers.events(answers.stream(wire, "Par", "is")[:1])
    server = Flaky(begun)
    reply = await asked(mock_door(server, wire=wire, max_retries=1, base_url=own_host), "hi", streamed=True)
    assert reply.text == "Paris"
    assert len(server.requests) == 2


async def test_each_step_of_a_tool_loop_has_its_own_tries(mock_door, wire, streamed, own_host):
    def now() -> str:
        return "noon"

    def server(request):
        requests.append(request)
        if len(requests) in (1, 3):
            return http.Response(503, headers=SOON)
        return (
            answers.answer(request, "noon") if answers.results(request) else answers.call(request, ("c", "now", "{}"))
        )

    requests = []
    door = mock_door(server, wire=wire, max_retries=1, base_url=own_host)
    assert (await asked(door, "hi", tools=[now], streamed=streamed)).text == "noon"
    assert len(requests) == 4


async def test_many_calls_to_a_dead_service_share_their_retries(mock_door, own_host):
    server = Flaky(*[503] * 200)
    door = mock_door(server, max_retries=2, base_url=own_host)
    for _ in range(40):
        with pytest.raises(openai.InternalServerError):
            await door.chat("hi")
    assert len(server.requests) <= 40 * 2


@pytest.mark.parametrize(
    ("given", "read", "connect"),
    [
        ({}, 600, 5),
        ({"timeout": 300}, 300, 5),
        ({"timeout": 2}, 2, 2),
        ({"timeout": 60, "connect_timeout": 20}, 60, 20),
    ],
)
async def test_the_time_for_a_connection_is_not_the_time_for_an_answer(mock_door, streamed, given, read, connect):
    seen = []

    def server(request):
        seen.append(request.extensions["timeout"])
        return answers.answer(request, "Paris")

    door = mock_door(server, **given)
    await asked(door, "hi", streamed=streamed)
    await asked(door, "hi", streamed=streamed, deadline=1000)
    assert [(limits["read"], limits["connect"]) for limits in seen] == [(read, connect)] * 2
