"""The default command: send the prompt, show the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING, Any

from allos.arguments import check
from allos.cli import options, terminal
from allos.cli.service import chosen_model, connect
from allos.errors import ParseError
from allos.messages import OutputFormat, Reply, Request, Usage

if TYPE_CHECKING:
    from allos.client import Client

__all__ = ["ask"]

# The request fields that our model and both APIs share and that hold a plain value. Any other field is the wire's own
# and goes to the service as it is.
_SHARED = {field.name for field in fields_of(Request)} - {
    "extra",
    "format",
    "include_usage",
    "instructions",
    "max_tokens_field",
    "messages",
    "model",
    "stream",
    "tool_choice",
    "tools",
}
INCOMPLETE = 7
_REASONS = {
    "length": "The answer is cut off: it reached its token limit. --max-tokens sets a higher one.",
    "content_filter": "The answer is cut off: the service's content filter ended it.",
    "refusal": "The model declined to answer.",
    "cancelled": "The answer is cut off: it was cancelled at the service.",
    "error": "The answer is cut off: the service ended it with an error.",
}


def ask(
    prompt: str,
    *,
    pairs: tuple[tuple[str, str], ...],
    max_tokens: int | None,
    temperature: float | None,
    stream: bool | None,
    as_json: bool,
    verbose: bool,
    **flags: Any,
) -> int:
    """Print the answer to a prompt; gives the exit status, 7 for an answer that isn't whole."""
    from allos.deadline import Deadline

    request = _request(pairs, max_tokens, temperature)
    terminal.require_output()
    begun = time.monotonic()
    is_object = "schema" in request
    streamed = False if is_object else bool(stream) if as_json else stream is not False
    with connect(flags, streamed=streamed, verbose=verbose) as client:
        deadline = Deadline.of(client.target.deadline).start()
        with chosen_model(client, deadline, verbose=verbose) as model:
            request |= {"model": model, "deadline": deadline}
            if as_json:
                reply = _whole(client, prompt, request, _show_json, streamed=streamed)
            elif streamed:
                reply = _streamed(client, prompt, request, verbose)
            else:
                reply = _whole(client, prompt, request, _show_object if is_object else _show_text, streamed=False)
    _report(reply, verbose, time.monotonic() - begun)
    return _verdict(reply)


def _request(pairs: tuple[tuple[str, str], ...], max_tokens: int | None, temperature: float | None) -> dict[str, Any]:
    given = options.fields(pairs)
    shared = {name: value for name, value in given.items() if name in _SHARED}
    extra = {name: value for name, value in given.items() if name not in _SHARED}
    check(shared)
    if "format" in extra:
        shared["format"] = _format(extra.pop("format"))
    if "schema" in extra:
        shared["schema"] = _schema(extra.pop("schema"))
    said = {"max_tokens": max_tokens, "temperature": temperature}
    return {**shared, **{name: value for name, value in said.items() if value is not None}, "extra": extra}


def _format(value: Any) -> OutputFormat:
    if value not in ("json", "text"):
        raise terminal.Failed(
            f"-o format: {value!r} is neither json nor text. For an object of a form say -o schema.", 2
        )
    return OutputFormat("json_object" if value == "json" else "text")


def _schema(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise terminal.Failed(f'-o schema: {value!r} is no JSON schema. Give one such as \'{{"type": "object"}}\'.', 2)
    return value


def _whole(
    client: Client, prompt: str, request: dict[str, Any], show: Callable[[Reply], None], streamed: bool
) -> Reply:
    """Ask and show the reply when it is whole; where it never becomes that, show what came."""
    import openai

    try:
        if streamed:
            with client.stream(prompt, **request) as stream:
                for _ in stream:
                    pass
            reply = stream.reply
        else:
            reply = client.chat(prompt, **request)
    except (openai.APIError, ParseError) as error:
        came = getattr(error, "reply", None)
        if came is not None and came.message.parts and show is _show_object:
            terminal.say(came.text)  # not where an object is expected
        elif came is not None and came.message.parts:
            show(came)
        raise
    show(reply)
    return reply


def _streamed(client: Client, prompt: str, request: dict[str, Any], verbose: bool) -> Reply:
    answer, thinking = terminal.Answer(), terminal.Thinking(shown=verbose)
    try:
        with client.stream(prompt, **request) as stream:
            for delta in stream:
                if delta.choice == 0:
                    thinking.write(delta.reasoning or delta.summary)
                    if said := delta.text or delta.refusal:
                        thinking.end()
                        answer.write(said)
            return stream.reply
    finally:
        thinking.end()
        answer.end()


def _show_text(reply: Reply) -> None:
    answer = terminal.Answer()
    answer.write(reply.text + reply.refusal)
    answer.end()


def _show_object(reply: Reply) -> None:
    terminal.print_json(reply.parsed)


def _show_json(reply: Reply) -> None:
    terminal.print_json(as_data(reply))


def as_data(reply: Reply) -> dict[str, Any]:
    """The whole reply in the form of `--json`."""
    return {
        "text": reply.text,
        "parsed": reply.parsed,
        "reasoning": reply.reasoning,
        "refusal": reply.refusal,
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "usage": None if reply.usage is None else _usage_data(reply.usage),
        "model": reply.model,
        "id": reply.id,
        "notes": [{"action": note.action, "what": note.what, "reason": note.reason} for note in reply.notes],
        "raw": reply.raw,
    }


def _usage_data(usage: Usage) -> dict[str, int | None]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def _report(reply: Reply, verbose: bool, seconds: float) -> None:
    """Say on standard error what the text alone doesn't tell."""
    for note in reply.notes:
        if (note.action, note.what) == ("routed", "provider"):
            terminal.say(f"{note.reason}.")
        elif verbose or note.has_no_effect:
            terminal.say(f"{note.what}: {note.reason} ({note.action})")
    for call in reply.tool_calls:
        terminal.say(f"The model asks for the tool {call.name}({call.arguments}).")
    if len(reply.choices) > 1:
        terminal.say(f"{len(reply.choices)} answers came and the first is shown; --json has all of them under raw.")
    if not (reply.text or reply.refusal or reply.tool_calls):
        terminal.say("The answer has no text.")
    if verbose:
        terminal.say(f"{reply.model or 'model not named'}: {_usage_text(reply.usage)}, {seconds:.1f} s")


def _usage_text(usage: Usage | None) -> str:
    if usage is None:
        return "tokens not counted"
    named = [
        (usage.input_tokens, "tokens in"),
        (usage.cached_tokens, "of them cached"),
        (usage.output_tokens, "out"),
        (usage.reasoning_tokens, "of them reasoning"),
    ]
    return ", ".join(f"{count} {name}" for count, name in named if count is not None) or "tokens not counted"


def _verdict(reply: Reply) -> int:
    """The exit status; says why where the answer isn't whole."""
    reason = "refusal" if reply.refusal else reply.finish_reason
    if reason is None:
        terminal.say("The service has not finished the answer.")
        return INCOMPLETE
    if reason in _REASONS:
        terminal.say(_REASONS[reason])
        return INCOMPLETE
    return 0
