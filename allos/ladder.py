"""Ways to an object of a schema, from the strictest that a service knows down to reading it out of prose.

The table says which ways a service has. What it turns out to refuse or to ignore is remembered for this process, by
base URL, API, model and form. Nothing here does I/O: clients and drop-in, both colours, climb down the same ladder.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import openai

from allos.failures import is_missing_model, is_missing_route, is_too_long, said_by
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
from allos.wire.fits import kind_of, problem
from allos.wire.objects import extracted, values

__all__ = ["Ladder", "fitting", "rungs"]

_MOST = 3  # requests for one answer, those that were refused or ignored included
_REFUSED = (400, 404, 415, 422, 501)
_ABOUT_THE_FORM = re.compile(
    r"response_format|json_schema|json_object|json.?mode|schema|structured|text\.format|grammar|guided", re.IGNORECASE
)
_ABOUT_TOOLS = re.compile(r"tool|function", re.IGNORECASE)
_ABOUT_THE_SCHEMA = re.compile(r"invalid\W+(json\W+)?schema", re.IGNORECASE)  # this schema, not schemas at all
_ENOUGH = 2  # answers in a row in which a way was ignored; one may be the model's own choice of words


def rungs(dialect: Dialect, wire: Wire) -> tuple[str, ...]:
    """The ways that an endpoint has, the best first: json_schema, tool (a forced call), json_object, prompt.

    Every service has the last one, also where its row names others only.
    """
    its = dialect if wire == "chat" else dialect.responses
    if its.structured is not None:
        return its.structured if "prompt" in its.structured else (*its.structured, "prompt")
    forms, choices = its.response_format, its.tool_choice
    can_force = choices is None or not {"function", "required", "any"}.isdisjoint(choices)
    ways = {
        "json_schema": forms is None or "json_schema" in forms,
        "tool": can_force and "tools" not in its.refuse,
        "json_object": forms is None or "json_object" in forms,
        "prompt": True,
    }
    return tuple(way for way, there in ways.items() if there)


_Place = tuple[str | None, Wire, str, str]


class _Memory:
    """Which ways each place has refused or ignored, for the places that were asked last."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._useless: OrderedDict[_Place, set[str]] = OrderedDict()
        self._ignored: OrderedDict[_Place, Counter[str]] = OrderedDict()

    def useless(self, place: _Place) -> frozenset[str]:
        with self._lock:
            return frozenset(self._useless.get(place, ()))

    def learn(self, place: _Place, ways: Iterable[str]) -> None:
        """Remember that these ways lead nowhere."""
        with self._lock:
            self._useless.setdefault(place, set()).update(ways)
            self._trim(self._useless, place)

    def ignored(self, place: _Place, way: str) -> None:
        """Count an answer in which the way was ignored."""
        with self._lock:
            counts = self._ignored.setdefault(place, Counter())
            counts[way] += 1
            self._trim(self._ignored, place)
            is_enough = counts[way] >= _ENOUGH
        if is_enough:
            self.learn(place, (way,))

    def obeyed(self, place: _Place, way: str) -> None:
        """Forget such answers, as the way has led to an object."""
        with self._lock:
            if place in self._ignored:
                del self._ignored[place][way]

    def _trim(self, kept: OrderedDict[_Place, Any], place: _Place) -> None:
        kept.move_to_end(place)
        while len(kept) > self._most:
            kept.popitem(last=False)


_memory = _Memory()


class Ladder:
    """The way of one call to its object: `ask` writes the request, `unpacked` reads the answer, the rest steps down.

    `wanted` is what the caller asked for: an object of a schema, or any JSON object. `may_force`: a call of a tool may
    be forced, which would keep the caller's own tools from being used. `may_repeat`: an answer may be asked for again,
    which a service that keeps the conversation would write into it.
    """

    def __init__(
        self,
        wanted: OutputFormat,
        target: Target,
        *,
        wire: Wire,
        model: Any,
        may_force: bool = True,
        may_repeat: bool = True,
    ) -> None:
        self._wanted = wanted
        self.schema: Mapping[str, Any] = ANY_OBJECT if wanted.schema is None else wanted.schema
        self._place: _Place = (target.base_url, wire, str(model), wanted.kind)
        is_object = kind_of(self.schema) == "object"
        ways = rungs(target.endpoint.dialect, wire)
        if wanted.kind == "json_object":
            ways = tuple(way for way in ("json_object", "json_schema", "prompt") if way in ways)
        ways = tuple(way for way in ways if _serves(way, is_object=is_object, may_force=may_force)) or ("prompt",)
        useless = _memory.useless(self._place)
        self._rungs = [way for way in ways if way not in useless] or [ways[-1]]
        self._may_repeat = may_repeat
        self._left = _MOST
        self._is_asked_again = self._is_uncalled = False
        self._calls: dict[int, int] = {}  # the place of the first one in each choice of a stream
        self._faults: list[str] = []  # of the answers until now
        self._refused: list[str] = []  # ways, until the next one has been answered
        self._ignored: list[str] = []  # ways, until another one has led to an object

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

    def ask(self, request: Request) -> Request:
        """The request in the form of this rung."""
        if self.is_as_wanted:
            return request.replace(format=self._wanted)
        if self.rung == "json_schema":
            return request.replace(format=OutputFormat("json_schema", self._name, self.schema))
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
        if (
            error.status_code not in _REFUSED
            or is_missing_model(error)
            or is_missing_route(error)
            or is_too_long(error)
        ):
            return False
        said = said_by(error)
        text = f"{said.param} {said.code} {said.message}"
        is_about_it = _ABOUT_THE_FORM.search(text) or (self.rung == "tool" and _ABOUT_TOOLS.search(text))
        rung = self.rung
        if not is_about_it or not self._step_down():
            return False
        if not _ABOUT_THE_SCHEMA.search(text):
            self._refused.append(rung)
        return True

    def answered(self) -> None:
        """Remember what was refused, now that another way was taken."""
        if self._refused:
            _memory.learn(self._place, self._refused)
            self._refused.clear()

    def misfit(self, reply: Reply, reason: str) -> tuple[Message, ...] | None:
        """What to add to the talk so that the answer fits next time; None where it was asked often enough.

        Words without any object, in answer to a schema or a forced call, say that the service ignores this way: the
        model never saw the schema, so the next way is taken and nothing is said of it.
        """
        if not self._may_repeat or self._left <= 1:
            return None
        has_value = bool(values(reply.text))
        rung = self.rung
        if (self._is_uncalled if rung == "tool" else rung == "json_schema" and not has_value) and self._step_down():
            self._ignored.append(rung)
            self._faults.append(reason + _spent(reply))
            return ()
        if self._is_asked_again:
            return None
        self._is_asked_again = True
        self._faults.append(reason + _spent(reply))
        if has_value or not self._step_down():
            self._left -= 1
        wish = f"This does not fit the JSON schema: {reason}. Answer again, with the JSON value and nothing else."
        if not reply.text.strip():
            return (Message.user("The answer was empty. Answer again, with the JSON value and nothing else."),)
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
        how = f"asked for as {self.rung}" if self.is_enforced else _SAID[self.rung]
        again = [Note("repaired", "schema", f"it was asked again, as {fault}") for fault in self._faults]
        return [Note("routed", "schema", how), *again]

    def unpacked(self, reply: Reply) -> Reply:
        """The reply with the object as its text, where it came as a call, and a note where there was more."""
        if self.rung != "tool":
            return reply
        self._is_uncalled = not reply.tool_calls
        has_more = any(_says_more(choice.message) for choice in reply.choices)
        choices = tuple(replace(choice, **_as_text(choice)) for choice in reply.choices)
        return replace(reply, choices=choices, notes=(*reply.notes, *([_BESIDE] if has_more else [])))

    def shown(self, delta: Delta) -> Delta:
        """A delta of the stream as the caller sees it: where a call is forced, the text is what the first one says."""
        if self.rung != "tool":
            return delta
        if delta.finish_reason is not None:
            delta = replace(delta, finish_reason=_without_a_call(delta.finish_reason))
        if delta.tool_call is None and not isinstance(delta.part, ToolCall):
            return delta
        call, first = delta.tool_call, self._calls.setdefault(delta.choice, delta.index)
        text = call.arguments if call is not None and delta.index == first else ""
        part = None if isinstance(delta.part, ToolCall) else delta.part
        return replace(delta, text=delta.text + text, tool_call=None, part=part)

    def concerns(self, reply: Reply) -> bool:
        """Whether a whole reply is to be the object: it calls no tools, is not refused or cut, and the only one."""
        if len(reply.choices) != 1 or reply.tool_calls or reply.refusal:
            return False
        return reply.finish_reason == "stop" or (reply.finish_reason is None and "status" not in reply.extra)

    def worth(self, reply: Reply) -> int:
        """How near a whole reply is to the object: 1 where it is none by right or by form, 2 for words, 3 for JSON."""
        if not self.concerns(reply):
            return 1
        return 3 if values(reply.text) else 2

    def fault(self, reply: Reply) -> str | None:
        """Why the text of a reply does not fit the schema; None where it does."""
        try:
            fitting(reply.text, self.schema)
        except ValueError as error:
            return str(error)
        return None

    def held(self) -> None:
        """Remember that this way led to an object, and which ones did not."""
        _memory.obeyed(self._place, self.rung)
        for way in self._ignored:
            _memory.ignored(self._place, way)

    def misread(self, reply: Reply) -> None:
        """Let the next call begin lower, where a stream has shown words around the object: it can't be asked again.

        After a forced call that is the way that every service has: not each stream is to fail until it is found.
        """
        text = reply.text.strip()
        if text and extracted(text, self.schema) != text and len(self._rungs) > 1:
            _memory.learn(self._place, self._rungs[:1] if self.rung == "json_schema" else self._rungs[:-1])


def fitting(text: str, schema: Mapping[str, Any]) -> Any:
    """The value that a text is. Raises `ValueError` that says why it is none or does not fit the schema."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error})") from error
    except RecursionError:
        raise ValueError("it is JSON that is nested too deep") from None
    if (wrong := problem(value, schema)) is not None:
        raise ValueError(wrong)
    return value


_BESIDE = Note("left out", "schema", "words and calls beside the one that was forced")


def _says_more(message: Message) -> bool:
    """Whether a forced call is not all that a message says."""
    return bool(message.tool_calls) and bool(message.text.strip() or len(message.tool_calls) > 1)


def _as_text(choice: Choice) -> dict[str, Any]:
    """The changes to a choice that make its first call its text."""
    message = choice.message
    calls = message.tool_calls
    if not calls:
        return {}
    others = [part for part in message.parts if not isinstance(part, (Text, ToolCall))]
    return {
        "message": replace(message, parts=(*others, Text(calls[0].arguments))),
        "finish_reason": _without_a_call(choice.finish_reason),
    }


def _spent(reply: Reply) -> str:
    """The tokens of an answer that another one takes the place of, whose own usage doesn't count them."""
    usage = reply.usage
    return f" ({usage.input_tokens} tokens in, {usage.output_tokens} out)" if usage is not None else ""


def _without_a_call(finish_reason: Any) -> Any:
    """How an answer ended, when its one call is taken for its text."""
    return "stop" if finish_reason == "tool_calls" else finish_reason


_SAID = {
    "tool": "asked for as a call that is forced",
    "json_object": "asked for as json_object, with the schema in the prompt",
    "prompt": "asked for in the prompt",
}


def _serves(way: str, *, is_object: bool, may_force: bool) -> bool:
    """Whether a way fits the schema and the call: a tool takes an object, and so does `json_object`."""
    return (is_object or way not in ("tool", "json_object")) and (may_force or way != "tool")


def _with_instruction(messages: Sequence[Message], schema: Any) -> tuple[Message, ...]:
    """The messages with the schema in words, after those of the system that open the talk."""
    places = (place for place, message in enumerate(messages) if message.role not in ("system", "developer"))
    start = next(places, len(messages))
    return (*messages[:start], Message.system(in_words(schema)), *messages[start:])
