"""`allos config`: what is set, to what, and by what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from allos.cli import options, terminal

if TYPE_CHECKING:
    from allos.settings import Target

__all__ = ["config"]

MASK = "********"
_PASSWORD = re.compile(r"//[^/@\s]*@")


@click.command(short_help="Show each setting and where it comes from.")
@options.connection
@options.asking
@options.as_json
def config(as_json: bool, **flags: Any) -> None:
    """Show each setting, its value and where it comes from, and what a prompt would use now.

    The options are those of a prompt: give the same ones to see what they change.
    Secrets are masked.
    """
    from allos import settings

    found = settings.load(**flags)
    rows = [
        {"setting": name, "value": _shown(getattr(found, name)), "origin": found.origin(name)}
        for name in type(found).model_fields
    ]
    if as_json:
        target = found.resolve(needs_key=False)
        terminal.print_json({"settings": rows, "file": _own_file(found.environ), "use": _used(target)})
        return
    terminal.print_table([("SETTING", "VALUE", "FROM"), *((row["setting"], _cell(row), row["origin"]) for row in rows)])
    lines = [f"Your own file: {_own_file(found.environ) or 'none, as there is no home folder'}"]
    terminal.print_lines(["", *lines, *found.resolve(needs_key=False).why])


def _shown(value: Any) -> Any:
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        return MASK
    return _PASSWORD.sub(f"//{MASK}@", value) if isinstance(value, str) else value


def _cell(row: Mapping[str, Any]) -> str:
    value = row["value"]
    return "-" if value is None or value == () else ", ".join(value) if isinstance(value, tuple) else str(value)


def _used(target: Target) -> dict[str, Any]:
    return {
        "provider": target.endpoint.alias,
        "base_url": target.base_url,
        "model": target.model,
        "speaks": target.speaks,
        "key_origin": target.key_origin,
        "why": target.why,
    }


def _own_file(environ: Mapping[str, str]) -> str | None:
    from allos.endpoints import config_folder

    folder = config_folder(environ)
    return None if folder is None else str(folder / "config.toml")
