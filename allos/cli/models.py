"""`allos models`: what an endpoint offers."""

from __future__ import annotations

from typing import Any

import click

from allos.cli import options, terminal
from allos.cli.service import connect

__all__ = ["models"]


@click.command(short_help="List the models that a service offers.")
@options.alias
@options.connection
@options.as_json
@options.verbose
def models(alias: str | None, as_json: bool, verbose: bool, **flags: Any) -> None:
    """List the models that the service ALIAS offers, one a line."""
    flags["provider"] = options.named(alias, flags["provider"])
    with connect(flags, verbose=verbose) as client:
        names = client.models()
    if as_json:
        terminal.print_json(names)
    else:
        terminal.print_lines(names)
