"""What goes wrong with an address, a key or the way there: rows N1 to N4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
from doors_under_fire import KEY
from raw_server import dead_port, server_tls
from scenario import Fails, Right, Scenario, Scripts, good_answer, said

from allos.errors import ConfigurationError

__all__ = ["PLACES"]


def _unreached() -> list[Scenario]:
    def case(name: str, *words: str, scripts: Scripts | None = None, requests: int = 0, **more: Any) -> Scenario:
        expected = Fails(openai.APIConnectionError, words, requests=requests)
        return Scenario("N1", name, scripts or said(b""), expected, **more)

    def nowhere(url: str) -> str:
        return "http://nowhere.invalid/v1"

    def with_tls(url: str) -> str:
        return url.replace("http:", "https:")

    http, port = "http://127.0.0.1", dead_port()
    return [
        case("refused", f"127.0.0.1:{port}", "refused", "server running", place=lambda url: f"{http}:{port}/v1"),
        case("unknown host", "nowhere.invalid", "unknown", place=nowhere),
        case("https to http", "127.0.0.1", "TLS", "http://", place=with_tls),
        case("http to https", "127.0.0.1", "https://", tls=server_tls()),
        case(
            "bad certificate",
            "not trusted",
            "SSL_CERT_FILE",
            place=with_tls,
            tls=server_tls(),
        ),
        case("dead proxy", "proxy", f"{http}:{port}", environ={"http_proxy": f"{http}:{port}"}),
        case("not HTTP", "127.0.0.1", "http server", scripts=said(b"SSH-2.0-OpenSSH_9.2\r\n"), requests=1),
    ]


def _places() -> list[Scenario]:
    def mended(name: str, place: Callable[[str], str]) -> Scenario:
        return Scenario("N2", name, good_answer, Right(), place=place)

    def refused(name: str, place: Callable[[str], str], *words: str) -> Scenario:
        return Scenario("N2", name, good_answer, Fails(ConfigurationError, words, requests=0), place=place)

    return [
        mended("spaces around", lambda url: f"  {url} "),
        mended("newline behind", lambda url: f"{url}\n"),
        mended("quotes around", lambda url: f'"{url}"'),
        mended("slash behind", lambda url: f"{url}/"),
        mended("chat completions pasted", lambda url: f"{url}/chat/completions"),
        mended("models pasted", lambda url: f"{url}/models"),
        refused("no scheme", lambda url: url.removeprefix("http://"), "no scheme", "http://"),
        refused("other scheme", lambda url: url.replace("http:", "ftp:"), "ftp:", "base"),
        refused("bad port", lambda url: "http://127.0.0.1:99999/v1", "99999"),
        refused("query", lambda url: f"{url}?api-version=1", "query"),
        refused("space inside", lambda url: url.replace("/v1", "/my v1"), "space"),
    ]


def _keys() -> list[Scenario]:
    def sent(name: str, key: str) -> Scenario:
        return Scenario("N3", name, good_answer, Right(), options={"api_key": key})

    def refused(name: str, key: str, *words: str) -> Scenario:
        expected = Fails(ConfigurationError, ("key", *words), requests=0)
        return Scenario("N4", name, good_answer, expected, options={"api_key": key})

    return [
        sent("newline and spaces", f"  {KEY}\n"),
        sent("byte order mark", f"\ufeff{KEY}"),
        refused("space inside", KEY.replace("-of-", " of "), "space"),
        refused("newline inside", KEY.replace("-of-", "\nof-")),
        refused("masked copy", "sk-•••••••••••0123", "masked copy"),
    ]


PLACES = [*_unreached(), *_places(), *_keys()]
