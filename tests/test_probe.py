"""What `allos.probe` finds out about servers of every kind, and that the row that it writes is one."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import answers
import openai
import pytest
from doors import http

import allos
from allos import endpoints, settings
from allos.deadline import Deadline
from allos.probe import Probe, Report

HERON = '{"bird": "heron"}'


class Server:
    """A server of both APIs with as many faults as it is told to have."""

    def __init__(self, *lacks: str) -> None:
        self.lacks = set(lacks)
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: Any) -> Any:
        if request.method == "GET":
            return http.Response(200, json={"data": [{"id": "m-1"}, {"id": "m-2"}]})
        body = answers.body(request)
        self.asked.append(body)
        wire = answers.wire_of(request)
        if wire in self.lacks:
            return http.Response(404, json={"detail": "Not Found"})
        refusal = self._refusal(body, wire)
        if refusal is not None:
            return http.Response(400, json={"error": {"message": refusal, "type": "bad"}})
        return self._answer(request, body, wire)

    def _refusal(self, body: dict[str, Any], wire: str) -> str | None:
        said = body.get("messages") if wire == "chat" else body.get("input")
        if isinstance(said, int):
            return "messages must be a list"
        roles = [message["role"] for message in said] if isinstance(said, list) else []
        faults = {
            "stream_options": "stream_options" in body,
            "tools": "tools" in body,
            "native tools": "tools" in body and wire == "responses",
            "a named tool": isinstance(body.get("tool_choice"), dict),
            "json_schema": "json_schema" in str(body.get("response_format")),
            "images": "image_url" in str(said),
            "developer": "developer" in roles,
            "late system": "system" in roles[1:] and roles[0] != "system",
            "two systems": roles.count("system") > 1,
            "state": "previous_response_id" in body,
        }
        return next((f"{name} is not supported" for name, seen in faults.items() if seen and name in self.lacks), None)

    def _answer(self, request: Any, body: dict[str, Any], wire: str) -> Any:
        names = ("max_tokens", "max_output_tokens", "max_completion_tokens")
        limit = next((body[name] for name in names if name in body and name not in self.lacks), None)
        if limit == 8:
            return http.Response(200, json=answers.cut(wire, "1 2 3"))
        if "talk" in self.lacks and body.get("tool_choice") == "required":
            return http.Response(200, json=answers.cut(wire, "Hi! How"))
        if "tools" in body and not self._is_ignored(body):
            return http.Response(200, json=answers.calls(wire, *self._calls(body, wire)))
        text = "It was heron." if "previous_response_id" in body else "Hi!"
        if "response_format" in body or "text" in body:
            text = "Hi!" if "form" in self.lacks else HERON
        if "think" in self.lacks:
            text = f"<think>hm</think>{text}"
        if wire == "responses" and "whole" in self.lacks and body.get("stream") is not False:
            return answers.events(answers.stream(wire, text))
        return answers.answer(request, text)

    def _is_ignored(self, body: dict[str, Any]) -> bool:
        is_forced = body.get("tool_choice") not in (None, "auto")
        return "calls" in self.lacks or (is_forced and "forced" in self.lacks)

    def _calls(self, body: dict[str, Any], wire: str) -> list[tuple[str, str, str]]:
        choice = body.get("tool_choice")
        name = choice["function"]["name"] if isinstance(choice, dict) else "look"
        count = 2 if "Rome" in json.dumps(body) else 1
        return [(f"call_{number}", name, '{"place": "Paris"}') for number in range(count)]


def probed(server: Any, **flags: Any) -> tuple[Report, dict[str, tuple[bool | None, str]]]:
    target = settings.resolve("chat_completions", base_url="http://mock.test/v1", api_key="sk-key", **flags)
    asking = Probe(target, http_client=openai.DefaultHttpxClient(transport=http.MockTransport(server)))
    seen: list[str] = []
    report = asking.run(seen.append)
    assert tuple(seen) == asking.checks
    assert report.is_whole
    return report, {found.check: (found.good, found.said) for found in report.findings}


def test_a_server_without_a_fault_has_a_row_without_quirks():
    server = Server()
    report, found = probed(server)
    assert report.model == "m-1"
    assert [check for check, (good, _) in found.items() if good is False] == []
    assert found["models"] == (True, "2: m-1, m-2")
    assert found["state"] == (True, "remembers the response before")
    assert report.row == {
        "base_url": "http://mock.test/v1",
        "needs_key": True,
        "chat": True,
        "responses": True,
        "stateful": True,
    }
    assert len(server.asked) < Probe.requests


@pytest.mark.parametrize(
    ("lacks", "check", "row"),
    [
        ("responses", "responses", {"responses": False}),
        ("chat", "chat", {"chat": False}),
        ("state", "state", {"stateful": False}),
        ("stream_options", "chat stream", {"quirks": {"stream_usage": False}}),
        ("max_completion_tokens", "token limit", {"quirks": {"max_tokens_field": "max_tokens"}}),
        ("developer", "developer role", {"quirks": {"developer_role": False}}),
        ("late system", "late system message", {"quirks": {"system_messages": "first"}}),
        ("two systems", "two system messages", {"quirks": {"system_messages": "one"}}),
        ("json_schema", "schema", {"quirks": {"response_format": ["json_object"]}}),
        ("forced", "forced tool", {"quirks": {"tool_choice": ["none", "auto"]}}),
        ("a named tool", "forced tool", {"quirks": {"tool_choice": ["none", "auto", "required"]}}),
        ("tools", "tools", {"quirks": {"refuse": ["tools"]}}),
        ("native tools", "responses tools", {"quirks": {"responses": {"refuse": ["tools"]}}}),
        ("think", "reasoning", {"quirks": {"think_tags": True}}),
        ("whole", "responses", {"quirks": {"responses": {"whole_defaults": {"stream": False}}}}),
        ("images", "images", {}),
    ],
)
def test_a_fault_is_seen_and_becomes_a_key_of_the_row(lacks, check, row):
    report, found = probed(Server(lacks))
    good, said = found[check]
    assert good in ((None, True) if lacks in ("think", "whole", "max_completion_tokens") else (False,))
    assert said
    for key, value in row.items():
        assert _within(value, report.row[key]), report.row


@pytest.mark.parametrize("lacks", [("calls",), ("calls", "a named tool"), ("tools",)])
def test_a_model_that_calls_nothing_says_nothing_of_what_the_server_obeys(lacks):
    report, found = probed(Server(*lacks))
    quirks = report.row.get("quirks", {})
    assert "tool_choice" not in quirks.get("responses", {})
    assert quirks.get("tool_choice") == (["none", "auto", "required"] if "a named tool" in lacks else None)
    if lacks == ("calls",):
        assert found["tools"] == (False, "no call, but text: Hi!")
        for check in ("forced tool", "required tool"):
            assert found[check] == (None, "no call, but text: Hi! (this model has called no tool)")


def test_a_model_that_talks_until_it_is_cut_says_nothing_of_what_the_server_obeys():
    report, found = probed(Server("talk"))
    assert found["required tool"] == (None, "no call, but text: Hi! How (cut by its token limit)")
    assert "quirks" not in report.row


@pytest.mark.parametrize("lacks", ["half a call", "another call, half"])
def test_a_call_that_is_cut_says_nothing_of_what_the_server_obeys(lacks):
    class Cut(Server):
        def _answer(self, request: Any, body: dict[str, Any], wire: str) -> Any:
            if "tools" not in body:
                return super()._answer(request, body, wire)
            name = "go" if isinstance(body["tool_choice"], dict) and lacks == "half a call" else "look"
            whole = answers.calls(wire, ("call_1", name, '{"place": "Par'))
            whole["choices"][0]["finish_reason"] = "length"
            return http.Response(200, json=whole)

    report, found = probed(Cut(lacks, "responses"))
    for check in ("tools", "parallel tools", "forced tool", "required tool"):
        assert found[check][0] is None
        assert found[check][1].endswith("(cut by its token limit)")
    assert "quirks" not in report.row


def test_a_wrong_call_is_named():
    class Mixed(Server):
        def _calls(self, body: dict[str, Any], wire: str) -> list[tuple[str, str, str]]:
            (id, name, arguments), *more = super()._calls(body, wire)
            return [(id, name, arguments), *((id, "go", arguments) for id, _, arguments in more)]

    _, found = probed(Mixed())
    assert found["parallel tools"] == (False, "called 'go' instead of 'look'")


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and _within(value, whole[key]) for key, value in part.items())
    return bool(part == whole)


@pytest.mark.parametrize(
    "lacks",
    [(), ("responses",), ("tools", "form", "late system"), ("whole", "state", "json_schema", "developer", "think")],
)
def test_the_block_is_a_row_that_works(lacks, tmp_path, monkeypatch):
    report, _ = probed(Server(*lacks))
    folder = tmp_path / "home/.config/allos"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(report.toml("mine"), encoding="utf-8")
    monkeypatch.setenv("MINE_API_KEY", "sk-mine")
    endpoints._table.cache_clear()  # a process reads its table once
    row = endpoints.find("mine")
    assert row.base_url == "http://mock.test/v1"
    assert row.default_model == "m-1"
    assert row.key_variables == ("MINE_API_KEY",)
    assert row.responses is ("responses" not in lacks)
    transport = openai.DefaultHttpxClient(transport=http.MockTransport(Server(*lacks)))
    with allos.Client("mine", http_client=transport) as client:
        reply = client.chat([{"role": "developer", "content": "Be brief."}, "Hi"], max_tokens=20)
    assert reply.text == "Hi!"


def test_a_block_has_no_table_without_a_key():
    row = {"base_url": "http://mock.test/v1", "quirks": {"responses": {"response_format": []}}}
    assert Report("m-1", row=row).toml("mine") == (
        '[endpoints.mine]\nbase_url = "http://mock.test/v1"\ndefault_model = "m-1"\n\n'
        "[endpoints.mine.quirks.responses]\nresponse_format = []\n"
    )


def test_the_tokens_that_are_counted_are_told():
    report, _ = probed(Server())
    assert 0 < report.tokens < Probe.tokens


def test_a_server_that_stops_answering_is_reported_with_what_was_seen():
    def server(request: Any) -> Any:
        if "tools" in (answers.body(request) if request.method == "POST" else {}):
            raise http.ConnectError("gone")
        return Server()(request)

    _, found = probed(server)
    assert found["chat"][0] is True
    assert found["tools"][0] is None


def test_a_deadline_holds_for_the_whole_probe_and_what_it_cut_is_not_in_the_report():
    now = [0.0]

    def server(request: Any) -> Any:
        now[0] += 1.0
        return Server()(request)

    target = settings.resolve("chat_completions", base_url="http://mock.test/v1", model="m-1")
    asking = Probe(target, http_client=openai.DefaultHttpxClient(transport=http.MockTransport(server)))
    asking._deadline = Deadline(2, lambda: now[0])
    report = asking.run()
    assert not report.is_whole
    assert [found.check for found in report.findings] == ["models", "chat"]


def test_a_wait_that_would_pass_the_deadline_is_not_begun(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"slept {seconds} s"))

    def busy(request: Any) -> Any:
        return http.Response(429, headers={"Retry-After": "60"}, json={"error": {"message": "slow down"}})

    _, found = probed(busy, model="m-1", deadline=30)
    assert found["chat"] == (False, "429: slow down")


@pytest.mark.parametrize(
    ("status", "headers", "times"),
    [
        (500, {}, 1),
        (503, {}, 1),
        (409, {}, 1),
        (503, {"retry-after-ms": "1"}, 2),
        (500, {"x-should-retry": "true"}, 2),
        (429, {}, 2),
        (429, {"x-should-retry": "false"}, 1),
    ],
)
def test_a_question_is_asked_again_only_where_the_server_was_busy(status, headers, times, monkeypatch):
    def server(request: Any) -> Any:
        if "image_url" not in str(request.content):
            return whole(request)
        asked.append(request)
        return http.Response(status, headers=headers, json={"error": {"message": "no"}})

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    asked, whole = list[Any](), Server()
    _, found = probed(server)
    assert found["images"] == (False, f"{status}: no")
    assert len(asked) == times


def test_what_can_not_be_reached_or_refuses_the_key_is_an_error():
    def nobody(request: Any) -> Any:
        raise http.ConnectError("[Errno 111] Connection refused")

    with pytest.raises(openai.APIConnectionError, match="can't be reached"):
        probed(nobody)
    with pytest.raises(openai.AuthenticationError, match=r"went to mock\.test"):
        probed(lambda request: http.Response(401, json={"error": {"message": "no"}}))


def test_without_any_model_there_is_nothing_to_ask():
    with pytest.raises(allos.AllosError, match="model="):
        probed(lambda request: http.Response(404))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"choices": null}', b"data: {", b'{"error": "no"}'])
def test_nonsense_is_reported_and_nothing_breaks(body):
    report, found = probed(lambda request: http.Response(200, content=body), model="m")
    assert found["chat"][0] is False
    assert report.row["chat"] is False
    assert tomllib.loads(report.toml("odd"))["endpoints"]["odd"]["chat"] is False
