"""Ways to an object of a schema, from the strictest that a service knows down to reading it out of prose.

The table says which ways a service has. What it turns out to refuse or to ignore is remembered for this process, by
base URL, API, model and form. Nothing here does I/O: clients and drop-in, both colours, climb down the same ladder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
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
from allos.wire.dialect.format import ANY_OBJECT, in_words
from allos.wire.objects import extracted
from allos.wire.schema import problem, without_references

__all__ = ["Ladder", "fitting", "rungs"]

_MOST = 3  # requests for one answer, those that were refused or ignored included
_REFUSED = (400, 404, 415, 422, 501)
_ABOUT_THE_FORM = re.compile(
    r"response_format|json_schema|json_object|json.?mode|schema|structured|text\.format|tool|function|grammar|guided",
    re.IGNORECASE,
)
_ABOUT_THE_SCHEMA = re.compile(r"invalid\W+(json\W+)?schema", re.IGNORECASE)  # this schema, not schemas at all
_Place = tuple[str | None, Wire, str | None, str]
_learned: dict[_Place, str] = {}  # where a lower rung than the table's first has held, or a rung was ignored


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
    """The way of one call to its object: `ask` writes the request, `unpacked` reads the answer, the rest steps down.

    `wanted` is what the caller asked for: an object of a schema, or any JSON object.
    """

    def __init__(
        self, wanted: OutputFormat, target: Target, *, wire: Wire, model: str | None, has_tools: bool = False
    ) -> None:
        self._wanted = wanted
        self._place: _Place = (target.base_url, wire, model, wanted.kind)
        is_object = self._schema.get("type", "object") == "object"
        ways = rungs(target.endpoint.dialect, wire)
        if wanted.kind == "json_object":
            ways = tuple(way for way in ("json_object", "json_schema", "prompt") if way in ways)
        self._rungs = [way for way in ways if _serves(way, is_object=is_object, has_tools=has_tools)] or ["prompt"]
        if (learned := _learned.get(self._place)) in self._rungs:
            del self._rungs[: self._rungs.index(learned)]
        self._left = _MOST
        self._is_asked_again = False
        self._faults: list[str] = []  # of the answers until now
        self._is_ignored = False
        self._is_typical = True  # whether what was refused will be refused to other schemas too

    @property
    def rung(self) -> str:
        """The way that is being tried."""
        return self._rungs[0]

    @property
    def is_as_wanted(self) -> bool:
        """Whether the caller's own request asks in this way already."""
        return self.rung == self._wanted.kind

    @property
    def is_enforced(self) -> bool:
        """Whether the service itself sees to it that the text of its answer is the object and nothing else."""
        return self.rung in ("json_schema", self._wanted.kind)

    @property
    def _schema(self) -> Mapping[str, Any]:
        return self._wanted.schema or ANY_OBJECT

    def ask(self, request: Request) -> Request:
        """The request in the form of this rung."""
        if self.is_as_wanted:
            return request.replace(format=self._wanted)
        if self.rung == "json_schema":
            return request.replace(format=OutputFormat("json_schema", self._name, self._schema))
        if self.rung == "tool":
            tool = Tool(self._name, self._wanted.description, self._wanted.schema, self._wanted.strict)
            return request.replace(format=None, tools=(tool,), tool_choice=ToolChoice("tool", self._name))
        form = OutputFormat("json_object") if self.rung == "json_object" else None
        return request.replace(format=form, messages=_with_instruction(request.messages, self._wanted.schema))

    @property
    def _name(self) -> str:
        return self._wanted.name or "answer"

    def refused(self, error: openai.APIStatusError) -> bool:
        """Whether the service refuses this way and there is another, on which to ask again."""
        text = f"{error.param} {error.message} {error.body}"
        is_about_it = error.status_code in _REFUSED and bool(_ABOUT_THE_FORM.search(text))
        if not is_about_it or is_missing_model(error) or is_too_long(error) or not self._step_down():
            return False
        self._is_typical = self._is_typical and not _ABOUT_THE_SCHEMA.search(text)
        return True

    def misfit(self, reply: Reply, reason: str) -> tuple[Message, ...] | None:
        """What to add to the talk so that the answer fits next time; None where it was asked often enough.

        Words without any object, in answer to a schema or a forced call, say that the service ignores this way: the
        model never saw the schema, so the next way is taken and nothing is said of it.
        """
        is_ignored = self._is_ignored or (extracted(reply.text) is None and self.rung == "json_schema")
        self._is_ignored = False
        if is_ignored and self._step_down():
            self._faults.append(reason)
            return ()
        if self._left <= 1 or self._is_asked_again:
            return None
        self._is_asked_again = True
        if extracted(reply.text) is not None or not self._step_down():
            self._left -= 1
        self._faults.append(reason)
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

    def notes(self) -> list[Note]:
        """What to tell of the way to the object."""
        again = [Note("repaired", "schema", f"it was asked again, as {fault}") for fault in self._faults]
        return [Note("routed", "schema", _SAID[self.rung]), *again]

    def unpacked(self, reply: Reply) -> Reply:
        """The reply with the object as its text."""
        if self.rung != "tool":
            return reply
        self._is_ignored = not reply.tool_calls
        return replace(reply, choices=tuple(replace(choice, **self._as_text(choice)) for choice in reply.choices))

    def _as_text(self, choice: Choice) -> dict[str, Any]:
        """The changes to a choice that make the forced call its text."""
        message = choice.message
        objects = [Text(call.arguments) for call in message.tool_calls]
        if not objects:
            return {}
        others = [part for part in message.parts if not isinstance(part, (Text, ToolCall))]
        return {
            "message": replace(message, parts=(*others, objects[0])),
            "finish_reason": _without_a_call(choice.finish_reason),
        }

    def shown(self, delta: Delta) -> Delta:
        """A delta of the stream as the caller sees it: the arguments of the forced call are the text."""
        if self.rung != "tool":
            return delta
        if delta.finish_reason is not None:
            delta = replace(delta, finish_reason=_without_a_call(delta.finish_reason))
        if delta.tool_call is None and not isinstance(delta.part, ToolCall):
            return delta
        text = delta.tool_call.arguments if delta.tool_call is not None else ""
        part = None if isinstance(delta.part, ToolCall) else delta.part
        return replace(delta, text=delta.text + text, tool_call=None, part=part)

    def concerns(self, reply: Reply) -> bool:
        """Whether a whole reply is to be the object: it calls no tools, is not refused or cut, and the only one."""
        is_one = len(reply.choices) == 1 and not reply.tool_calls
        return is_one and not reply.refusal and reply.finish_reason in ("stop", None)

    def fault(self, reply: Reply) -> str | None:
        """Why the text of a reply does not fit the schema; None where it does."""
        try:
            fitting(reply.text, self._schema)
        except ValueError as error:
            return str(error)
        return None

    def held(self) -> None:
        """Remember the way that led to an object, for the next call."""
        if self._is_typical:
            _learned[self._place] = self.rung

    def ignored_if(self, reply: Reply) -> None:
        """Let the next call begin lower, where words around the object show that this way is ignored.

        After a forced call that is the way that every service has: not each stream is to fail until it is found.
        """
        text = reply.text.strip()
        if text and extracted(text) != text and len(self._rungs) > 1 and self._is_typical:
            _learned[self._place] = self._rungs[1] if self.rung == "json_schema" else self._rungs[-1]


def fitting(text: str, schema: Mapping[str, Any]) -> Any:
    """The object that a text is. Raises `ValueError` that says why it is none or does not fit the schema."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error})") from error
    except RecursionError:
        raise ValueError("it is JSON that is nested too deep") from None
    if (wrong := problem(value, without_references(schema))) is not None:
        raise ValueError(wrong)
    return value


def _without_a_call(finish_reason: Any) -> Any:
    """How an answer ended, when its one call is taken for its text."""
    return "stop" if finish_reason == "tool_calls" else finish_reason


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
