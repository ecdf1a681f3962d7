"""The table of endpoints: every service that Allos knows by name, with its address, keys and habits.

`endpoints.toml` beside this module holds the facts.
The user's own table is laid over it key by key, and a program may `register` more.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from allos.errors import ConfigurationError, argument, near_miss
from allos.wire.dialect import Dialect, ResponsesDialect

__all__ = [
    "Endpoint",
    "Table",
    "clean_base_url",
    "clean_key",
    "config_folder",
    "endpoints",
    "find",
    "for_base_url",
    "line_of",
    "merged",
    "names",
    "read_toml",
    "register",
    "split_model",
    "table",
]

BUILT_IN = Path(__file__).with_name("endpoints.toml")
_OF_A_PROJECT = {"models", "default_model"}
_AS_LONG_AS_A_KEY = 20  # characters; the names of services are shorter


@dataclass(frozen=True)
class Endpoint:
    """One row of the table. None means: not known, so the standard form is used.

    `base_url` may hold a `{placeholder}`, and is None for the embedded model, which has no address until it runs.
    `key_variables` are the environment variables of its key, the first that is set counting; `other_names` what else
    `provider` may say for it. `chat` and `responses` say which APIs it has, `prefers` which of them is spoken, and
    `stateful` whether it keeps responses. `models` are names of models of your own and what they are called there.
    `models_as_of` is the month in which `default_model` was looked up, `origin` where the row stands.
    `served_as` is the row that says of the embedded server, by its address alone, what it is.
    `host_variables` are those of the `base_url_variables` that hold only a host: its scheme, port and path are
    then taken from `base_url`.
    """

    alias: str
    title: str = ""
    base_url: str | None = None
    other_base_urls: tuple[str, ...] = ()
    responses_base_url: str | None = None
    base_url_variables: tuple[str, ...] = ()
    host_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    needs_key: bool = False
    local: bool = False
    served_as: str | None = None
    generic: bool = False
    openai_account: bool = False
    retired: str | None = None
    chat: bool = True
    responses: bool | None = None
    prefers: Literal["chat", "responses"] = "chat"
    stateful: bool | None = None
    default_model: str | None = None
    models_as_of: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    docs_page: str | None = None
    keys_page: str | None = None
    dialect: Dialect = field(default_factory=Dialect)
    origin: str = "built in"

    def __post_init__(self) -> None:
        if not self.chat:  # then there is nothing else to prefer
            object.__setattr__(self, "prefers", "responses")

    @property
    def is_embedded(self) -> bool:
        """Whether this is the model that runs inside the process, with an address only while it does."""
        return self.base_url is None and not self.generic and not self.base_url_variables

    def plain(self, model: str) -> str:
        """A model's name without this endpoint's own before it, which says nothing to the embedded server.

        Other services may well call their models by a name that begins so, and a file may lie in such a folder.
        """
        alias, _, rest = model.partition("/")
        is_own = _fold(alias) in map(_fold, (self.alias, *self.other_names))
        return rest if self.is_embedded and is_own and rest and not rest.lower().endswith(".gguf") else model

    def address(self, environ: Mapping[str, str] | None = None) -> tuple[str | None, str]:
        """The base URL and where it stands: in a variable of `environ`, or in the table."""
        environ = os.environ if environ is None else environ
        for variable in self.base_url_variables:
            if value := environ.get(variable, "").strip():
                if variable in self.host_variables:
                    value = self._whole(value)
                return clean_base_url(value, variable), variable
        if self.base_url is None and not self.base_url_variables:
            return None, self.origin
        if self.base_url is None or "{" in self.base_url:
            variable = self.base_url_variables[0] if self.base_url_variables else "ALLOS_BASE_URL"
            form = f": {self.base_url}" if self.base_url else ""
            raise ConfigurationError(
                f"The address of {self.alias!r} is your own{form}. Set {variable} to it or pass {argument('base_url')}."
            )
        return clean_base_url(self.base_url, f"base_url of {self.alias!r} in {self.origin}"), self.origin

    def key_from(self, environ: Mapping[str, str]) -> tuple[str, str] | None:
        """The API key in the endpoint's own variables and the variable's name; an empty one counts as unset."""
        for variable in self.key_variables:
            if value := environ.get(variable, "").strip():
                return clean_key(value, variable), variable
        return None

    def serves(self, base_url: str) -> bool:
        """Whether that URL leads to this endpoint's own hosts."""
        origin = _origin(base_url)
        return any(_matches(origin, known) for known in (self.base_url, *self.other_base_urls) if known)

    def _whole(self, host: str) -> str:
        """A URL from a bare host such as OLLAMA_HOST holds, completed with what `base_url` has."""
        own = urlsplit(self.base_url or "")
        given = urlsplit(host if "://" in host else f"{own.scheme}://{host}")
        place = given.netloc.replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # a server listens there, no client can call
        if own.port and ":" not in place.rpartition("]")[2]:
            place = f"{place}:{own.port}"
        path = given.path if given.path.strip("/") else own.path
        return f"{given.scheme}://{place}{path}"


class Table:
    """All rows, by every name that they have."""

    def __init__(self, rows: Iterable[Endpoint]) -> None:
        self._rows = {row.alias: row for row in rows}
        self._names: dict[str, str] = {}
        for endpoint in self._rows.values():
            for name in endpoint.other_names:
                self._names.setdefault(_fold(name), endpoint.alias)
        self._names |= {_fold(alias): alias for alias in self._rows}

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._rows.values())

    def get(self, name: str) -> Endpoint | None:
        """The row of that name, in any case of letters, or None."""
        alias = self._names.get(_fold(name))
        return None if alias is None else self._rows[alias]

    def find(self, name: str) -> Endpoint:
        """The row of that name; raises `ConfigurationError` with the nearest names where there is none."""
        if (endpoint := self.get(name)) is not None:
            return endpoint
        if "://" in name:
            raise ConfigurationError(f"{name!r} is an address, not a provider. Pass it as {argument('base_url')}.")
        alias, _, model = name.partition("/")
        if model and self.get(alias) is not None:
            raise ConfigurationError(f"{name!r} is a provider and its model. Pass it as {argument('model')}.")
        hint = near_miss(_fold(alias), self._names)
        if not hint and len(name) >= _AS_LONG_AS_A_KEY and "/" not in name and any(map(str.isdigit, name)):
            raise ConfigurationError(
                f"A text of {len(name)} characters is no provider, and is not shown as it may be a key. "
                f"Pass a key as {argument('api_key')}, a model as {argument('model')}; see `allos providers`."
            )
        raise ConfigurationError(f"Unknown provider {name!r}.{hint} See `allos providers`.")

    def with_models(self, project: Mapping[str, Any], source: str) -> Table:
        """The table with the models that a project file names; it may not change anything else of a row."""
        rows = dict(self._rows)
        for name, row in project.items():
            try:
                endpoint = self.find(name)
            except ConfigurationError as error:
                raise ConfigurationError(f"{source}: {error}") from None
            _check(endpoint.alias, row, source, "")
            if refused := sorted(set(row) - _OF_A_PROJECT):
                raise ConfigurationError(
                    f"{source}: a project file may not set {refused[0]!r} of {name!r}, only its models. "
                    "Addresses and keys belong in your own endpoints.toml or in the environment."
                )
            models = {**endpoint.models, **row.get("models", {})}
            default = row.get("default_model", endpoint.default_model)
            rows[endpoint.alias] = replace(endpoint, models=models, default_model=default)
        return Table(rows.values())

    def split_model(self, model: str) -> tuple[Endpoint | None, str]:
        """`groq/llama` as the row of `groq` and `llama`; None and the whole where the first part is no alias."""
        alias, slash, rest = model.partition("/")
        endpoint = self.get(alias) if slash and rest else None
        return (None, model) if endpoint is None or endpoint.generic else (endpoint, rest)

    def for_base_url(self, base_url: str) -> Endpoint | None:
        """The row whose host that is; None where no row has it, or several (such as localhost:8080) do."""
        found = [row for row in self if not row.generic and row.serves(base_url)]
        own = [row for row in found if row.origin != "built in"]
        found = own or found
        return found[0] if len(found) == 1 else None


_registered: dict[str, dict[str, Any]] = {}


def register(alias: str, **row: Any) -> Endpoint:
    """Add an endpoint for this process, or change some keys of a known one, and return its row.

    The keys are those of `endpoints.toml`: `base_url`, `key_variables`, `prefers`, `quirks`, ...
    It holds for clients that are made afterwards.
    Raises `ConfigurationError` for a key or a value that can't be.
    """
    _check(alias, row, "register()", "")
    before = dict(_registered)
    _registered[alias] = merged(_registered.get(alias, {}), row)
    _table.cache_clear()
    try:
        return find(alias)
    except ConfigurationError:
        _registered.clear()
        _registered.update(before)
        _table.cache_clear()
        raise


def table(
    environ: Mapping[str, str] | None = None, *, project: Mapping[str, Any] | None = None, source: str = ""
) -> Table:
    """The table with what `endpoints.toml` and `[endpoints.NAME]` of `config.toml` in the user's folder add.

    `project` are rows of a project file named `source`, which may name models and nothing else.
    """
    folder = config_folder(os.environ if environ is None else environ)
    found = _table(folder)
    return found.with_models(project, source) if project else found


def endpoints() -> tuple[Endpoint, ...]:
    """All rows, in the table's order."""
    return tuple(table())


def names() -> tuple[str, ...]:
    """Every alias, in the table's order."""
    return tuple(endpoint.alias for endpoint in table())


def find(name: str) -> Endpoint:
    """The row of that name; raises `ConfigurationError` with the nearest name where there is none."""
    return table().find(name)


def split_model(model: str) -> tuple[Endpoint | None, str]:
    """`groq/llama` as the row of `groq` and `llama`; None and the whole where the first part is no alias."""
    return table().split_model(model)


def for_base_url(base_url: str) -> Endpoint | None:
    """The row whose host that is; None where no row has it, or several do."""
    return table().for_base_url(base_url)


def config_folder(environ: Mapping[str, str]) -> Path | None:
    """Where the user's own files lie: `$XDG_CONFIG_HOME/allos` or `~/.config/allos`; None without a home."""
    base = environ.get("APPDATA") if os.name == "nt" else environ.get("XDG_CONFIG_HOME")
    if base and os.path.isabs(base):  # a relative one would be a folder of the working directory
        return Path(base) / "allos"
    home = environ.get("USERPROFILE") if os.name == "nt" else environ.get("HOME")
    return Path(home) / ".config" / "allos" if home and os.path.isabs(home) else None


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """A TOML file as a dict and as text; an absent file is empty.

    Raises `ConfigurationError` with file and line for one that can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else ""
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        problem = str(error).replace("at end of document", f"at its end, line {len(text.splitlines())}")
        raise ConfigurationError(f"Can't read {path}: {problem}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"Can't read {path}: it is not UTF-8 text.") from None
    except OSError as error:
        raise ConfigurationError(f"Can't read {path}: {error.strerror}.") from None


def line_of(text: str, header: str, key: str | None = None) -> int | None:
    """The line of a TOML text on which the table `header` (or a key in it) begins; None where it stands inline."""
    current, found = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[([^\[\]]+)\]", line):
            current = ".".join(part.strip().strip("\"'") for part in match[1].split("."))
            if current == header:
                found = number
        elif key and current == header and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return found


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one, key by key; where both say something, `above` holds."""
    whole = dict(below)
    for key, value in above.items():
        old = whole.get(key)
        whole[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return whole


def clean_base_url(value: str, source: str) -> str:
    """The base URL that was meant: spaces, quotes, a last slash and a pasted route are taken off.

    Anything else that can't be an `http(s)` address is refused with `ConfigurationError`; `source` names the setting.
    """
    url = value.strip().strip("\"'“”‘’`<>").strip()
    source = source[:1].upper() + source[1:]
    shown = f"{source} {url[:100]!r}" if "@" not in url else source
    if not url:
        raise ConfigurationError(f"{source} is empty. Give a URL such as 'http://localhost:8080/v1'.")
    if any(char.isspace() or not char.isprintable() for char in url):
        raise ConfigurationError(f"{shown} holds a space or a control character. Give one plain URL.")
    parts = _split(url, shown)
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"{source} holds a user name or password. Give the key with {argument('api_key')} instead."
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{shown} has a query or fragment. Leave out what follows the path.")
    path = parts.path.rstrip("/")
    path = re.sub(r"/(chat/completions|completions|responses|models)$", "", path)
    path = re.sub(r"(/v\d+)\1$", r"\1", path)
    return f"{parts.scheme.lower()}://{parts.netloc}{path.rstrip('/')}"


def _split(url: str, shown: str) -> SplitResult:
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigurationError(f"{shown} has no scheme. Did you mean '{_scheme_for(url)}://{url[:100]}'?")
    if scheme.lower() not in ("http", "https"):
        raise ConfigurationError(f"{shown} must begin with http:// or https://.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"{shown} is no address: its host or port can't be read.") from None
    if not parts.hostname or port == 0:
        raise ConfigurationError(f"{shown} names no {'port' if parts.hostname else 'host'} that can be reached.")
    return parts


def _scheme_for(place: str) -> str:
    return "http" if re.match(r"(localhost|[\d.]+|\[)(:|/|$)|[^/]*:\d", place) else "https"


def clean_key(value: str, source: str) -> str:
    """The key without white space and byte order mark around it.

    A key that can't be sent is refused with `ConfigurationError`, which names `source` and never the key.
    """
    key = value.strip().strip("\ufeff\u200b").strip()
    if not key:
        raise ConfigurationError(f"API key from {source} is empty.")
    if any(char.isspace() for char in key):
        raise ConfigurationError(f"API key from {source} contains a space or line break. Copy it again, alone.")
    if any(char in "•●…∗*" for char in key):
        raise ConfigurationError(f"API key from {source} contains dots or stars: a masked copy. Copy the whole key.")
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"API key from {source} contains a character that no key has. Copy it again.")
    return key


@cache
def _table(folder: Path | None) -> Table:
    built_in, _ = read_toml(BUILT_IN)
    rows = dict(built_in)
    origins: dict[str, str] = {}
    if folder is not None:
        for path, header in ((folder / "endpoints.toml", ""), (folder / "config.toml", "endpoints")):
            data, text = read_toml(path)
            added = data.get(header, {}) if header else data
            if not isinstance(added, Mapping):
                raise ConfigurationError(f"{path}: 'endpoints' must be tables such as [endpoints.mine].")
            for alias, row in added.items():
                _check(alias, row, str(path), text, f"{header}.{alias}" if header else alias)
                origins[alias] = str(path)
            rows = merged(rows, added)
    for alias in _registered:
        origins[alias] = "register()"
    whole = merged(rows, _registered)
    made = [_endpoint(alias, row, origins.get(alias, "built in")) for alias, row in whole.items()]
    for endpoint in made:
        if endpoint.alias not in built_in and endpoint.is_embedded:
            hint = near_miss(_fold(endpoint.alias), built_in)
            raise ConfigurationError(
                f"{endpoint.origin}: {endpoint.alias!r} is a new endpoint and has no base_url: where is it?{hint}"
            )
    return Table(made)


def _check(alias: str, row: Any, source: str, text: str, header: str = "") -> None:
    """Refuse a row whose keys or values can't be, naming file and line."""
    try:
        if not isinstance(row, Mapping):
            raise _BadKey((), f"must be a table, not {row!r}")
        endpoint = _endpoint(alias, row, source)
        for url in (endpoint.base_url, *endpoint.other_base_urls):
            if url is not None and "{" not in url:
                clean_base_url(url, f"base_url of {alias!r}")
    except _BadKey as error:
        *inner, key = error.path or ("",)
        line = line_of(text, ".".join((header, *inner)), key)
        place = f"{source}, line {line}" if line else source
        raise ConfigurationError(f"{place}: {'.'.join((alias, *error.path))} {error.problem}.") from None
    except ConfigurationError as error:
        line = line_of(text, header, "base_url")
        raise ConfigurationError(f"{source}{f', line {line}' if line else ''}: {error}") from None


class _BadKey(Exception):
    def __init__(self, path: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def _endpoint(alias: str, row: Mapping[str, Any], origin: str) -> Endpoint:
    row = {"needs_key": bool(row.get("key_variables")), **row}
    endpoint: Endpoint = _record(Endpoint, row, {"alias": alias, "origin": origin})
    return endpoint


_INNER: Mapping[str, type] = {"dialect": Dialect, "responses": ResponsesDialect}


def _record(kind: Any, row: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """A value of that dataclass from a table of the same keys; `quirks` is the TOML name of the dialect."""
    known = {("quirks" if name == "dialect" else name): name for name in _types(kind) if name not in given}
    values = dict(given)
    for key, value in row.items():
        if key not in known:
            raise _BadKey((key,), f"is not a known key. Known are: {', '.join(sorted(known))}")
        name = known[key]
        annotation = _types(kind)[name]
        if annotation in ("Dialect", "ResponsesDialect"):
            if not isinstance(value, Mapping):
                raise _BadKey((key,), f"must be a table, not {value!r}")
            try:
                values[name] = _record(_INNER[name], value, {})
            except _BadKey as error:
                raise _BadKey((key, *error.path), error.problem) from None
        else:
            values[name] = _value(key, value, annotation)
    return kind(**values)


@cache
def _types(kind: Any) -> dict[str, str]:
    return {entry.name: str(entry.type) for entry in fields(kind)}


def _value(key: str, value: Any, annotation: str) -> Any:
    """The value in the form that a field so annotated has."""
    kinds = annotation.removesuffix(" | None")
    if kinds.startswith("tuple"):
        if isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value):
            return tuple(value)
        raise _BadKey((key,), f"must be a list of texts, not {value!r}")
    if kinds.startswith("Mapping"):
        if isinstance(value, Mapping) and (kinds.endswith("Any]") or all(isinstance(v, str) for v in value.values())):
            return dict(value)
        raise _BadKey((key,), f"must be a table{'' if kinds.endswith('Any]') else ' of texts'}, not {value!r}")
    if kinds.startswith("Literal"):
        words = re.findall(r"[\"'](\w+)[\"']", kinds)
        if value in words:
            return value
        raise _BadKey((key,), f"must be {' or '.join(map(repr, words))}, not {value!r}")
    allowed: tuple[type, ...] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}[kinds]
    if isinstance(value, allowed) and (kinds == "bool" or not isinstance(value, bool)):
        return value
    raise _BadKey((key,), f"must be {_SAID[kinds]}, not {value!r}")


_SAID = {"str": "a text", "bool": "true or false", "int": "a whole number", "float": "a number"}


def _fold(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    host = (parts.hostname or "").lower().rstrip(".")
    host = "localhost" if host in ("127.0.0.1", "::1") else host
    return scheme, host, parts.port or (443 if scheme == "https" else 80)


def _matches(origin: tuple[str, str, int], known: str) -> bool:
    """Whether a known address, in which `{placeholder}` stands for one label, has that origin."""
    scheme, host, port = _origin(known)
    pattern = re.sub(r"\\\{[^}]*\}", "[a-z0-9-]+", re.escape(host))
    return (origin[0], origin[2]) == (scheme, port) and re.fullmatch(pattern, origin[1]) is not None
