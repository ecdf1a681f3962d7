"""What one plain program gets out of every recorded exchange: through Allos, and through the official SDK alone.

The program reads what the SDK's types promise and nothing else, so it is the same for all clients.
`tools/compatibility.py` writes the figures into `docs/compatibility.md`; a test compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import openai
import plain_chat
import plain_errors
import recorded
from recorded import OTHER, Player, Record, connection

from allos.client import Client
from allos.dropin import OpenAI
from allos.failures import IncompleteReplyError

RIGHT, WRONG, CRASHED, LOST = "right", "wrong in silence", "crashed", "message lost"
BASE = "http://recorded.test/v1"
PLAYER = Player()
COLUMNS = (
    "service",
    "exchanges",
    "`Client`",
    "`OpenAI`",
    "`OpenAI`, other API",
    "SDK: right",
    "wrong in silence",
    "crashed",
    "message lost",
    "streams",
    "SDK `.stream()`: right",
    "cut streams",
    "Allos tells",
    "SDK tells",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * (len(COLUMNS) - 1)}"


class Told(NamedTuple):
    """What a program written to the SDK's types knows of an answer."""

    text: str
    refusal: str
    calls: list[tuple[Any, ...]]
    finish: str | None
    usage: tuple[Any, ...] | None


@cache
def services() -> dict[str, list[Record]]:
    """The exchanges that hold an answer or an error, by service."""
    found: dict[str, list[Record]] = {}
    for record in recorded.load():
        if record["id"] not in recorded.NO_ANSWER:
            found.setdefault(record["provider"], []).append(record)
    return found


def row(service: str, records: Iterable[Record]) -> str:
    """One line of the table."""
    counts, records = Counter[str](), list(records)
    for record in records:
        counts.update(measured(record))
    allos = [counts[f"{way} {RIGHT}"] for way in ("client", "own", "other")]
    alone = [counts[f"sdk {kind}"] for kind in (RIGHT, WRONG, CRASHED, LOST)]
    rest = [counts[name] for name in ("streams", f"helper {RIGHT}", "cuts", "cut told by allos", "cut told by sdk")]
    return f"| {service} | {len(records)} | " + " | ".join(map(str, [*allos, *alone, *rest])) + " |"


def table() -> list[str]:
    """The whole table: a line for each service, and their sum."""
    rows = [row(service, records) for service, records in sorted(services().items())]
    return [HEAD, *rows, total(rows)]


def total(rows: Iterable[str]) -> str:
    numbers = [[int(cell) for cell in line.strip("| ").split(" | ")[1:]] for line in rows]
    return "| **all** | " + " | ".join(f"**{sum(column)}**" for column in zip(*numbers, strict=True)) + " |"


def measured(record: Record) -> list[str]:
    """What came of one exchange, as names to count."""
    wire = record["api"]
    sdk, own = client("sdk", wire), client("allos", wire)
    found = [
        f"client {outcome(record, lambda: asked(wire, stream=record['streaming']))}",
        f"own {outcome(record, lambda: create(own, wire, stream=record['streaming']))}",
        f"other {outcome(record, lambda: create(own, OTHER[wire], stream=record['streaming']))}",
        f"sdk {outcome(record, lambda: create(sdk, wire, stream=record['streaming']))}",
    ]
    if record["streaming"] and "error" not in record["features"]:
        found += ["streams", f"helper {outcome(record, lambda: helped(sdk, wire))}"]
        packets = recorded.events(record["response"]["body"])
        half = packets[: max(1, recorded.end_of(record) // 2)]
        if len(half) < recorded.end_of(record):
            found += [
                "cuts",
                *(f"cut told by {name}" for name in ("allos", "sdk") if tells(record, half, client(name, wire))),
            ]
    return found


def tells(record: Record, packets: list[bytes], client: Any) -> bool:
    """Whether a program learns that the second half of a stream is missing."""
    PLAYER.play(record, packets)
    try:
        create(client, record["api"], stream=True)
    except openai.APIError:
        return True
    except Exception:  # noqa: BLE001  # whatever a program runs into is no word on the cut
        return False
    return False


def outcome(record: Record, ask: Any) -> str:
    PLAYER.play(record)
    is_fault = "error" in record["features"]
    try:
        told = ask()
    except IncompleteReplyError:  # right for a Response at work in the background, which no completion can be
        return CRASHED if is_fault or recorded.expected(record)["choices"][0]["finish"] else RIGHT
    except openai.APIError as error:
        if not is_fault:
            return CRASHED
        words = " ".join(plain_errors.read(record).words.split())[:200]
        return RIGHT if words in error.message else LOST
    except openai.LengthFinishReasonError as error:
        told = of_completion(error.completion)
    except Exception:  # noqa: BLE001  # the program trusted the types: what it then runs into is the figure
        return CRASHED
    return RIGHT if not is_fault and agrees(told, record) else WRONG


def agrees(told: Told, record: Record) -> bool:
    """Whether a program knows what the bytes say. A Response holds one choice, and names no count as unknown."""
    said = recorded.expected(record)
    places = {0}
    if record["streaming"] and record["api"] == "chat":
        places.add(plain_chat.first_to_speak(record["response"]["body"]))
    return any(_agrees(told, said["choices"][place], said["usage"]) for place in places)


def _agrees(told: Told, want: Record, usage: Any) -> bool:
    calls = [tuple(call[1:]) for call in told.calls] == [tuple(call[1:]) for call in want["calls"]]
    named = all(mine[0] == theirs[0] for mine, theirs in zip(told.calls, want["calls"], strict=False) if theirs[0])
    ends = {want["finish"]} | ({"tool_calls", "stop"} if want["calls"] else set())
    counted = not usage or (told.usage or (None,) * 3) == tuple(
        (usage[0] or 0) + (usage[1] or 0) if count is None and place == 2 else count or 0
        for place, count in enumerate(usage[:3])
    )
    text = told.text in (want["text"], want["text"] + want["spoken"])
    return text and told.refusal == want["refusal"] and calls and named and told.finish in ends and counted


# The clients


@cache
def client(name: str, wire: str) -> Any:
    """An official client, or ours in its place, whose every request is answered by the player."""
    settings = {"api_key": "sk-mock", "base_url": BASE, "max_retries": 0, "http_client": connection("sync", PLAYER)}
    return openai.OpenAI(**settings) if name == "sdk" else OpenAI("chat_completions", wire=wire, **settings)


@cache
def unified(wire: Any) -> Client:
    return Client("chat_completions", "m", base_url=BASE, api_key="sk-mock", wire=wire, max_retries=0,
                  http_client=connection("sync", PLAYER))  # fmt: skip


# The program


def asked(wire: str, *, stream: bool) -> Told:
    if stream:
        steps = unified(wire).stream("?")
        list(steps)
        reply = steps.reply
    else:
        reply = unified(wire).chat("?")
    calls = [(call.id, call.name, call.arguments) for call in reply.tool_calls]
    spoken = "".join(getattr(part, "transcript", None) or "" for part in reply.message.parts)
    usage = reply.usage
    total = usage and (usage.input_tokens or 0) + (usage.output_tokens or 0)
    counts = usage and (usage.input_tokens or 0, usage.output_tokens or 0, usage.total_tokens or total)
    return Told(reply.text + spoken, reply.refusal, calls, reply.finish_reason, counts or None)


def create(client: Any, asked: str, *, stream: bool) -> Told:
    if asked == "chat":
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        answer = client.chat.completions.create(model="m", messages=[], **options)
        return of_chunks(answer) if stream else of_completion(answer)
    answer = client.responses.create(model="m", input="?", **({"stream": True} if stream else {}))
    return of_events(answer) if stream else of_response(answer)


def helped(client: Any, asked: str) -> Told:
    if asked == "chat":
        options = {"stream_options": {"include_usage": True}}
        with client.chat.completions.stream(model="m", messages=[], **options) as steps:
            return of_completion(steps.get_final_completion())
    with client.responses.stream(model="m", input="?") as steps:
        *_, last = steps
    return of_response(last.response)


def of_completion(completion: Any) -> Told:
    choice = completion.choices[0]
    message = choice.message
    calls = [_call(call) for call in message.tool_calls or ()]
    if message.function_call:
        calls.append(("", message.function_call.name, message.function_call.arguments))
    spoken = message.audio.transcript if message.audio else ""
    text = (message.content or "") + spoken
    return Told(text, message.refusal or "", calls, _end(choice.finish_reason, calls), _counts(completion.usage))


def _call(call: Any) -> tuple[Any, ...]:
    if call.type == "custom":
        return call.id, call.custom.name, call.custom.input
    return call.id, call.function.name, call.function.arguments


def _end(word: str | None, calls: list[Any]) -> str | None:
    return "tool_calls" if word == "function_call" else plain_chat.finish(word, bool(calls))


def _counts(usage: Any) -> tuple[Any, ...] | None:
    return usage and (usage.prompt_tokens or 0, usage.completion_tokens or 0, usage.total_tokens or 0)


def of_chunks(chunks: Iterable[Any]) -> Told:
    text = refusal = ""
    calls: dict[int, list[Any]] = {}
    usage = finish = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            if choice.index != 0:
                continue
            delta = choice.delta
            text += delta.content or ""
            refusal += delta.refusal or ""
            finish = choice.finish_reason or finish
            for piece in delta.tool_calls or ():
                call = calls.setdefault(piece.index, ["", "", ""])
                call[0] = call[0] or piece.id or ""
                call[1] = call[1] or piece.function.name or ""
                call[2] += piece.function.arguments or ""
    found = [tuple(call) for call in calls.values()]
    return Told(text, refusal, found, _end(finish, found), _counts(usage))


def of_response(response: Any, text: str | None = None) -> Told:
    refusal, calls = "", []
    for item in response.output:
        if item.type == "message":
            refusal += "".join(part.refusal for part in item.content if part.type == "refusal")
        elif item.type == "function_call":
            calls.append((item.call_id, item.name, item.arguments))
        elif item.type == "custom_tool_call":
            calls.append((item.call_id, item.name, item.input))
    usage = response.usage and (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens)
    finish: str | None = "tool_calls" if calls else "stop"
    if response.status == "incomplete":
        finish = {"max_output_tokens": "length"}.get(response.incomplete_details.reason, "content_filter")
    elif response.status in ("queued", "in_progress"):
        finish = None
    return Told(response.output_text if text is None else text, refusal, calls, finish, usage)


def of_events(events: Iterable[Any]) -> Told:
    text, last = "", None
    for event in events:
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type in ("response.completed", "response.incomplete", "response.failed"):
            last = event.response
    return of_response(last, text)


BEGIN = "<!-- made by `python tools/compatibility.py`: measured, not written -->"


def generated() -> list[str]:
    """The part of the page that is measured."""
    version = ".".join(openai.__version__.split(".")[:2])
    count = sum(map(len, services().values()))
    left_out = [f"- `{name}`: it {reason}." for name, reason in recorded.NO_ANSWER.items()]
    return [
        BEGIN,
        "",
        f"Measured with `openai` {version}: {count} exchanges with {len(services())} services.",
        "",
        *table(),
        "",
        f"{len(recorded.NO_ANSWER)} more recordings are no answers to a prompt.",
        "The drop-in passes them through as they are, and they are not counted:",
        "",
        *left_out,
        "",
    ]
