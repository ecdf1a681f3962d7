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
    file = _own_file(found.environ)
    if not as_json:  # what is set is shown also where it leads nowhere
        cells = [(row["setting"], _cell(row), row["origin"]) for row in rows]
        terminal.print_table([("SETTING", "VALUE", "FROM"), *cells])
    target = found.resolve(needs_key=False, needs_other_keys=False)
    if as_json:
        terminal.print_json({"settings": rows, "file": file, "use": _used(target)})
    else:
        terminal.print_lines(["", f"Your own file: {file or 'none, as there is no home folder'}", *target.why])


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
