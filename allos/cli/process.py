"""What makes the command a good process: signals, exit status, and one clear line for every fault."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType, TracebackType

import click

from allos.cli import terminal
from allos.cli.app import app
from allos.errors import AllosError, KeyMissing, ParseError, WireError, as_options

__all__ = ["run"]

USAGE, KEY, SERVICE, INTERRUPTED, TERMINATED = 2, 3, 6, 130, 143


def run(arguments: Sequence[str]) -> int:
    """Run the command as this process and return its exit status."""
    if not _debugging():
        sys.excepthook = _own_fault
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return call(arguments)
    finally:
        terminal.settle()


def call(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status; an unexpected exception passes through."""
    try:
        with as_options():
            return int(app.main(list(arguments), prog_name="allos", standalone_mode=False) or 0)
    except (KeyboardInterrupt, click.Abort):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C doesn't wait for anything
        if sys.stderr is not None and sys.stderr.isatty():
            terminal.say("")  # the terminal has written ^C, and the shell's prompt begins a line of its own
        return INTERRUPTED
    except terminal.ReaderGone:
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        terminal.say(error.format_message())
        return USAGE
    except click.ClickException as error:
        _tell(error, f"{error.format_message()}{_usage_hint(error)}")
        return USAGE
    except terminal.Failed as error:
        _tell(error, str(error))
        return error.status
    except AllosError as error:
        _tell(error, str(error))
        is_of_service = isinstance(error, (WireError, ParseError))
        return KEY if isinstance(error, KeyMissing) else SERVICE if is_of_service else USAGE


def _tell(error: Exception, message: str) -> None:
    if _debugging():
        traceback.print_exception(error)
    terminal.say(f"Error: {message}")


def _usage_hint(error: click.ClickException) -> str:
    """The next step after words that the command line can't take: the help, or `--` where they were a prompt."""
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return ""
    hint = f"\nTry `{error.ctx.command_path} --help`."
    if error.ctx.parent is None and isinstance(error, click.NoSuchOption):
        hint += " If it was meant as a prompt, put `--` before it."
    return hint


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _own_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell of a bug of ours without a traceback, and without the values, which may be private."""
    place = traceback.extract_tb(trace)[-1] if trace else None
    where = f" at {os.path.basename(place.filename)}:{place.lineno}" if place else ""
    terminal.say(
        f"Error: a fault in Allos itself ({kind.__name__}{where}). Please report it, with what you ran and with\n"
        "what the same command says when ALLOS_DEBUG=1 is set (look through that for private text first)."
    )


def _debugging() -> bool:
    return os.environ.get("ALLOS_DEBUG", "") not in ("", "0")
