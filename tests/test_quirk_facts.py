"""Every row of the table beside the facts that it was made from: nothing typed in them is missed or said otherwise.

What then reaches a service is claimed in `test_rows.py`; here the row itself is read, fact by fact.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from plain_chat import FOLDER

from allos import endpoints
from allos.endpoints import Endpoint

FACTS = FOLDER.parent / "providers.json"
TABLE = Path(endpoints.__file__).with_name("endpoints.toml")
Service = dict[str, Any]
Holds = Callable[[Endpoint, Any], bool]
SERVICES: dict[str, Service] = (
    {row["alias"]: row for row in json.loads(FACTS.read_text("utf-8"))} if FACTS.is_file() else {}
)
each_service = pytest.mark.parametrize(
    "service",
    [pytest.param(service, id=alias) for alias, service in SERVICES.items()]
    or [pytest.param({}, marks=pytest.mark.skip(reason=f"the facts about the services are not at {FACTS}"))],
)

# Differences that are meant: the fact, and why the row says something else
MEANT: Mapping[tuple[str, str], str] = {
    ("groq", "unknown_params"): "no list of what it takes is known; `drop` holds every refusal that is",
    ("gemini", "unknown_params"): "no list of what it takes is known; `drop` holds every refusal that is",
    ("transformers", "unknown_params"): "no list of what it takes is known, and a 422 names the field",
    ("llamacpp", "tool_choice"): "measured on llama.cpp in xllamacpp 2026.10.11549: a named function is not enforced, "
    "and 'none' still shows the tools to the model",
    ("ollama", "tool_choice"): "it reads no tool_choice [ollama openai/openai.go], which is to say always 'auto'",
    ("tgi", "model"): "one model a server: its answers name the model that was asked",
}

# Facts about answers: the readers take all of these forms from everyone, so that no row says them
OF_ANSWERS = {"reasoning_out", "usage_stream_location", "tool_call_index_missing", "models_endpoint", "owned_by"}
# Said in other words elsewhere in a service, or in sentences, which the comments of the row repeat
NOT_TYPED = {"alias", "wire", "responses", "quirks", "models"}


# How a row says each fact


def _leaves_out(row: Endpoint, path: str) -> bool:
    """Whether the field is never sent under that name."""
    dialect = row.dialect
    renamed = {*dialect.rename, *({"max_completion_tokens"} if dialect.max_tokens_field == "max_tokens" else ())}
    if path in {*dialect.drop, *dialect.refuse, *renamed}:
        return True
    if path == "stream_options":
        return not dialect.stream_usage
    if path == "n":
        return dialect.n_max == 1
    return dialect.accepts is not None and "[]" not in path and path not in dialect.accepts


def _ignores(row: Endpoint, path: str) -> bool:
    """Whether a caller is told that the field does nothing here, or gets its meaning in another way."""
    dialect = row.dialect
    if path == "response_format":
        return dialect.response_format == ()
    if path == "tool_choice":
        return dialect.tool_choice in ((), ("auto",))
    return path in dialect.ignored or _leaves_out(row, path)


def _limit_is_named(row: Endpoint, name: str) -> bool:
    return row.dialect.max_tokens_field in {"max_tokens": {name}, "either": {None}}.get(name, {None, name})


def _takes(forms: tuple[str, ...] | None, known: list[str], standard: Iterable[str]) -> bool:
    return set(known) == (set(standard) if forms is None else set(forms))


def _content(row: Endpoint, words: str) -> bool:
    roles = {"assistant", "tool"} if "assistant and tool" in words else {"system", "user", "assistant", "tool"}
    return words.startswith("string") and roles <= set(row.dialect.string_content)


def _same_url(one: str | None, other: str | None) -> bool:
    return (one or "").rstrip("/") == (other or "").rstrip("/")


def _renamed(row: Endpoint, names: Mapping[str, str]) -> bool:
    said = {"max_completion_tokens": row.dialect.max_tokens_field, **row.dialect.rename}
    return all(said.get(name) == other for name, other in names.items())


_CHOICES = ("none", "auto", "required", "function", "allowed_tools")
_FORMS = ("text", "json_object", "json_schema")

# For the request
QUIRKS: Mapping[str, Holds] = {
    "max_tokens_param": _limit_is_named,
    "rename_params": _renamed,
    "accepted_params": lambda row, names: set(row.dialect.accepts or ()) == set(names),
    "unknown_params": lambda row, what: what == "ignore" or row.dialect.accepts is not None,
    "n_max": lambda row, count: row.dialect.n_max == count,
    "temperature_max": lambda row, highest: row.dialect.temperature_max == highest,
    "logprobs_type": lambda row, kind: row.dialect.logprobs_integer is (kind == "integer"),
    "tool_choice": lambda row, forms: _takes(row.dialect.tool_choice, forms, _CHOICES),
    "tool_call_id_pattern": lambda row, pattern: pattern == f"^[a-zA-Z0-9]{{{row.dialect.tool_call_id_length}}}$",
    "response_format": lambda row, forms: _takes(row.dialect.response_format, forms, _FORMS),
    "reasoning_in": lambda row, name: row.dialect.reasoning_replay == name,
    "content": _content,
    "alternation_required": lambda row, needed: row.dialect.alternation is needed,
    "images": lambda row, forms: row.dialect.image_urls is (forms != ["data-uri"]),
}
# Lists in which every name is a fact of its own
NAMES: Mapping[str, Holds] = {"drop_params": _leaves_out, "ignored_params": _ignores}

# For the place
PLACE: Mapping[str, Holds] = {
    "other_names": lambda row, names: set(names) <= set(row.other_names),
    "title": lambda row, title: row.title == title.partition(" (retired")[0],
    "base_url": lambda row, url: _same_url(row.base_url, url),
    "base_url_alternatives": lambda row, urls: set(urls) <= set(row.other_base_urls),
    "base_url_env": lambda row, names: list(row.base_url_variables) == names,
    "api_key_env": lambda row, names: list(row.key_variables) == names,
    "needs_key": lambda row, needed: row.needs_key is needed,
    "local": lambda row, local: row.local is local,
    "apis": lambda row, apis: (row.chat, bool(row.responses)) == ("chat" in apis, "responses" in apis),
    "docs_page": lambda row, url: row.docs_page == url,
    "keys_page": lambda row, url: row.keys_page == url,
    "status": lambda row, status: status.startswith("retired") is bool(row.retired),
}
NATIVE: Mapping[str, Holds] = {
    "native": lambda row, native: row.responses is native,
    "stateful": lambda row, stateful: row.stateful is stateful,
    "notes": lambda row, notes: "at /v1/responses while" not in notes or str(row.responses_base_url).endswith("/v1"),
}
MODELS: Mapping[str, Holds] = {
    "small": lambda row, model: row.default_model == model,
    "as_of": lambda row, month: row.default_model is None or row.models_as_of == month,
}


def missed(service: Service) -> set[tuple[str, str]]:
    """The service and the name of each typed fact that its row does not say."""
    row = endpoints.find(service["alias"])
    facts: list[tuple[str, Holds, Any]] = []
    for known, said in (
        (PLACE, {key: value for key, value in service.items() if key not in OF_ANSWERS | NOT_TYPED}),
        (NATIVE, service["responses"]),
        (MODELS, {key: value for key, value in service.get("models", {}).items() if key not in ("large", "source")}),
        (QUIRKS, {key: value for key, value in service.get("wire", {}).items() if key not in OF_ANSWERS | {*NAMES}}),
    ):
        facts += [(key, known[key], value) for key, value in said.items()]
    for key, holds in NAMES.items():
        facts += [(name, holds, name) for name in service.get("wire", {}).get(key, ())]
    return {(row.alias, key) for key, holds, value in facts if not holds(row, value)}


@each_service
def test_a_row_says_every_typed_fact_about_its_service(service):
    assert missed(service) == {key for key in MEANT if key[0] == service["alias"]}


@each_service
def test_a_row_gives_the_source_of_every_sentence_about_its_service(service):
    noted = _comments()[service["alias"]]
    assert [quirk["id"] for quirk in service["quirks"] if _flat(quirk["source"]) not in noted] == []


def _comments() -> dict[str, str]:
    """What stands in the table about each service, comments and all, on one line."""
    found: dict[str, list[str]] = {}
    alias = ""
    for line in TABLE.read_text("utf-8").splitlines():
        if line.startswith("["):
            alias = line[1:].partition("]")[0].partition(".")[0]
        found.setdefault(alias, []).append(line.lstrip("# "))
    return {alias: _flat(" ".join(lines)) for alias, lines in found.items()}


def _flat(text: str) -> str:
    return " ".join(text.split())
