"""Ways to an object of a schema, from the strictest that a service knows down to reading it out of prose.

The table says which ways a service has. What it turns out to refuse or to ignore is remembered for this process, by
base URL, API and model. Nothing here does I/O: both colours of client climb down the same ladder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import openai

from allos.failures import is_missing_model, is_too_long
from allos.messages import (
    Choice,
    Delta,
    Message,
    Note,
    OutputFormat,
    Reply,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Wire,
)
from allos.settings import Target
from allos.wire.dialect import Dialect
from allos.wire.dialect.format import in_words

__all__ = ["Ladder", "rungs"]

_MOST = 3  # requests for one answer, those that were refused included
_REFUSED = (400, 404, 415, 422, 501)
_ABOUT_THE_FORM = re.compile(
    r"response_format|json_schema|json_object|json.?mode|schema|structured|text\.format|tool|function|grammar|guided",
    re.IGNORECASE,
)
_Place = tuple[str | None, Wire, str | None]
_learned: dict[_Place, str] = {}  # where a lower rung than the table's first has held


def rungs(dialect: Dialect, wire: Wire) -> tuple[str, ...]:
    """The ways that an endpoint has, the best first: json_schema, tool (a forced call), json_object, prompt."""
    its = dialect if wire == "chat" else dialect.responses
    if its.structured is not None:
        return its.structured
    forms, choices = its.response_format, its.tool_choice
    can_force = choices is None or not {"function", "required", "any"}.isdisjoint(choices)
    ways = {
        "json_schema": forms is None or "json_schema" in forms,
        "tool": can_force and "tools" not in its.refuse,
        "json_object": forms is None or "json_object" in forms,
        "prompt": True,
    }
    return tuple(way for way, there in ways.items() if there)


class Ladder:
    """The way of one call to its object: `ask` writes the request, `read` takes the answer, the rest steps down."""

    def __init__(self, wanted: OutputFormat, target: Target, request: Request) -> None:
        self._wanted = wanted
        self._place: _Place = (target.base_url, target.speaks, request.model or target.model)
        ways = rungs(target.endpoint.dialect, target.speaks)
        is_object = (wanted.schema or {}).get("type", "object") == "object"
        self._rungs = [way for way in ways if _serves(way, is_object=is_object, has_tools=bool(request.tools))]
        self._rungs = self._rungs or ["prompt"]
        if (learned := _learned.get(self._place)) in self._rungs:
            del self._rungs[: self._rungs.index(learned)]
        self._left = _MOST
        self._asked_again: str | None = None
        self._is_ignored = False

    @property
    def rung(self) -> str:
        """The way that is being tried."""
        return self._rungs[0]

    def ask(self, request: Request) -> Request:
        """The request in the form of this rung."""
        if self.rung == "json_schema":
            return request.replace(format=self._wanted)
        if self.rung == "tool":
            tool = Tool(self._name, self._wanted.description, self._wanted.schema, self._wanted.strict)
            return request.replace(tools=(tool,), tool_choice=ToolChoice("tool", self._name))
        form = OutputFormat("json_object") if self.rung == "json_object" else None
        return request.replace(format=form, messages=_with_instruction(request.messages, self._wanted.schema))

    @property
    def _name(self) -> str:
        return self._wanted.name or "answer"

    def refused(self, error: openai.APIStatusError) -> bool:
        """Whether the service refuses this way and there is another, on which to ask again."""
        text = f"{error.param} {error.message} {error.body}"
        is_about_it = error.status_code in _REFUSED and bool(_ABOUT_THE_FORM.search(text))
        if not is_about_it or is_missing_model(error) or is_too_long(error):
            return False
        return self._step_down()

    def misfit(self, reply: Reply, reason: str, *, is_prose: bool) -> tuple[Message, ...]:
        """What to add to the talk so that the answer fits next time; nothing where it was asked often enough.

        A text without any object, or one instead of a forced call, says that the service ignores this way, so the
        next one is taken.
        """
        if self._asked_again is not None or self._left <= 1:
            return ()
        if not ((is_prose or self._is_ignored) and self._step_down()):
            self._left -= 1
        self._asked_again, self._is_ignored = reason, False
        wish = f"This does not fit the JSON schema: {reason}. Answer again, with the JSON object and nothing else."
        return Message.assistant(reply.text), Message.user(wish)

    def _step_down(self) -> bool:
        if len(self._rungs) == 1 or self._left <= 1:
            return False
        self._left -= 1
        if self._left == 1:  # the last try goes to the way that every service has
            del self._rungs[:-1]
        else:
            del self._rungs[0]
        return True

    def read(self, reply: Reply) -> Reply:
        """The reply with the object as its text, and a note on the way to it."""
        notes = [Note("routed", "schema", _SAID[self.rung])]
        if self._asked_again is not None:
            notes.append(Note("repaired", "schema", f"it was asked again, as {self._asked_again}"))
        if self.rung == "tool":
            self._is_ignored = all(call.name != self._name for call in reply.tool_calls)
            choices = [replace(choice, **self._as_text(choice)) for choice in reply.choices]
            reply = replace(reply, choices=tuple(choices))
        return replace(reply, notes=(*reply.notes, *notes))

    def _as_text(self, choice: Choice) -> dict[str, Any]:
        """The changes to a choice that make the forced call its text."""
        message = choice.message
        objects = [Text(call.arguments) for call in message.tool_calls if call.name == self._name]
        if not objects:
            return {}
        others = [part for part in message.parts if not isinstance(part, (Text, ToolCall))]
        finish = "stop" if choice.finish_reason == "tool_calls" else choice.finish_reason
        return {"message": replace(message, parts=(*others, objects[0])), "finish_reason": finish}

    def shown(self, delta: Delta) -> Delta:
        """A delta of the stream as the caller sees it: the arguments of the forced call are the text."""
        if self.rung != "tool" or (delta.tool_call is None and not isinstance(delta.part, ToolCall)):
            return delta
        text = delta.tool_call.arguments if delta.tool_call is not None else ""
        part = None if isinstance(delta.part, ToolCall) else delta.part
        return replace(delta, text=delta.text + text, tool_call=None, part=part)

    def held(self) -> None:
        """Remember the way that led to an object, for the next call."""
        _learned[self._place] = self.rung


_SAID = {
    "json_schema": "asked for as json_schema",
    "tool": "asked for as a call that is forced",
    "json_object": "asked for as json_object, with the schema in the prompt",
    "prompt": "asked for in the prompt",
}


def _serves(way: str, *, is_object: bool, has_tools: bool) -> bool:
    """Whether a way fits the schema and the call: a forced call would keep the caller's own tools from being used."""
    if way == "tool":
        return is_object and not has_tools
    return is_object or way != "json_object"


def _with_instruction(messages: Sequence[Message], schema: Any) -> tuple[Message, ...]:
    """The messages with the schema in words, after those of the system that open the talk."""
    places = (place for place, message in enumerate(messages) if message.role not in ("system", "developer"))
    start = next(places, len(messages))
    return (*messages[:start], Message.system(in_words(schema)), *messages[start:])
