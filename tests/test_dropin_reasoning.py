"""Thinking across the bridge: read wherever a service puts it, shown in the program's API, and handed back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import answers
import pytest
import reference
from doors import http
from programs import PROGRAMS, close, done, each, opened

import allos
from allos import endpoints
from allos.messages import Reasoning
from allos.wire import envelope

DETAILS = [
    {"type": "reasoning.text", "text": "It is ", "index": 0, "format": "x", "signature": "sig"},
    {"type": "reasoning.encrypted", "data": "b3BhcXVl", "index": 1, "id": "rs_9"},
]
THOUGHT = "France, so Paris."
# name → the pieces of a Chat stream's deltas, the quirks of the service, and the message that says the same whole
FORMS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]] = {
    field: (
        [{field: "France, "}, {field: "so Paris."}, {"content": "Par"}, {"content": "is."}],
        {},
        {field: THOUGHT, "content": "Paris."},
    )
    for field in ("reasoning_content", "reasoning", "thinking")
} | {
    "details": (
        [
            {"reasoning_details": [{"type": "reasoning.text", "text": "France, ", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.text", "text": "so Paris.", "index": 0, "signature": "sig"}]},
            {"content": "Paris."},
        ],
        {},
        {
            "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT, "index": 0, "signature": "sig"}],
            "content": "Paris.",
        },
    ),
    "parts": (
        [
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "France, "}]}]},
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "so Paris."}]}]},
            {"content": "Paris."},
        ],
        {},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                     {"type": "text", "text": "Paris."}]},
    ),
    "tags": (
        [{"content": piece} for piece in ("<th", "ink>Fran", "ce, so Paris.</t", "hink>", "\n\nPar", "is.")],
        {"think_tags": True},
        {"content": f"<think>{THOUGHT}</think>\n\nParis."},
    ),
}  # fmt: skip


class Thinker:
    """A Chat service that thinks in one of these forms, and keeps the requests."""

    def __init__(self, pieces: list[dict[str, Any]], message: dict[str, Any]) -> None:
        self._pieces, self._message = pieces, message
        self.requests: list[dict[str, Any]] = []

    def __call__(self, request: Any) -> Any:
        body = answers.body(request)
        self.requests.append(body)
        if not request.url.path.endswith("/chat/completions"):
            return http.Response(404, text="404 page not found")
        head = {"id": f"chatcmpl-{len(self.requests)}", "created": 1, "model": "m"}
        if not body.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **self._message}}
            return http.Response(200, json={**head, "object": "chat.completion", "choices": [choice]})
        chunks = [
            {"index": 0, "delta": delta, "finish_reason": None} for delta in [{"role": "assistant"}, *self._pieces]
        ]
        chunks.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        lines = [answers.event({**head, "object": "chat.completion.chunk", "choices": [chunk]}) for chunk in chunks]
        return answers.events([*lines, "data: [DONE]"])

    @property
    def handed_back(self) -> dict[str, Any]:
        """The assistant's message in the last request."""
        return next(entry for entry in self.requests[-1]["messages"] if entry["role"] == "assistant")


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`row(**quirks)`: the alias of a Chat service with these quirks."""

    def make(**quirks: Any) -> str:
        endpoints.register("thinker", title="Thinker", base_url="http://thinker.test/v1", responses=False, **quirks)
        return "thinker"

    yield make
    endpoints._registered.pop("thinker", None)
    endpoints._table.cache_clear()


def client(colour: str, service: Any, alias: str, **options: Any) -> Any:
    kind = allos.OpenAI if colour == "sync" else allos.AsyncOpenAI
    transport = http.Client if colour == "sync" else http.AsyncClient
    return kind(alias, max_retries=0, http_client=transport(transport=http.MockTransport(service)), **options)


@pytest.mark.parametrize("form", FORMS)
async def test_a_thought_is_a_reasoning_item_whole_and_streamed(form: str, colour: str, row: Any) -> None:
    pieces, quirks, message = FORMS[form]
    asker = PROGRAMS["responses"](client(colour, Thinker(pieces, message), row(quirks=quirks)))
    events = reference.payloads(await asker.lines("?"))
    reference.hold("responses", events)
    grown = [event["delta"] for event in events if event["type"] == "response.reasoning_text.delta"]
    assert "".join(grown) == THOUGHT
    assert len(grown) > 1, "it comes while it is thought"
    whole = await asker.create("?")
    for answer in (whole.to_dict(), events[-1]["response"]):
        thought, said = answer["output"]
        assert (thought["type"], thought["content"][0]["text"]) == ("reasoning", THOUGHT)
        assert said["content"][0]["text"].strip() == "Paris."
    await close(asker.client)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("form", ["reasoning_content", "reasoning", "details", "parts"])
async def test_a_program_without_state_hands_the_thought_back_as_it_came(
    form: str, streamed: bool, colour: str, row: Any
) -> None:
    """It may rebuild the item from nothing but the id and the encrypted content, as agent packages do."""
    pieces, quirks, message = FORMS[form]
    service = Thinker(pieces, message)
    asker = PROGRAMS["responses"](client(colour, service, row(quirks=quirks)))
    options = {"store": False, "include": ["reasoning.encrypted_content"]}
    if streamed:
        async with opened(asker.helper("?", **options)) as stream:
            events = await each(stream)
            answer = await asker.final(stream)
        ended = [event.item for event in events if event.type == "response.output_item.done"]
        assert ended[0].encrypted_content == answer.output[0].encrypted_content
    else:
        answer = await asker.create("?", **options)
    thought = answer.output[0]
    assert thought.encrypted_content.startswith("allos.1.")
    bare = {"type": "reasoning", "id": thought.id, "summary": [], "encrypted_content": thought.encrypted_content}
    turn = [{"role": "user", "content": "?"}, bare, {"role": "assistant", "content": "Paris."}]
    await done(asker.resource.create(model="m", input=[*turn, {"role": "user", "content": "And?"}], **options))
    handed = service.handed_back
    if form == "parts":
        assert handed["content"][0] == message["content"][0]
    else:
        field = next(name for name in message if name != "content")
        assert handed[field] == message[field]
    assert "include" not in service.requests[-1]
    await close(asker.client)


async def test_no_thought_is_packed_where_nobody_asked(colour: str, row: Any) -> None:
    pieces, _, message = FORMS["reasoning_content"]
    asker = PROGRAMS["responses"](client(colour, Thinker(pieces, message), row()))
    assert (await asker.create("?")).output[0].encrypted_content is None
    await close(asker.client)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", ""])
async def test_a_thought_is_replayed_in_the_form_and_only_where_the_service_needs_it(
    field: str, colour: str, row: Any
) -> None:
    """The table says so; the history is the one that is kept here."""
    pieces, _, message = FORMS["reasoning_content"]
    service = Thinker(pieces, message)
    asker = client(colour, service, row(quirks={"reasoning_replay": field}), on_unsupported="ignore")
    first = await done(asker.responses.create(model="m", input="?"))
    await done(asker.responses.create(model="m", input="And?", previous_response_id=first.id))
    handed = service.handed_back
    assert {name: handed[name] for name in handed if name not in ("role", "content")} == (
        {field: THOUGHT} if field else {}
    )
    await close(asker)


async def test_a_thought_of_a_response_is_the_chat_field_that_programs_read(colour: str) -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": THOUGHT}]}

    def service(request: Any) -> Any:
        whole = answers.whole("responses", "Paris.")
        whole["output"].insert(0, item)
        if not answers.body(request).get("stream"):
            return http.Response(200, json=whole)
        steps = [
            {"type": "response.output_item.added", "output_index": 0, "item": item | {"summary": []}},
            {"type": "response.reasoning_summary_part.added", "item_id": "rs_1", "output_index": 0,
             "summary_index": 0, "part": {"type": "summary_text", "text": ""}},
            {"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0,
             "summary_index": 0, "delta": THOUGHT},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]  # fmt: skip
        return answers.events([answers.event(step | {"sequence_number": number}) for number, step in enumerate(steps)])

    made = client(colour, service, "chat_completions", base_url="http://mock.test/v1", api_key="k", wire="responses")
    asker = PROGRAMS["chat"](made)
    answer = await asker.create("?")
    assert (answer.choices[0].message.reasoning_content, asker.text(answer)) == (THOUGHT, "Paris.")
    deltas = [event.choices[0].delta for event in await asker.events("?") if event.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == THOUGHT
    await close(made)


async def test_packed_thoughts_stay_away_from_a_service_with_responses_of_its_own(colour: str) -> None:
    sent = []

    def service(request: Any) -> Any:
        sent.append(answers.body(request))
        return http.Response(200, json=answers.whole("responses", "Paris."))

    made = client(colour, service, "openai", api_key="sk-own", on_unsupported="ignore")
    packed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": envelope.seal(Reasoning("x"))}
    own = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA"}
    response = await done(made.responses.create(model="m", input=[packed, own, {"role": "user", "content": "?"}]))
    assert [item.get("id") for item in sent[0]["input"]] == ["rs_2", None]
    assert [note.what for note in allos.receipt(response).notes] == ["input.reasoning"]
    await close(made)


@pytest.mark.parametrize(("asked", "sent"), [("low", "low"), ("minimal", "low"), ("xhigh", "high")])
async def test_the_effort_is_put_into_the_words_of_the_table(asked: str, sent: str, colour: str, row: Any) -> None:
    service = Thinker([], {"content": "Paris."})
    made = client(colour, service, row(quirks={"reasoning_effort": ["low", "medium", "high"]}))
    response = await done(made.responses.create(model="m", input="?", reasoning={"effort": asked}))
    assert service.requests[-1]["reasoning_effort"] == sent
    assert [note.action for note in allos.receipt(response).notes] == ([] if asked == sent else ["changed"])
    await close(made)


def test_an_envelope_opens_to_what_was_put_in() -> None:
    thought = Reasoning("a\ud800ü", ("s",), "enc", "sig", None, "reasoning", {"reasoning_details": [{"n": 1}]})
    assert envelope.opened(envelope.seal(thought)) == thought


@pytest.mark.parametrize("text", ["gAAAA", "allos.1.", "allos.1.!!", "allos.1.eJw", "allos.9.eJw", "", None, 7])
def test_what_is_no_envelope_of_this_version_is_left_alone(text: Any) -> None:
    assert envelope.opened(text) is None


def test_an_envelope_of_a_later_version_is_still_known_as_one() -> None:
    assert envelope.is_sealed("allos.9.xyz")
    assert not envelope.is_sealed("gAAAA")


def test_a_small_envelope_cannot_fill_the_memory() -> None:
    bomb = envelope.seal(Reasoning("x" * (64 * 2**20)))
    assert len(bomb) < 100_000
    assert envelope.opened(bomb) is None
