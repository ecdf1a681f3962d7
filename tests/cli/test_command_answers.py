"""Answers: what stands on standard output, what on standard error, and with which status."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import answers
import pytest
from conftest import PATH, Canned, Server, as_json, chat_chunk, chat_reply, chat_stream

Run = Callable[..., Any]


@pytest.mark.fault("X0")
@pytest.mark.parametrize("option", ["--stream", "--no-stream"])
def test_the_answer_and_nothing_else_is_on_standard_output(ask: Run, server: Server, option: str) -> None:
    server.answers[PATH] = chat_stream("Par", "is.") if option == "--stream" else chat_reply("Paris.")
    assert ask("Capital of France?", option) == (0, "Paris.\n", "")
    _, _, body = server.requests[0]
    assert body["messages"] == [{"role": "user", "content": "Capital of France?"}]
    assert body.get("stream", False) is (option == "--stream")


@pytest.mark.parametrize(
    ("provider", "wire", "flag"),
    [("chat_completions", "chat", "--base_url"), ("openai", "responses", "--base-url")],
)
def test_at_the_same_server_each_provider_takes_its_own_path(
    call: Run, server: Server, provider: str, wire: str, flag: str
) -> None:
    for spoken, path in (("chat", PATH), ("responses", "/v1/responses")):
        lines = [f"{line}\n\n".encode() for line in answers.stream(spoken, "Hel", "lo.")]
        server.answers[path] = Canned(lines, type="text/event-stream")
    assert call("-p", provider, flag, server.url, "-m", "tiny", "hi").out == "Hello.\n"
    [(path, _, body)] = server.requests
    assert path == {"chat": PATH, "responses": "/v1/responses"}[wire]
    assert body["stream"] is True


def test_options_and_fields_are_sent(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_stream("ok")
    fields = ["-o", "top_k", "5", "-o", "user", "me", "-o", "reasoning_effort", "low", "-o", "stop", '["a", "b"]']
    assert ask("hi", "-s", "Be brief.", "-t", "0.5", "--max-tokens", "9", *fields).status == 0
    _, _, body = server.requests[0]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body.get("max_completion_tokens", body.get("max_tokens"))) == (0.5, 9)
    assert (body["top_k"], body["user"], body["reasoning_effort"]) == (5, "me", "low")
    assert body["stop"] == ["a", "b"]


def test_a_field_of_the_wires_own_form_is_sent_as_it_is(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_stream("{}")
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    form = {"type": "json_object"}
    options = [
        "-o",
        "tools",
        json.dumps(tools),
        "-o",
        "tool_choice",
        '"auto"',
        "-o",
        "response_format",
        json.dumps(form),
    ]
    assert ask("hi", *options).status == 0
    _, _, body = server.requests[0]
    assert (body["tools"], body["tool_choice"], body["response_format"]) == (tools, "auto", form)


@pytest.mark.parametrize(("word", "kind"), [("json", "json_object"), ("text", "text")])
def test_format_is_the_setting_of_that_name(ask: Run, server: Server, word: str, kind: str) -> None:
    server.answers[PATH] = chat_stream("{}")
    assert ask("hi", "-o", "format", word, ALLOS_FORMAT="json").status == 0
    _, _, body = server.requests[0]
    assert (body["response_format"], "format" in body) == ({"type": kind}, False)


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def test_a_schema_is_answered_with_its_object(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_reply('Sure: {"city": "Paris"}')
    assert ask("hi", "-o", "schema", json.dumps(CITY)) == (0, '{\n  "city": "Paris"\n}\n', "")
    _, _, body = server.requests[0]
    assert (body["response_format"]["json_schema"]["schema"], "schema" in body) == (CITY, False)
    assert json.loads(ask("hi", "-o", "schema", json.dumps(CITY), "--json").out)["parsed"] == {"city": "Paris"}


def test_an_answer_that_is_not_of_the_schema_is_an_error_of_the_service(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_reply('{"town": "Paris"}')
    ran = ask("hi", "-o", "schema", json.dumps(CITY))
    assert (ran.status, ran.out) == (6, "")
    assert "does not fit the schema" in ran.err


def test_a_field_without_effect_is_told_in_words_that_are_true(call: Run, server: Server) -> None:
    server.answers[PATH] = chat_reply("Paris")
    place = ("--base-url", server.url, "-m", "tiny", "--no-stream", "hi")
    assert call("-p", "llamacpp", *place, "-o", "metadata", '{"a": "b"}') == (
        0,
        "Paris\n",
        "metadata: this service ignores it (ignored)\n",
    )
    assert server.requests[-1][2]["metadata"] == {"a": "b"}
    ran = call("-p", "groq", "--api-key", "gsk_k", *place, "-o", "store", "true")
    assert ran == (0, "Paris\n", "store: this service does not take it (left out)\n")
    assert "store" not in server.requests[-1][2]


def test_a_cut_answer_of_a_schema_names_the_option_that_lets_it_be_longer(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_reply('{"city": "Par', finish="length")
    said = ask("hi", "-o", "schema", json.dumps(CITY)).err
    assert said.endswith("reached its token limit; `--max-tokens` sets a higher one.\n")


def test_a_cut_answer_of_a_schema_keeps_its_text_where_no_object_is_expected(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_reply('{"city": "Pa', "length")
    ran = ask("hi", "-o", "schema", json.dumps(CITY))
    assert (ran.status, ran.out) == (6, "")
    assert ran.err.startswith('{"city": "Pa\n')
    ran = ask("hi", "-o", "schema", json.dumps(CITY), "--json")
    assert json.loads(ran.out)["text"] == '{"city": "Pa'


@pytest.mark.fault("X7")
@pytest.mark.parametrize("option", ["--stream", "--no-stream", "--json"])
@pytest.mark.parametrize(("finish", "reason"), [("length", "token limit"), ("content_filter", "content filter")])
def test_an_answer_cut_by_the_service_is_shown_and_ends_in_7(
    ask: Run, server: Server, option: str, finish: str, reason: str
) -> None:
    server.answers[PATH] = (
        chat_stream("So far", finish=finish) if option == "--stream" else chat_reply("So far", finish)
    )
    ran = ask("hi", option)
    assert ran.status == 7
    assert (json.loads(ran.out)["text"] if option == "--json" else ran.out) in ("So far", "So far\n")
    assert reason in ran.err


@pytest.mark.fault("A6")
@pytest.mark.parametrize("option", ["--stream", "--no-stream"])
def test_a_refusal_is_shown_and_named(ask: Run, server: Server, option: str) -> None:
    words = "I can't help."
    streamed = chat_stream()
    streamed.pieces.insert(0, chat_chunk(refusal=words))
    server.answers[PATH] = streamed if option == "--stream" else chat_reply(None, refusal=words)
    ran = ask("hi", option)
    assert (ran.status, ran.out) == (7, "I can't help.\n")
    assert "declined" in ran.err


@pytest.mark.fault("X7")
@pytest.mark.parametrize("option", [[], ["--stream", "--json"]])
def test_a_cut_stream_keeps_its_text_and_ends_in_7(ask: Run, server: Server, option: list[str]) -> None:
    server.answers[PATH] = chat_stream("So ", "far", finish=None)
    ran = ask("hi", *option)
    assert ran.status == 7
    assert (json.loads(ran.out)["text"] if option else ran.out) in ("So far", "So far\n")
    assert ran.err.startswith("Error: ")
    assert "incomplete" in ran.err
    assert len(server.requests) == 1, "text once shown is never asked for again"


def test_an_error_inside_the_stream_keeps_the_text(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_stream("So far", finish=None)
    server.answers[PATH].pieces.append(b'data: {"error": {"message": "out of memory"}}\n\n')
    ran = ask("hi")
    assert (ran.status, ran.out) == (7, "So far\n")
    assert "out of memory" in ran.err


def test_reasoning_is_no_part_of_the_answer(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_stream("Paris")
    server.answers[PATH].pieces.insert(0, chat_chunk(reasoning_content="Hm, France."))
    assert ask("hi") == (0, "Paris\n", "")
    ran = ask("hi", "-v")
    assert ran.out == "Paris\n"
    assert "Hm, France.\n" in ran.err


def test_verbose_tells_what_was_chosen_and_what_it_cost(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_reply("Paris")
    ran = ask("hi", "-v", "--no-stream")
    assert ran.out == "Paris\n"
    assert server.url in ran.err
    assert "from --base-url" in ran.err
    assert "tiny: 3 tokens in, 2 out, " in ran.err


def test_tool_calls_are_told_beside_the_answer(ask: Run, server: Server) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    server.answers[PATH] = chat_reply(None, "tool_calls", tool_calls=[call])
    ran = ask("hi", "--no-stream")
    assert (ran.status, ran.out) == (0, "")
    assert 'add({"a": 1})' in ran.err


def test_an_answer_without_text_is_told(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_reply("", reasoning_content="Hm.")
    ran = ask("hi", "--no-stream")
    assert (ran.status, ran.out, ran.err) == (0, "", "The answer has no text.\n")


def test_json_is_the_whole_reply(ask: Run, server: Server) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    server.answers[PATH] = chat_reply("Paris", "tool_calls", tool_calls=[call], reasoning_content="Hm.")
    ran = ask("hi", "--json")
    assert ran.status == 0
    data = json.loads(ran.out)
    raw = data.pop("raw")
    assert raw == json.loads(server.answers[PATH].pieces[0])
    assert data == {
        "text": "Paris",
        "parsed": None,
        "reasoning": "Hm.",
        "refusal": "",
        "tool_calls": [{"id": "x", "name": "add", "arguments": "{}"}],
        "finish_reason": "tool_calls",
        "usage": {
            "input_tokens": 3,
            "output_tokens": 2,
            "total_tokens": 5,
            "cached_tokens": None,
            "reasoning_tokens": None,
        },
        "model": "tiny",
        "id": "c1",
        "notes": [],
    }


def test_json_of_a_stream_is_that_of_the_whole(ask: Run, server: Server) -> None:
    server.answers[PATH] = chat_stream("Par", "is")
    streamed = json.loads(ask("hi", "--json", "--stream").out)
    server.answers[PATH] = chat_reply("Paris")
    whole = json.loads(ask("hi", "--json").out)
    differing = {"raw", "usage"}  # the test's stream counts no tokens
    assert {name: value for name, value in streamed.items() if name not in differing} == {
        name: value for name, value in whole.items() if name not in differing
    }


def test_models_lists_what_the_server_has(call: Run, server: Server) -> None:
    server.answers["/v1/models"] = as_json({"object": "list", "data": [{"id": "one"}, {"id": "two"}]})
    arguments = ["models", "-p", "chat_completions", "--base-url", server.url]
    assert call(*arguments) == (0, "one\ntwo\n", "")
    assert json.loads(call(*arguments, "--json").out) == ["one", "two"]
    assert call("models", "chat_completions", "--base-url", server.url).out == "one\ntwo\n"


@pytest.fixture
def nameless(call: Run, server: Server) -> Run:
    """Asks the test's server without naming a model."""
    server.answers[PATH] = chat_reply("Paris")
    return lambda *options: call("-p", "chat_completions", "--base-url", server.url, "--no-stream", *options, "hi")


def test_the_only_model_of_a_server_needs_no_name(nameless: Run, server: Server) -> None:
    server.answers["/v1/models"] = as_json({"data": [{"id": "tiny"}]})
    assert nameless() == (0, "Paris\n", "")
    assert server.requests[-1][2]["model"] == "tiny"
    assert "'tiny', the only one there" in nameless("-v").err


@pytest.mark.parametrize("status", [200, 400, 404])
def test_where_there_are_several_models_the_server_decides_and_a_refusal_lists_them(
    nameless: Run, server: Server, status: int
) -> None:
    server.answers["/v1/models"] = as_json({"data": [{"id": f"model-{number}"} for number in range(20)]})
    if status != 200:
        server.answers[PATH] = as_json({"error": {"message": "you must provide a model parameter"}}, status)
    ran = nameless()
    assert not server.requests[1][2].get("model")
    if status == 200:
        assert ran == (0, "Paris\n", "")
        return
    assert (ran.status, ran.out) == (2, "")
    assert "you must provide a model parameter\nNo model was named. Choose one with -m: model-0, model-1, " in ran.err
    assert ran.err.endswith("model-7, ….\n")


@pytest.mark.parametrize("answer", [None, as_json({"data": []}), as_json({"error": {"message": "no"}}, 500)])
def test_a_server_that_does_not_say_what_it_has_is_asked_all_the_same(
    nameless: Run, server: Server, answer: Any
) -> None:
    if answer is not None:
        server.answers["/v1/models"] = answer
    assert nameless() == (0, "Paris\n", "")
    assert not server.requests[-1][2].get("model")


def test_a_slow_retry_is_announced(ask: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.answers[PATH] = as_json({"error": {"message": "busy"}}, 503, Retry_After="7")
    ran = ask("hi", "--max-retries", "1")
    assert ran.status == 6
    assert "Trying again in 7 s: " in ran.err
