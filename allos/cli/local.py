"""`allos local`: the models that run inside Allos itself."""

from __future__ import annotations

import sys

import click

from allos.cli import options, terminal

__all__ = ["local"]


@click.group(short_help="Get and list the models that run on this machine.")
def local() -> None:
    """Get and list the models that run on this machine without any server."""


@local.command("pull", short_help="Get the weights of a model.")
@click.argument("name", required=False)
def pull(name: str | None) -> None:
    """Get the weights of the model NAME, or of the small default model, and print their path.

    A download that broke off is resumed. `allos local list` shows the names.
    """
    from allos import weights

    model = weights.find(name)
    if not model.installed:
        with click.progressbar(length=model.size, label=f"Getting {model.name}", file=sys.stderr) as bar:

            def show(done: int, total: int) -> None:
                bar.length = total
                bar.update(done - bar.pos)

            try:
                weights.pull(model.name, show)
            except weights.NotAvailable as error:
                raise terminal.Failed(str(error), 5) from None
    terminal.print_lines([str(model.path)])


@local.command("list", short_help="List the models known by name.")
@options.as_json
def list_models(as_json: bool) -> None:
    """List the models known by name, with size and licence, and whether they are here."""
    from allos import weights

    rows = [
        {
            "name": model.name,
            "title": model.title,
            "size": model.size,
            "licence": model.licence,
            "good_for": model.good_for,
            "installed": model.installed,
            "path": str(model.path),
        }
        for model in weights.models()
    ]
    if as_json:
        terminal.print_json(rows)
        return
    heading = ("NAME", "SIZE", "LICENCE", "HERE", "GOOD FOR")
    cells = [
        (model.name, f"{model.size / 1e6:,.0f} MB", model.licence, "yes" if model.installed else "no", model.good_for)
        for model in weights.models()
    ]
    terminal.print_table([heading, *cells])
