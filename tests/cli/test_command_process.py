"""The command as a process: signals, pipes, terminals, full disks, and what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from conftest import PATH, Server, chat_stream, screen

Start = Callable[..., subprocess.Popen[bytes]]
posix = pytest.mark.skipif(os.name != "posix", reason="signals, terminals and /dev are those of POSIX")


def to(server: Server) -> list[str]:
    return ["-p", "chat_completions", "--base-url", server.url, "-m", "tiny"]


def read(stream: IO[bytes] | None, wanted: bytes) -> bytes:
    """What comes from the stream until `wanted` is there, or all of it."""
    assert stream is not None
    came = b""
    while wanted not in came and (byte := os.read(stream.fileno(), 4096)):
        came += byte
    return came


@pytest.mark.parametrize(
    "command", [["--help"], ["--version"], ["providers"], ["local", "--help"], ["models", "--help"]]
)
def test_starting_up_imports_no_heavy_package(environment: dict[str, str], command: list[str]) -> None:
    code = (
        "import sys; from allos.cli import main; status = main(); "
        "print(*sys.modules, file=sys.stderr); sys.exit(status)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *command],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0
    assert ran.stdout
    loaded = {name.partition(".")[0] for name in ran.stderr.split()}
    assert not loaded & {"openai", "pydantic", "pydantic_settings", "rich", "tenacity", "httpx", "httpx2", "asyncio"}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("allos mod", ["models"]),
        ("allos -p gr", ["groq"]),
        ("allos env per", ["perplexity"]),
        ("allos --no-s", ["--no-stream"]),
    ],
)
def test_completion_imports_no_heavy_package(environment: dict[str, str], words: str, offered: list[str]) -> None:
    code = "import sys; from allos.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    variables = {"_ALLOS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.stdout.splitlines() == [f"plain,{word}" for word in offered]
    assert not {"openai", "pydantic_settings", "rich"} & set(ran.stderr.split())


def test_the_answer_is_shown_as_it_arrives(start: Start, server: Server) -> None:
    server.answers[PATH] = chat_stream("So far", finish=None, hold=True)  # the rest never comes
    assert read(start(*to(server), "hi").stdout, b"So far") == b"So far"


@pytest.mark.fault("X8")
@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_and_keeps_the_text(
    start: Start, server: Server, number: signal.Signals, status: int
) -> None:
    server.answers[PATH] = chat_stream("So far", finish=None, hold=True)
    process = start(*to(server), "hi")
    came = read(process.stdout, b"So far")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, came + out, err) == (status, b"So far\n", b"")
    assert server.dropped.wait(20), "the connection is closed, so the server can stop"


@pytest.mark.fault("X9")
@posix
def test_a_reader_that_leaves_ends_it_quietly(start: Start, server: Server) -> None:
    server.answers[PATH] = chat_stream("one\n", *["more\n"] * 5000, finish=None, hold=True)
    process = start(*to(server), "hi")
    assert process.stdout is not None
    assert process.stdout.readline() == b"one\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(20) == 0
    assert server.dropped.wait(20)


@posix
def test_a_reader_that_leaves_a_table_ends_it_quietly(start: Start) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start("providers", stdout=write_end)
    os.close(write_end)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.fault("X10")
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_line(start: Start, server: Server) -> None:
    server.answers[PATH] = chat_stream("Paris")
    with open("/dev/full", "wb") as full:
        process = start(*to(server), "hi", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == b"Error: Standard output can't be written: No space left on device.\n"


@pytest.mark.fault("X10")
@posix
@pytest.mark.parametrize("arguments", [["hi"], ["providers"], ["--json", "hi"]])
def test_a_closed_standard_output_is_one_clear_line(
    environment: dict[str, str], server: Server, arguments: list[str]
) -> None:
    words = arguments if "providers" in arguments else [*to(server), *arguments]
    ran = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- </dev/null', "sh", sys.executable, "-m", "allos", *words],
        env=environment,
        stderr=subprocess.PIPE,
    )
    assert ran.returncode == 1
    assert ran.stderr == b"Error: Standard output is closed, so the answer has no place to go.\n"
    assert server.requests == [], "nothing is paid for that nobody can read"


@posix
def test_closed_input_and_error_cost_nothing(environment: dict[str, str], server: Server) -> None:
    server.answers[PATH] = chat_stream("Paris")
    ran = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&- <&-', "sh", sys.executable, "-m", "allos", *to(server), "-v", "hi"],
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert (ran.returncode, ran.stdout) == (0, b"Paris\n")


@pytest.mark.fault("X11")
@pytest.mark.parametrize(("encoding", "expected"), [("ascii", b"n? ?\n"), ("latin-1", b"n\xe9 ?\n")])
def test_a_narrow_encoding_breaks_nothing(start: Start, server: Server, encoding: str, expected: bytes) -> None:
    server.answers[PATH] = chat_stream("né 你")
    process = start(*to(server), "hi", env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, expected, b"")


@pytest.mark.fault("A7")
@posix
def test_a_terminal_gets_no_control_characters(start: Start, server: Server) -> None:
    import pty

    server.answers[PATH] = chat_stream("a\x1b[31mb\x1b]0;title\x07c\u202e")
    ours, theirs = pty.openpty()
    process = start(*to(server), "hi", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    came = screen(ours)
    assert process.wait(20) == 0
    assert came == b"a\\u001b[31mb\\u001b]0;title\\u0007c\\u202e\r\n"


@pytest.mark.fault("X13")
def test_without_a_home_it_works(start: Start, environment: dict[str, str], server: Server) -> None:
    server.answers[PATH] = chat_stream("Paris")
    environment.pop("HOME")
    out, err = start(*to(server), "hi").communicate(timeout=60)
    assert (out, err) == (b"Paris\n", b"")


@pytest.mark.fault("X1")
def test_a_fault_of_our_own_is_one_line_without_values(environment: dict[str, str]) -> None:
    code = (
        "import sys, allos.cli.prompt\n"
        "def broken(words): raise KeyError('private words')\n"
        "allos.cli.prompt.compose = broken\n"
        "from allos.cli import main; sys.exit(main())"
    )

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "hi"]
        return subprocess.run(
            command, env=environment | variables, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    ran = run()
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "a fault in Allos itself (KeyError at " in ran.stderr
    assert "report" in ran.stderr
    assert "private words" not in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Traceback" in run(ALLOS_DEBUG="1").stderr


def test_nothing_is_written_into_the_home(start: Start, server: Server, tmp_path: Path) -> None:
    server.answers[PATH] = chat_stream("Paris")
    process: Any = start(*to(server), "hi")
    process.communicate(timeout=60)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
