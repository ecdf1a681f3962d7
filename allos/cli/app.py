"""The command line: its options, its subcommands, and the prompt as what it does by default."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any, Final

import click

from allos import __version__
from allos.cli import options

__all__ = ["app"]

# A command's name, the module that holds it, and its name there. A module is imported when its command is used or
# listed, so it keeps its own heavy imports inside its functions.
COMMANDS: Final = {
    "config": "allos.cli.config:config",
    "env": "allos.cli.environment:environment",
    "exec": "allos.cli.execute:execute",
    "local": "allos.cli.local:local",
    "models": "allos.cli.models:models",
    "probe": "allos.cli.probe:probe",
    "providers": "allos.cli.providers:providers",
}


class App(click.Group):
    """A group whose words are a prompt unless the first one is a command's name.

    Options may stand before and after the prompt, and before a command's name too, which then receives them.
    After `--` every word belongs to the prompt.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Tell a command from a prompt."""
        place = self._command_place(ctx, args)
        if place is not None:
            return super().parse_args(ctx, [args[place], *args[:place], *args[place + 1 :]])
        ctx.allow_interspersed_args = True
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C passes as `click.Abort`, before click writes an empty line for it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None

    def _command_place(self, ctx: click.Context, args: list[str]) -> int | None:
        _, words, _ = self.make_parser(ctx).parse_args(args=list(args))
        place = len(args) - len(words)
        if not words or words[0] not in COMMANDS or (place and args[place - 1] == "--"):
            return None
        return place


def _no_options(ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]) -> Any:
    """Refuse a pair that holds an option of the command, or `NAME=VALUE`: the next word would be lost."""
    own = {"--", *(name for known in ctx.command.get_params(ctx) for name in (*known.opts, *known.secondary_opts))}
    for pair in pairs:
        if (word := next((word for word in pair if word.partition("=")[0] in own), None)) is not None:
            raise click.BadParameter(
                f"-o takes a name and a value, and {word!r} is an option of its own. "
                f"Where it is meant as a text, write '{json.dumps(word)}'."
            )
        if "=" in pair[0]:
            name, _, value = pair[0].strip("=").partition("=")
            raise click.BadParameter(f"-o takes a name and a value as two words: -o {name} {value or 'VALUE'}.")
    return pairs


@click.group(
    cls=App,
    invoke_without_command=True,
    subcommand_metavar="[PROMPT]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`allos -- models` sends the word as a prompt; so does any prompt of several words in quotes.",
)
@options.connection
@options.asking
@click.option(
    "-o",
    "--option",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    callback=_no_options,
    help="Any other field of the request.",
)
@click.option("--stream/--no-stream", default=None, help="Show the answer as it comes [default], or when it is whole.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole reply as JSON.")
@options.verbose
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context, /, **given: Any) -> int | None:
    """Ask a model and print its answer.

    The words are the prompt; standard input is added to it.

    \b
    allos "What is the capital of France?"
    cat notes.txt | allos -p groq "Sum up"
    allos -p chat_completions --base-url http://localhost:1234/v1 "Hello"
    """
    if ctx.invoked_subcommand is not None:
        return None
    from allos.cli.ask import ask
    from allos.cli.prompt import compose

    prompt = compose(ctx.args)
    if prompt is None:
        click.echo(ctx.get_help(), err=True)
        return 2
    return ask(prompt, **given)
