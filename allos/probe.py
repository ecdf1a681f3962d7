"""Asks a live endpoint what it can do, and writes the row of the table that says it.

Each check is one small request, or two. `Probe.run` makes them in turn and gives a `Report`: what was seen, and the
`[endpoints.NAME]` block that follows from it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import openai
import tenacity

from allos import redirects
from allos.adapters import no_key, sdk_arguments
from allos.deadline import Deadline, within
from allos.errors import AllosError, WireError, argument
from allos.failures import from_status, from_transport
from allos.messages import Reply, ToolCall, Wire
from allos.retry import Policy, retry_after
from allos.settings import Target
from allos.transport import HTTP
from allos.wire.answer import read_json, read_whole
from allos.wire.fault import dig

__all__ = ["Finding", "Probe", "Report"]

_TIMEOUT = 120.0
_PATHS: Final[Mapping[Wire, str]] = {"chat": "/chat/completions", "responses": "/responses"}
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_SCHEMA = {
    "type": "object",
    "properties": {"bird": {"type": "string", "enum": ["heron"]}},
    "required": ["bird"],
    "additionalProperties": False,
}
_REFUSALS = (400, 422, 501)
_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")


@dataclass(frozen=True)
class Finding:
    """What one check saw. `good` is None where the answer is neither good nor bad, or could not be found out."""

    check: str
    good: bool | None
    said: str


@dataclass
class Report:
    """What an endpoint can do, and the row that says it. Both are whole only where `is_whole` says so."""

    model: str | None
    is_whole: bool = False  # whether there was time for every check
    tokens: int = 0  # that the endpoint counted
    findings: list[Finding] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)

    def toml(self, name: str) -> str:
        """The row as a block for `config.toml`. Where a key was needed, it is looked for in a variable of that name."""
        row = {"base_url": self.row.get("base_url"), "default_model": self.model}
        if self.row.get("needs_key"):
            row["key_variables"] = [f"{re.sub('[^A-Z0-9]+', '_', name.upper())}_API_KEY"]
        return "".join(_block(f"endpoints.{name}", row | self.row))


@dataclass
class _Answer:
    """One exchange: the status, the body, and what our reader made of it."""

    status: int
    body: bytes
    type: str
    reply: Reply | None = None
    fault: str = ""

    @property
    def ok(self) -> bool:
        return self.reply is not None

    @property
    def is_stream(self) -> bool:
        return "event-stream" in self.type or self.body.lstrip().startswith((b"data:", b"event:"))

    @property
    def text(self) -> str:
        return self.reply.text if self.reply is not None else ""

    def why_not(self) -> str:
        """What came instead of an answer, in a few words."""
        return f"{self.status}: {_short(self.fault)}" if self.fault else str(self.status)


class _Once(Policy):
    """Asks again only what was not looked at: how an endpoint fails is what a probe wants to see."""

    def helps(self, error: BaseException) -> bool:
        """Whether the endpoint was too busy to look at the request, or not reached."""
        if isinstance(error, openai.APIStatusError):
            headers = error.response.headers
            is_busy = error.status_code == 429 or headers.get("x-should-retry") or retry_after(headers) is not None
            return bool(is_busy) and super().helps(error)
        return super().helps(error)


class Probe:
    """The checks of one endpoint. `requests` and `tokens` say beforehand what they can cost at most."""

    def __init__(self, target: Target, *, http_client: Any = None) -> None:
        self._target = target
        arguments = sdk_arguments(target)
        self._sdk = redirects.OpenAI(**{"timeout": _TIMEOUT, **arguments}, http_client=http_client)
        self._policy = _Once(min(1, target.max_retries))
        self._deadline = Deadline(target.deadline)
        self._report = Report(target.model)
        self._thoughts: set[str] = set()
        self._there: dict[Wire, bool] = {}
        self._has_called = False
        self._forms_of_choice: dict[str, bool | None] = {}  # None: it did not show
        self._response_id: str | None = None

    checks: Final = (
        "models",
        "chat",
        "token limit",
        "chat stream",
        "tools",
        "parallel tools",
        "forced tool",
        "required tool",
        "schema",
        "JSON object",
        "images",
        "developer role",
        "late system message",
        "two system messages",
        "responses",
        "responses stream",
        "responses tools",
        "responses schema",
        "state",
        "errors",
        "reasoning",
    )
    requests: Final = 23
    tokens: Final = 3000

    def run(self, on_check: Callable[[str], None] = lambda check: None) -> Report:
        """Make every check; `on_check` is told the name of each before it begins.

        Where the target has a deadline, it holds for all of them, and the one that it cuts is not in the report.
        Raises `openai.APIConnectionError` where the endpoint can't be reached, `openai.AuthenticationError` where it
        refuses the key, and `AllosError` where no model is known to ask.
        """
        self._report.row = {"base_url": self._target.base_url, "needs_key": self._target.api_key is not None}
        self._deadline.start()
        for check in self.checks:
            if self._deadline.is_over:
                break
            on_check(check)
            try:
                good, said = getattr(self, f"_{check.replace(' ', '_').lower()}")()
            except openai.APIConnectionError as error:
                if self._deadline.is_over:
                    break
                is_late = isinstance(error, openai.APITimeoutError)
                if not is_late and not self._report.findings:  # nothing has answered yet
                    raise
                good, said = None, "no answer in time" if is_late else _short(error.message.partition(": ")[2])
            self._report.findings.append(Finding(check, good, said))
        else:
            self._report.is_whole = True
        self._report.row = {key: value for key, value in self._report.row.items() if value not in ({}, None)}
        self._sdk.close()
        return self._report

    # One request

    def _post(self, wire: Wire, **body: Any) -> _Answer:
        body = {"model": self._report.model, **body}
        return self._answer("post", _PATHS[wire], wire, body)

    def _answer(self, method: str, path: str, wire: Wire | None, body: Mapping[str, Any] | None = None) -> _Answer:
        options: Any = {"headers": no_key(self._target)}
        send = self._sdk.get if method == "get" else functools.partial(self._sdk.post, body=body)
        try:
            with within(self._deadline):
                retrying = tenacity.Retrying(**self._policy.options(self._deadline))
                response = retrying(send, path, cast_to=HTTP.Response, options=options)
        except openai.APIStatusError as error:
            if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
                raise from_status(error, self._target) from None
            response = error.response
        except openai.APIConnectionError as error:
            raise from_transport(error, self._target) from None
        answer = _Answer(response.status_code, response.content, response.headers.get("content-type", ""))
        self._read(answer, wire)
        return answer

    def _read(self, answer: _Answer, wire: Wire | None) -> None:
        if answer.status >= 400:
            answer.fault = dig(answer.body).message
        elif wire is not None:
            try:
                answer.reply = read_whole(wire, answer.body)
            except WireError as error:
                answer.fault = str(error)
            else:
                usage = answer.reply.usage
                self._report.tokens += (usage.total_tokens or 0) if usage is not None else 0
            if wire == "chat":
                self._thoughts |= {name for name in _REASONING if _holds(answer.body, name)}
            if answer.text.lstrip().startswith("<think>"):
                self._thoughts.add("<think> in the text")

    def _chat_ask(self, words: str, **more: Any) -> _Answer:
        return self._post("chat", messages=[{"role": "user", "content": words}], **{"max_tokens": 32, **more})

    @property
    def _quirks(self) -> dict[str, Any]:
        quirks: dict[str, Any] = self._report.row.setdefault("quirks", {})
        return quirks

    @property
    def _native(self) -> dict[str, Any]:
        native: dict[str, Any] = self._quirks.setdefault("responses", {})
        return native

    def _has(self, wire: Wire) -> bool:
        return self._there.get(wire, False)

    # The checks, each with what it means for the row

    def _models(self) -> tuple[bool | None, str]:
        answer = self._answer("get", "/models", None)
        names = _names(answer)
        if self._report.model is None and names:
            self._report.model = names[0]
        if self._report.model is None:
            raise AllosError(f"No model is known to ask. Name one with {argument('model')}.")
        if not names:
            return False, f"no list ({answer.why_not()})"
        return True, f"{len(names)}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"

    def _chat(self) -> tuple[bool | None, str]:
        return self._speaks("chat", self._chat_ask("Say hi."))

    def _responses(self) -> tuple[bool | None, str]:
        answer = self._post("responses", input="My word is heron. Say ok.", max_output_tokens=32)
        if answer.ok and answer.is_stream:
            self._native["whole_defaults"] = {"stream": False}
        found = self._speaks("responses", answer)
        if answer.reply is not None:
            self._response_id = answer.reply.id
        return (found[0], f"{found[1]}, but as a stream") if answer.is_stream and answer.ok else found

    def _speaks(self, wire: Wire, answer: _Answer) -> tuple[bool | None, str]:
        self._there[wire] = self._report.row[wire] = answer.ok
        if not answer.ok:
            return False, answer.why_not()
        usage = answer.reply.usage if answer.reply is not None else None
        return True, "with usage" if usage is not None and usage.output_tokens is not None else "without usage"

    def _token_limit(self) -> tuple[bool | None, str]:
        if not self._has("chat"):
            return None, "no chat"
        obeyed = [name for name in ("max_completion_tokens", "max_tokens") if self._limits(name)]
        if obeyed == ["max_tokens"]:
            self._quirks["max_tokens_field"] = "max_tokens"
        return bool(obeyed), f"by {' and '.join(obeyed)}" if obeyed else "no name of it is obeyed"

    def _limits(self, name: str) -> bool:
        answer = self._post(
            "chat", messages=[{"role": "user", "content": "Count from 1 to 30, in digits."}], **{name: 8}
        )
        return answer.reply is not None and answer.reply.finish_reason == "length"

    def _chat_stream(self) -> tuple[bool | None, str]:
        if not self._has("chat"):
            return None, "no chat"
        answer = self._chat_ask("Say hi.", stream=True, stream_options={"include_usage": True})
        if not answer.ok:
            again = self._chat_ask("Say hi.", stream=True)
            if not again.ok:
                return False, again.why_not()
            self._quirks["stream_usage"] = False
            return False, "refuses stream_options"
        if not answer.is_stream:
            return False, "answers with JSON"
        counted = answer.reply is not None and answer.reply.usage is not None
        done = b"[DONE]" in answer.body
        return counted, f"usage {'counted' if counted else 'missing'}, {'[DONE]' if done else 'no [DONE]'} at the end"

    def _tools(self) -> tuple[bool | None, str]:
        answer = self._call("Use the tool look to look at Paris.", "auto")
        if not answer.ok:
            if self._has("chat") and answer.status in _REFUSALS:
                self._quirks["refuse"] = ["tools"]
            return False, answer.why_not()
        return self._called(answer, 1, "look")

    def _parallel_tools(self) -> tuple[bool | None, str]:
        return self._called(self._call("Use the tool look for each place: Paris and Rome.", "auto"), 2, "look")

    def _forced_tool(self) -> tuple[bool | None, str]:
        return self._forced("function", {"type": "function", "function": {"name": "go"}}, "go")

    def _required_tool(self) -> tuple[bool | None, str]:
        found = self._forced("required", "required", None)
        taken = [form for form, is_obeyed in self._forms_of_choice.items() if is_obeyed is not False]
        if len(taken) < len(self._forms_of_choice):
            self._quirks["tool_choice"] = ["none", "auto", *reversed(taken)]
        return found

    def _forced(self, form: str, choice: Any, name: str | None) -> tuple[bool | None, str]:
        """Make the model call. Whether a server obeys shows only with a model that calls tools at all."""
        answer = self._call("Say hi.", choice)
        good, said = self._called(answer, 1, name)
        said, is_shown = self._shown(answer, good, said)
        self._forms_of_choice[form] = good if is_shown and self._has("chat") else None
        return (good if is_shown or not answer.ok else None), said

    def _shown(self, answer: _Answer, good: bool | None, said: str) -> tuple[str, bool]:
        """What was seen of a forced call, and whether that is the server's doing."""
        if answer.reply is None:
            return said, self._has_called or (answer.status in _REFUSALS and "refuse" not in self._quirks)
        if good is None:  # cut
            return said, False
        is_shown = bool(answer.reply.tool_calls) or self._has_called
        return (said, True) if is_shown else (f"{said} (this model has called no tool)", False)

    def _call(self, words: str, choice: Any) -> _Answer:
        tools = [_function("look"), _function("go")]
        return self._chat_ask(words, tools=tools, tool_choice=choice, max_tokens=80)

    def _called(self, answer: _Answer, count: int, name: str | None) -> tuple[bool | None, str]:
        if answer.reply is None:
            return False, answer.why_not()
        calls = answer.reply.tool_calls
        self._has_called = self._has_called or bool(calls)
        good, said = self._judged(answer, calls, count, name)
        if not good and answer.reply.finish_reason == "length":
            return None, f"{said} (cut by its token limit)"
        return good, said

    def _judged(self, answer: _Answer, calls: Sequence[ToolCall], count: int, name: str | None) -> tuple[bool, str]:
        if len(calls) < count:
            return False, f"only {len(calls)} call" if calls else f"no call, but text: {_short(answer.text)}"
        if others := [call.name for call in calls if name not in (None, call.name)]:
            return False, f"called {others[0]!r} instead of {name!r}"
        broken = [call.arguments for call in calls if not _is_object(call.arguments)]
        return not broken, "called" if not broken else f"arguments are no JSON: {_short(broken[0])}"

    def _schema(self) -> tuple[bool | None, str]:
        named = {"name": "bird", "schema": _SCHEMA, "strict": True}
        answer = self._chat_ask("Say hi.", response_format={"type": "json_schema", "json_schema": named})
        obeyed = answer.ok and _fits(answer.text)
        self._forms = ["json_schema"] if obeyed else []
        return obeyed, "obeyed" if obeyed else _not_obeyed(answer)

    def _json_object(self) -> tuple[bool | None, str]:
        answer = self._chat_ask("Name one bird, as JSON.", response_format={"type": "json_object"}, max_tokens=64)
        is_cut = answer.reply is not None and answer.reply.finish_reason == "length"
        obeyed = answer.ok and (_is_object(answer.text) or (is_cut and answer.text.lstrip().startswith("{")))
        forms = [*self._forms, *(["json_object"] if obeyed else [])]
        if self._has("chat") and len(forms) < 2:
            self._quirks["response_format"] = forms
        return obeyed, "obeyed" if obeyed else _not_obeyed(answer)

    def _images(self) -> tuple[bool | None, str]:
        picture = {"type": "image_url", "image_url": {"url": _PIXEL}}
        content = [{"type": "text", "text": "What is this?"}, picture]
        answer = self._post("chat", messages=[{"role": "user", "content": content}], max_tokens=16)
        return answer.ok, "not refused" if answer.ok else answer.why_not()

    def _developer_role(self) -> tuple[bool | None, str]:
        good, said = self._takes(("developer", "Be brief."), ("user", "Say hi."))
        if not good and self._has("chat"):
            self._quirks["developer_role"] = False
        return good, said

    def _late_system_message(self) -> tuple[bool | None, str]:
        good, said = self._takes(("user", "Say hi."), ("system", "Be brief."), ("user", "Go on."))
        if not good and self._has("chat"):
            self._quirks["system_messages"] = "first"
        return good, said

    def _two_system_messages(self) -> tuple[bool | None, str]:
        good, said = self._takes(("system", "Be brief."), ("system", "Be kind."), ("user", "Say hi."))
        if not good and self._has("chat"):
            self._quirks["system_messages"] = "one"
        return good, said

    def _takes(self, *turns: tuple[str, str]) -> tuple[bool | None, str]:
        if not self._has("chat"):
            return None, "no chat"
        messages = [{"role": role, "content": content} for role, content in turns]
        answer = self._post("chat", messages=messages, max_tokens=16)
        return answer.ok, "taken" if answer.ok else answer.why_not()

    def _responses_stream(self) -> tuple[bool | None, str]:
        if not self._has("responses"):
            return None, "no Responses API"
        answer = self._post("responses", input="Say hi.", max_output_tokens=32, stream=True)
        if not answer.ok:
            return False, answer.why_not()
        missing = [name for name in ("sequence_number", "output_index") if f'"{name}"'.encode() not in answer.body]
        return (
            not missing,
            f"events without {' and '.join(missing)}, which Allos adds" if missing else "as it should be",
        )

    def _responses_tools(self) -> tuple[bool | None, str]:
        if not self._has("responses"):
            return None, "no Responses API"
        tool = {"type": "function", "name": "look", "parameters": _function("look")["function"]["parameters"]}
        answer = self._post(
            "responses", input="Use the tool look to look at Paris.", tools=[tool], max_output_tokens=80, stream=False
        )
        if answer.status in _REFUSALS:
            self._native["refuse"] = ["tools"]
        return self._called(answer, 1, "look")

    def _responses_schema(self) -> tuple[bool | None, str]:
        if not self._has("responses"):
            return None, "no Responses API"
        form = {"type": "json_schema", "name": "bird", "schema": _SCHEMA, "strict": True}
        answer = self._post("responses", input="Say hi.", text={"format": form}, max_output_tokens=32, stream=False)
        obeyed = answer.ok and _fits(answer.text)
        if not obeyed:
            self._native["response_format"] = []
        return obeyed, "obeyed" if obeyed else _not_obeyed(answer)

    def _state(self) -> tuple[bool | None, str]:
        if not self._has("responses") or not self._response_id:
            return None, "no Responses API"
        answer = self._post(
            "responses",
            input="What is my word? Answer with it alone.",
            previous_response_id=self._response_id,
            max_output_tokens=32,
            stream=False,
        )
        remembers = answer.ok and "heron" in answer.text.lower()
        self._report.row["stateful"] = remembers
        if remembers:
            return True, "remembers the response before"
        return False, f"forgets: {_short(answer.text)}" if answer.ok else answer.why_not()

    def _errors(self) -> tuple[bool | None, str]:
        wire: Wire = "chat" if self._has("chat") else "responses"
        answer = self._post(wire, **{"messages" if wire == "chat" else "input": 5})
        if answer.status < 400:
            return False, f"takes nonsense: {answer.status}"
        return bool(answer.fault), f"{answer.status}, {_shape(answer.body)}"

    def _reasoning(self) -> tuple[bool | None, str]:
        if "<think> in the text" in self._thoughts:
            self._quirks["think_tags"] = True
        return None, ", ".join(sorted(self._thoughts)) or "none seen"


def _function(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    return {
        "type": "function",
        "function": {"name": name, "description": f"{name} at a place", "parameters": parameters},
    }


def _names(answer: _Answer) -> list[str]:
    if answer.status >= 400:
        return []
    try:
        data = read_json(answer.body)
    except WireError:
        return []
    rows = data.get("data", data.get("models")) if isinstance(data, dict) else data
    return [str(row.get("id") or row.get("name")) for row in rows or [] if isinstance(row, dict)]


def _holds(body: bytes, name: str) -> bool:
    """Whether a body has that field with something in it."""
    return re.search(rf'"{name}"\s*:\s*[^\s"n]|"{name}"\s*:\s*"[^"]'.encode(), body) is not None


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _fits(text: str) -> bool:
    return _is_object(text) and json.loads(text) == {"bird": "heron"}


def _not_obeyed(answer: _Answer) -> str:
    return f"not obeyed: {_short(answer.text)}" if answer.ok else answer.why_not()


def _shape(body: bytes) -> str:
    """The form of an error body, such as `{"error": {"message", "type"}}`."""
    try:
        data = read_json(body)
    except WireError:
        return "no JSON"
    if not isinstance(data, dict):
        return "a list" if isinstance(data, list) else "a text"
    parts = []
    for key, value in data.items():
        inner = "{" + ", ".join(value) + "}" if isinstance(value, dict) else type(value).__name__
        parts.append(f"{key}: {inner}")
    return "{" + ", ".join(parts) + "}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"{words[:59]}…"


def _block(header: str, row: Mapping[str, Any]) -> Iterator[str]:
    """A table of TOML with those below it."""
    inner = {key: value for key, value in row.items() if isinstance(value, Mapping) and key in ("quirks", "responses")}
    own = {key: value for key, value in row.items() if key not in inner}
    if own or not any(inner.values()):
        yield f"[{header}]\n"
    for key, value in own.items():
        yield f"{key} = {_value(value)}\n"
    for key, value in inner.items():
        if value:
            if own:
                yield "\n"
            yield from _block(f"{header}.{key}", value)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)  # texts, numbers and booleans are written alike in both
