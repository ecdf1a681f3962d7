"""A key stays with the host it was given for, whatever becomes of its client: copied, turned, asked by a whole URL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from test_keys import ALIASES, ambient

import allos

ELSEWHERE = "https://elsewhere.test/v1"
KINDS = [allos.OpenAI, allos.AsyncOpenAI]
CALLS: dict[str, Callable[[Any], Any]] = {
    "chat": lambda client: client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}]),
    "responses": lambda client: client.responses.create(model="m", input="Hi"),
}


def asked(client: Any, call: Callable[[Any], Any] = CALLS["chat"]) -> Any:
    """The answer of a client of either colour."""

    async def awaited() -> Any:
        return await call(client)

    return asyncio.run(awaited()) if isinstance(client, allos.AsyncOpenAI) else call(client)


def told(request: Any) -> str:
    """All of a request's head."""
    return json.dumps([*request.headers.multi_items(), str(request.url)])


def client_of(kind: Any, row: Any, **more: Any) -> Any:
    given = {"api_key": "secret-given"} if row.needs_key and not row.key_variables else {}
    return kind(row.alias, **given, **more)


@pytest.mark.fault("N5")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ALIASES, ids=lambda row: row.alias)
def test_a_copy_for_another_host_takes_no_key_and_no_account_along(row, kind, sockets, monkeypatch):
    ambient(monkeypatch)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/openai/v1")
    made = client_of(kind, row, default_headers={"api-key": "secret-header", "X-Api-Key": "secret-header"})
    for copy in (
        made.with_options(base_url=ELSEWHERE),
        made.copy(timeout=5).copy(base_url=ELSEWHERE),
        made.copy(base_url=ELSEWHERE, default_headers={"X-Mine": "1"}),
    ):
        for call in CALLS.values():
            asked(copy, call)
    assert sockets.hosts == ["elsewhere.test"] * 6
    for request in sockets.requests:
        assert "authorization" not in request.headers
        assert "secret" not in told(request)
        assert "ambient" not in told(request)
    assert sockets.last.headers["x-mine"] == "1"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("provider", ["groq", "openai", None])
def test_a_copy_for_another_host_has_the_key_that_is_given_for_it(kind, provider, sockets, monkeypatch):
    ambient(monkeypatch)
    asked(kind(provider).with_options(base_url=ELSEWHERE, api_key="given-for-this-one"))
    assert sockets.last.headers["authorization"] == "Bearer given-for-this-one"
    assert "ambient" not in told(sockets.last)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_for_another_provider_has_the_key_that_is_given_for_it(kind, sockets, monkeypatch):
    ambient(monkeypatch)
    asked(kind("groq").with_options(provider="together", api_key="given-for-this-one"))
    assert sockets.last.headers["authorization"] == "Bearer given-for-this-one"


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_for_the_same_host_keeps_its_key_and_headers(kind, sockets, monkeypatch):
    secrets = ambient(monkeypatch)
    made = kind("groq", default_headers={"X-Mine": "1"})
    for copy in (made.copy(timeout=5), made.copy(base_url="https://api.groq.com/openai/v1/"), made.copy(max_retries=1)):
        asked(copy)
        assert sockets.last.headers["authorization"] == f"Bearer {secrets['GROQ_API_KEY']}"
        assert sockets.last.headers["x-mine"] == "1"


TURNED: dict[str, Callable[[Any], Any]] = {
    "its address changed": lambda client: (
        setattr(client, "base_url", ELSEWHERE),
        client.chat.completions.create(model="m", messages=[]),
    )[1],
    "a whole URL": lambda client: client.post(f"{ELSEWHERE}/chat/completions", body={"model": "m"}, cast_to=object),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", TURNED)
@pytest.mark.parametrize("provider", ["groq", "openai", None])
def test_a_request_to_another_host_is_refused_where_it_would_carry_the_key(provider, how, kind, sockets, monkeypatch):
    secrets = ambient(monkeypatch)
    with pytest.raises(allos.ConfigurationError) as caught:
        asked(kind(provider), TURNED[how])
    assert not sockets.requests
    assert "elsewhere.test" in str(caught.value)
    assert "with_options(base_url=" in str(caught.value)
    assert not [secret for secret in secrets.values() if secret in str(caught.value)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_turned_elsewhere_with_another_key_is_its_callers_doing(kind, sockets, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "secret-of-groq")
    made = kind("groq")
    made.base_url, made.api_key = ELSEWHERE, "given-for-this-one"
    asked(made)
    assert sockets.last.headers["authorization"] == "Bearer given-for-this-one"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("url", ["https://own.test:99999/v1", "https://[own/v1", "elsewhere.test", "https://\x00/"])
def test_a_copy_for_an_address_that_can_not_be_reached_is_refused_by_name(url, kind):
    with pytest.raises(allos.ConfigurationError, match="base"):
        kind("groq", api_key="secret-given").with_options(base_url=url)
