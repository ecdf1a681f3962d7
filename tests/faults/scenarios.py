"""What goes wrong, and what must then be seen: one row a scenario.

`row` is an id of the catalogue in `docs/reliability.md`.
"""

from __future__ import annotations

from answer_faults import ANSWERS
from place_faults import PLACES
from scenario import Scenario
from status_faults import STATUS
from stream_faults import STREAMS

SCENARIOS: list[Scenario] = [*STREAMS, *ANSWERS, *STATUS, *PLACES]
