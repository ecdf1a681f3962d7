"""The tables of `docs/drop-in.md` say for each field what the program does with it."""

from __future__ import annotations

import re

import fields
import pytest
from pages import ROOT

from allos.messages import Wire
from allos.state import _STATE_FIELDS

PAGE = (ROOT / "docs" / "drop-in.md").read_text("utf-8")
TITLES: dict[Wire, str] = {"responses": "over Chat Completions", "chat": "over the Responses API"}
OTHER: dict[Wire, Wire] = {"responses": "chat", "chat": "responses"}


def told(asked: Wire) -> dict[str, str]:
    """What the page says of each field."""
    rows = PAGE.partition(f"| field | {TITLES[asked]} |\n| --- | --- |\n")[2].partition("\n\n")[0].splitlines()
    cells = [re.split(r" ?\| ?", row)[1:3] for row in rows]
    return {name: said for first, said in cells for name in re.findall(r"`([^`]+)`", first)}


@pytest.mark.parametrize("asked", TITLES)
def test_every_field_of_the_api_has_its_row(asked: Wire) -> None:
    assert set(fields.names(asked)) <= set(told(asked))


@pytest.mark.parametrize(("asked", "field"), [(asked, field) for asked in TITLES for field in told(asked)])
def test_a_field_becomes_what_the_page_says(asked: Wire, field: str) -> None:
    if field not in fields.names(asked):
        pytest.skip("this SDK does not know the field")
    said, found = told(asked)[field], fields.outcome(asked, OTHER[asked], field)
    if asked == "responses" and field in _STATE_FIELDS:
        assert said.startswith("kept here")
    elif isinstance(found, str):
        assert said.startswith(found)
    elif said == "the same":
        assert field in found
    else:
        names = re.findall(r"`([^`]+)`", said)
        assert found - set(fields.LEAST[OTHER[asked]]) <= {*names, field}
        assert names[0] in found if found else said.startswith("said here")
