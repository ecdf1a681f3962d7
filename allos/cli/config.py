"""`allos config`: what is set, to what, and by what."""

from __future__ import annotations

from typing import Any

import click

from allos.cli import options, terminal

__all__ = ["config"]

MASKED = "********"


@click.command(short_help="Show each setting and where it comes from.")
@options.connection
@options.asking
@options.as_json
def config(as_json: bool, **flags: Any) -> None:
    """Show each setting, its value and where it comes from; secrets are masked.

    The options are those of a prompt: give the same ones to see what they change.
    """
    from pydantic import SecretStr

    from allos import settings

    found = settings.load(**flags)
    rows = []
    for name in type(found).model_fields:
        value = getattr(found, name)
        shown = MASKED if isinstance(value, SecretStr) else value
        rows.append({"setting": name, "value": shown, "origin": found.origin(name)})
    if as_json:
        terminal.print_json(rows)
        return
    table = [(row["setting"], _text(row["value"]), row["origin"]) for row in rows]
    terminal.print_table([("SETTING", "VALUE", "FROM"), *table])


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
