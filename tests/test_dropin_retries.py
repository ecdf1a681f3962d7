"""What the drop-in lets the SDK ask again: the SDK's own retries, without those that can't help."""

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


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("road", ["chat", "responses"])
@pytest.mark.parametrize(
    ("status", "headers", "error", "requests"),
    [
        (429, {}, {"message": "slow down"}, 3),
        (503, {}, {"message": "busy"}, 3),
        (429, {}, {"message": "used up", "code": "insufficient_quota"}, 1),
        (429, {}, {"message": "You exceeded your current quota"}, 1),
        (402, {}, {"message": "pay"}, 1),
        (429, {"retry-after-ms": "", "retry-after": "121"}, {"message": "slow down"}, 1),
        (503, {"x-should-retry": "false"}, {"message": "busy"}, 1),
    ],
)
async def test_only_what_may_heal_is_asked_again(colour, road, status, headers, error, requests):
    assert await requests_for(status, headers, error, colour=colour, wire=road) == requests
