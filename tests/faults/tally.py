"""Counts what the doors and the bare SDK make of every fault; `tools/reliability.py` writes it into the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

import openai
from doors_under_fire import KEY, Run, bare, doors
from hunt import hunted
from judge import judged, tried
from raw_server import RawServer
from recorded import ROOT
from scenario import Right, Scenario, problem, refused
from scenarios import SCENARIOS

import allos

__all__ = ["BEGIN", "cases", "generated", "no_waiting"]

BEGIN = "<!-- made by `python tools/reliability.py`: measured, not written -->"
INTRODUCTION = """\
{faults} faults over real sockets, with openai {sdk} on Python {python}.
"drop-in" are `OpenAI` and `AsyncOpenAI`, "unified" `Client` and `AsyncClient`, "helper" the SDK's `.stream()`.
"Right" is the answer where there is one to be had, and an error of the SDK's kind where there is none.
"Helpful" asks for more: the kind of failure or the server's words, the address and the next step in the message, the
text kept, the key hidden, and no more requests than allowed.
The rows N2 to N4 ask for mending that the SDK does not promise."""
DOOR = ["door, API of the server", "tried", "right", "helpful", "silently wrong", "never ended", "foreign exception"]
ROW = ["id", "Allos: tried", "right and helpful", "bare SDK: tried", "right", "helpful"]
STORM = "{calls} calls to a service that always answers 503, twenty at a time or all at once:"
SECRETS = """\
{doors} doors, {outcomes} outcomes of a call each, with a marked key that the server says back wherever it can: \
{searched:,} bytes of logs at DEBUG, output, messages, tracebacks with local variables, and files were searched.
Secrets found: {found}.
What the server itself sent, `error.body` and `error.response`, was not: see [the limits](security.md)."""
LONG_RUN = """\
{calls:,} whole answers and {left_streams:,} streams left early, through every door, in {seconds} s (`make soak`): \
the memory grew by {memory_growth:,} bytes, the open descriptors by {descriptor_growth}."""
CALLS, CALLERS = 200, 20


@dataclass
class Tally:
    """How often what was seen: `kinds` by verdict, `right` as it had to be, `helpful` without any fault."""

    kinds: Counter[str] = field(default_factory=Counter)
    right: int = 0
    helpful: int = 0

    def add(self, kind: str, *, right: bool, helpful: bool) -> None:
        self.kinds[kind] += 1
        self.right += right
        self.helpful += helpful

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.kinds + other.kinds, self.right + other.right, self.helpful + other.helpful)

    @property
    def tried(self) -> int:
        return self.kinds.total()

    def share(self, count: int) -> str:
        return f"{count} ({100 * count / self.tried:.0f} %)"


def cases() -> Iterator[tuple[Scenario, str, str]]:
    """Every scenario on every wire, whole and streamed, as it applies."""
    for scenario in SCENARIOS:
        for wire in scenario.wires:
            for way in scenario.ways:
                yield scenario, wire, way


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Between two tries pass milliseconds, in our policy and in the SDK's."""
    with (
        patch.object(allos.retry, "_FIRST_WAIT", 0.001),
        patch.multiple(openai._base_client, INITIAL_RETRY_DELAY=0.001, MAX_RETRY_DELAY=0.002),
    ):
        yield


def _measured(found: Callable[..., dict[str, Run]]) -> tuple[dict[str, Tally], dict[str, Tally]]:
    """By door and wire, and by row."""
    by_door: dict[str, Tally] = {}
    by_row: dict[str, Tally] = {}
    for scenario, wire, way in cases():
        for name, run in found(wire, way, helped=scenario.helped).items():
            allos.retry._budgets.clear()
            verdict = judged(scenario.expected, *tried(scenario, wire, way, run))
            right = verdict.kind == ("right" if isinstance(scenario.expected, Right) else "error")
            door = f"{name.removesuffix(' sync').removesuffix(' async')}, {wire}"
            for tally in (by_door.setdefault(door, Tally()), by_row.setdefault(scenario.row, Tally())):
                tally.add(verdict.kind, right=right, helpful=right and not verdict.faults)
    return by_door, by_row


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (titles, ["---"] * len(titles), *rows)]


def _door(title: str, tally: Tally) -> list[object]:
    bad = [tally.kinds[kind] for kind in ("silent", "hang", "foreign")]
    return [title, tally.tried, tally.share(tally.right), tally.share(tally.helpful), *bad]


# A storm


def _ask(client: Any) -> Any:
    if isinstance(client, (allos.Client, allos.AsyncClient)):
        return client.chat("hi", model="m")
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])


def _in_threads(make: Callable[[], Any]) -> None:
    def caller(_: int) -> None:
        with make() as client:
            for _ in range(CALLS // CALLERS):
                with contextlib.suppress(openai.InternalServerError):
                    _ask(client)

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(caller, range(CALLERS)))


def _in_tasks(make: Callable[[], Any]) -> None:
    async def all_at_once() -> None:
        async with make() as client:
            await asyncio.gather(*(_ask(client) for _ in range(CALLS)), return_exceptions=True)

    asyncio.run(all_at_once())


def _storms() -> Iterator[tuple[str, str]]:
    """By door, how many requests a call makes when many callers ask a service that always answers 503."""
    ours: tuple[Any, ...] = (allos.Client, allos.AsyncClient, allos.OpenAI, allos.AsyncOpenAI)
    for kind in (*ours, openai.OpenAI, openai.AsyncOpenAI):
        allos.retry._budgets.clear()
        given = {"provider": "chat_completions"} if kind in ours else {}
        with RawServer([[refused(503, problem("busy"), "retry-after-ms: 1")]]) as server:
            make = partial(kind, **given, base_url=server.url(), api_key=KEY, timeout=20.0)
            (_in_tasks if "Async" in kind.__name__ else _in_threads)(make)
            yield f"`{kind.__module__.partition('.')[0]}.{kind.__name__}`", f"{len(server.seen) / CALLS:.2f}"


def generated() -> list[str]:
    """The part of the page that is measured."""
    with no_waiting():
        ours, our_rows = _measured(doors)
        theirs, their_rows = _measured(bare)
        storms = list(_storms())
    counts = {"faults": sum(1 for _ in cases()), "sdk": openai.__version__, "python": platform.python_version()}
    by_door = [_door(name, tally) for name, tally in sorted(ours.items())]
    by_door.append(_door("**Allos, all doors**", sum(ours.values(), Tally())))
    by_door += [_door(name, tally) for name, tally in sorted(theirs.items())]
    by_door.append(_door("**the bare SDK**", sum(theirs.values(), Tally())))
    by_row = []
    for row, tally in our_rows.items():
        bared = their_rows[row]
        there = [bared.tried, bared.share(bared.right), bared.share(bared.helpful)]
        by_row.append([row, tally.tried, tally.share(tally.helpful), *there])
    made = [BEGIN, "", "## Figures", "", INTRODUCTION.format(**counts), "", *_table(DOOR, by_door)]
    made += ["", "### By row", "", *_table(ROW, by_row)]
    hunt = hunted()
    said = {"doors": hunt.doors, "outcomes": hunt.outcomes, "found": len(hunt.found)}
    secrets = SECRETS.format(**said, searched=sum(hunt.searched.values()))
    made += ["", "### Secrets", "", secrets]
    soak = json.loads((ROOT / "docs" / "soak.json").read_text("utf-8"))
    made += ["", "### A long run", "", LONG_RUN.format(**soak)]
    made += ["", "### A storm", "", STORM.format(calls=CALLS), "", *_table(["client", "requests a call"], storms), ""]
    return made
