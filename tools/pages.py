"""Writes the parts of the documentation that the program itself knows: `make pages`.

`docs/endpoints.md` is made from the table of endpoints, and in every page the output below `$ allos … --help` is
what that command says. With `--check` nothing is written, and the exit status says whether something would be.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from allos import endpoints
from allos.cli.app import app
from allos.endpoints import Endpoint

DOCS = Path(__file__).parents[1] / "docs"
TABLE = DOCS / "endpoints.md"
_BEGIN = "<!-- made by `make pages` from allos/endpoints.toml: edit the table, not this -->\n"


def main(arguments: list[str]) -> int:
    """Write what is out of date, or with `--check` only name it."""
    os.environ["COLUMNS"] = "80"
    stale = []
    for page in sorted(DOCS.rglob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = with_helps(old)
        if page == TABLE:
            built_in = endpoints.table({})  # without the rows of who runs this
            new = old.partition(_BEGIN)[0] + _BEGIN + "\n" + "\n".join(table(built_in))
        if new != old:
            stale.append(page)
            if "--check" not in arguments:
                page.write_text(new, encoding="utf-8")
    for page in stale:
        print(f"{page} {'is out of date' if '--check' in arguments else 'was written anew'}")
    return 1 if stale and "--check" in arguments else 0


def with_helps(text: str) -> str:
    """The page with each help text as the command gives it now."""
    pattern = re.compile(
        r"(^\$ allos(?P<words>(?: \w+)*) --help\n)(?P<said>.*?)(?=^```|^\$ )", re.MULTILINE | re.DOTALL
    )
    return pattern.sub(lambda found: found[1] + help_of(found["words"].split()), text)


def help_of(words: list[str]) -> str:
    """What `allos WORDS --help` says."""
    command: click.Command = app
    context = click.Context(app, info_name="allos", **app.context_settings)
    for word in words:
        assert isinstance(command, click.Group)
        inner = command.get_command(context, word)
        assert inner is not None, f"there is no command {word!r}"
        command = inner
        context = click.Context(command, info_name=word, parent=context, **command.context_settings)
    return f"{command.get_help(context)}\n"


def table(rows: Iterable[Endpoint]) -> list[str]:
    """The lines of the page: an overview, then a section for each service."""
    rows = list(rows)
    lines = ["## The table", "", "| provider | service | APIs | key |", "| --- | --- | --- | --- |"]
    lines += [f"| [`{row.alias}`](#{row.alias}) | {row.title} | {apis(row)} | {key(row)} |" for row in rows]
    for row in rows:
        lines += ["", *section(row)]
    return [*lines, ""]


def apis(row: Endpoint) -> str:
    """The APIs that a service has, the one that is used first."""
    names = {"chat": "Chat Completions", "responses": "Responses"}
    known = [name for name in names if getattr(row, name)]
    known.sort(key=lambda name: name != row.prefers)
    said = [f"**{names[name]}**" if name == row.prefers and len(known) > 1 else names[name] for name in known]
    return ", ".join(said) + (", Responses where it has them" if row.responses is None and not row.local else "")


def key(row: Endpoint) -> str:
    """The first variable of a service's key, or that the service is gone."""
    if row.retired:
        return f"retired {row.retired}"
    if not row.key_variables:
        return "needed" if row.needs_key else "none"
    return f"`{row.key_variables[0]}`" + ("" if row.needs_key else ", if it wants one")


def section(row: Endpoint) -> list[str]:
    """One service: what the table says about it, and what is handled for it."""
    pages = [("documentation", row.docs_page), ("keys", row.keys_page)]
    links = ", ".join(f"[{name}]({page})" for name, page in pages if page)
    lines = [f"### {row.alias}", "", f"{row.title}{f': {links}' if links else ''}."]
    if row.retired:
        return [*lines, "", f"It was retired {row.retired}."]
    lines += ["", "| | |", "| --- | --- |"]
    facts = {
        "other names": _codes(row.other_names),
        "address": f"`{row.base_url}`" if row.base_url else "inside this process",
        "other addresses": _codes(row.other_base_urls),
        "address from": _codes(row.base_url_variables),
        "key from": _codes(row.key_variables),
        "APIs": apis(row),
        "keeps responses": {True: "yes", False: "no: Allos does", None: ""}[row.stateful if row.responses else None],
        "default model": _model(row),
    }
    lines += [f"| {name} | {fact} |" for name, fact in facts.items() if fact]
    handled = [*deviations(row.dialect, WORDS), *deviations(row.dialect.responses, WORDS, "On its Responses API: ")]
    return [*lines, "", "What Allos does for it:", "", *(f"- {line}" for line in handled)] if handled else lines


def _model(row: Endpoint) -> str:
    if row.default_model is None:
        return ""
    return f"`{row.default_model}`" + (f" (as of {row.models_as_of})" if row.models_as_of else "")


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def deviations(dialect: Any, words: Mapping[str, Callable[[Any], str]], before: str = "") -> list[str]:
    """A sentence for each way in which a service deviates from OpenAI's API."""
    standard = type(dialect)()
    told = []
    for field in fields(dialect):
        value = getattr(dialect, field.name)
        if value != getattr(standard, field.name) and not hasattr(value, "__dataclass_fields__"):
            say = words.get(field.name, lambda value, name=field.name: f"{name} is {value!r}.")
            sentence = say(value)
            told.append(f"{before}{sentence[0].lower()}{sentence[1:]}" if before else sentence)
    return told


def _pairs(value: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}` as `{other}`" for name, other in value.items())


# What each deviation means for a caller. One that has no words here is told by name and value.
WORDS: Mapping[str, Callable[[Any], str]] = {
    "max_tokens_field": lambda name: f"The token limit is sent as `{name}`.",
    "rename": lambda names: f"Sent under another name: {_pairs(names)}.",
    "drop": lambda names: f"Left out, with a warning: {_codes(names)}.",
    "refuse": lambda names: f"Refused by name: {_codes(names)}.",
    "ignored": lambda names: f"Sent although the service ignores it, with a warning: {_codes(names)}.",
    "accepts": lambda names: f"Only these fields are sent: {_codes(names)}.",
    "n_max": lambda most: f"More than {most} answer to a request is refused.",
    "temperature_max": lambda most: f"A temperature above {most} becomes {most}.",
    "reasoning_effort": lambda words: f"`reasoning_effort` becomes the nearest of {_codes(words)}.",
    "stop_list": lambda _: "`stop` is sent as a list.",
    "logprobs_integer": lambda _: "`logprobs` is sent as the number of alternatives.",
    "stream_usage": lambda _: "`stream_options` is not sent.",
    "whole_defaults": lambda values: f"Added where nothing is streamed: {_pairs(values)}.",
    "developer_role": lambda _: "The role `developer` becomes `system`.",
    "system_messages": lambda where: f"System messages move to the start{', joined to one' if where == 'one' else ''}.",
    "alternation": lambda _: "Neighbouring messages of one role are joined, so that user and assistant take turns.",
    "string_content": lambda roles: f"Content that is only text is sent as a string, for {_codes(roles)}.",
    "refused_parts": lambda kinds: f"Content parts of these kinds are refused: {_codes(kinds)}.",
    "item_status": lambda _: "Earlier items go back without their status.",
    "image_urls": lambda _: "Pictures go as `data:` URLs; an address is refused, as Allos fetches none.",
    "null_fields": lambda _: "Fields of a message that are null are not sent.",
    "empty_assistant": lambda _: "Empty messages of the assistant are left out.",
    "prefix_field": lambda name: f"A last message of the assistant gets `{name}`.",
    "reasoning_replay": lambda name: f"Earlier reasoning goes back as `{name}`." if name else "No reasoning goes back.",
    "reasoning_filler": lambda _: "A tool call without reasoning gets an empty one, which the service insists on.",
    "tool_kinds": lambda kinds: f"Tools other than {_codes(kinds)} are refused.",
    "tool_choice": lambda forms: (
        f"Tool choices are said as {_codes(forms)}; what has no such form is left out, noted."
        if forms
        else "No tool choice is sent."
    ),
    "json_arguments": lambda _: "Arguments of an earlier tool call that are no JSON go back as the text in an object.",
    "format_field": lambda name: f"The form of the answer is sent as `{name}`.",
    "structured": lambda ways: f"An object is asked for in these ways, in this order: {_codes(ways)}.",
    "tool_call_id_length": lambda length: f"Ids of tool calls become {length} letters and digits.",
    "empty_tools": lambda _: "An empty list of tools is not sent.",
    "response_format": lambda forms: f"Forms of answers: {_codes(forms) or 'none'}; for another the prompt asks.",
    "schema_refs": lambda _: "`$ref` in schemas is written out.",
    "schema_drop": lambda names: f"Left out of schemas: {_codes(names)}.",
    "think_tags": lambda _: "Reasoning between `<think>` and `</think>` is told apart from the answer.",
    "quota_codes": lambda codes: f"Not tried again, as no waiting helps: {_codes(codes)}.",
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
