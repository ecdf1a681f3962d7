"""How the words of the command line are understood: a prompt, a command, options on either side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allos.cli.app import COMMANDS, app

Asked = tuple[str, dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """The prompts that would have been sent, with their options."""
    found: list[Asked] = []

    def ask(prompt: str, **options: Any) -> int:
        found.append(
            (
                prompt,
                {
                    name: value
                    for name, value in options.items()
                    if value is not None and value is not False and value != ()
                },
            )
        )
        return 0

    monkeypatch.setattr("allos.cli.ask.ask", ask)
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["hello"], ("hello", {})),
        (["hello", "there"], ("hello there", {})),
        (["providers of joy"], ("providers of joy", {})),
        (["--", "providers"], ("providers", {})),
        (["-p", "groq", "--", "models"], ("models", {"provider": "groq"})),
        (["--", "--version"], ("--version", {})),
        (["joy", "of", "models"], ("joy of models", {})),
        (["-m", "models", "hello"], ("hello", {"model": "models"})),
        (["hello", "-m", "x", "there", "--json"], ("hello there", {"model": "x", "as_json": True})),
        (["--stream", "hi"], ("hi", {"stream": True})),
        (["-o", "seed", "-5", "-o", "stop", '"-m"', "hi"], ("hi", {"pairs": (("seed", "-5"), ("stop", '"-m"'))})),
        (["-o", "top_p", "0.5", "-o", "user", "me", "hi"], ("hi", {"pairs": (("top_p", "0.5"), ("user", "me"))})),
        (
            ["-t", "0.5", "--max-tokens", "5", "--timeout", "1.5", "--max-retries", "0", "--wire", "chat", "hi"],
            ("hi", {"temperature": 0.5, "max_tokens": 5, "timeout": 1.5, "max_retries": 0, "wire": "chat"}),
        ),
    ],
)
def test_words_are_a_prompt_with_options_on_either_side(
    call: Callable[..., Any], asked: list[Asked], arguments: list[str], expected: Asked
) -> None:
    assert call(*arguments).status == 0
    assert asked == [expected]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--provider", "openai", "--model", "gpt-4o", "..."], {"provider": "openai", "model": "gpt-4o"}),
        (
            ["--provider", "groq", "--model", "llama-3.1-8b-instant", "..."],
            {"provider": "groq", "model": "llama-3.1-8b-instant"},
        ),
        (
            ["--provider", "chat_completions", "--base_url", "http://localhost:1234/v1", "..."],
            {"provider": "chat_completions", "base_url": "http://localhost:1234/v1"},
        ),
    ],
)
def test_the_guides_commands_are_understood_as_printed(
    call: Callable[..., Any], asked: list[Asked], arguments: list[str], expected: dict[str, Any]
) -> None:
    assert call(*arguments).status == 0
    assert asked == [("...", expected)]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_first_word_that_is_a_commands_name_is_the_command(
    call: Callable[..., Any], asked: list[Asked], name: str
) -> None:
    ran = call(name, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"Usage: allos {name} ")
    assert asked == []


def test_options_before_a_command_reach_it(call: Callable[..., Any], asked: list[Asked]) -> None:
    before, after = call("--json", "providers"), call("providers", "--json")
    assert before.status == 0
    assert before == after
    assert before.out.startswith("[")


def test_an_option_that_a_command_does_not_have_is_refused_and_not_dropped(call: Callable[..., Any]) -> None:
    ran = call("-m", "x", "providers")
    assert ran.status == 2
    assert "No such option" in ran.err


@pytest.mark.parametrize("arguments", [["exec"], ["config", "groq"], ["models", "a", "b"], ["local", "get"]])
def test_who_says_a_command_is_told_of_its_help_and_not_of_prompts(
    call: Callable[..., Any], arguments: list[str]
) -> None:
    ran = call(*arguments)
    assert ran.status == 2
    assert ran.err.endswith(f"Try `allos {arguments[0]} --help`.\n")


def test_a_command_of_commands_shows_its_help_where_none_is_named(call: Callable[..., Any]) -> None:
    bare = call("local")
    assert (bare.status, bare.out) == (2, "")
    assert bare.err == call("local", "--help").out


def test_a_prompt_taken_for_an_option_is_told_the_way_out(call: Callable[..., Any]) -> None:
    ran = call("-5 + 3?")
    assert ran.status == 2
    assert "put `--` before it" in ran.err


def test_an_option_in_the_place_of_a_value_is_named(call: Callable[..., Any]) -> None:
    ran = call("-o", "seed", "--base-url", "http://localhost/v1", "hi")
    assert ran.status == 2
    assert "-o takes a name and a value, and '--base-url' is an option of its own" in ran.err


def test_a_field_that_is_joined_to_its_value_is_told_as_two_words(call: Callable[..., Any]) -> None:
    ran = call("-o", "top_p=0.9", "Hello")
    assert ran.status == 2
    assert "-o takes a name and a value as two words: -o top_p 0.9." in ran.err


@pytest.mark.parametrize("name", ["max_output_tokens", "max_completion_tokens"])
def test_the_token_limit_of_either_api_is_told_its_option(call: Callable[..., Any], name: str) -> None:
    ran = call("-o", name, "3", "Hello")
    assert (ran.status, ran.err) == (2, f"Error: -o {name}: use --max-tokens for this.\n")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(words=st.lists(st.text(min_size=1), min_size=1))
def test_after_two_dashes_every_word_is_the_prompt(words: list[str]) -> None:
    with app.make_context("allos", ["--json", "--", *words]) as ctx:
        assert ctx.args == words
        assert ctx.params["as_json"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--timeout", "inf"],
        ["--timeout", "soon"],
        ["--max-retries", "-1"],
        ["--max-tokens", "0"],
        ["--max-tokens", "many"],
        ["-t", "nan"],
        ["--wire", "telegraph"],
        ["-o", "lonely"],
        ["-o", "model", "x"],
        ["-o", "messages", "[]"],
        ["-o", "stop", "5"],
        ["-o", "seed", "five"],
        ["-o", "store", "maybe"],
        ["-o", "seed", "--json"],
        ["-o", "seed", "--base-url=http://localhost/v1"],
        ["-o", "seed", "-m", "tiny"],
        ["-o", "seed", "--help"],
        ["-o", "--no-stream", "5"],
        ["-o", "seed", "--", "hi"],
        ["-o", "format", "yaml"],
        ["-o", "format", "[]"],
        ["-o", "schema", "City"],
        ["-o", "schema", "null"],
        ["--nonsense"],
    ],
)
def test_an_option_of_the_wrong_form_is_a_usage_error(call: Callable[..., Any], arguments: list[str]) -> None:
    ran = call("hi", *arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.startswith("Error: ")
    assert "Traceback" not in ran.err


def test_completion_offers_the_commands() -> None:
    with app.make_context("allos", [], resilient_parsing=True) as ctx:
        assert [item.value for item in app.shell_complete(ctx, "mo")] == ["models"]
        assert isinstance(ctx.command, click.Group)


def test_a_field_of_the_wrong_kind_is_named_as_the_option_that_sets_it(call: Callable[..., Any]) -> None:
    assert call("hi", "-o", "seed", "five").err == "Error: -o seed takes a whole number, not 'five' (str).\n"
