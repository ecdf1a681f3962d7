"""What `allos/dropin` relies on inside the SDK: when a release moves it, one of these says which.

`make test-sdk` runs them with the oldest SDK that is supported, `make test` with the newest that is installed.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import openai
import pytest
from doors import http
from openai._models import FinalRequestOptions

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris."}}],
}
CLASSES = [openai.OpenAI, openai.AsyncOpenAI]


def ask(kind: type[Any], **options: Any) -> Any:
    """One chat call through a class of that kind, the server answering `CHAT`."""
    transport = http.MockTransport(lambda request: http.Response(200, json=CHAT))
    inner = http.AsyncClient if issubclass(kind, openai.AsyncOpenAI) else http.Client
    client = kind(api_key="sk-own", http_client=inner(transport=transport), **options)
    made = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    if not inspect.isawaitable(made):
        return made

    async def wait() -> Any:
        return await made

    return asyncio.run(wait())


@pytest.mark.parametrize("official", CLASSES)
def test_every_request_is_built_by_one_hook_that_may_change_path_and_body(official: type[Any]) -> None:
    seen: list[FinalRequestOptions] = []

    class Ours(official):
        def _build_request(self, options: Any, *, retries_taken: int = 0) -> Any:
            seen.append(options)
            body = {**options.json_data, "model": "other"}
            changed = options.model_copy(update={"url": "/elsewhere", "json_data": body, "extra_json": None})
            request = super()._build_request(changed, retries_taken=retries_taken)
            assert request.url.path == "/v1/elsewhere"
            assert json.loads(request.content)["model"] == "other"
            request.extensions["ours"] = True
            return request

    assert ask(Ours).choices[0].message.content == "Paris."
    (options,) = seen
    assert (options.method, options.url) == ("post", "/chat/completions")
    assert options.json_data["messages"] == [{"role": "user", "content": "?"}]
    assert {"params", "headers", "extra_json"} <= set(FinalRequestOptions.model_fields)


@pytest.mark.parametrize("official", CLASSES)
def test_every_answer_comes_back_through_one_hook_that_may_replace_it(official: type[Any]) -> None:
    def replaced(response: Any, arguments: dict[str, Any]) -> Any:
        assert arguments["stream"] is False
        assert response.request.extensions["timeout"]["read"]
        changed = {**CHAT, "choices": [{**CHAT["choices"][0], "message": {"role": "assistant", "content": "Rome."}}]}
        return http.Response(200, json=changed, headers={"x-request-id": "ours"}, request=response.request)

    if issubclass(official, openai.AsyncOpenAI):

        class Ours(official):
            async def _send_request(self, request: Any, **arguments: Any) -> Any:
                return replaced(await super()._send_request(request, **arguments), arguments)
    else:

        class Ours(official):  # type: ignore[no-redef]
            def _send_request(self, request: Any, **arguments: Any) -> Any:
                return replaced(super()._send_request(request, **arguments), arguments)

    answer = ask(Ours)
    assert answer.choices[0].message.content == "Rome."
    assert answer._request_id == "ours", "how a receipt finds its call"


@pytest.mark.parametrize("official", CLASSES)
def test_a_copy_hands_our_arguments_to_the_constructor(official: type[Any]) -> None:
    class Ours(official):
        def __init__(self, *, ours: str, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.ours = ours

        def copy(self, *, _extra_kwargs: Any = None, **changed: Any) -> Any:
            return super().copy(_extra_kwargs={"ours": self.ours, **(_extra_kwargs or {})}, **changed)

        with_options = copy

    client = Ours(api_key="sk-own", ours="kept")
    assert client.with_options(max_retries=7).ours == "kept"
    assert client.with_options(max_retries=7).max_retries == 7


@pytest.mark.parametrize("official", CLASSES)
def test_a_header_may_be_left_out_of_one_call(official: type[Any]) -> None:
    class Ours(official):
        def _build_request(self, options: Any, *, retries_taken: int = 0) -> Any:
            changed = options.model_copy(update={"headers": {"Authorization": openai.Omit()}})
            request = super()._build_request(changed, retries_taken=retries_taken)
            assert "authorization" not in request.headers
            return request

    assert ask(Ours)


def test_the_http_library_is_found_under_the_sdk() -> None:
    assert http.Client in openai.DefaultHttpxClient.__mro__
    for name in ("Response", "URL", "HTTPError", "StreamError", "SyncByteStream", "AsyncByteStream"):
        assert hasattr(http, name)


def test_the_official_classes_find_the_mark_of_a_retry_that_must_not_be() -> None:
    tries: list[Any] = []

    def refuse(request: Any) -> Any:
        tries.append(request)
        return http.Response(500, json={"error": {"message": "no"}}, headers={"x-should-retry": "false"})

    client = openai.OpenAI(api_key="sk-own", http_client=http.Client(transport=http.MockTransport(refuse)))
    with pytest.raises(openai.InternalServerError):
        client.models.list()
    assert len(tries) == 1
