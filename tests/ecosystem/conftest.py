"""Programs and packages of others, in front of a server that has only Chat Completions: `make test-ecosystem`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chat_only import ChatOnly, chat_only


@pytest.fixture
def server() -> Iterator[ChatOnly]:
    with chat_only() as made:
        yield made
