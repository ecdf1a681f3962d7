"""Records the cassettes anew from real servers: `make record`.

The tests that replay cassettes are run once against the servers themselves, and what passes between them is written
down.
Start the servers first and name their addresses; those that are not named are left as they are:

    ALLOS_RECORD_LLAMACPP=http://127.0.0.1:8101/v1 make record
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import pytest  # noqa: E402

from cassettes import SERVERS, Recorder  # noqa: E402


def main(arguments: list[str]) -> int:
    """Record from every server that is named and answers; further arguments go to pytest (`-k tools`)."""
    addresses = {name: url for name, server in SERVERS.items() if (url := os.environ.get(server.variable))}
    if not addresses:
        print(f"{__doc__}\nThe servers, each a script of its own:\n", file=sys.stderr)
        for server in SERVERS.values():
            print(f"    {server.variable:30} {server.start}", file=sys.stderr)
        return 2
    silent = [f"{SERVERS[name].variable}={url}: {why}" for name, url in addresses.items() if (why := _silence(url))]
    if silent:
        print("Nothing was recorded, because no server answers at", *silent, sep="\n    ", file=sys.stderr)
        return 1
    return int(pytest.main([str(ROOT / "tests"), "-m", "cassette", *arguments], plugins=[Recorder(addresses)]))


def _silence(base_url: str) -> str:
    """Why a server can't be recorded; empty when it answers, be it with a refusal."""
    try:
        urllib.request.urlopen(f"{base_url}/models", timeout=5).close()  # noqa: S310  # the caller's own address
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
