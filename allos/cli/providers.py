"""`allos providers`: the services that Allos knows by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from allos.cli import options, terminal
from allos.endpoints import Endpoint, endpoints
from allos.errors import ConfigurationError

__all__ = ["providers"]


@click.command(short_help="List the services known by name.")
@click.option("--env-file", metavar="FILE", help="Look for keys in this .env file too.")
@options.as_json
def providers(env_file: str | None, as_json: bool) -> None:
    """List the services known by name, with address, API and whether a key is found.

    Where a service has both APIs, the one that is used stands first.
    """
    environ = _environ(env_file)
    rows = [_described(endpoint, environ) for endpoint in endpoints()]
    if as_json:
        terminal.print_json(rows)
        return
    heading = ("PROVIDER", "ADDRESS", "API", "KEY")
    table = [(row["provider"], row["address"] or "-", ", ".join(row["apis"]), row["key"]) for row in rows]
    terminal.print_table([heading, *table])


def _environ(env_file: str | None) -> Mapping[str, str]:
    if not (env_file or os.environ.get("ALLOS_ENV_FILE")):
        return os.environ
    from allos import settings  # reads the file, at the cost of importing pydantic-settings

    return settings.load(env_file=env_file).environ


def _described(endpoint: Endpoint, environ: Mapping[str, str]) -> dict[str, Any]:
    apis = [name for name, spoken in (("chat", endpoint.chat), ("responses", endpoint.responses)) if spoken]
    apis.sort(key=lambda name: name != endpoint.prefers)
    return {
        "provider": endpoint.alias,
        "address": _address(endpoint, environ),
        "apis": apis,
        "key": _key(endpoint, environ),
    }


def _address(endpoint: Endpoint, environ: Mapping[str, str]) -> str | None:
    """The address that a prompt would go to, or the table's where that one is not complete."""
    try:
        return endpoint.address(environ)[0]
    except ConfigurationError:
        return endpoint.base_url


def _key(endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    """What stands in the column about the key: found where, missing where, not needed, or that the service is gone."""
    if endpoint.retired:
        return f"retired {endpoint.retired}"
    for variable in endpoint.key_variables:
        if environ.get(variable, "").strip():
            return f"{variable} found"
    if not endpoint.needs_key:
        return "not needed"
    return f"{endpoint.key_variables[0]} missing" if endpoint.key_variables else "missing"
