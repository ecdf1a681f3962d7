"""The options that several commands share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from allos.cli.terminal import Failed
from allos.errors import ConfigurationError

__all__ = ["alias", "aliases", "as_json", "asking", "connection", "fields", "model", "named", "place", "verbose"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class _Positive(click.ParamType[float]):
    """A number of seconds: finite and above zero."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            self.fail(f"{value!r} is not a number of seconds above zero.", param, ctx)
        return number


class _Finite(click.ParamType[float]):
    """A number that JSON can carry."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def aliases(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """The names of services that begin so, for the shell's completion."""
    from allos.endpoints import names

    try:
        return [name for name in names() if name.startswith(begun)]
    except ConfigurationError:  # a table of the user's that can't be read is no matter of a Tab key
        return []


alias = click.argument("alias", required=False, metavar="[ALIAS]", shell_complete=aliases)


def named(alias: str | None, provider: str | None) -> str | None:
    """The service that is named, as a word or by --provider; two different ones are refused."""
    if alias is not None and provider not in (None, alias):
        raise click.UsageError(f"Two services are named: {alias!r} and --provider {provider!r}.")
    return alias if alias is not None else provider


def place(command: Decorated) -> Decorated:
    """Add the options that say where to go."""
    return _with(
        command,
        click.option(
            "-p",
            "--provider",
            metavar="ALIAS",
            shell_complete=aliases,
            help="Which service; see `allos providers`.",
        ),
        click.option("--base-url", "--base_url", metavar="URL", help="Another address, such as a server of your own."),
        click.option(
            "--api-key", metavar="KEY", help="The key. Better set its variable: arguments are seen by others."
        ),
        click.option(
            "--wire", type=click.Choice(["auto", "responses", "chat"]), help="Which API to speak [default: auto]."
        ),
        click.option(
            "--env-file", metavar="FILE", help="Read variables from this .env file too; none is read unasked."
        ),
    )


def connection(command: Decorated) -> Decorated:
    """Add the options that say where to go and how."""
    return _with(
        command,
        place,
        click.option("--timeout", type=_Positive(), metavar="SECONDS", help="How long to wait for the next bytes."),
        click.option(
            "--connect-timeout", type=_Positive(), metavar="SECONDS", help="How long to wait for a connection."
        ),
        click.option(
            "--deadline", type=_Positive(), metavar="SECONDS", help="How long all of it may take, with retries."
        ),
        click.option("--max-retries", type=click.IntRange(min=0), metavar="N", help="How often to try again."),
    )


def asking(command: Decorated) -> Decorated:
    """Add the options that say what to ask for."""
    return _with(
        command,
        model,
        click.option(
            "--fallback", metavar="PLACES", help="Whom to ask if it fails, separated by commas: together/MODEL,local."
        ),
        click.option("-s", "--system", metavar="TEXT", help="Instructions that come before the prompt."),
        click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="The longest answer, in tokens."),
        click.option("-t", "--temperature", type=_Finite(), metavar="NUMBER", help="How freely the model chooses."),
    )


model = click.option("-m", "--model", metavar="NAME", help="Which model; ALIAS/NAME names the service as well.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Say on standard error what was chosen, and why.")


def _with(command: Decorated, *options: Callable[[Decorated], Decorated]) -> Decorated:
    for option in reversed(options):
        command = option(command)
    return command


_OWN_OPTION = {
    "api_key": "--api-key",
    "base_url": "--base-url",
    "connect_timeout": "--connect-timeout",
    "deadline": "--deadline",
    "extra": "one -o for each field",
    "extra_body": "one -o for each field",
    "fallback": "--fallback",
    "input": "the prompt",
    "instructions": "--system",
    "max_completion_tokens": "--max-tokens",
    "max_output_tokens": "--max-tokens",
    "max_retries": "--max-retries",
    "messages": "the prompt",
    "model": "--model",
    "prompt": "the prompt",
    "stream": "--stream or --no-stream",
    "system": "--system",
    "timeout": "--timeout",
    "wire": "--wire",
}


def fields(pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The request fields of `-o NAME VALUE`: a value that reads as JSON is that, any other is text."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if (instead := _OWN_OPTION.get(name)) is not None:
            raise Failed(f"-o {name}: use {instead} for this.", 2)
        try:
            found[name] = json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
