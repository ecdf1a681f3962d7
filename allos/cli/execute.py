"""`allos exec`: run a program whose OpenAI client goes where a prompt would go."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import click

from allos.cli import options, terminal
from allos.cli.environment import variables
from allos.endpoints import table

__all__ = ["execute", "supervise"]

NOT_FOUND, NOT_RUNNABLE, BY_SIGNAL = 127, 126, 128  # as shells have them
_OF_A_TERMINAL = ("SIGINT", "SIGQUIT")  # which a terminal sends to the program as well as to us
_PASSED_ON = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", *_OF_A_TERMINAL)


@click.command(
    "exec",
    short_help="Run a program with an OpenAI client at a service of your choice.",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="PROGRAM [ARGUMENTS]...")
@options.place
@options.model
@options.verbose
def execute(command: tuple[str, ...], verbose: bool, **flags: Any) -> int:
    """Run PROGRAM so that the official OpenAI client in it, of any language, goes to the service of your choice.

    \b
    allos exec -p groq -- python app.py
    allos exec -p local -- node app.js

    It gets OPENAI_BASE_URL and OPENAI_API_KEY, and the ALLOS_ variables for programs that use Allos.
    With `-p local` the embedded model runs as long as the program does.
    Signals reach the program, and its exit status is the one of this command.
    """
    from allos import settings

    target = settings.load(**flags).resolve()
    for line in target.why if verbose else target.notices:
        terminal.say(line)
    is_embedded = target.base_url is None
    if is_embedded:
        from allos import local

        server = local.start(target.model)
        target = target.reached(server.base_url, server.api_key, server.model)
        target = replace(target, model_is_forced=True)  # it answers for each name, so the program is to be told which
    environ = dict(os.environ)
    for name, value in variables(target, flags["env_file"]).items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value
    with _runnable(command[0]):
        if is_embedded or os.name != "posix":
            return supervise(command, environ)
        return _become(command, environ)


@contextmanager
def _runnable(program: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        is_service = table().get(program) is not None  # named as `allos env` takes it
        way = f" For the service say `allos exec -p {program} -- PROGRAM`." if is_service else ""
        raise terminal.Failed(f"There is no program {program!r}.{way}", NOT_FOUND) from None
    except OSError as error:
        raise terminal.Failed(f"Can't run {program!r}: {error.strerror or error}.", NOT_RUNNABLE) from None


def _become(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Put the program in the place of this process: signals, terminal and exit status are then its own."""
    terminal.settle()
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and what is ignored stays so in the program
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_DFL)
    os.execvpe(command[0], list(command), environ)  # noqa: S606  # no shell, and what to run is what the user typed


def supervise(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the program beside this process, pass signals on to it, and return its exit status."""
    with subprocess.Popen(list(command), env=environ) as process, _passing_signals_to(process):  # noqa: S603  # as above
        status = process.wait()
    return status if status >= 0 else BY_SIGNAL - status


@contextmanager
def _passing_signals_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name in _OF_A_TERMINAL and sys.stdin is not None and sys.stdin.isatty():
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    before = {name: signal.signal(getattr(signal, name), pass_on) for name in _PASSED_ON if hasattr(signal, name)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
