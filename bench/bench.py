"""What Allos costs over the bare SDK: `make bench` prints each case as a ratio within one run.

Both sides use the same mock transport, so that only the time spent in Python is compared.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import httpx2
import openai

import allos

CHUNKS = 500
BASE_URL = "http://service.test/v1"

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Paris.", "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return f"data: {json.dumps(data)}\n\n"


STREAM = "".join(
    [
        _chunk({"role": "assistant", "content": ""}),
        *[_chunk({"content": "word "})] * CHUNKS,
        _chunk({}, "stop"),
        "data: [DONE]\n\n",
    ]
).encode()


def answer(request: httpx2.Request) -> httpx2.Response:
    """A server that answers at once; it looks for the stream flag at either end of the body only."""
    wanted = b'"stream":true' in request.content[:4096] or b'"stream":true' in request.content[-4096:]
    if wanted:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=STREAM)
    return httpx2.Response(200, json=CHAT)


def clients() -> tuple[openai.OpenAI, allos.OpenAI, allos.Client]:
    """The bare client, the drop-in and the unified one, in front of the same server."""

    def transport() -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(answer))

    bare = openai.OpenAI(api_key="k", base_url=BASE_URL, http_client=transport())
    dropin = allos.OpenAI("chat_completions", api_key="k", base_url=BASE_URL, http_client=transport())
    unified = allos.Client("chat_completions", "m", api_key="k", base_url=BASE_URL, http_client=transport())
    return bare, dropin, unified


def timed(call: Callable[[], Any], seconds: float = 0.6) -> float:
    """Median seconds of one call."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> int:
    """Print the table."""
    warnings.simplefilter("ignore", allos.UnsupportedWarning)
    bare, dropin, unified = clients()
    one: Any = [{"role": "user", "content": "What is the capital of France?"}]
    long: Any = [{"role": "user" if at % 2 == 0 else "assistant", "content": "hello there"} for at in range(10_001)]
    url = "data:image/png;base64," + "A" * (8 << 20)
    picture: Any = [
        {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}]}
    ]

    def stream(client: openai.OpenAI) -> None:
        for _ in client.chat.completions.create(model="m", messages=one, stream=True):
            pass

    def translated_stream() -> None:
        for _ in dropin.responses.create(model="m", input="What is the capital of France?", stream=True):
            pass

    def unified_stream() -> None:
        for _ in unified.stream(one):
            pass

    def whole(client: openai.OpenAI, messages: Any) -> Callable[[], Any]:
        return lambda: client.chat.completions.create(model="m", messages=messages)

    base = {
        "call": timed(whole(bare, one)),
        "chunk": timed(lambda: stream(bare)) / CHUNKS,
        "8 MB image": timed(whole(bare, picture), 2),
        "10,000 messages": timed(whole(bare, long), 2),
    }
    rows = [
        ("call", "drop-in, native", timed(whole(dropin, one))),
        (
            "call",
            "drop-in, Responses over Chat",
            timed(lambda: dropin.responses.create(model="m", input=one, store=False)),
        ),
        ("call", "unified", timed(lambda: unified.chat(one))),
        ("chunk", "drop-in, native", timed(lambda: stream(dropin)) / CHUNKS),
        ("chunk", "drop-in, Responses over Chat", timed(translated_stream) / CHUNKS),
        ("chunk", "unified", timed(unified_stream) / CHUNKS),
        ("8 MB image", "drop-in, native", timed(whole(dropin, picture), 2)),
        ("8 MB image", "unified", timed(lambda: unified.chat(picture), 2)),
        ("10,000 messages", "drop-in, native", timed(whole(dropin, long), 2)),
        ("10,000 messages", "unified", timed(lambda: unified.chat(long), 2)),
    ]
    print(f"Python {sys.version.split()[0]}, openai {openai.__version__}, allos {allos.__version__}\n")
    print("| case | door | bare SDK | Allos | ratio |\n| --- | --- | ---: | ---: | ---: |")
    for case, door, seconds in rows:
        print(
            f"| {case} | {door} | {base[case] * 1e6:,.0f} µs | {seconds * 1e6:,.0f} µs | {seconds / base[case]:.2f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
