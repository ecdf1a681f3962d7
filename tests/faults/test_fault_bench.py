"""Every scenario through every door: the right answer or the right error, never a silent wrong one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from doors_under_fire import doors
from judge import judged, tried
from scenario import Scenario
from tally import cases, no_waiting

CASES = [pytest.param(scenario, wire, way, id=f"{scenario.id}-{wire}-{way}") for scenario, wire, way in cases()]


@pytest.fixture(autouse=True)
def milliseconds() -> Iterator[None]:
    with no_waiting():
        yield


@pytest.mark.filterwarnings("ignore::allos.UnsupportedWarning")
@pytest.mark.parametrize(("scenario", "wire", "way"), CASES)
def test_every_door_shows_the_answer_or_says_what_is_wrong(scenario: Scenario, wire: str, way: str) -> None:
    wrong = []
    for name, run in doors(wire, way, helped=scenario.helped).items():
        verdict = judged(scenario.expected, *tried(scenario, wire, way, run))
        wrong += [f"{name}: {verdict.kind}: {fault}" for fault in verdict.faults]
    assert not wrong, "\n".join(["", *wrong])
