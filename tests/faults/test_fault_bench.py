"""Every scenario through every door: the right answer or the right error, never a silent wrong one."""

from __future__ import annotations

import openai
import pytest
from doors_under_fire import doors
from scenarios import SCENARIOS, Scenario

import allos.retry
from bench import judged, tried

CASES = [
    pytest.param(scenario, wire, way, id=f"{scenario.id}-{wire}-{way}")
    for scenario in SCENARIOS
    for wire in scenario.wires
    for way in scenario.ways
]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries pass milliseconds, in our policy and in the SDK's."""
    monkeypatch.setattr(allos.retry, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr(openai._base_client, "MAX_RETRY_DELAY", 0.002)


@pytest.mark.filterwarnings("ignore::allos.UnsupportedWarning")
@pytest.mark.parametrize(("scenario", "wire", "way"), CASES)
def test_every_door_shows_the_answer_or_says_what_is_wrong(scenario: Scenario, wire: str, way: str) -> None:
    wrong = []
    for name, run in doors(wire, way, helped=scenario.helped).items():
        verdict = judged(scenario.expected, *tried(scenario, wire, way, run))
        wrong += [f"{name}: {verdict.kind}: {fault}" for fault in verdict.faults]
    assert not wrong, "\n".join(["", *wrong])
