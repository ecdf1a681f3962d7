"""`OpenAI` and `AsyncOpenAI`: the official clients, with both APIs on every endpoint.

They are real subclasses.
Two hooks of the SDK are overridden, `_build_request` (what is sent) and `_send_request` (what came back), and
this package is, with `redirects`, the only one that touches the SDK's internals; `tests/test_sdk_contract.py` pins
what it relies on.
"""

from __future__ import annotations

from allos.dropin.clients import AsyncOpenAI, OpenAI

__all__ = ["AsyncOpenAI", "OpenAI"]
