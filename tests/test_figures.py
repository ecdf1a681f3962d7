"""The figures in `docs/compatibility.md` are those that the recordings give."""

from __future__ import annotations

import figures
import openai
import pytest
import recorded
from recorded import FOLDER, MISSING

PAGE = (recorded.ROOT / "docs" / "compatibility.md").read_text("utf-8")
ROWS = {line.split(" | ")[0].strip("| "): line for line in PAGE.splitlines() if line.startswith("| ")}
IS_THERE = any(FOLDER.glob("*/*.json"))
# What another release of the SDK makes of the bytes may differ: the page says with which it was measured.
IS_MEASURED = f"`openai` {'.'.join(openai.__version__.split('.')[:2])}:" in PAGE


@pytest.mark.skipif(not IS_THERE, reason=MISSING)
@pytest.mark.skipif(not IS_MEASURED, reason="the page was measured with another release of the SDK")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("service", sorted(figures.services()))
def test_the_row_of_a_service_is_what_its_recordings_give(service: str) -> None:
    assert ROWS.get(service) == figures.row(service, figures.services()[service]), "Run `python tools/compatibility.py`"


@pytest.mark.skipif(not IS_THERE, reason=MISSING)
def test_the_table_has_a_row_for_every_service_and_their_sum() -> None:
    rows = [ROWS[service] for service in sorted(figures.services())]
    assert list(ROWS) == ["service", "---", *sorted(figures.services()), "**all**"]
    assert ROWS["**all**"] == figures.total(rows)
    assert figures.HEAD in PAGE


@pytest.mark.parametrize("column", ["`Client`", "`OpenAI`", "`OpenAI`, other API"])
def test_all_exchanges_of_every_service_come_out_right(column: str) -> None:
    place = figures.COLUMNS.index(column)
    for service, line in ROWS.items():
        cells = line.strip("| ").split(" | ")
        if cells[0] not in ("service", "---"):
            assert cells[place] == cells[1], service
