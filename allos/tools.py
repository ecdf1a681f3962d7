"""Python functions as tools: described by their type hints and docstrings, called with checked arguments."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pydantic
import pydantic_core

from allos.errors import ConfigurationError
from allos.messages import Message, Part, Text, Tool, ToolCall, ToolResult

__all__ = ["Toolbox", "function_tool", "why_no_schema"]

ToolLike = Tool | Mapping[str, Any] | Callable[..., Any]

# What pydantic says of a type that JSON can't describe, and how we say it.
_NO_SCHEMA = (
    (r"Unable to generate pydantic-core schema for (.*)\. Set `arbitrary_types_allowed.*", r"\1 has no JSON schema"),
    (r"Cannot generate a JsonSchema for core_schema\.\w+( .*)?", r"a part of it has no JSON schema\1"),
    (r"`TypeAdapter\[.* is not fully defined;.*", "it names a type that is not defined"),
)


def function_tool(function: Callable[..., Any]) -> Tool:
    """A function as a tool: its name, its docstring, and a JSON schema of its parameters.

    Raises `ConfigurationError` for a parameter that has no JSON schema, and for a lambda, which has no name.
    """
    name = _name(function)
    if name == "<lambda>":
        raise ConfigurationError("A tool needs a name, and a lambda has none: write it as a def.")
    try:
        described: Any = _routine(function)  # pydantic describes its parameters, though the types do not say so
        schema = pydantic.TypeAdapter[Any](described).json_schema()
    except NameError as error:
        raise ConfigurationError(f"Function {name!r} can't be a tool: {error} in its module.") from None
    except (pydantic.PydanticUserError, TypeError) as error:
        raise ConfigurationError(
            f"Function {name!r} can't be a tool: {why_no_schema(error)}. Pass a def whose parameters have JSON types."
        ) from None
    if schema.get("type") != "object":
        raise ConfigurationError(
            f"Function {name!r} can't be a tool: its parameters can't be given by name, as positional-only ones."
        )
    schema.pop("title", None)
    return Tool(name, inspect.getdoc(_documented(function)) or None, schema)


def why_no_schema(error: Exception) -> str:
    """Why pydantic makes no JSON schema of something, in a few words."""
    reason = str(error).partition("\n")[0].rstrip(".")
    for said, words in _NO_SCHEMA:
        reason = re.sub(said, words, reason)
    return reason


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(_documented(function), "__name__", type(function).__name__))


def _documented(function: Callable[..., Any]) -> Any:
    """What holds the name and the docstring: of a partial function, the function itself."""
    return function.func if isinstance(function, functools.partial) else function


def _routine(function: Callable[..., Any]) -> Callable[..., Any]:
    """What pydantic can describe and call: for a callable object, its `__call__`."""
    if inspect.isroutine(function) or isinstance(function, (functools.partial, type)):
        return function
    return function.__call__  # type: ignore[no-any-return,operator]  # the bound method itself is wanted


class Toolbox:
    """The tools of one conversation: what the model is told, and the functions that answer it."""

    def __init__(self, tools: Iterable[ToolLike] = ()) -> None:
        self.tools: list[Tool] = []
        self._functions: dict[str, Callable[..., Any]] = {}
        if isinstance(tools, (str, Mapping)) or not isinstance(tools, Iterable):
            raise ConfigurationError(f"tools={tools!r} is no list of tools: put it into one, as in tools=[weather].")
        for tool in tools:
            if isinstance(tool, Tool):
                self.tools.append(tool)
            elif isinstance(tool, Mapping):
                self.tools.append(_tool_from_dict(tool))
            elif callable(tool):
                described = function_tool(tool)
                if described.name in self._functions:
                    raise ConfigurationError(f"Two tools are named {described.name!r}; rename one of the functions.")
                self.tools.append(described)
                self._functions[described.name] = _routine(tool)
            else:
                raise ConfigurationError(f"{tool!r} is not a tool: pass a function, a Tool or an OpenAI-style dict.")

    def answers(self, calls: Sequence[ToolCall]) -> bool:
        """Whether functions are registered here for these calls; one that is unknown is answered with an error."""
        described = {tool.name for tool in self.tools} - set(self._functions)
        return bool(calls) and bool(self._functions) and not any(call.name in described for call in calls)

    def run(self, calls: Sequence[ToolCall]) -> list[Message]:
        """Run the calls, several side by side, and return their results in the order of the calls."""
        if len(calls) == 1:
            return [self._run(calls[0])]
        with ThreadPoolExecutor(len(calls), thread_name_prefix="allos-tool") as pool:
            return list(
                pool.map(
                    lambda pair: pair[0].run(self._run, pair[1]), [(contextvars.copy_context(), call) for call in calls]
                )
            )

    async def arun(self, calls: Sequence[ToolCall]) -> list[Message]:
        """The same for asynchronous programs; plain functions run in threads."""
        return list(await asyncio.gather(*(self._arun(call) for call in calls)))

    def _run(self, call: ToolCall) -> Message:
        try:
            value = self._call(call)
            if inspect.isawaitable(value):
                value = asyncio.run(_result_of(value))
            return _answer(call, value)
        except Exception as error:  # noqa: BLE001  # the tool is the caller's code: whatever it raises is the model's to read
            return _failed(call, error)

    async def _arun(self, call: ToolCall) -> Message:
        try:
            function = self._functions.get(call.name)
            if inspect.iscoroutinefunction(function):
                value = await self._call(call)
            else:
                value = await asyncio.to_thread(self._call, call)
                if inspect.isawaitable(value):
                    value = await value
            return _answer(call, value)
        except Exception as error:  # noqa: BLE001  # as in `_run`
            return _failed(call, error)

    def _call(self, call: ToolCall) -> Any:
        function = self._functions.get(call.name)
        if function is None:
            raise LookupError(f"There is no tool {call.name!r}; there are {', '.join(self._functions)}.")
        arguments = call.parsed()
        if arguments is None:  # some services send the text "null" for a tool without parameters
            arguments = {}
        if not isinstance(arguments, dict):
            raise TypeError(f"The arguments must be a JSON object, not {type(arguments).__name__}.")
        return pydantic.validate_call(function)(**arguments)


async def _result_of(value: Any) -> Any:
    return await value


def _failed(call: ToolCall, error: Exception) -> Message:
    return Message.tool(call.id, f"Error: {type(error).__name__}: {error}")


def _answer(call: ToolCall, value: Any) -> Message:
    return Message("tool", (ToolResult(call.id, _as_parts(value), call.kind),))


def _as_parts(value: Any) -> tuple[Part, ...]:
    if isinstance(value, str):
        return (Text(value),)
    if isinstance(value, get_args(Part)):
        return (value,)
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, get_args(Part)) for part in value):
        return tuple(value)
    return (Text(pydantic_core.to_json(value, fallback=str).decode()),)


def _tool_from_dict(tool: Mapping[str, Any]) -> Tool:
    """An OpenAI-style dict of either API."""
    from allos.wire import chat, responses

    kind = tool.get("type", "function")
    inner = tool.get(str(kind))
    if kind in ("function", "custom") and not (inner if isinstance(inner, Mapping) else tool).get("name"):
        raise ConfigurationError(f"The tool {tool!r} needs a name; allos.Tool(name, …) makes one.")
    codec = chat if isinstance(inner, Mapping) else responses
    described: Tool = codec.load_request({"tools": [tool]}).tools[0]
    return described
