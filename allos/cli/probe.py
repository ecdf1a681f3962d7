"""`allos probe`: what a live endpoint can do."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allos.cli import options, terminal
from allos.cli.service import connect
from allos.endpoints import config_folder, read_toml

if TYPE_CHECKING:
    from allos.probe import Probe, Report
    from allos.settings import Target

__all__ = ["probe"]

_MARKS = {True: "yes", False: "no", None: "-"}


@click.command(short_help="Find out what an endpoint can do.")
@options.alias
@options.connection
@click.option("-m", "--model", metavar="NAME", help="Which model to ask; without one the first that is listed.")
@click.option("--name", metavar="NAME", help="What to call the endpoint in the block [default: its alias, or `mine`].")
@click.option("--toml", "as_toml", is_flag=True, help="Print the block for the settings instead of the table.")
@click.option("--write", is_flag=True, help="Add the block to your own config.toml.")
@options.as_json
@options.verbose
def probe(
    alias: str | None,
    model: str | None,
    name: str | None,
    as_toml: bool,
    write: bool,
    as_json: bool,
    verbose: bool,
    **flags: Any,
) -> None:
    """Find out what an endpoint can do, with about twenty small requests.

    Prints a table of what was seen. `--toml` prints, and `--write` saves, the block of settings that follows from it.

    \b
    allos probe groq
    allos probe --base-url http://localhost:8080/v1 --write --name mine
    """
    from allos.probe import Probe

    if as_toml and as_json:
        raise click.UsageError("--toml and --json exclude each other: choose one.")
    flags["provider"] = options.named(alias, flags["provider"])
    if flags["provider"] is None and flags["base_url"] is not None:
        flags["provider"] = "chat_completions"
    path = _config_file() if write else None
    with connect({**flags, "model": model}, verbose=verbose) as client:
        endpoint = client.target.endpoint
        name = name or (endpoint.alias if not endpoint.generic else "mine")
        if as_toml or write:
            _refuse_odd(name)
            _refuse_embedded(client.target)
        if path is not None:
            _refuse_twice(path, name)
        client._start_local()
        report = _asked(Probe(client.target), client.target)
    try:
        if path is not None and report.is_whole:
            _append(path, report.toml(name))
            terminal.say(f"Wrote [endpoints.{name}] to {path}.")
    finally:  # what was seen was paid for, also where it could not be written
        if as_json:
            _print_json(report)
        elif not as_toml:
            _print_table(report)
        elif report.is_whole:
            terminal.print_lines(report.toml(name).splitlines())
    if not report.is_whole:
        made, nothing = f"{len(report.findings)} of {len(Probe.checks)} checks", ", so there is no block"
        raise terminal.Failed(
            f"The {client.target.deadline:g} s for the whole probe were over after {made}"
            f"{nothing if as_toml or write else ''}. `--deadline` sets the seconds for all of it.",
            5,
        )


def _print_json(report: Report) -> None:
    terminal.print_json({"model": report.model, "tokens": report.tokens, "findings": _rows(report), "row": report.row})


def _print_table(report: Report) -> None:
    cells = [(row["check"], _MARKS[row["good"]], row["said"]) for row in _rows(report)]
    if cells:
        terminal.print_table([("CHECK", "", f"SEEN WITH {report.model}"), *cells])


def _rows(report: Report) -> list[dict[str, Any]]:
    return [{"check": found.check, "good": found.good, "said": found.said} for found in report.findings]


def _asked(asking: Probe, target: Target) -> Report:
    """Make the checks, with a bar on standard error that says which one runs."""
    terminal.say(
        f"Asking {target.base_url}: at most {asking.requests} requests and {asking.tokens:,} tokens. Ctrl-C stops it."
    )
    with click.progressbar(length=len(asking.checks), label="Asking", file=sys.stderr, item_show_func=_shown) as bar:

        def show(check: str) -> None:
            bar.update(0 if bar.current_item is None else 1, check)

        report = asking.run(show)
        bar.update(1 if report.is_whole else 0)
    if report.tokens:
        terminal.say(f"It took {report.tokens:,} tokens, as the endpoint counts.")
    return report


def _shown(check: Any) -> str:
    return check or ""


def _config_file() -> Path:
    """The file to write to, whose folder is made; refused here if it can't be written, before a request is made."""
    folder = config_folder(os.environ)
    if folder is None:
        raise terminal.Failed("There is no home folder to write to: set HOME, or print the block with --toml.", 2)
    path = folder / "config.toml"
    with _writing(path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise terminal.Failed(f"Can't write {error.filename or path}: {error.strerror}.", 2) from None


def _refuse_odd(name: str) -> None:
    if not re.fullmatch("[A-Za-z0-9_-]+", name):  # a bare key of TOML
        raise terminal.Failed(
            f"{name!r} can't be the name of a block: letters, digits, - and _ only. Choose another with --name.", 2
        )


def _refuse_embedded(target: Target) -> None:
    if target.base_url is None:
        raise terminal.Failed(
            "The embedded model runs only as long as a program does, so it has no address to keep. "
            "Say another service, or leave out --toml and --write to see what it can do.",
            2,
        )


def _refuse_twice(path: Path, name: str) -> None:
    data, _ = read_toml(path)
    if name in (data.get("endpoints") or {}):
        raise terminal.Failed(f"{path} has [endpoints.{name}] already. Choose another --name, or take it out first.", 2)


def _append(path: Path, block: str) -> None:
    with _writing(path):
        old = path.read_text(encoding="utf-8-sig") if path.is_file() else ""
        gap = "" if not old else "\n" if old.endswith("\n") else "\n\n"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
            file.write(f"{gap}{block}")
