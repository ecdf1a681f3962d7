"""Tool choices and schemas in the forms that a service takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allos.errors import Unsupported
from allos.messages import Note
from allos.wire.dialect.values import Dialect
from allos.wire.schema import without_references

__all__ = ["choose", "choose_among", "simplify_schemas", "unknown_tool"]

Body = dict[str, Any]


def choose(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    """Say which tools there are and which are to be called."""
    if not dialect.empty_tools and not body.get("tools") and ("tools" in body or "tool_choice" in body):
        _leave_out_tools(body)
        notes.append(Note("changed", "tools", "this service takes no empty list of tools: it was not sent"))
    choose_among(body, dialect.tool_choice, notes)


def choose_among(body: Body, accepted: tuple[str, ...] | None, notes: list[Note]) -> None:
    """Say a tool choice in the forms that the service takes. Fewer tools say what `none` and names would have.

    Raises `Unsupported` for the name of a tool that is not there.
    """
    choice = body.get("tool_choice")
    form = choice.get("type") if isinstance(choice, Mapping) else choice
    if accepted is None or form is None or form in accepted:
        return
    if form == "none":
        _leave_out_tools(body)
        notes.append(Note("changed", "tool_choice", "this service does not obey 'none': the tools were not sent"))
        return
    names, form = _chosen(choice, form)
    if names is not None:
        tools = body.get("tools") or ()
        if (said := unknown_tool(names, [_name(tool) for tool in tools])) is not None:
            raise Unsupported(said, param="tool_choice")
        body["tools"] = [tool for tool in tools if _name(tool) in names]
        notes.append(Note("changed", "tools", f"this service can't be told to choose among tools: only {names} sent"))
    if form == "required" and "required" not in accepted:
        form = "any" if "any" in accepted else None
    if form is None:
        del body["tool_choice"]
        notes.append(Note("left out", "tool_choice", "this service can't be made to call a tool"))
    elif form == "auto" and form not in accepted:
        del body["tool_choice"]
        notes.append(Note("changed", "tool_choice", "it was not sent: 'auto' is what this service does"))
    elif form != choice:
        body["tool_choice"] = form
        notes.append(Note("changed", "tool_choice", f"said as {form!r}, as this service takes no other form"))


def unknown_tool(names: Sequence[str | None], known: Sequence[str]) -> str | None:
    """What to say of a tool choice that names a tool which is not there; None where all are."""
    unknown = [name for name in names if name not in known]
    if not unknown:
        return None
    there = f"the tools are {', '.join(map(repr, known))}" if known else "there are no tools"
    return f"tool_choice names {unknown[0]!r}, but {there}."


def _chosen(choice: Any, form: str) -> tuple[list[str] | None, str | None]:
    """The names that a tool choice allows, None for all, and the word for how much it asks."""
    if not isinstance(choice, Mapping):
        return None, form
    if form == "allowed_tools":
        inner = choice.get("allowed_tools", choice)
        return [_name(tool) for tool in inner.get("tools", ())], inner.get("mode", "auto")
    return [_name(choice)], "required"


def _name(tool: Mapping[str, Any]) -> str:
    inner = tool.get(str(tool.get("type")), tool)
    return str(inner.get("name", "")) if isinstance(inner, Mapping) else ""


def _leave_out_tools(body: Body) -> None:
    for name in ("tools", "tool_choice", "parallel_tool_calls"):
        body.pop(name, None)


def simplify_schemas(body: Body, dialect: Dialect, notes: list[Note]) -> None:
    """Write the schemas of tools and of the answer with the keywords that the service takes."""
    if dialect.schema_refs and not dialect.schema_drop:
        return
    tools = body.get("tools")
    if isinstance(tools, list):
        body["tools"] = [_with_schema(tool, "tools[]", "function", "parameters", dialect, notes) for tool in tools]
    wanted = body.get("response_format")
    if isinstance(wanted, Mapping):
        body["response_format"] = _with_schema(wanted, "response_format", "json_schema", "schema", dialect, notes)


def _with_schema(owner: Any, place: str, outer: str, inner: str, dialect: Dialect, notes: list[Note]) -> Any:
    holder = owner.get(outer) if isinstance(owner, Mapping) else None
    schema = holder.get(inner) if isinstance(holder, Mapping) else None
    if not isinstance(schema, Mapping):
        return owner
    simple = {key: value for key, value in schema.items() if key not in dialect.schema_drop}
    if not dialect.schema_refs:
        simple = without_references(simple)
    if simple == schema:
        return owner
    said = "written with the keywords that this service takes"
    notes.append(Note("changed", f"{place}.{outer}.{inner}", said))
    return {**owner, outer: {**holder, inner: simple}}  # type: ignore[dict-item]  # a mapping, as schema is one
