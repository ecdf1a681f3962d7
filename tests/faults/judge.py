"""Runs scenarios through doors and judges what was seen."""

from __future__ import annotations

import os
from dataclasses import dataclass
from unittest.mock import patch

import openai
from doors_under_fire import KEY, CommandFailed, Outcome, Run, watched
from raw_server import RawServer, quick_resolver
from scenario import Fails, Right, Scenario

from allos.errors import AllosError, ConfigurationError

LONGEST_MESSAGE = 500
INCOMPLETE = 7
STATUS_OF: dict[type[BaseException], tuple[int, ...]] = {
    ConfigurationError: (2, 3),
    openai.AuthenticationError: (3,),
    openai.PermissionDeniedError: (3,),
    openai.RateLimitError: (4,),
    openai.APIStatusError: (4, 6),
    openai.APIConnectionError: (5,),
    openai.APIError: (6, INCOMPLETE),
}


@dataclass(frozen=True)
class Verdict:
    """`kind` is "right", "error", "silent", "hang" or "foreign"; `faults` says what is wrong with it, if anything."""

    kind: str
    faults: tuple[str, ...] = ()

    @property
    def helps(self) -> bool:
        return not self.faults


def tried(scenario: Scenario, wire: str, way: str, run: Run) -> tuple[Outcome, int]:
    """What a door shows of a scenario, and how many requests for an answer it took."""
    with (
        RawServer(scenario.scripts(wire, way), tls=scenario.tls) as server,
        patch.dict(os.environ, scenario.environ),
        quick_resolver(),
    ):
        outcome = watched(run, scenario.place(server.url()), wire, scenario.options)
        return outcome, sum(seen.line.startswith("POST") for seen in server.seen)


def judged(expected: Right | Fails, outcome: Outcome, requests: int) -> Verdict:
    """Whether that is what was to be seen."""
    if outcome.hangs:
        return Verdict("hang", ("it never ended",))
    if outcome.error is None:
        return _judged_answer(expected, outcome, requests)
    error = outcome.error
    if not isinstance(error, (openai.OpenAIError, AllosError, CommandFailed)):
        return Verdict("foreign", (f"{type(error).__module__}.{type(error).__name__}: {error}",))
    if isinstance(expected, Right):
        return Verdict("error", (f"an answer was to be had, but {type(error).__name__}: {error}",))
    return Verdict("error", tuple(_faults(expected, error, outcome, requests)))


def _judged_answer(expected: Right | Fails, outcome: Outcome, requests: int) -> Verdict:
    if isinstance(expected, Fails):
        return Verdict("silent", (f"passed as whole: {outcome.text!r}",))
    printed = expected.text.encode("utf-8", "replace").decode()
    if outcome.text not in (expected.text, printed if outcome.status is not None else None):
        return Verdict("silent", (f"{outcome.text[:200]!r} is not {expected.text[:200]!r}",))
    if expected.calls and [(name, _plain(said)) for name, said in outcome.calls] != [
        (name, _plain(said)) for name, said in expected.calls
    ]:
        return Verdict("silent", (f"the calls are {outcome.calls}",))
    if requests != expected.requests:
        return Verdict("right", (f"{requests} requests, not {expected.requests}",))
    if outcome.status not in (None, expected.status):
        return Verdict("right", (f"the exit status is {outcome.status}, not {expected.status}",))
    return Verdict("right")


def _plain(arguments: object) -> str:
    return str(arguments).replace(" ", "")


def _faults(expected: Fails, error: BaseException, outcome: Outcome, requests: int) -> list[str]:
    said = str(error)
    if isinstance(error, CommandFailed):
        known = next(STATUS_OF[kind] for kind in expected.kind.__mro__ if kind in STATUS_OF)
        allowed = (INCOMPLETE,) if expected.kept else known
        found = [] if error.status in allowed else [f"the exit status is {error.status}, not {allowed}: {said}"]
    else:
        found = [] if isinstance(error, expected.kind) else [f"{type(error).__name__} is not {expected.kind}: {said}"]
    found += [f"{word!r} is not in: {said}" for word in expected.says if word.lower() not in said.lower()]
    if len(said) >= LONGEST_MESSAGE or said.count("\n") > 2:
        found.append(f"too long: {said}")
    if KEY in said or KEY in repr(error):
        found.append("the key is shown")
    if expected.kept is not None and outcome.text != expected.kept:
        found.append(f"{outcome.text!r} was shown, not {expected.kept!r}")
    if requests != expected.requests:
        found.append(f"{requests} requests, not {expected.requests}")
    return found
