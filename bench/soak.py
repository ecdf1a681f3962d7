"""A long run against a server on this machine: does memory grow, are connections left open?

`make soak` asks 100,000 whole answers and leaves 10,000 streams early, over every way that there is: both colours,
the unified and the drop-in clients, native and translated. It ends with status 1 when something grew.
`docs/soak.json` holds the figures of the last whole run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import answers

import allos

MAY_GROW_BYTES = 4 * 1024 * 1024  # what the allocator of a long-lived process moves about by itself
MAY_GROW_DESCRIPTORS = 2
WIRES = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}
PIECES = ("one ", "two ", "three ", "four ")


# The server: a process of its own, so that its memory is not counted.


def _canned() -> dict[tuple[str, bool], bytes]:
    found = {}
    for wire in ("chat", "responses"):
        whole = json.dumps(answers.whole(wire, "".join(PIECES))).encode()
        events = "".join(f"{line}\n\n" for line in answers.stream(wire, *PIECES)).encode()
        for streamed, body, kind in ((False, whole, "application/json"), (True, events, "text/event-stream")):
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
            found[wire, streamed] = head.encode() + body
    return found


async def _serve() -> None:
    canned = _canned()
    still_open = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal still_open
        still_open += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                body = await reader.readexactly(length)
                if path == "/open":
                    said = str(still_open - 1).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(said))
                    writer.write(said)
                    await writer.drain()
                    return
                streamed = json.loads(body).get("stream", False)
                writer.write(canned[WIRES[path], streamed])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            still_open -= 1
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def server() -> Iterator[str]:
    """The base URL of a server that runs as long as the block does."""
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# The ways to ask. Each is a pair: a whole answer, and a stream that is left after its first piece.

Way = tuple[Callable[[], Any], Callable[[], Any]]


def _unified(base_url: str, wire: str) -> Way:
    provider = "openai" if wire == "responses" else "chat_completions"
    client = allos.Client(provider, "m", base_url=base_url, api_key="k")

    def leave() -> None:
        with client.stream("hello") as stream:
            next(iter(stream))

    return lambda: client.chat("hello"), leave


def _unified_async(base_url: str, wire: str) -> Way:
    provider = "openai" if wire == "responses" else "chat_completions"
    client = allos.AsyncClient(provider, "m", base_url=base_url, api_key="k")

    async def leave() -> None:
        async with client.stream("hello") as stream:
            await anext(aiter(stream))

    return lambda: client.chat("hello"), leave


def _method(client: Any, asked: str) -> Callable[..., Any]:
    if asked == "chat":
        return lambda **more: client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], **more
        )
    return lambda **more: client.responses.create(model="m", input="hello", **more)


def _drop_in(base_url: str, asked: str, spoken: str) -> Way:
    client = allos.OpenAI("chat_completions", base_url=base_url, api_key="k", wire=spoken)
    ask = _method(client, asked)

    def leave() -> None:
        with ask(stream=True) as stream:
            next(iter(stream))

    return ask, leave


def _drop_in_async(base_url: str, asked: str, spoken: str) -> Way:
    client = allos.AsyncOpenAI("chat_completions", base_url=base_url, api_key="k", wire=spoken)
    ask = _method(client, asked)

    async def leave() -> None:
        async with await ask(stream=True) as stream:
            await anext(aiter(stream))

    return ask, leave


def ways(base_url: str) -> tuple[dict[str, Way], dict[str, Way]]:
    """Every way to ask by its name: the synchronous ones, and the asynchronous ones."""
    sync, coloured = dict[str, Way](), dict[str, Way]()
    for wire in ("chat", "responses"):
        sync[f"Client, {wire}"] = _unified(base_url, wire)
        coloured[f"AsyncClient, {wire}"] = _unified_async(base_url, wire)
        for spoken in ("chat", "responses"):
            sync[f"OpenAI, {wire} over {spoken}"] = _drop_in(base_url, wire, spoken)
            coloured[f"AsyncOpenAI, {wire} over {spoken}"] = _drop_in_async(base_url, wire, spoken)
    return sync, coloured


# The run.


@dataclass
class Sample:
    """How the process stands after so many calls."""

    calls: int
    left_streams: int
    resident: int
    descriptors: int
    objects: int


def _sample(calls: int, left: int) -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(os.listdir("/proc/self/fd"))
    return Sample(calls, left, pages * os.sysconf("SC_PAGE_SIZE"), descriptors, len(gc.get_objects()))


async def _run(base_url: str, calls: int, left: int, rounds: int) -> list[Sample]:
    sync, coloured = ways(base_url)
    count = len(sync) + len(coloured)
    asked, leaving = (math.ceil(total / rounds / count) for total in (calls, left))  # each way, each round
    samples = list[Sample]()
    for number in range(rounds + 1):  # the first round warms up and is not counted
        for ask, leave in sync.values():
            for _ in range(asked):
                ask()
            for _ in range(leaving):
                leave()
        for ask, leave in coloured.values():
            await _repeat(ask, asked)
            await _repeat(leave, leaving)
        samples.append(_sample(number * asked * count, number * leaving * count))
        print(json.dumps(asdict(samples[-1])), file=sys.stderr, flush=True)
    return samples


async def _repeat(ask: Callable[[], Awaitable[Any]], times: int, at_once: int = 8) -> None:
    for begun in range(0, times, at_once):
        await asyncio.gather(*(ask() for _ in range(min(at_once, times - begun))))


def growth(samples: list[Sample]) -> tuple[int, int]:
    """Bytes and descriptors that came since the warm-up: the last quarter of the samples against the first."""
    counted = samples[1:]
    part = max(1, len(counted) // 4)

    def middle(name: str, some: list[Sample]) -> int:
        values: list[int] = sorted(getattr(sample, name) for sample in some)
        return values[len(some) // 2]

    early, late = counted[:part], counted[-part:]
    return (
        middle("resident", late) - middle("resident", early),
        middle("descriptors", late) - middle("descriptors", early),
    )


def main() -> int:
    """Run, print what was measured as JSON, and judge it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="be the server, and print its port")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--left", type=int, default=10_000, help="how many streams are left early")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", type=Path, help="a file for the figures")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve())
        return 0
    begun = time.monotonic()
    with server() as base_url:
        samples = asyncio.run(_run(base_url, given.calls, given.left, given.rounds))
    grown, descriptors = growth(samples)
    result = {
        "calls": samples[-1].calls,
        "left_streams": samples[-1].left_streams,
        "seconds": round(time.monotonic() - begun),
        "resident_before": samples[1].resident,
        "resident_after": samples[-1].resident,
        "memory_growth": grown,
        "descriptors_before": samples[1].descriptors,
        "descriptors_after": samples[-1].descriptors,
        "descriptor_growth": descriptors,
        "object_growth": samples[-1].objects - samples[1].objects,
    }
    print(json.dumps(result, indent=2))
    if given.write is not None:
        given.write.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return int(grown > MAY_GROW_BYTES or descriptors > MAY_GROW_DESCRIPTORS)


if __name__ == "__main__":
    sys.exit(main())
