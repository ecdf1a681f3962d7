"""Writing: the answer to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

import click

from allos.wire.characters import whole_characters

__all__ = [
    "Answer",
    "Failed",
    "ReaderGone",
    "Thinking",
    "can_redraw",
    "count_down",
    "print_json",
    "print_lines",
    "print_table",
    "require_output",
    "say",
    "settle",
    "visible",
]

# What could move the cursor, change the terminal or reorder the text: C0 and C1 controls (newline and tab may
# stay), bidirectional marks and overrides, and half characters.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


GAP = "  "
_CTRL_C = "^C"  # which the terminal writes behind the cursor


class Failed(Exception):
    """Ends the command with a message and an exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ReaderGone(Exception):
    """Whoever read our output has seen enough (`| head`)."""


def visible(text: str) -> str:
    """The text with control characters written as escapes, so that it can do nothing to a terminal."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


class Answer:
    """The answer on standard output, shown piece by piece as it arrives.

    On a terminal control characters are made visible; elsewhere the text stays as it is.
    What the output's encoding can't say becomes `?`.
    """

    def __init__(self) -> None:
        self._out = _standard_output()
        self._screen = self._out.isatty()
        self._held = ""
        self._line_open = False
        self.begun = False

    def write(self, text: str) -> None:
        """Show some more of the answer."""
        text = self._held + text
        self._held = ""
        if text and (text[-1] == "\r" or "\ud800" <= text[-1] <= "\udbff"):
            # half of a line end, or of a character that the service cut in two
            text, self._held = text[:-1], text[-1]
        self._put(text)

    def end(self) -> None:
        """Show what was held back and end the line."""
        rest, self._held = self._held, ""
        self._put(rest)
        if self._line_open:
            self._put("\n")

    def _put(self, text: str) -> None:
        if not text:
            return
        text = whole_characters(text)
        self._line_open, self.begun = not text.endswith("\n"), True  # first, as Ctrl-C may come while it is written
        _write(self._out, visible(text) if self._screen else text)


def print_json(data: Any) -> None:
    """Print data as JSON that any standard output can carry without loss."""
    out = _standard_output()
    text = json.dumps(data, ensure_ascii=False, indent=2)
    try:
        text.encode(out.encoding)
    except UnicodeEncodeError:
        text = json.dumps(data, indent=2)
    _write(out, (visible(text) if out.isatty() else text) + "\n")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as they need to be; the first row is the heading.

    On a terminal that is too narrow, the columns that don't fit stand on a line of their own below.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = _fitting(widths, _columns())
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(GAP.join(cells[:first]).rstrip())
        if rest := GAP.join(cells[first:]).rstrip():
            lines.append(f"{GAP}{GAP}{rest}")
    print_lines(lines)


def _fitting(widths: Sequence[int], columns: int | None) -> int:
    """How many columns fit side by side: all of them, or as many as leave the rest a line below."""
    if columns is None or sum(widths) + len(GAP) * (len(widths) - 1) <= columns:
        return len(widths)
    return max([1, *(n for n in range(1, len(widths)) if sum(widths[:n]) + len(GAP) * (n - 1) <= columns)])


def _columns() -> int | None:
    """The width of the terminal that standard output is; None where it is something else."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def print_lines(lines: Iterable[str]) -> None:
    """Print one line for each text."""
    answer = Answer()
    answer.write("\n".join(lines))
    answer.end()


def require_output() -> None:
    """End the command now if standard output is closed, before a request is paid for."""
    _standard_output()


class Thinking:
    """A model's reasoning on standard error, dimmed; nothing at all unless `shown`."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._line_open = False

    def write(self, text: str) -> None:
        """Show some more of it."""
        if text and self._shown:
            say(text, dim=True, newline=False)
            self._line_open = not text.endswith("\n")

    def end(self) -> None:
        """End its line, so that what follows begins a new one."""
        if self._line_open:
            say("")
            self._line_open = False


def say(text: str, *, dim: bool = False, newline: bool = True) -> None:
    """Say something on standard error; a closed standard error costs nobody the answer."""
    text = visible(text)
    if dim and not os.environ.get("NO_COLOR"):
        text = click.style(text, dim=True)
    with contextlib.suppress(OSError):
        click.echo(text, err=True, nl=newline)


def can_redraw() -> bool:
    """Whether standard error is a terminal on which a line can be written over."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def count_down(seconds: float, text: Callable[[int], str]) -> None:
    """Wait, with a line on standard error that says how many seconds are left and is gone afterwards."""
    left, width = seconds, 0
    try:
        while left > 0:
            whole = math.ceil(left)
            line = _fitted(visible(text(whole)))
            _draw(f"\r{line.ljust(width)}")
            width = len(line)
            step = left - (whole - 1)
            time.sleep(step)
            left -= step
    finally:
        _draw(f"\r{' ' * (width + len(_CTRL_C))}\r")


def _fitted(line: str) -> str:
    """The line as far as it fits beside the cursor; a character that is not ASCII may be two columns wide."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 80
    room = max(1, (columns if line.isascii() else columns // 2) - len(_CTRL_C) - 1)
    return line if len(line) <= room else f"{line[: max(0, room - 3)]}..."


def _draw(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(text, err=True, nl=False)


def settle() -> None:
    """Flush standard output for the last time; where that fails, keep the interpreter from failing once more."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _standard_output() -> TextIO:
    if sys.stdout is None:
        raise Failed("Standard output is closed, so the answer has no place to go.", 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return sys.stdout


def _write(out: TextIO, text: str) -> None:
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise Failed(f"Standard output can't be written: {error.strerror or error}.", 1) from error
