"""Every row of the table, asked for everything at once through both doors: what reaches the service is what it takes.

What a service takes is said here by the facts that the table was made from, where they lie beside the recordings,
and in plain claims; the row itself is not asked.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import answers
import openai
import pytest
from doors import http

import allos
from allos import endpoints as table
from allos.endpoints import endpoints
from allos.messages import Message, Note, Reasoning, Text, Tool, ToolCall, ToolChoice

ROOT = Path(__file__).resolve().parents[1]
FACTS = Path(os.environ.get("ALLOS_RECORDINGS") or ROOT / "../shared/recordings").parent / "providers.json"
ROWS = {row.alias: row for row in endpoints() if row.base_url and not row.generic and not row.retired}
SPEAKING = [
    pytest.param(alias, wire, id=f"{alias}-{wire}")
    for alias, row in ROWS.items()
    for wire, has in (("chat", row.chat), ("responses", row.responses))
    if has
]

PICTURE = "data:image/png;base64,AAAA"
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"City": {"type": "string"}},
}
CITY = '{"city": "Paris"}'
CALLS = [("call_0001", CITY), ("call_0002", '{"city": ')]
HINTS = {
    "max_completion_tokens": 50,
    "temperature": 1.5,
    "seed": 3,
    "stop": "END",
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"50": 1},
    "n": 2,
    "user": "ada",
    "store": True,
    "metadata": {"a": "b"},
    "reasoning_effort": "medium",
    "parallel_tool_calls": False,
    "service_tier": "auto",
}
NATIVE_HINTS = {
    "max_output_tokens": 50,
    "temperature": 1.5,
    "store": True,
    "metadata": {"a": "b"},
    "include": ["reasoning.encrypted_content"],
    "truncation": "auto",
    "background": False,
    "parallel_tool_calls": False,
}


def chat_body() -> dict[str, Any]:
    """A Chat request with everything in it."""
    function = {"name": "look", "parameters": SCHEMA, "strict": True}
    calls = [
        {"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}} for id, arguments in CALLS
    ]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "name": "ada", "content": [{"type": "text", "text": "Look at both."}]},
        {"role": "assistant", "content": None, "refusal": None, "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_0001", "content": [{"type": "text", "text": "Rain"}]},
        {"role": "tool", "tool_call_id": "call_0002", "content": "Sun"},
        {"role": "assistant", "content": ""},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "And here?"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]},
        {"role": "assistant", "content": [{"type": "text", "text": "I see"}]},
    ]
    return {
        "model": "m",
        "messages": messages,
        "tools": [{"type": "function", "function": function}, {"type": "function", "function": {"name": "go"}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}},
        **HINTS,
    }


def native_body() -> dict[str, Any]:
    """A Responses request with everything in it."""
    id, arguments = CALLS[0]
    items = [
        {"type": "message", "role": "developer", "content": "Be kind.", "status": "completed"},
        {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz", "status": "completed"},
        {"type": "function_call", "call_id": id, "name": "look", "arguments": arguments, "status": "completed"},
        {"type": "function_call_output", "call_id": id, "output": "Rain"},
    ]
    return {
        "model": "m",
        "input": items,
        "tools": [
            {"type": "function", "name": "look", "parameters": SCHEMA, "strict": True},
            {"type": "function", "name": "go", "parameters": {"type": "object"}, "strict": False},
        ],
        "tool_choice": {"type": "function", "name": "look"},
        "text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA}},
        **NATIVE_HINTS,
    }


def unified_call() -> dict[str, Any]:
    """The same for the unified client: the arguments of `chat`."""
    calls = [ToolCall(id, "look", arguments) for id, arguments in CALLS]
    messages = [
        Message.system("Be brief."),
        Message("user", (Text("Look at both."),), name="ada"),
        Message("assistant", (Reasoning("hm", source="reasoning_content"), *calls)),
        Message.tool("call_0001", "Rain"),
        Message.tool("call_0002", "Sun"),
        Message.developer("Be kind."),
        Message.user("And here?"),
        Message.user([allos.Image(PICTURE)]),
        Message.assistant("I see"),
    ]
    hints = {"max_tokens" if name == "max_completion_tokens" else name: value for name, value in HINTS.items()}
    return {
        "messages": messages,
        "tools": [Tool("look", parameters=SCHEMA, strict=True), Tool("go", parameters={"type": "object"})],
        "tool_choice": ToolChoice("tool", "look"),
        "format": allos.OutputFormat("json_schema", "place", SCHEMA),
        **hints,
    }


class Service:
    """Answers every request and keeps the last one's body."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def __call__(self, request: Any) -> Any:
        self.sent = answers.body(request)
        wire = "responses" if request.url.path.endswith("/responses") else "chat"
        if self.sent.get("stream"):
            return answers.events(answers.stream(wire, CITY))
        return http.Response(200, json=answers.whole(wire, CITY))

    @property
    def transport(self) -> Any:
        return openai.DefaultHttpxClient(transport=http.MockTransport(self))


Found = tuple[dict[str, Any], list[Note], set[str], dict[str, Any]]


def by_client(alias: str, wire: str, call: dict[str, Any], *, stream: bool = False) -> Found:
    service = Service()
    client = allos.Client(alias, "m", wire=wire, http_client=service.transport, **_place(alias))
    call = dict(call)
    notes: list[Note] = []

    def ask() -> None:
        messages = call["messages"]
        options = {name: value for name, value in call.items() if name != "messages"}
        if stream:
            steps = client.stream(messages, **options)
            assert list(steps)
            reply = steps.reply
        else:
            reply = client.chat(messages, **options)
        notes[:] = reply.notes

    return _until_taken(ask, call, service, notes)


def by_drop_in(alias: str, wire: str, body: dict[str, Any], *, stream: bool = False) -> Found:
    service = Service()
    client = allos.OpenAI(alias, wire=wire, http_client=service.transport, max_retries=0, **_place(alias))
    body = dict(body)
    notes: list[Note] = []

    def ask() -> None:
        create: Any = client.chat.completions.create if "messages" in body else client.responses.create
        made = create(model="m", stream=stream, extra_body=body, **({"messages": []} if "messages" in body else {}))
        receipt = allos.receipt(made)
        assert receipt is not None
        if stream:
            assert list(made)
        notes[:] = receipt.notes

    return _until_taken(ask, body, service, notes)


@pytest.fixture
def plain() -> Iterator[Callable[[bool | None], str]]:
    """`plain(stateful)`: the alias of an endpoint of which nothing else is known."""

    def make(stateful: bool | None) -> str:
        known = {} if stateful is None else {"stateful": stateful}
        row = table.register("plain", base_url="http://plain.test/v1", responses=True, **known)
        ROWS["plain"] = row
        return "plain"

    yield make
    ROWS.pop("plain", None)
    table._registered.pop("plain", None)
    table._table.cache_clear()


def _place(alias: str) -> dict[str, Any]:
    own = "{" in str(ROWS[alias].base_url)
    return {"api_key": "k", **({"base_url": "https://mine.openai.azure.com/openai/v1"} if own else {})}


def _until_taken(ask: Callable[[], None], asked: dict[str, Any], service: Service, notes: list[Note]) -> Found:
    """Ask, and ask again without each field that is refused; what was refused is part of what is found."""
    refused: set[str] = set()
    for _ in range(len(HINTS)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", allos.UnsupportedWarning)
                ask()
        except (allos.Unsupported, openai.BadRequestError) as error:
            field = re.split(r"[.\[]", str(error.param))[0]
            assert field in asked, f"{field} was refused and never asked for"
            refused.add(field)
            del asked[field]
            if field == "tools":
                asked.pop("tool_choice", None)
        else:
            return service.sent, notes, refused, asked
    raise AssertionError(f"refused to the end: {refused}")


@pytest.fixture(params=["client", "drop-in"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def everything(alias: str, wire: str, door: str, *, stream: bool = False) -> Found:
    if door == "client":
        return by_client(alias, wire, unified_call(), stream=stream)
    return by_drop_in(alias, wire, chat_body() if wire == "chat" else native_body(), stream=stream)


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Where values stand in a body, as the table names such places."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{at}.{key}" if at else str(key)
            if inner is not None:
                yield here
            yield from paths(inner, here)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{at}[]")


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    if not FACTS.is_file():
        pytest.skip(f"the facts about the services are not at {FACTS}")
    return {row["alias"]: row.get("wire") or {} for row in json.loads(FACTS.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("alias", [alias for alias, row in ROWS.items() if row.chat])
def test_a_service_is_sent_what_it_is_known_to_take(alias, door, facts):
    known = facts.get(alias, {})
    sent, notes, refused, _ = everything(alias, "chat", door)
    there = set(paths(sent))
    noted = {note.what for note in notes}
    if known.get("max_tokens_param") == "max_tokens":
        assert sent["max_tokens"] == 50
        assert "max_completion_tokens" not in sent
    for name in known.get("drop_params", ()):
        assert name not in there
    if door == "drop-in":
        gone = set(known.get("drop_params", ())) & set(paths(chat_body()))
        told = noted | refused | set(known.get("rename_params", {}))
        assert gone - told <= ({"tool_choice"} if "tools" in refused else set())
    for name, other in known.get("rename_params", {}).items():
        assert name not in sent
        assert name in noted or name not in HINTS
        assert other in sent
    for name in set(known.get("ignored_params", ())) - {"model"}:  # the answer names the one that was asked
        given_up = name in refused or name not in there
        assert given_up or name in noted, f"{name} is ignored by the service without a word"
    if "accepted_params" in known:
        assert set(sent) <= set(known["accepted_params"])
    if "n_max" in known:
        assert "n" in refused
    if "temperature_max" in known:
        assert sent["temperature"] <= known["temperature_max"]
    if pattern := known.get("tool_call_id_pattern"):
        _check_ids(sent, pattern)
    if "tool_choice" in known and (choice := sent.get("tool_choice")) is not None:
        assert (choice["type"] if isinstance(choice, dict) else choice) in known["tool_choice"]
    if "response_format" in known:
        assert sent["response_format"]["type"] in known["response_format"]
    if known.get("logprobs_type") == "integer":
        assert type(sent["logprobs"]) is int
    _check_content(sent, known.get("content", ""))
    if field := known.get("reasoning_in"):
        _check_reasoning(sent, field, door)


def _check_ids(sent: Mapping[str, Any], pattern: str) -> None:
    calls = [call["id"] for message in sent["messages"] for call in message.get("tool_calls", ())]
    results = [message["tool_call_id"] for message in sent["messages"] if message["role"] == "tool"]
    assert len(calls) == 2
    assert calls == results
    assert all(re.fullmatch(pattern, id) for id in calls)


def _check_content(sent: Mapping[str, Any], known: str) -> None:
    roles = ("assistant", "tool") if "assistant and tool" in known else ("system", "user", "assistant", "tool")
    for message in sent["messages"] if known.startswith("string") else ():
        content = message.get("content")
        has_picture = isinstance(content, list) and any(part["type"] != "text" for part in content)
        assert message["role"] not in roles or has_picture or isinstance(content, (str, type(None)))


def _check_reasoning(sent: Mapping[str, Any], field: str, door: str) -> None:
    with_calls = [message for message in sent["messages"] if message.get("tool_calls")]
    if door == "client" or field == "reasoning_content":  # the drop-in leaves a native field as it was said
        assert all(message.get(field) for message in with_calls)


@pytest.mark.parametrize(("alias", "wire"), SPEAKING)
def test_whatever_is_left_out_or_renamed_is_told(alias, wire, door, plain):
    sent, notes, _, asked = everything(alias, wire, door)
    standard, _, refused, _ = (by_client if door == "client" else by_drop_in)(plain(ROWS[alias].stateful), wire, asked)
    assert not refused
    told = {re.split(r"[.\[]", note.what)[0] for note in notes}
    if any(note.what == "schema" and note.reason.endswith("the prompt") for note in notes):
        told |= {"response_format", "messages"} if wire == "chat" else {"text", "input"}
    changed = {name for name in sent.keys() | standard.keys() if sent.get(name) != standard.get(name)}
    renamed = {note.reason.removeprefix("it is named ").removesuffix(" here") for note in notes}
    renamed |= {row for note in notes for row in re.findall(r"is named (\w+) here", note.reason)}
    assert changed <= told | renamed


@pytest.mark.parametrize("alias", ["mistral", "transformers"])
def test_a_stream_has_no_options_where_they_are_refused(alias, door):
    sent, notes, _, _ = everything(alias, "chat", door, stream=True)
    assert sent["stream"] is True
    assert "stream_options" not in sent
    assert "stream_options" not in [note.what for note in notes], "Allos adds it itself, so no one misses it"


def test_what_only_a_whole_answer_needs_is_not_sent_for_a_stream(door):
    sent, _, _, _ = everything("dashscope", "chat", door, stream=True)
    assert "enable_thinking" not in sent


def _messages(sent: Mapping[str, Any]) -> list[Any]:
    messages: list[Any] = sent["messages"]
    return messages


def _roles(sent: Mapping[str, Any]) -> list[str]:
    return [message["role"] for message in _messages(sent)]


Holds = Callable[[Mapping[str, Any]], Any]


def _all_say_something(sent: Mapping[str, Any]) -> bool:
    return all(message.get("content") or message.get("tool_calls") for message in _messages(sent))


def _results_are_text(sent: Mapping[str, Any]) -> bool:
    return all(isinstance(message["content"], str) for message in _messages(sent) if message["role"] == "tool")


def _arguments_are_json(sent: Mapping[str, Any]) -> bool:
    calls = [call for message in _messages(sent) for call in message.get("tool_calls", ())]
    return all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)


def _no_nulls(sent: Mapping[str, Any]) -> bool:
    return all(value is not None for message in _messages(sent) for value in message.values())


def _without_references(sent: Mapping[str, Any]) -> bool:
    return "$ref" not in json.dumps(sent["tools"])


CLAIMS: list[tuple[str, str, Holds]] = [
    ("groq", "takes no null", _no_nulls),
    ("together", "takes stop as a list", lambda sent: sent["stop"] == ["END"]),
    ("mistral", "needs prefix on a last answer", lambda sent: _messages(sent)[-1]["prefix"] is True),
    ("mistral", "takes no empty answer", _all_say_something),
    ("mistral", "takes no references", _without_references),
    ("mistral", "takes none or high", lambda sent: sent["reasoning_effort"] == "high"),
    ("deepseek", "knows no developer", lambda sent: "developer" not in _roles(sent)),
    ("deepseek", "needs the schema in the prompt", lambda sent: "city" in str(_messages(sent)[1])),
    ("cohere", "takes none or high", lambda sent: sent["reasoning_effort"] == "high"),
    ("openrouter", "leads to models without references", _without_references),
    ("anthropic", "obeys no response_format", lambda sent: "response_format" not in sent),
    ("moonshot", "is led astray by $schema", lambda sent: "$schema" not in json.dumps(sent["response_format"])),
    ("moonshot", "can't be made to call", lambda sent: sent["tool_choice"] != "required"),
    ("zai", "takes no references", _without_references),
    ("dashscope", "needs thinking off without a stream", lambda sent: sent["enable_thinking"] is False),
    ("dashscope", "takes no frequency_penalty", lambda sent: "frequency_penalty" not in sent),
    ("deepinfra", "wants a tool's content as text", _results_are_text),
    ("sambanova", "takes no seed", lambda sent: "seed" not in sent),
    ("ollama", "refuses broken arguments", _arguments_are_json),
    ("ollama", "is given only the tool that it must call", lambda sent: len(sent["tools"]) == 1),
    ("vllm", "takes one system message", lambda sent: {*_roles(sent)[1:]}.isdisjoint({"system", "developer"})),
    ("lmstudio", "takes no object", lambda sent: sent["tool_choice"] == "required"),
    ("llamacpp", "does not enforce a name", lambda sent: (sent["tool_choice"], len(sent["tools"])) == ("required", 1)),
    ("transformers", "obeys no response_format", lambda sent: "response_format" not in sent),
]


@pytest.mark.parametrize(
    ("alias", "holds"), [pytest.param(alias, holds, id=f"{alias} {claim}") for alias, claim, holds in CLAIMS]
)
def test_what_a_page_says_in_words_is_kept(alias, holds, door):
    sent, *_ = everything(alias, "chat", door)
    assert holds(sent)


def test_perplexity_sees_user_and_assistant_take_turns(door):
    sent, _, refused, _ = everything("perplexity", "chat", door)
    turns = ["assistant" if role == "assistant" else "user" for role in _roles(sent)]
    pairs = zip(_messages(sent)[1:], turns[1:], turns[2:], strict=False)
    assert all(one != other for message, one, other in pairs if message["role"] not in ("system", "developer", "tool"))
    assert refused == {"n", "tools", "stop"}


NATIVE_CLAIMS: list[tuple[str, str, Holds]] = [
    ("azure", "takes no status back", lambda sent: "status" not in json.dumps(sent["input"])),
    ("mistral", "stores nothing", lambda sent: not sent.get("store")),
    ("openrouter", "stores nothing", lambda sent: not sent.get("store")),
    ("fireworks", "knows no developer", lambda sent: "developer" not in json.dumps(sent["input"])),
    ("xai", "takes no metadata", lambda sent: "metadata" not in sent),
    ("perplexity", "reads response_format", lambda sent: sent["response_format"]["type"] == "json_schema"),
    ("perplexity", "has no tool_choice", lambda sent: "tool_choice" not in sent),
    ("huggingface", "has no store", lambda sent: not {"store", "include", "truncation"} & sent.keys()),
    ("ollama", "reads no tool_choice", lambda sent: len(sent["tools"]) == 1),
    ("vllm", "reads no encrypted thinking", lambda sent: "encrypted_content" not in json.dumps(sent["input"])),
    ("llamacpp", "reads response_format", lambda sent: sent["response_format"]["json_schema"]["name"] == "place"),
    ("localai", "reads text_format", lambda sent: sent["text_format"]["name"] == "place"),
    ("transformers", "streams unless told not to", lambda sent: sent["stream"] is False),
    ("transformers", "reads no form", lambda sent: "text" not in sent and "city" in str(sent["input"])),
]


@pytest.mark.parametrize(
    ("alias", "holds"), [pytest.param(alias, holds, id=f"{alias} {claim}") for alias, claim, holds in NATIVE_CLAIMS]
)
def test_what_a_page_says_in_words_is_kept_on_responses(alias, holds, door):
    sent, *_ = everything(alias, "responses", door)
    assert holds(sent)


@pytest.mark.parametrize(
    ("alias", "code"),
    [
        ("openai", "insufficient_quota"),
        ("openai", "project_spend_limit_exceeded"),
        ("moonshot", "exceeded_current_quota_error"),
        ("zai", "1113"),
    ],
)
def test_a_quota_that_no_waiting_heals_is_told_and_not_asked_again(alias, code):
    def spent(request: Any) -> Any:
        tries.append(request)
        kind = {"type": code} if code.endswith("_error") else {"code": code}
        return http.Response(429, json={"error": {"message": "no", **kind}})

    tries: list[Any] = []
    transport = openai.DefaultHttpxClient(transport=http.MockTransport(spent))
    with pytest.raises(openai.RateLimitError, match="Quota or credit"):
        allos.Client(alias, "m", api_key="k", http_client=transport).chat("hi")
    assert len(tries) == 1
