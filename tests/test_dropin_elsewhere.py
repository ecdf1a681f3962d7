"""Calls and copies that leave the place of a drop-in client: the whole call goes there, and what is the program's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import answers
import openai
import pytest
from all_doors import Sockets
from doors import http
from programs import close, done, steps

import allos
from allos import endpoints
from allos.dropin.route import _learned

HERE, THERE = "http://here.test/v1", "http://there.test/v1"
SCHEMA = {"type": "json_schema", "json_schema": {"name": "any", "schema": {"type": "object", "required": ["city"]}}}


@pytest.fixture(autouse=True)
def two_places(monkeypatch: pytest.MonkeyPatch, sockets: Sockets) -> None:
    """`here` has a key and `there` needs none; the table doesn't say which APIs they have."""
    monkeypatch.setattr(endpoints, "_registered", {})
    monkeypatch.setattr("allos.dropin.route._learned", dict(_learned))
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    monkeypatch.setenv("HERE_KEY", "secret-of-here")
    allos.register("here", base_url=HERE, key_variables=["HERE_KEY"])
    allos.register("there", base_url=THERE, key_variables=[])
    sockets.answer = lambda request: answers.answer(request, "Par", "is.")


@pytest.fixture
def kind(colour: str) -> Any:
    return allos.OpenAI if colour == "sync" else allos.AsyncOpenAI


async def asked(client: Any, **more: Any) -> Any:
    said = [{"role": "user", "content": "Where?"}]
    return await done(client.chat.completions.create(**{"model": "m", "messages": said, **more}))


def requests(sockets: Sockets) -> list[tuple[str, str, str | None]]:
    """Host, last word of the path and key of each request."""
    return [
        (request.url.host, request.url.path.rpartition("/")[2], request.headers.get("authorization"))
        for request in sockets.requests
    ]


async def test_a_call_whose_model_names_a_place_stays_there_where_that_lacks_an_api(
    kind: Any, sockets: Sockets, recwarn: pytest.WarningsRecorder
) -> None:
    usual = sockets.answer
    missing = http.Response(404, text="404 page not found")
    sockets.answer = lambda request: missing if request.url.path.endswith("/responses") else usual(request)
    response = await done(kind(max_retries=0).responses.create(model="here/m", input="Where?"))
    assert response.output_text == "Paris."
    key = "Bearer secret-of-here"
    assert requests(sockets) == [("here.test", "responses", key), ("here.test", "completions", key)]


async def test_a_call_whose_model_names_a_place_stays_there_with_all_its_ways_to_an_object(
    kind: Any, sockets: Sockets
) -> None:
    def refuse(request: Any) -> Any:
        if "response_format" in answers.body(request):
            return http.Response(400, json={"error": {"message": "response_format is not supported"}})
        return answers.answer(request, '{"city": "Paris"}')

    sockets.answer = refuse
    made = await asked(kind(max_retries=0), model="here/m", response_format=SCHEMA)
    assert json.loads(made.choices[0].message.content) == {"city": "Paris"}
    assert {(host, key) for host, _, key in requests(sockets)} == {("here.test", "Bearer secret-of-here")}
    assert len(sockets.requests) > 1


async def test_an_error_names_the_place_that_the_model_chose(kind: Any, sockets: Sockets) -> None:
    def unreachable(request: Any) -> Any:
        raise http.ConnectError("refused", request=request)

    sockets.answer = unreachable
    with pytest.raises(openai.APIConnectionError, match="here can't be reached") as caught:
        await asked(kind(max_retries=0, fallback=["there/m"]), model="here/m")
    assert "OpenAI" not in str(caught.value)


LEAVING = {
    "a model that names a place": lambda client: (client, "there/m"),
    "another provider": lambda client: (client.with_options(provider="there"), "m"),
    "another address": lambda client: (client.with_options(base_url=THERE), "m"),
    "another path": lambda client: (client.with_options(base_url="https://api.openai.com/other", api_key="k"), "m"),
}


@pytest.mark.parametrize("how", LEAVING)
async def test_the_state_file_of_the_program_goes_along(how: str, kind: Any, sockets: Sockets, tmp_path: Path) -> None:
    client, model = LEAVING[how](kind(state=tmp_path / "state.db"))
    assert client._route.sessions is not kind()._route.sessions
    if how != "another path":
        first = await done(client.responses.create(model=model, input="Where?"))
        later = kind("there", state=tmp_path / "state.db")
        assert (await done(later.responses.retrieve(first.id))).output_text == "Paris."
    assert kind(state=tmp_path / "state.db")._route.sessions._store is client._route.sessions._store


@pytest.mark.parametrize("how", [name for name in LEAVING if name != "a model that names a place"])
async def test_the_places_to_ask_next_go_along(how: str, kind: Any) -> None:
    client, _ = LEAVING[how](kind(fallback=["here/m"]).with_options(timeout=5))
    assert [place.endpoint.alias for place in client._route.target.fallback] == ["here"]


@pytest.mark.parametrize("how", ["another provider", "another address"])
async def test_the_query_of_every_request_stays_behind_as_its_headers_do(how: str, kind: Any, sockets: Sockets) -> None:
    client, model = LEAVING[how](kind("here", default_query={"key": "secret"}, default_headers={"X-Key": "secret"}))
    await asked(client, model=model)
    assert sockets.hosts == ["there.test"]
    assert "secret" not in str(sockets.last.url) + str(sockets.last.headers.raw)
    await asked(client.with_options(default_query={"page": "2"}))
    assert sockets.last.url.query == b"page=2"


async def test_a_copy_of_a_client_without_a_key_may_be_given_one(kind: Any, sockets: Sockets) -> None:
    client = kind("there", model="one")
    await asked(client.with_options(api_key="given"))
    await asked(client.with_options(api_key="given").with_options(timeout=5))
    await asked(client.with_options(base_url="http://there.test/v2"))
    await asked(client.with_options(base_url="http://there.test/v2", api_key="given"))
    assert [key for _, _, key in requests(sockets)] == ["Bearer given", "Bearer given", None, "Bearer given"]
    assert [request.url.path.split("/")[1] for request in sockets.requests] == ["v1", "v1", "v2", "v2"]


@pytest.mark.parametrize("name", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "OPENAI_ADMIN_KEY"])
async def test_what_belongs_to_openai_stays_away_from_a_copy_with_a_key_too(
    name: str, kind: Any, sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    ambient = "Authorization: Bearer ambient\nX-Own: ambient" if name.endswith("HEADERS") else "ambient"
    monkeypatch.setenv(name, ambient)
    for copy in ({"api_key": "given"}, {"base_url": "http://there.test/v2"}, {"provider": "there"}):
        await asked(kind("there").with_options(**copy))
        assert sockets.last.headers.get("authorization") == ("Bearer given" if "api_key" in copy else None)
        assert "ambient" not in str(sockets.last.headers.raw)


async def test_a_function_that_gives_keys_gives_them_to_its_own_place_only(
    kind: Any, sockets: Sockets, colour: str
) -> None:
    async def later() -> str:
        return "secret-of-openai"

    client = kind(api_key=(lambda: "secret-of-openai") if colour == "sync" else later, max_retries=0)
    await asked(client, model="here/m")
    await asked(client, model="there/m")
    assert {key for _, _, key in requests(sockets)} == {"Bearer secret-of-here", None}
    with pytest.raises(allos.ConfigurationError, match=r"is for api\.openai\.com"):
        await done(client.post(f"{THERE}/chat/completions", body={"model": "m"}, cast_to=object))


async def test_what_a_stream_says_comes_before_the_error_at_its_end(kind: Any, sockets: Sockets) -> None:
    """Also where all of it comes in one piece, and the place is not left for it."""
    sockets.answer = lambda request: answers.events(answers.stream("chat", "no ", "object"))
    client = kind("here", on_unsupported="error", fallback=["there/m"], max_retries=0)
    stream = await asked(client, response_format=SCHEMA, stream=True)
    said: list[str] = []

    async def read() -> None:
        async for chunk in steps(stream):
            said.extend(choice.delta.content or "" for choice in chunk.choices)

    with pytest.raises(openai.APIResponseValidationError):
        await read()
    assert "".join(said) == "no object"
    assert {host for host, _, _ in requests(sockets)} == {"here.test"}


async def test_who_leaves_before_the_error_at_the_end_is_not_told_of_it(kind: Any, sockets: Sockets) -> None:
    sockets.answer = lambda request: answers.events(answers.stream("chat", "no ", "object"))
    client = kind("here", on_unsupported="error", max_retries=0)
    stream = await asked(client, response_format=SCHEMA, stream=True)
    async for chunk in steps(stream):
        if chunk.choices and chunk.choices[0].finish_reason:
            break
    await close(stream)
