"""A hunt for secrets: real calls with a marked key through every door, and a search through all that comes out.

The server says the key back wherever an error of its own can hold it. `hunted()` gives the count.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import answers
from loopback import serving

KEY = "marked.key/of-no-known_form-7301"
AMBIENT = {
    "OPENAI_API_KEY": "sk-marked-ambient-7302",
    "OPENAI_ADMIN_KEY": "sk-marked-ambient-7303",
    "OPENAI_ORG_ID": "org-marked-7304",
    "OPENAI_PROJECT_ID": "proj-marked-7305",
    "OPENAI_WEBHOOK_SECRET": "whsec-marked-7306",
    "OPENAI_CUSTOM_HEADERS": "X-Marked: marked-7307",
}
DOORS = ("Client", "AsyncClient", "OpenAI", "AsyncOpenAI")
# The model of a call says what the server makes of it.
OUTCOMES = ("ok", "refused", "broken", "page", "in-200", "in-stream", "cut", "redirect", "reset")

PROGRAM = """
import asyncio, json, logging, os, pathlib, pickle, sys, traceback, warnings
logging.basicConfig(level=logging.DEBUG)
logging.captureWarnings(True)
warnings.simplefilter("always")
import openai, allos

base_url, state, outcomes = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
ours = (str(pathlib.Path(allos.__file__).parent), str(pathlib.Path(openai.__file__).parent))

def more():
    key = os.environ["MARKED"]
    return {"extra_headers": {"api-key": key, "x-api-key": key, "Authorization": f"bearer {key}"}}

# Its bytes are what is being read then, as `error.response` is later.
SAID_IN_200 = ("page", "in-200", "in-stream")

def show(*things):
    for thing in things:
        # a stream of the SDK has the call's own options, headers of the caller's included
        print(repr(thing), str(thing), "" if hasattr(thing, "_options") else getattr(thing, "__dict__", ""))

def tell(error, locals_too):
    # `body` and `response` are what the server sent, for who asks for it; a traceback shows neither
    show(error.args, getattr(error, "reply", ""), getattr(error, "message", ""))
    while error is not None:
        print(repr(error), str(error))
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        for frame in told.stack:
            if locals_too and frame.filename.startswith(ours):
                print(frame.filename, frame.name, frame.locals)
        logging.getLogger("program").error("It failed: %s", error)
        logging.getLogger("openai").exception("It failed", exc_info=error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

def args():
    return {"base_url": base_url, "api_key": os.environ["MARKED"], "max_retries": 0}

# each with whether local variables may be searched: those of a call with headers of its own hold them
def calls(client, door, model):
    if door.endswith("Client"):
        yield True, lambda: client.chat("Hi", model=model)
        yield True, lambda: client.stream("Hi", model=model)
        yield True, lambda: client.models()
        return
    messages = [{"role": "user", "content": "Hi"}]
    for extra in ({}, more()):
        for streamed in (False, True):
            yield not extra, lambda: client.chat.completions.create(
                model=model, messages=messages, stream=streamed, **extra)
            yield not extra, lambda: client.responses.create(model=model, input="Hi", stream=streamed, **extra)
        yield not extra, lambda: client.embeddings.create(model=model, input="Hi", **extra)

def told(made):
    show(made)
    show(getattr(made, "raw", ""), getattr(made, "notes", ""))
    try:
        show(allos.receipt(made))
    except (TypeError, AttributeError, LookupError, ValueError):
        pass

def sync(client, door, model):
    for locals_too, call in calls(client, door, model):
        try:
            made = call()
            told(made)
            if hasattr(made, "__next__"):
                for piece in made:
                    show(piece)
        except (openai.APIError, allos.AllosError) as error:
            tell(error, locals_too and model not in SAID_IN_200)

async def coloured(client, door, model):
    for locals_too, call in calls(client, door, model):
        try:
            made = call()
            made = await made if hasattr(made, "__await__") else made
            told(made)
            if hasattr(made, "__anext__"):
                async for piece in made:
                    show(piece)
        except (openai.APIError, allos.AllosError) as error:
            tell(error, locals_too and model not in SAID_IN_200)

def client_of(door):
    given = {"state": state, "wire": "chat"} if door.endswith("OpenAI") else {"model": "m"}
    client = getattr(allos, door)("chat_completions", **args(), **given)
    print(repr(client), client)
    if door.endswith("Client"):
        show(client.target, vars(client.target), client.target.why, client.target.withheld)
    return client

for door in ("Client", "OpenAI"):
    for model in outcomes:
        with client_of(door) as client:
            sync(client, door, model)

async def main():
    for door in ("AsyncClient", "AsyncOpenAI"):
        for model in outcomes:
            async with client_of(door) as client:
                await coloured(client, door, model)

asyncio.run(main())
try:
    allos.Client("chat_completions", "m", base_url=base_url, api_key=os.environ["MARKED"] + " with a space")
except allos.ConfigurationError as error:
    tell(error, True)
"""


class _Telltale(BaseHTTPRequestHandler):
    """Answers by the model's name, and says the key back in each of its failures."""

    protocol_version = "HTTP/1.1"
    asked: int

    def do_GET(self) -> None:
        self._fail(401, "refused")

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model, streamed = said["model"], bool(said.get("stream"))
        if model == "ok" and "embeddings" not in self.path:
            if streamed:
                text = "".join(f"{line}\n\n" for line in answers.stream("chat", "one ", "two"))
                self._say(200, text, "text/event-stream")
            else:
                self._say(200, json.dumps(answers.whole("chat", "Hello.")))
        elif model == "page":
            self._say(200, f"<html><title>{KEY}</title><body>{KEY}</body></html>", "text/html")
        elif model == "in-200":
            self._say(200, json.dumps({"error": {"message": f"wrong key {KEY}", "code": KEY}}))
        elif model == "in-stream":
            first = next(iter(answers.stream("chat", "one ", "two")))
            self._say(200, f'{first}\n\ndata: {{"error": {{"message": "bad {KEY}"}}}}\n\n', "text/event-stream")
        elif model == "cut":
            self._say(200, "".join(f"{line}\n\n" for line in answers.stream("chat", "one ")[:-3]), "text/event-stream")
        elif model == "redirect":
            self._say(307, "", location=f"http://elsewhere.test/{KEY}?key={KEY}")
        elif model == "reset":
            self.close_connection = True
        else:
            self._fail(500 if model == "broken" else 401, model)

    def _fail(self, status: int, code: str) -> None:
        words = f"{code}: Authorization: Bearer {KEY}, x-api-key: {KEY}, {quote(KEY, safe='')}"
        self._say(status, json.dumps({"error": {"message": words, "code": code, "param": KEY}, "detail": KEY}))

    def _say(self, status: int, text: str, kind: str = "application/json", **headers: str) -> None:
        body = text.encode()
        self.send_response(status, f"Said {KEY}" if status >= 300 else None)
        for name, value in {"content-type": kind, "x-echo": KEY, "set-cookie": f"key={KEY}", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@dataclass(frozen=True)
class Hunt:
    """What was searched and what was found: each place with the words around the secret."""

    doors: int
    outcomes: int
    searched: Mapping[str, int]
    found: tuple[tuple[str, str], ...]


def _forms() -> list[bytes]:
    """Each secret, and the key in the forms that hide it."""
    coded = [base64.b64encode(b"x" * shift + KEY.encode())[4:-4] for shift in (0, 1, 2)]
    plain = [*(value.rpartition(" ")[2] for value in AMBIENT.values()), KEY, quote(KEY, safe=""), KEY[8:-4]]
    return [*(value.encode() for value in plain), *coded, KEY[::-1].encode()]


def _around(text: bytes) -> list[str]:
    found = []
    for form in _forms():
        place = text.find(form)
        if place >= 0:
            found.append(text[max(0, place - 150) : place + len(form) + 50].decode("utf-8", "replace"))
    return found


def hunted() -> Hunt:
    """Make the calls, and search."""
    with serving(_Telltale) as server, tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "state.db")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("ALLOS_", "OPENAI_"))} | {
            **AMBIENT,
            "MARKED": KEY,
            "HOME": folder,
            "XDG_CONFIG_HOME": folder,
            "NO_PROXY": "*",
        }
        out = _run([sys.executable, "-X", "dev", "-c", PROGRAM, server.url, str(state), ",".join(OUTCOMES)], environ)
        texts = {"the libraries' standard output": out[0], "their log at DEBUG and standard error": out[1]}
        environ |= {"ALLOS_API_KEY": KEY, "ALLOS_BASE_URL": server.url, "ALLOS_MODEL": "m", "OPENAI_LOG": "debug"}
        for model in OUTCOMES:
            for more in (["--stream"], ["--no-stream", "--max-retries", "1"]):
                out = _run([sys.executable, "-m", "allos", "-m", model, *more, "Hi"], environ)
                texts[f"the command, {model}, {more[0]}"] = b"".join(out)
        for words in (["config"], ["config", "--json"], ["models"], ["providers"], ["--debug", "Hi"]):
            texts["the command, " + " ".join(words)] = b"".join(_run([sys.executable, "-m", "allos", *words], environ))
        for path in Path(folder).rglob("*"):
            if path.is_file():
                texts[f"the file {path.name}"] = path.read_bytes()
    found = [(place, words) for place, text in texts.items() for words in _around(text)]
    searched = {place: len(text) for place, text in texts.items()}
    return Hunt(len(DOORS) + 1, len(OUTCOMES), searched, tuple(found))


def _run(command: list[str], environ: Mapping[str, str]) -> tuple[bytes, bytes]:
    done = subprocess.run(command, capture_output=True, env=environ, timeout=120, check=False)
    return done.stdout, done.stderr


if __name__ == "__main__":
    print(hunted())
