"""What the drop-in lets the SDK ask again: the SDK's own retries, without those that can't help."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import answers
import openai
import pytest
from doors import http

import allos

MESSAGES = [{"role": "user", "content": "hi"}]


async def requests_for(status: int, headers: dict[str, str], error: dict[str, str], *, colour: str, wire: str) -> int:
    """How many requests a chat call makes at a service that always answers like that."""
    seen = []

    def server(request):
        seen.append(request)
        return http.Response(status, headers={"retry-after-ms": "1", **headers}, json={"error": error})

    options = {"base_url": "http://service.test/v1", "api_key": "k", "wire": wire, "max_retries": 2}
    transport = http.MockTransport(server)
    if colour == "sync":
        http_client = openai.DefaultHttpxClient(transport=transport)
        with (
            allos.OpenAI("chat_completions", **options, http_client=http_client) as client,
            pytest.raises(openai.APIStatusError),
        ):
            client.chat.completions.create(model="m", messages=MESSAGES)
        return len(seen)
    http_client = openai.DefaultAsyncHttpxClient(transport=transport)
    async with allos.AsyncOpenAI("chat_completions", **options, http_client=http_client) as client:
        with pytest.raises(openai.APIStatusError):
            await client.chat.completions.create(model="m", messages=MESSAGES)
    return len(seen)


@pytest.mark.parametrize("road", ["chat", "responses"])
@pytest.mark.parametrize(
    ("status", "headers", "error", "requests"),
    [
        (429, {}, {"message": "slow down"}, 3),
        (503, {}, {"message": "busy"}, 3),
        (429, {}, {"message": "used up", "code": "insufficient_quota"}, 1),
        (429, {}, {"message": "You exceeded your current quota"}, 1),
        (402, {}, {"message": "pay"}, 1),
        (500, {}, {"message": "image input is not supported - hint: you may need to provide the mmproj"}, 1),
        (500, {}, {"message": "the cache is not supported by this driver"}, 3),
        (429, {"retry-after-ms": "", "retry-after": "121"}, {"message": "slow down"}, 1),
        (503, {"x-should-retry": "false"}, {"message": "busy"}, 1),
    ],
)
async def test_only_what_may_heal_is_asked_again(colour, road, status, headers, error, requests):
    assert await requests_for(status, headers, error, colour=colour, wire=road) == requests


def unreachable(request):
    raise http.ConnectError("connection refused", request=request)


def overloaded(request):
    return http.Response(503, headers={"retry-after-ms": "1"}, json={"error": {"message": "busy"}})


@pytest.fixture
def no_waiting(monkeypatch):
    """Between two tries of the SDK pass milliseconds."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr(openai._base_client, "MAX_RETRY_DELAY", 0.002)


@pytest.mark.fault("N9")
@pytest.mark.parametrize("dead", [unreachable, overloaded])
async def test_many_callers_of_a_dead_service_share_their_retries(dead, colour, no_waiting):
    calls, seen = 100, []

    def server(request):
        seen.append(request)
        return dead(request)

    made = {"base_url": "http://dead.test/v1", "api_key": "k"}
    transport = http.MockTransport(server)
    if colour == "sync":
        made["http_client"] = openai.DefaultHttpxClient(transport=transport)
        with allos.OpenAI("chat_completions", **made) as client, ThreadPoolExecutor(20) as pool:

            def ask(_):
                with pytest.raises(openai.APIError):
                    client.chat.completions.create(model="m", messages=MESSAGES)

            list(pool.map(ask, range(calls)))
    else:
        made["http_client"] = openai.DefaultAsyncHttpxClient(transport=transport)
        async with allos.AsyncOpenAI("chat_completions", **made) as client:
            asked = [client.chat.completions.create(model="m", messages=MESSAGES) for _ in range(calls)]
            errors = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(error, openai.APIError) for error in errors)
    assert calls < len(seen) <= 2 * calls


def test_retries_that_ended_in_an_answer_are_given_back(no_waiting):
    seen = []

    def every_third(request):
        seen.append(request)
        return overloaded(request) if len(seen) % 3 else answers.answer(request, "Paris.")

    made = {"base_url": "http://shaky.test/v1", "api_key": "k"}
    http_client = openai.DefaultHttpxClient(transport=http.MockTransport(every_third))
    with allos.OpenAI("chat_completions", **made, http_client=http_client) as client:
        for _ in range(50):
            assert client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == "Paris."
    assert len(seen) == 150


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_a_connection_error_says_what_failed_and_how_often_the_sdk_asks_stays_its_own(kind, no_waiting):
    seen = []

    def server(request):
        seen.append(request)
        raise http.ConnectError("connection refused", request=request)

    made = {"base_url": "http://service.test/v1", "api_key": "k"}
    http_client = openai.DefaultHttpxClient(transport=http.MockTransport(server))
    with allos.OpenAI("chat_completions", **made, http_client=http_client) as client:
        with pytest.raises(openai.APIConnectionError, match=r"//service\.test/v1/chat/completions: the connection was"):
            client.chat.completions.create(model="m", messages=MESSAGES, stream=kind == "stream")
        with pytest.raises(openai.APIConnectionError, match=r"//service\.test/v1/models: the connection was refused"):
            client.models.list()
    assert len(seen) == 6
