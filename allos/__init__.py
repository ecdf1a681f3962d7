"""One import and one command for every model that speaks an OpenAI API.

import allos

reply = allos.chat("What is the capital of France?")
print(reply.text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allos.client import AsyncClient, AsyncStream, Client, Stream
    from allos.dropin import AsyncOpenAI, OpenAI
    from allos.endpoints import Endpoint, register
    from allos.errors import AllosError, ConfigurationError, KeyMissing, ParseError, Unsupported, UnsupportedWarning
    from allos.exchange import Receipt
    from allos.failures import IncompleteReplyError
    from allos.messages import (
        Audio,
        Delta,
        File,
        Image,
        Message,
        OutputFormat,
        Reasoning,
        Refusal,
        Reply,
        Request,
        Text,
        Tool,
        ToolCall,
        ToolChoice,
        ToolResult,
        Usage,
        Wire,
    )
    from allos.receipts import receipt

__version__ = "0.1.0"

_HOMES = {
    "client": ["AsyncClient", "AsyncStream", "Client", "Stream"],
    "endpoints": ["Endpoint", "register"],
    "dropin": ["AsyncOpenAI", "OpenAI"],
    "errors": ["AllosError", "ConfigurationError", "KeyMissing", "ParseError", "Unsupported", "UnsupportedWarning"],
    "exchange": ["Receipt"],
    "failures": ["IncompleteReplyError"],
    "messages": [
        "Audio",
        "Delta",
        "File",
        "Image",
        "Message",
        "OutputFormat",
        "Reasoning",
        "Refusal",
        "Reply",
        "Request",
        "Text",
        "Tool",
        "ToolCall",
        "ToolChoice",
        "ToolResult",
        "Usage",
        "Wire",
    ],
    "receipts": ["receipt"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AllosError",
    "AsyncClient",
    "AsyncOpenAI",
    "AsyncStream",
    "Audio",
    "Client",
    "ConfigurationError",
    "Delta",
    "Endpoint",
    "File",
    "Image",
    "IncompleteReplyError",
    "KeyMissing",
    "Message",
    "OpenAI",
    "OutputFormat",
    "ParseError",
    "Reasoning",
    "Receipt",
    "Refusal",
    "Reply",
    "Request",
    "Stream",
    "Text",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Unsupported",
    "UnsupportedWarning",
    "Usage",
    "Wire",
    "__version__",
    "chat",
    "receipt",
    "register",
]


def chat(messages: Any, *, provider: str | None = None, model: str | None = None, **options: Any) -> Reply:
    """A model's whole answer to a text or to messages: `Client(provider, model).chat(messages, …)` in one call.

    `options` are the keywords of `Client.chat`. Raises what `Client` and `Client.chat` raise.
    For more than a question now and then keep a `Client`, which keeps its connection.
    """
    from allos.client import Client

    with Client(provider, model) as client:
        return client.chat(messages, **options)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import allos` stays cheap."""
    if name not in _HOME:
        raise AttributeError(f"module 'allos' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"allos.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
