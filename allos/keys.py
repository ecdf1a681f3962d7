"""Keys stay out of texts: out of what the libraries below log, even at DEBUG, and out of what servers say.

Every key that a client holds is known here for as long as the client lives, and no longer.
"""

from __future__ import annotations

import logging
import re
import traceback
import weakref
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

__all__ = ["masked", "remember", "watch_logs"]

_SHAPE = re.compile(r"\b(?:sk|gsk|xai|pplx|nvapi|hf|key|tok)[-_][A-Za-z0-9_\-*.]{6,}", re.IGNORECASE)
_BEARER = re.compile(r"(\b(?:bearer|basic)\s+)[^\s'\",;)\]}]+", re.IGNORECASE)
_SHORTEST = 4  # a shorter key, such as the "k" of a test server, would be found in every word
# What a header may say in a log. All others may hold a credential: services take keys under many names.
_PLAIN_HEADERS = frozenset(
    ("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "retry-after", "user-agent")
)
_LIBRARIES = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
# Loggers that the libraries make when they are first needed; a test holds the list.
_MADE_LATER = (
    *(
        f"{library}.{part}"
        for library in _LIBRARIES[3:]
        for part in ("connection", "http11", "http2", "proxy", "socks")
    ),
    "openai.audio.transcriptions",
    "openai.lib.parsing",
    *(
        f"openai.resources.{module}"
        for module in (
            "beta.realtime.realtime",
            "beta.responses.responses",
            "live.forks",
            "live.live",
            "live.sideband",
            "realtime.realtime",
            "realtime.translations.translations",
            "responses.responses",
            "uploads.uploads",
        )
    ),
)

_known = weakref.WeakValueDictionary[int, SecretStr]()


def remember(key: SecretStr | None) -> None:
    """Let `masked` and the logs know a key as one, while something holds that object."""
    if key is not None and len(key.get_secret_value()) >= _SHORTEST:
        _known[id(key)] = key


def masked(text: str) -> str:
    """The text with `***` where it holds a key: one that is known, or something of the form of one."""
    for key in {key.get_secret_value() for key in list(_known.values())}:
        text = text.replace(key, "***").replace(quote(key, safe=""), "***")
    return _SHAPE.sub("***", _BEARER.sub(r"\1***", text))


def watch_logs() -> None:
    """Put a filter on the loggers of the SDK and of the HTTP libraries, whatever their level; once is enough."""
    for name in _loggers():
        logging.getLogger(name).addFilter(_FILTER)  # adds it once only


def _loggers() -> Iterator[str]:
    """Each by itself: a logger's filter does not see what the loggers below it say."""
    yield from (*_LIBRARIES, *_MADE_LATER)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _LIBRARIES:
            yield name


class _NoKeys(logging.Filter):
    """Lets every record pass, without the keys in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args
        if isinstance(args, Mapping):
            record.args = _plain(args)
        elif args:
            record.args = tuple(_plain(value) if isinstance(value, Mapping) else value for value in args)
        said = record.getMessage()
        if (clean := masked(said)) != said:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            record.exc_text = masked("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return True


_FILTER = _NoKeys()


def _plain(data: Mapping[Any, Any]) -> dict[Any, Any]:
    """The same with `***` for each header that may hold a credential."""
    made = dict(data)
    for name in ("headers", "extra_headers", "default_headers"):
        if isinstance(made.get(name), Mapping):
            made[name] = {
                header: value if str(header).lower() in _PLAIN_HEADERS else "***"
                for header, value in made[name].items()
            }
    return made
