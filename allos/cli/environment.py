"""`allos env`: the environment in which other programs' OpenAI clients go where a prompt would go."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from allos.cli import options, terminal

if TYPE_CHECKING:
    from allos.settings import Target

__all__ = ["environment", "variables"]

# What the official clients send to whatever base URL they are given, though it belongs to an account at OpenAI.
_OF_OPENAI = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_CUSTOM_HEADERS")
_NO_KEY = "none"  # the official clients refuse to start without a key, also where none is needed


def variables(target: Target, env_file: str | None = None) -> dict[str, str | None]:
    """The variables that lead official clients, and Allos itself, to this target; None for those to take away.

    In `env_file` Allos finds what else it sets, such as places to ask next and their keys.
    """
    key = None if target.api_key is None else target.api_key.get_secret_value()
    found: dict[str, str | None] = {
        "OPENAI_BASE_URL": target.base_url,
        "OPENAI_API_BASE": target.base_url,  # its name before version 1 of the official clients; others read it still
        "OPENAI_API_KEY": key or _NO_KEY,
        "ALLOS_PROVIDER": target.endpoint.served_as or target.endpoint.alias,
        "ALLOS_BASE_URL": target.base_url if _is_elsewhere(target) else None,
        "ALLOS_API_KEY": key,
        "ALLOS_MODEL": target.model if target.model_is_forced else None,
        "ALLOS_WIRE": target.wire if target.wire != "auto" else None,
    }
    if env_file:
        found["ALLOS_ENV_FILE"] = os.path.abspath(os.path.expanduser(env_file))
    return found if target.is_openai else found | dict.fromkeys(_OF_OPENAI)


def _is_elsewhere(target: Target) -> bool:
    """Whether the address is another than the one that the provider's name leads to."""
    from allos.errors import ConfigurationError

    endpoint = target.endpoint
    try:
        own = endpoint.address(os.environ)[0]
    except ConfigurationError:
        own = None
    return endpoint.generic or target.base_url not in (own, endpoint.responses_base_url)


def _sh(name: str, value: str | None) -> str:
    return f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str | None) -> str:
    if value is None:
        return f"set -e {name}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{escaped}'"


def _powershell(name: str, value: str | None) -> str:
    if value is None:
        return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"
    escaped = value.replace("'", "''")
    return f"$Env:{name} = '{escaped}'"


_SHELLS: Final[Mapping[str, Callable[[str, str | None], str]]] = {"sh": _sh, "fish": _fish, "powershell": _powershell}


@click.command("env", short_help="Print the environment for programs with an OpenAI client.")
@options.alias
@options.place
@options.model
@click.option("--shell", type=click.Choice(list(_SHELLS)), default="sh", help="Whose language to print [default: sh].")
@click.option("--show", is_flag=True, help="Print the key to a terminal too.")
@options.verbose
def environment(alias: str | None, shell: str, show: bool, verbose: bool, **flags: Any) -> None:
    """Print what sets up this shell, so that programs with an official OpenAI client go to the service ALIAS.

    \b
    eval "$(allos env groq)"

    The key is printed as it is, because it is of no use otherwise; to a terminal only with --show.
    `allos exec` runs one program in this environment and prints nothing.
    """
    from allos import settings

    flags["provider"] = options.named(alias, flags["provider"])
    target = settings.load(**flags).resolve()
    for line in target.why if verbose else target.notices:
        terminal.say(line)
    if target.base_url is None:
        raise terminal.Failed(
            "The embedded model runs only as long as a program does. Use `allos exec -p local -- PROGRAM` instead.", 2
        )
    if target.api_key is not None and not show and sys.stdout is not None and sys.stdout.isatty():
        raise terminal.Failed(
            "This would show the key on the screen. "
            f'Use eval "$(allos env {target.endpoint.alias})", or add --show to see it.',
            2,
        )
    needed = _needed(variables(target, flags["env_file"]))
    terminal.print_lines(_SHELLS[shell](name, value) for name, value in needed.items())


def _needed(found: Mapping[str, str | None]) -> dict[str, str | None]:
    """The variables without those that are to be taken away and are not there."""
    return {name: value for name, value in found.items() if value is not None or name in os.environ}
