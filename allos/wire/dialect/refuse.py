"""What an endpoint does not have, and what can't be left out without changing the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from allos.errors import Unsupported
from allos.wire.dialect.values import Dialect, ResponsesDialect

__all__ = ["refuse"]


def refuse(body: Mapping[str, Any], dialect: Dialect | ResponsesDialect) -> None:
    """Raise `Unsupported` for what this endpoint can't do."""
    for name in dialect.refuse:
        if body.get(name):
            raise Unsupported(f"This service has no {name!r}: leave it out, or use another provider.", param=name)
    if dialect.tool_kinds is not None:
        for index, tool in enumerate(body.get("tools") or ()):
            kind = tool.get("type")
            if kind not in dialect.tool_kinds:
                raise Unsupported(f"This service takes no tool of type {kind!r}.", param=f"tools[{index}]")
    if isinstance(dialect, Dialect):
        _refuse_count(body.get("n"), dialect.n_max)
        for place, part in _parts(body.get("messages")):
            _refuse_part(part, place, dialect)


def _refuse_count(count: Any, highest: int | None) -> None:
    if highest is not None and isinstance(count, int) and count > highest:
        raise Unsupported(
            f"This service gives at most {highest} answer to a request, not {count}: ask several times.", param="n"
        )


def _parts(messages: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, message in enumerate(messages or ()):
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping):
                yield f"messages[{index}].content", part


def _refuse_part(part: Mapping[str, Any], place: str, dialect: Dialect) -> None:
    kind = part.get("type")
    if kind in dialect.refused_parts:
        raise Unsupported(f"This service takes no content part of type {kind!r}.", param=place)
    if kind == "image_url" and not dialect.image_urls:
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if isinstance(url, str) and not url.startswith("data:"):
            raise Unsupported(
                "This service takes pictures only as data: URLs, and Allos fetches none by itself; "
                "see Image.from_bytes.",
                param=place,
            )
