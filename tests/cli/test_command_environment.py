"""`allos env` and `allos exec`: other programs' clients go where a prompt would go, and a key goes nowhere else."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATH, Server, chat_reply, screen
from embedded import bring
from hypothesis import given
from hypothesis import strategies as st

from allos.cli.environment import _fish, _powershell, _sh
from allos.weights import DEFAULT

Run = Callable[..., Any]
Start = Callable[..., subprocess.Popen[bytes]]
posix = pytest.mark.skipif(os.name != "posix", reason="signals, terminals and shells are those of POSIX")

KEY = "gsk-private-0000"
SHOW = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]


def shown(start: Start, *arguments: str, **options: Any) -> dict[str, str]:
    """The environment that a program sees."""
    out, err = start("exec", *arguments, "--", *SHOW, **options).communicate(timeout=20)
    assert err == b""
    found: dict[str, str] = json.loads(out)
    return found


def authorization(server: Server) -> str | None:
    """The key that came with the first request."""
    _, headers, _ = server.requests[0]
    return {name.lower(): value for name, value in headers.items()}.get("authorization")


def test_a_program_gets_address_and_key_and_nothing_that_belongs_elsewhere(start: Start) -> None:
    given = {
        "GROQ_API_KEY": KEY,
        "OPENAI_API_KEY": "sk-of-openai",
        "OPENAI_BASE_URL": "https://elsewhere.test/v1",
        "OPENAI_ORG_ID": "org",
        "OPENAI_PROJECT_ID": "project",
        "OPENAI_CUSTOM_HEADERS": "X-Secret: 1",
        "ALLOS_BASE_URL": "https://elsewhere.test/v1",
        "ALLOS_MODEL": "of elsewhere",
    }
    found = shown(start, "-p", "groq", env=given)
    assert found["OPENAI_BASE_URL"] == found["OPENAI_API_BASE"] == "https://api.groq.com/openai/v1"
    assert found["OPENAI_API_KEY"] == found["ALLOS_API_KEY"] == KEY
    assert found["ALLOS_PROVIDER"] == "groq"
    assert not {"OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"} & set(found)
    assert not {"ALLOS_BASE_URL", "ALLOS_MODEL", "ALLOS_WIRE"} & set(found)
    assert "sk-of-openai" not in found.values()


def test_what_else_the_named_file_sets_reaches_a_program_that_uses_allos(start: Start, tmp_path: Path) -> None:
    (tmp_path / "service.env").write_text(
        "ALLOS_PROVIDER=groq\nGROQ_API_KEY=gsk-1\nALLOS_FALLBACK=together/m\nTOGETHER_API_KEY=tg-1\nALLOS_STATE=s.db\n"
    )
    code = (
        "import allos, os; os.mkdir('in'); os.chdir('in'); route = allos.OpenAI()._route\n"
        "print(route.target.endpoint.alias, [place.endpoint.alias for place in route.target.fallback])\n"
        "print(route.target.state, allos.Client().target.fallback[0].api_key.get_secret_value())"
    )
    process = start("exec", "--env-file", "service.env", "--", sys.executable, "-c", code)
    assert process.communicate(timeout=60) == (b"groq ['together']\ns.db tg-1\n", b"")
    assert shown(start, "--env-file", "service.env")["ALLOS_ENV_FILE"] == str(tmp_path / "service.env")


def test_openais_own_account_stays_with_openai(start: Start) -> None:
    found = shown(start, "-p", "openai", env={"OPENAI_API_KEY": "sk-x", "OPENAI_ORG_ID": "org"})
    assert (found["OPENAI_API_KEY"], found["OPENAI_ORG_ID"]) == ("sk-x", "org")


def test_where_no_key_is_needed_the_clients_get_a_word_instead(start: Start) -> None:
    found = shown(start, "-p", "ollama", env={"OPENAI_API_KEY": "sk-of-openai"})
    assert found["OPENAI_API_KEY"] == "none"
    assert "ALLOS_API_KEY" not in found


def test_what_was_asked_for_reaches_a_program_that_uses_allos(start: Start, server: Server) -> None:
    server.answers[PATH] = chat_reply("Paris.")
    code = "import allos; print(allos.chat('hi').text)"
    options = ["-p", "chat_completions", "--base-url", server.url, "--api-key", KEY, "-m", "tiny"]
    out, err = start("exec", *options, "--", sys.executable, "-c", code).communicate(timeout=20)
    assert (out, err) == (b"Paris.\n", b"")
    assert authorization(server) == f"Bearer {KEY}"
    _, _, body = server.requests[0]
    assert body["model"] == "tiny"


def test_the_official_client_goes_there(start: Start, server: Server) -> None:
    server.answers[PATH] = chat_reply("Paris.")
    code = (
        "import openai; said = [{'role': 'user', 'content': 'hi'}]\n"
        "print(openai.OpenAI().chat.completions.create(model='m', messages=said).choices[0].message.content)"
    )
    options = ["-p", "chat_completions", "--base-url", server.url, "--api-key", KEY]
    out, err = start("exec", *options, "--", sys.executable, "-c", code).communicate(timeout=20)
    assert (out, err) == (b"Paris.\n", b"")
    assert authorization(server) == f"Bearer {KEY}"


def test_a_missing_key_is_told_before_anything_runs(call: Run) -> None:
    ran = call("exec", "-p", "groq", "--", "false")
    assert ran.status == 3
    assert "GROQ_API_KEY" in ran.err


@posix
def test_options_behind_the_program_are_its_own(start: Start) -> None:
    process = start("exec", "-p", "ollama", "sh", "-c", 'echo "$@"', "sh", "-p", "x", "--help")
    assert process.communicate(timeout=20) == (b"-p x --help\n", b"")


@posix
@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM), ("yes | head -1", 0)]
)
def test_the_program_stands_in_the_place_of_the_command(start: Start, script: str, status: int) -> None:
    process = start("exec", "-p", "ollama", "--", "sh", "-c", f"echo $$; {script}")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (status, b"")
    assert out.splitlines()[0] == str(process.pid).encode()


@posix
@pytest.mark.parametrize(("program", "status"), [("no-such-program", 127), ("/", 126)])
def test_a_program_that_cannot_run_has_the_status_that_shells_give(start: Start, program: str, status: int) -> None:
    process = start("exec", "-p", "ollama", "--", program)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (status, b"")
    assert err.startswith(b"Error: ")
    assert repr(program).encode() in err
    assert err.count(b"\n") == 1


@posix
def test_a_service_in_the_place_of_the_program_is_told_its_option(start: Start) -> None:
    process = start("exec", "-p", "ollama", "groq", "--", "true")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (127, b"")
    assert b"say `allos exec -p groq -- PROGRAM`" in err


SUPERVISE = (
    "import os, sys; from allos.cli.execute import supervise; sys.exit(supervise(sys.argv[1:], dict(os.environ)))"
)


def supervised(*command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@posix
@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM)])
def test_a_program_beside_a_server_gives_its_status(environment: dict[str, str], script: str, status: int) -> None:
    with supervised("sh", "-c", script, environment=environment) as process:
        assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == status


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_a_program_beside_a_server_gets_the_signals(environment: dict[str, str], number: signal.Signals) -> None:
    code = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True); signal.pause()"
    )
    with supervised(sys.executable, "-c", code, environment=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 5


@pytest.mark.live
@posix
def test_the_embedded_model_runs_as_long_as_the_program(start: Start, tmp_path: Path) -> None:
    bring(DEFAULT, tmp_path)
    code = (
        "import openai, os; print(os.environ['OPENAI_BASE_URL'], flush=True)\n"
        "said = [{'role': 'user', 'content': 'What is the capital of France?'}]\n"
        "client = openai.OpenAI()\n"
        "answer = client.chat.completions.create(model='gpt-4o', messages=said, temperature=0, max_tokens=30)\n"
        "print(answer.choices[0].message.content); raise SystemExit(9)"
    )
    process = start("exec", "-p", "local", "--", sys.executable, "-c", code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (9, b"")
    address, _, answer = out.decode().partition("\n")
    assert address.startswith("http://127.0.0.1:")
    assert "Paris" in answer


@pytest.mark.live
@posix
def test_a_program_that_uses_allos_speaks_to_the_embedded_model_as_one_that_runs_it(
    start: Start, tmp_path: Path
) -> None:
    bring(DEFAULT, tmp_path)
    code = (
        "import allos\n"
        "its = allos.OpenAI().responses\n"
        "asked = {'model': 'gpt-4o', 'input': 'Count to twenty.', 'max_output_tokens': 5}\n"
        "answer = its.create(**asked)\n"
        "receipt = allos.receipt(answer)\n"
        "print(answer.status, receipt.spoken, receipt.model, its.retrieve(answer.id).id == answer.id)\n"
        "with its.stream(**asked) as stream: print(list(stream)[-1].type)"
    )
    process = start("exec", "-p", "local", "--", sys.executable, "-c", code)
    assert process.communicate(timeout=60) == (f"incomplete chat {DEFAULT} True\nresponse.incomplete\n".encode(), b"")


def test_the_shell_that_reads_it_has_the_same_environment(call: Run, environment: dict[str, str]) -> None:
    ran = call("env", "groq", GROQ_API_KEY=KEY, OPENAI_ORG_ID="org", ALLOS_BASE_URL="http://x.test/v1")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "export OPENAI_BASE_URL=https://api.groq.com/openai/v1",
        "export OPENAI_API_BASE=https://api.groq.com/openai/v1",
        f"export OPENAI_API_KEY={KEY}",
        "export ALLOS_PROVIDER=groq",
        "unset ALLOS_BASE_URL",
        f"export ALLOS_API_KEY={KEY}",
        "unset OPENAI_ORG_ID",
    ]


def test_a_second_word_switches_to_another_service(call: Run) -> None:
    before = {"ALLOS_PROVIDER": "groq", "ALLOS_API_KEY": KEY, "GROQ_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    ran = call("env", "mistral", MISTRAL_API_KEY="mistral-key-0000", **before)
    assert KEY not in ran.out
    assert "export ALLOS_API_KEY=mistral-key-0000" in ran.out.splitlines()


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("fish", ["set -gx OPENAI_BASE_URL 'http://localhost:11434/v1'", "set -e OPENAI_ORG_ID"]),
        (
            "powershell",
            [
                "$Env:OPENAI_BASE_URL = 'http://localhost:11434/v1'",
                "Remove-Item Env:OPENAI_ORG_ID -ErrorAction SilentlyContinue",
            ],
        ),
    ],
)
def test_other_shells_are_spoken(call: Run, shell: str, expected: list[str]) -> None:
    ran = call("env", "ollama", "--shell", shell, OPENAI_ORG_ID="org")
    assert ran.status == 0
    assert set(expected) <= set(ran.out.splitlines())


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n")))
def test_no_value_leaves_its_quotes(value: str) -> None:
    assert shlex.split(_sh("A", value)) == ["export", f"A={value}"]
    fish = re.fullmatch(r"set -gx A '((?:[^'\\]|\\.)*)'", _fish("A", value), re.DOTALL)
    assert fish is not None
    assert re.sub(r"\\(.)", r"\1", fish[1]) == value
    powershell = re.fullmatch(r"\$Env:A = '((?:[^']|'')*)'", _powershell("A", value), re.DOTALL)
    assert powershell is not None
    assert powershell[1].replace("''", "'") == value


@posix
@pytest.mark.parametrize("show", [False, True])
def test_a_key_is_printed_to_a_terminal_only_when_asked_for(start: Start, show: bool) -> None:
    import pty

    ours, theirs = pty.openpty()
    options = ["--show"] if show else []
    process = start("env", "groq", *options, stdout=theirs, env={"GROQ_API_KEY": KEY})
    os.close(theirs)
    _, err = process.communicate(timeout=20)
    out = screen(ours)
    assert process.returncode == (0 if show else 2)
    assert (KEY.encode() in out) is show
    assert KEY.encode() not in err
    assert show or b"--show" in err


def test_the_embedded_model_has_no_environment_of_its_own(call: Run) -> None:
    ran = call("env", "local")
    assert (ran.status, ran.out) == (2, "")
    assert "allos exec -p local" in ran.err


def test_two_services_are_one_too_many(call: Run) -> None:
    ran = call("env", "groq", "-p", "mistral")
    assert ran.status == 2
    assert "'groq'" in ran.err
    assert "'mistral'" in ran.err


@pytest.mark.parametrize("words", [["exec"], ["exec", "-p", "ollama"], ["exec", "--nonsense", "true"]])
def test_a_command_without_a_program_is_a_usage_error(call: Run, words: list[str]) -> None:
    ran = call(*words)
    assert ran.status == 2
    assert ran.err.startswith("Error: ")
