"""Responses and conversations through the official methods, in front of services that keep nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import answers
import openai
import pytest
from doors import http
from programs import close, done, each

import allos

TESTS = Path(__file__).parent


class Service:
    """Answers with the texts that it was sent, over the APIs that it has, and forgets them at once."""

    def __init__(self, *wires: str) -> None:
        self._wires = wires
        self.requests: list[Any] = []

    def __call__(self, request: Any) -> Any:
        self.requests.append(request)
        if request.url.path.rpartition("/v1")[2] not in [{"chat": "/chat/completions"}.get(w, "/responses")
                                                         for w in self._wires]:  # fmt: skip
            return http.Response(404, text="404 page not found")
        return answers.with_own_id(answers.answer(request, " | ".join(self.heard), "."))

    @property
    def body(self) -> dict[str, Any]:
        return answers.body(self.requests[-1])

    @property
    def heard(self) -> list[str]:
        """What the last request says, message by message."""
        said = self.body.get("messages", self.body.get("input"))
        entries = [{"content": said}] if isinstance(said, str) else said
        return [
            content if isinstance(content := entry["content"], str) else "".join(part["text"] for part in content)
            for entry in entries
        ]


def client(colour: str, service: Any, alias: str = "chat_completions", **options: Any) -> Any:
    kind = allos.OpenAI if colour == "sync" else allos.AsyncOpenAI
    transport = http.Client if colour == "sync" else http.AsyncClient
    return kind(
        alias,
        **{"api_key": "k", "max_retries": 0, "base_url": "http://mock.test/v1", **options},
        http_client=transport(transport=http.MockTransport(service)),
    )


@pytest.fixture
def service() -> Service:
    return Service("chat")


@pytest.fixture(params=["memory", "file"])
async def made(request: pytest.FixtureRequest, colour: str, service: Service, tmp_path: Path) -> AsyncIterator[Any]:
    """A client of the service, whose state is kept in the process or in a file."""
    state = None if request.param == "memory" else tmp_path / "state.db"
    made = client(colour, service, state=state)
    yield made
    await close(made)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_a_response_is_continued(made: Any, service: Service, streamed: bool) -> None:
    async def ask(**options: Any) -> Any:
        if not streamed:
            return await done(made.responses.create(model="m", **options))
        return (await each(await done(made.responses.create(model="m", stream=True, **options))))[-1].response

    first = await ask(input="one", instructions="be brief")
    second = await ask(input="two", previous_response_id=first.id)
    assert service.heard == ["one", "be brief | one.", "two"]
    assert second.previous_response_id == first.id
    third = await ask(input="three", previous_response_id=second.id)
    assert service.heard[::2] == ["one", "two", "three"]
    assert "previous_response_id" not in service.body
    kept = await done(made.responses.retrieve(third.id))
    assert kept.to_dict() == third.to_dict()


async def test_a_response_is_retrieved_streamed_listed_and_deleted(made: Any, service: Service) -> None:
    first = await done(made.responses.create(model="m", input="one"))
    sent = len(service.requests)
    events = await each(await done(made.responses.retrieve(first.id, stream=True)))
    assert events[-1].response.to_dict() == first.to_dict()
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one."
    rest = await each(await done(made.responses.retrieve(first.id, stream=True, starting_after=2)))
    assert [event.sequence_number for event in rest] == [event.sequence_number for event in events][3:]
    items = await each(await done(made.responses.input_items.list(first.id)))
    assert [item.content[0].text for item in items] == ["one"]
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        await done(made.responses.cancel(first.id))
    await done(made.responses.delete(first.id))
    for call in (made.responses.retrieve, made.responses.delete, made.responses.cancel):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{first.id}' not found"):
            await done(call(first.id))
    with pytest.raises(openai.BadRequestError) as caught:
        await done(made.responses.create(model="m", input="x", previous_response_id=first.id))
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    assert len(service.requests) == sent, "all of it is answered here"


async def test_a_response_that_is_not_to_be_stored_is_not(made: Any) -> None:
    response = await done(made.responses.create(model="m", input="one", store=False))
    with pytest.raises(openai.NotFoundError):
        await done(made.responses.retrieve(response.id))


async def test_the_stream_helper_picks_up_a_kept_response(made: Any) -> None:
    from programs import opened

    first = await done(made.responses.create(model="m", input="one"))
    async with opened(made.responses.stream(response_id=first.id)) as stream:
        await each(stream)
        assert (await done(stream.get_final_response())).output_text == "one."


async def test_a_conversation_is_made_continued_changed_and_deleted(made: Any, service: Service) -> None:
    begun = await done(made.conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "zero"}]))
    first = await done(made.responses.create(model="m", input="one", conversation=begun.id))
    assert service.heard == ["zero", "one"]
    assert first.conversation.id == begun.id
    await done(made.responses.create(model="m", input="two", conversation=begun.id, store=False))
    assert service.heard == ["zero", "one", "zero | one.", "two"]
    added = await done(made.conversations.items.create(begun.id, items=[{"role": "user", "content": "extra"}]))
    item = added.data[0].id
    assert (await done(made.conversations.items.retrieve(item, conversation_id=begun.id))).content[0].text == "extra"
    await done(made.conversations.items.delete(item, conversation_id=begun.id))
    listed = await each(await done(made.conversations.items.list(begun.id, order="asc", limit=2)))  # three pages
    assert [entry.content[0].text for entry in listed][::2] == ["zero", "zero | one.", listed[4].content[0].text]
    assert len(listed) == 5
    changed = await done(made.conversations.update(begun.id, metadata={"c": "d"}))
    assert (await done(made.conversations.retrieve(begun.id))).metadata == changed.metadata == {"c": "d"}
    assert (await done(made.conversations.delete(begun.id))).deleted
    with pytest.raises(openai.NotFoundError, match="Conversation with id"):
        await done(made.conversations.retrieve(begun.id))


async def test_a_conversation_moves_to_another_endpoint_in_its_middle(made: Any, service: Service) -> None:
    first = await done(made.responses.create(model="m", input="one"))
    native, keeper = Service("responses"), Service("chat")
    colour = "sync" if isinstance(made, openai.OpenAI) else "async"
    options = {"state": made._route.sessions._store._path} if hasattr(made._route.sessions._store, "_path") else {}
    other = client(colour, native, wire="responses", base_url="http://other.test/v1", **options)
    second = await done(other.responses.create(model="m", input="two", previous_response_id=first.id))
    assert native.heard == ["one", "one.", "two"]
    third = await done(made.responses.create(model="m", input="three", previous_response_id=second.id))
    assert service.heard == ["one", "one.", "two", "one | one. | two.", "three"]
    groq = client(colour, keeper, "groq", **options)
    await done(groq.responses.create(model="m", input="four", previous_response_id=third.id))
    assert keeper.heard[::2] == ["one", "two", "three", "four"]
    for client_ in (other, groq):
        await close(client_)


async def test_a_conversation_that_was_begun_here_is_sent_to_a_service_of_which_nothing_is_known(colour: str) -> None:
    service = Service("responses")
    made = client(colour, service, wire="responses")
    begun = await done(made.conversations.create(items=[{"role": "user", "content": "zero"}]))
    await done(made.responses.create(model="m", input="one", conversation=begun.id))
    await done(made.responses.create(model="m", input="two", conversation={"id": begun.id}))
    assert service.heard == ["zero", "one", "zero | one.", "two"]
    assert "conversation" not in service.body
    for _ in range(2):
        await done(made.responses.create(model="m", input="three", conversation="conv_of_theirs"))
        assert service.body["conversation"] == "conv_of_theirs"
    await close(made)


@pytest.mark.parametrize("alias", ["groq", "ollama", "llamacpp", "transformers"])
async def test_a_service_that_ignores_the_id_is_sent_the_history(alias: str, colour: str) -> None:
    """They take `previous_response_id` over their own Responses API and answer as if nothing had been said."""
    service = Service("responses")
    made = client(colour, service, alias, wire="responses", on_unsupported="ignore")
    assert made._route.target.endpoint.stateful is False
    first = await done(made.responses.create(model="m", input="one"))
    await done(made.responses.create(model="m", input="two", previous_response_id=first.id))
    assert service.heard == ["one", "one.", "two"]
    assert "previous_response_id" not in service.body
    with pytest.raises(openai.BadRequestError, match="not found"):
        await done(made.responses.create(model="m", input="x", previous_response_id="resp_unknown"))
    await close(made)


@pytest.mark.parametrize("spoken", ["chat", "responses"])
async def test_a_stream_that_is_read_to_its_last_event_and_no_further_is_kept(spoken: str, colour: str) -> None:
    service = Service(spoken)
    made = client(colour, service, "groq", wire=spoken)
    stream = await done(made.responses.create(model="m", input="one", stream=True))
    while (event := await done(anext(stream) if colour == "async" else next(stream))).type != "response.completed":
        pass
    await done(made.responses.create(model="m", input="two", previous_response_id=event.response.id))
    assert service.heard == ["one", "one.", "two"]
    await close(stream)
    await close(made)


async def test_a_service_that_keeps_responses_is_left_to_it(colour: str) -> None:
    service = Service("responses")
    made = client(colour, service, "openai")
    first = await done(made.responses.create(model="m", input="one"))
    await done(made.responses.create(model="m", input="two", previous_response_id=first.id))
    assert service.body["previous_response_id"] == first.id
    assert service.heard == ["two"]
    with pytest.raises(openai.NotFoundError):
        await done(made.responses.retrieve(first.id))
    assert service.requests[-1].method == "GET"
    await close(made)


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_dropin_state import Service, client

name, previous, conversation = sys.argv[1:]
made = client("sync", Service("chat"))
for number in range(5):
    made.responses.create(model="m", input=f"{{name}}-{{number}}", conversation=conversation)
    previous = made.responses.create(model="m", input=f"{{name}}{{number}}", previous_response_id=previous).id
print(previous)
"""


def test_processes_write_one_state_file_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes on from the turn of this process, and all of them talk in one conversation."""
    monkeypatch.setenv("ALLOS_STATE", str(tmp_path / "state.db"))
    service = Service("chat")
    made = client("sync", service)
    first, conversation = made.responses.create(model="m", input="zero"), made.conversations.create()
    code = WRITER.format(tests=str(TESTS))
    command = [sys.executable, "-W", "error", "-c", code]
    writers = [
        subprocess.Popen(
            [*command, name, first.id, conversation.id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in "abc"
    ]
    for name, writer in zip("abc", writers, strict=True):
        out, problems = writer.communicate(timeout=120)
        assert (writer.returncode, problems) == (0, "")
        made.responses.create(model="m", input="last", previous_response_id=out.strip())
        assert service.heard[::2] == ["zero", *(f"{name}{number}" for number in range(5)), "last"]
    items = list(made.conversations.items.list(conversation.id, order="asc", limit=100))
    asked = [item.content[0].text for item in items if item.role == "user"]
    assert sorted(asked) == sorted(f"{name}-{number}" for name in "abc" for number in range(5))
    for name in "abc":
        assert [text for text in asked if text[0] == name] == [f"{name}-{number}" for number in range(5)]
    made.close()


@pytest.mark.fault("X10")
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_full_disk_costs_nobody_the_answer(colour: str, streamed: bool, tmp_path: Path) -> None:
    kept = client(colour, Service("chat"), state=tmp_path / "state.db")
    database = kept._route.sessions._store._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")  # as if the disk held no more
    prompt = "word " * 5000

    async def ask() -> Any:
        made = await done(kept.responses.create(model="m", input=prompt, stream=streamed))
        return (await each(made))[-1].response if streamed else made

    with pytest.warns(allos.UnsupportedWarning, match=r"was not kept.*is full.*Free some space"):
        response = await ask()
    assert response.output_text == f"{prompt}."
    assert [note.what for note in allos.receipt(response).notes] == ["store"]
    with pytest.raises(openai.BadRequestError, match=response.id):
        await done(kept.responses.create(model="m", input="?", previous_response_id=response.id))
    await close(kept)
