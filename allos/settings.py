"""What is asked where: the settings with their origins, and the endpoint, key and model that follow from them.

Above stands what wins: flag, environment (`ALLOS_*`), a named `.env`, project file, user file, default.

Two rules keep a prompt and a key from going where nobody meant them to go.
A key in an endpoint's own variable goes to that endpoint's hosts only.
A model or `ALLOS_API_KEY` belongs to the destination that its own level and those below choose; where a higher
level sends the prompt elsewhere, it stays behind.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from allos import endpoints, keys
from allos.endpoints import Endpoint, Table, clean_base_url, clean_key, config_folder, line_of, read_toml, split_model
from allos.errors import ConfigurationError, KeyMissing, argument, argument_origin, near_miss
from allos.messages import Note, OutputFormat, Wire

__all__ = ["Settings", "Target", "environment", "load", "official", "resolve", "split_model"]

_OFFICIAL, _GENERIC, _EMBEDDED = "openai", "chat_completions", "local"  # what nothing, an address, no key lead to
_SAMPLING = ("temperature", "top_p", "max_tokens", "seed", "stop", "reasoning_effort")
_OF_A_PROJECT = {"model", "system", "format", "endpoints", *_SAMPLING}
_OF_A_PLACE = {"provider", "model", "base_url", "api_key", "wire", "fallback"}
_NOT_IN_A_FILE = {"api_key"}


@dataclass(frozen=True)
class Target:
    """Where a prompt goes: all that a client needs to know. Its repr shows no key.

    `base_url` is None for the embedded model until it runs. `why` says in sentences what was chosen and from
    where; `notices` are those of them that a person should see unasked. `withheld` says which key was not sent,
    because it belongs to another host, and how to send it all the same. `state` is the file in which the drop-in
    clients keep responses. `fallback` are the places to ask next.
    """

    endpoint: Endpoint
    base_url: str | None
    api_key: SecretStr | None = None
    key_origin: str | None = None
    model: str | None = None
    model_is_forced: bool = False
    wire: Literal["auto", "chat", "responses"] = "auto"
    speaks: Wire = "chat"
    timeout: float | None = None
    connect_timeout: float | None = None
    deadline: float | None = None
    max_retries: int = 2
    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    on_unsupported: Literal["warn", "error", "ignore"] = "warn"
    why: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    withheld: str | None = None
    state: str | None = None
    fallback: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        keys.remember(self.api_key)

    @cached_property
    def is_openai(self) -> bool:
        """Whether the host is OpenAI's own, so that its organization and project headers belong there."""
        base_url = self.base_url
        return base_url is not None and any(
            row.openai_account and row.serves(base_url) for row in endpoints.endpoints()
        )

    def named(self, model: str, notes: list[Note]) -> str:
        """What the endpoint calls a model; `notes` tells where that is another name."""
        if (renamed := self.endpoint.models.get(model)) is not None:
            notes.append(Note("changed", "model", f"{model} is named {renamed} at {self.endpoint.alias}"))
            return renamed
        plain = self.endpoint.plain(model)
        if self.endpoint.is_embedded and self.model is not None and plain != self.model:
            notes.append(Note("changed", "model", f"{self.model} answers for {model}, which does not run here"))
            return self.model
        return plain

    def reached(self, base_url: str, api_key: str | None, model: str | None) -> Target:
        """The same target once its server runs there."""
        key = SecretStr(api_key) if api_key else None
        return replace(self, base_url=base_url, api_key=key, model=self.model or model)

    def with_key(self, api_key: str | None) -> Target:
        """The same target with another key."""
        if api_key is None:
            return self
        return replace(self, api_key=SecretStr(clean_key(api_key, "api_key")), key_origin="api_key")


@dataclass(frozen=True)
class _Layer:
    """What one place sets. `origins` says for each value where it stands."""

    rank: int
    values: Mapping[str, Any]
    origins: Mapping[str, str]


_FLAGS, _ENVIRON, _ENV_FILE, _PROJECT, _USER = 5, 4, 3, 2, 1
_layers: ContextVar[tuple[_Layer, ...]] = ContextVar("_layers")


class Settings(BaseSettings):
    """Every setting, validated. `load` makes one; `origin` says where a value stands."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    api_key: SecretStr | None = Field(default=None, strict=True)  # else bytes would pass for a text
    wire: Literal["auto", "chat", "responses"] = "auto"
    system: str | None = None
    format: Literal["text", "json"] | None = None
    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    connect_timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    deadline: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_retries: int = Field(default=2, ge=0)
    max_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    reasoning_effort: str | None = None
    on_unsupported: Literal["warn", "error", "ignore"] = "warn"
    state: str | None = None
    fallback: tuple[str, ...] = ()
    local_model: str | None = None

    _layers: tuple[_Layer, ...] = PrivateAttr(default=())
    _environ: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _table: Table = PrivateAttr(default_factory=endpoints.table)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The layers that `load` found, the strongest first."""
        return (init_settings, *(InitSettingsSource(cls, dict(layer.values)) for layer in _layers.get(())))

    def origin(self, name: str) -> str:
        """Where a setting's value stands: `--model`, `ALLOS_MODEL`, a file, or "default"."""
        return next((layer.origins[name] for layer in self._layers if name in layer.values), "default")

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment in which keys are looked for, with the named `.env` below it."""
        return self._environ

    def resolve(self, *, needs_key: bool = True, needs_other_keys: bool = True) -> Target:
        """Where a prompt goes with these settings.

        Raises `KeyMissing` where the endpoint, or a place of the fallback, needs a key and has none. Where that is
        no error, `why` says it, and a place that can't be asked is left out.
        """
        target = _Resolution(self).target(needs_key)
        if not self.fallback:
            return target
        others = list[Target]()
        named = ", ".join(map(repr, self.fallback))
        why = [f"Where it fails, {named} is asked, as {self.origin('fallback')} says."]
        for entry in self.fallback:
            try:
                others.append(self._alternative(entry))
            except KeyMissing as error:
                if needs_other_keys:
                    raise
                why.append(str(error))
        return replace(target, fallback=tuple(others), why=(*target.why, *why))

    def _alternative(self, entry: str) -> Target:
        """A place to ask when the first one fails: it has its own address and key, and nothing of the first one's."""
        origin = self.origin("fallback")
        if "://" in entry:  # not shown, as a password may be in it
            way = "Give it a name as [endpoints.NAME] in your config.toml, and write that instead."
            raise ConfigurationError(f"{origin[:1].upper()}{origin[1:]} holds an address. {way}")
        alias, slash, model = entry.partition("/")
        endpoint = self._table.find(entry if self._table.get(alias) is None else alias)
        if endpoint.generic:
            way = "Give the server a name as [endpoints.NAME] in your config.toml, and write that instead."
            raise ConfigurationError(f"{entry!r} of {origin} names no place. {way}")
        unnamed = ConfigurationError(f"{entry!r} of {origin} names no model. Write {f'{alias}/MODEL'!r}.")
        if slash and not model:
            raise unnamed
        place = {"provider": endpoint.alias, **({"model": model} if model else {})}
        layers = [_Layer(_FLAGS, place, dict.fromkeys(place, origin))]
        for layer in self._layers:
            kept = {name: value for name, value in layer.values.items() if name not in _OF_A_PLACE}
            layers.append(_Layer(layer.rank, kept, layer.origins))
        try:
            target = _settings(tuple(layers), self._environ, self._table).resolve()
        except KeyMissing:
            missing = _missing(endpoint, is_fallback=True)
            raise KeyMissing(f"{entry!r} of {origin} can't be asked. {missing}") from None
        if target.model is None and target.base_url is not None:
            raise unnamed
        return target


def load(
    *,
    env_file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    **flags: Any,
) -> Settings:
    """The settings of this process, with `flags` (names of `Settings`; None and "" count as not given) above all.

    `environ` stands for the environment and `directory` for the working directory.
    Raises `ConfigurationError` for a value that can't be, naming where it stands.
    """
    if unknown := sorted(set(flags) - set(Settings.model_fields)):
        raise TypeError(f"load() knows no setting {unknown[0]!r}")
    real = {name: value for name, value in (os.environ if environ is None else environ).items() if value.strip()}
    named = _read_env_file(env_file or real.get("ALLOS_ENV_FILE"))
    given = {name: value for name, value in flags.items() if value is not None and value != ""}
    if isinstance(given.get("fallback"), str):
        given["fallback"] = _from_text("fallback", given["fallback"])
    project, rows, source = _project(Path(directory or "."))
    layers = (
        _Layer(_FLAGS, given, {name: argument_origin(name) for name in given}),
        _environment(_ENVIRON, real, ""),
        _environment(_ENV_FILE, named, f" in {env_file or real.get('ALLOS_ENV_FILE')}"),
        project,
        _user_file(config_folder(real)),
    )
    return _settings(layers, {**named, **real}, endpoints.table(real, project=rows, source=source))


def environment() -> dict[str, str]:
    """The variables of this process, with the `.env` file that they name below them; empty ones count as unset."""
    real = {name: value for name, value in os.environ.items() if value.strip()}
    return {**_read_env_file(real.get("ALLOS_ENV_FILE")), **real}


def resolve(
    provider: str | None = None,
    model: str | None = None,
    *,
    env_file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    **flags: Any,
) -> Target:
    """Where a prompt goes, from these arguments (names of `Settings`) and the settings below them.

    Raises `ConfigurationError` for what can't be, `KeyMissing` where the endpoint needs a key and has none.
    """
    settings = load(provider=provider, model=model, env_file=env_file, environ=environ, directory=directory, **flags)
    return settings.resolve()


def official(
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    fallback: Iterable[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Target:
    """Where the official client would send a call with these arguments, when nothing of Allos is set.

    `OPENAI_API_KEY` goes to OpenAI's hosts and to that of `OPENAI_BASE_URL` only. A missing key is no error here.
    """
    real = {name: value for name, value in (os.environ if environ is None else environ).items() if value.strip()}
    place = {"base_url": base_url} if base_url else {"provider": _OFFICIAL}
    given = {"api_key": api_key, "fallback": None if fallback is None else tuple(fallback)}
    values = {**place, **{name: value for name, value in given.items() if value}}
    origins = {name: argument_origin(name) for name in values} | {"provider": "the official client"}
    layer = _Layer(_FLAGS, values, origins)
    named = _read_env_file(real.get("ALLOS_ENV_FILE"))  # in which the official client does not look for its own
    real = {name: value for name, value in named.items() if not name.startswith("OPENAI_")} | real
    layers = (layer, _environment(_ENVIRON, {name: real[name] for name in ("ALLOS_FALLBACK",) if name in real}, ""))
    return _settings(layers, real, endpoints.table(real)).resolve(needs_key=False)


def _settings(layers: tuple[_Layer, ...], environ: Mapping[str, str], table: Table) -> Settings:
    token = _layers.set(layers)
    try:
        settings = Settings()
    except ValidationError as error:
        raise _told(error, layers) from None
    finally:
        _layers.reset(token)
    settings._layers, settings._environ, settings._table = layers, environ, table
    return settings


def _told(error: ValidationError, layers: Iterable[_Layer]) -> ConfigurationError:
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    layer = next(layer for layer in layers if name in layer.values)
    shown = "" if name in _NOT_IN_A_FILE else f"={layer.values[name]!r}"
    taken = _TAKEN.get(str(problem["type"]).partition("_")[0])
    reason = str(problem["msg"]) if taken is None else f"it takes {taken}"
    return ConfigurationError(f"Can't use {name}{shown} from {layer.origins[name]}: {reason}.")


# By the first word of what pydantic calls the error.
_TAKEN = {"tuple": "a list of texts", "float": "a number", "int": "a whole number", "string": "a text"}


def _environment(rank: int, environ: Mapping[str, str], place: str) -> _Layer:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = f"ALLOS_{name.upper()}"
        if (value := environ.get(variable)) is not None:
            values[name], origins[name] = _from_text(name, value), f"{variable}{place}"
    return _Layer(rank, values, origins)


def _from_text(name: str, value: str) -> Any:
    if name == "fallback":
        return tuple(entry.strip() for entry in value.split(",") if entry.strip())
    if name == "stop":
        return (value,)
    return value if name == "system" else value.strip()


def _read_env_file(path: str | os.PathLike[str] | None) -> dict[str, str]:
    if path is None:
        return {}
    from dotenv.parser import parse_stream  # which, unlike `dotenv_values`, says what it can't read

    place = f"the env file {str(path)!r}"
    try:
        text = Path(path).expanduser().read_text("utf-8-sig")
    except OSError as error:
        hint = f"See {argument('env_file')} and ALLOS_ENV_FILE."
        raise ConfigurationError(f"Can't read {place}: {error.strerror}. {hint}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"Can't read {place}: it is not UTF-8 text.") from None
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        is_word = binding.value is None and not (binding.key or "_").isidentifier()
        if binding.error or is_word:
            words = binding.original.string
            line = binding.original.line + words[: -len(words.lstrip())].count("\n")
            raise ConfigurationError(f"Can't read {place}: line {line} is not of the form NAME=VALUE.")
        if binding.key is not None:
            found[binding.key] = binding.value or ""
    return {name: value for name, value in found.items() if value.strip()}


def _user_file(folder: Path | None) -> _Layer:
    if folder is None:
        return _Layer(_USER, {}, {})
    path = folder / "config.toml"
    data, text = read_toml(path)
    known = set(Settings.model_fields) | {"endpoints"}
    for key in data:
        if key in _NOT_IN_A_FILE:
            raise ConfigurationError(
                f"{_place(path, text, '', key)}: {key!r} may not stand in a file that is no secret. "
                "Put it into the environment or into a file named by ALLOS_ENV_FILE."
            )
        if key not in known:
            raise ConfigurationError(f"{_place(path, text, '', key)}: unknown setting {key!r}.{near_miss(key, known)}")
    return _of_file(_USER, path, data)


def _project(directory: Path) -> tuple[_Layer, Mapping[str, Any], str]:
    """What the project's file sets, its rows of the table, and its name."""
    for folder in _folders(directory):
        for name, header in (("allos.toml", ""), ("pyproject.toml", "tool.allos")):
            path = folder / name
            if not path.is_file() or (header and b"tool.allos" not in path.read_bytes()):
                continue
            data, text = read_toml(path)
            if header:
                data = data.get("tool", {}).get("allos", {})
            for key in data:
                if key not in _OF_A_PROJECT:
                    raise ConfigurationError(
                        f"{_place(path, text, header, key)}: a project file may set model, system, format, "
                        f"sampling and models of endpoints, but not {key!r}: that belongs in your own config.toml."
                    )
            rows = data.get("endpoints", {})
            if not isinstance(rows, Mapping):
                raise ConfigurationError(f"{path}: 'endpoints' must be tables such as [endpoints.groq].")
            return _of_file(_PROJECT, path, data), rows, str(path)
    return _Layer(_PROJECT, {}, {}), {}, ""


def _folders(directory: Path) -> list[Path]:
    """The directory and its parents up to the root of its git checkout; outside of one, only itself."""
    try:
        here = directory.resolve()
    except OSError:
        return []
    line = [here, *here.parents]
    root = next((index for index, folder in enumerate(line) if (folder / ".git").exists()), 0)
    return line[: root + 1]


def _of_file(rank: int, path: Path, data: Mapping[str, Any]) -> _Layer:
    values = {key: value for key, value in data.items() if key != "endpoints" and value != ""}
    return _Layer(rank, values, dict.fromkeys(values, str(path)))


def _place(path: Path, text: str, header: str, key: str) -> str:
    line = line_of(text, header, key) or line_of(text, f"{header}.{key}".strip("."))
    return f"{path}, line {line}" if line else str(path)


@dataclass(frozen=True)
class _Destination:
    """An endpoint and its address. `is_own`: the address is the one that the endpoint itself names."""

    endpoint: Endpoint
    base_url: str | None
    is_own: bool
    reason: str
    model: str | None = None
    model_rank: int | None = None

    def is_where(self, other: _Destination) -> bool:
        if self.base_url is None or other.base_url is None:
            return self.base_url is other.base_url and self.endpoint.alias == other.endpoint.alias
        here, there = urlsplit(self.base_url), urlsplit(other.base_url)
        return (here.scheme, here.netloc.lower()) == (there.scheme, there.netloc.lower())


class _Resolution:
    """One way from settings to a target, with its reasons."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layers = settings._layers
        self._environ = settings._environ
        self._table = settings._table
        self._why: list[str] = []
        self._notices: list[str] = []
        self._withheld: str | None = None

    def target(self, needs_key: bool) -> Target:
        destination = self._chosen(_FLAGS) or self._found()
        endpoint = destination.endpoint
        if endpoint.retired:
            raise ConfigurationError(f"{endpoint.title} was retired {endpoint.retired}. See `allos providers`.")
        self._why.insert(0, destination.reason)
        settings = self._settings
        speaks: Wire = endpoint.prefers if settings.wire == "auto" else settings.wire
        base_url = destination.base_url
        if speaks == "responses" and endpoint.responses_base_url and base_url == endpoint.base_url:
            base_url = endpoint.responses_base_url
        model, is_forced = self._model(destination)
        key, key_origin = self._key(destination, needs_key)
        self._why.append(f"It speaks {_SPOKEN[speaks]}" + self._because(settings.wire, endpoint))
        return Target(
            endpoint,
            base_url,
            SecretStr(key) if key else None,
            key_origin,
            model,
            is_forced,
            self._wire(endpoint),
            speaks,
            settings.timeout,
            settings.connect_timeout,
            settings.deadline,
            settings.max_retries,
            settings.system,
            self._options(),
            settings.on_unsupported,
            (*self._notices, *self._why),
            tuple(self._notices),
            self._withheld,
            settings.state,
        )

    def _options(self) -> dict[str, Any]:
        """What every request says unless its caller says otherwise."""
        settings = self._settings
        said = {name: value for name in _SAMPLING if (value := getattr(settings, name)) is not None}
        return {**said, "format": OutputFormat("json_object")} if settings.format == "json" else said

    def _wire(self, endpoint: Endpoint) -> Literal["auto", "chat", "responses"]:
        """The wire that is asked for; who names the generic provider means Chat Completions by it."""
        provider = self._layer("provider", _FLAGS)
        named = provider is not None and self._table.find(str(provider.values["provider"])) == endpoint
        return "chat" if endpoint.generic and named and self._settings.wire == "auto" else self._settings.wire

    def _because(self, wire: str, endpoint: Endpoint) -> str:
        if wire != "auto":
            return f", as {self._settings.origin('wire')} says."
        return f", which {endpoint.alias!r} does best." if not endpoint.generic else "."

    def _layer(self, name: str, top: int) -> _Layer | None:
        return next((layer for layer in self._layers if layer.rank <= top and name in layer.values), None)

    def _chosen(self, top: int) -> _Destination | None:
        """The destination that the layers up to that rank name."""
        provider, url = self._layer("provider", top), self._layer("base_url", top)
        if url is not None and (provider is None or url.rank > provider.rank):
            origin = url.origins["base_url"]
            base_url = clean_base_url(str(url.values["base_url"]), origin)
            endpoint = self._table.for_base_url(base_url) or self._table.find(_GENERIC)
            return _Destination(endpoint, base_url, False, f"The address is {base_url}, from {origin}.")
        if provider is not None:
            return self._provider(provider, url)
        layer = self._layer("model", top)
        if layer is not None and layer.rank != _PROJECT:
            name = str(layer.values["model"])
            if name.endswith("/") and self._table.get(name[:-1]) is not None:
                place = f"The model {name!r} of {layer.origins['model']}"
                raise ConfigurationError(f"{place} names no model. Write it after the slash: {name + 'MODEL'!r}.")
            found, rest = self._table.split_model(name)
            if found is not None:
                reason = f"The provider is {found.alias!r}, as the model of {layer.origins['model']} begins with it."
                return _Destination(found, found.address(self._environ)[0], True, reason, rest, layer.rank)
        return None

    def _provider(self, provider: _Layer, url: _Layer | None) -> _Destination:
        endpoint = self._table.find(str(provider.values["provider"]))
        reason = f"The provider is {endpoint.alias!r}, from {provider.origins['provider']}"
        if url is not None and (url.rank == provider.rank or endpoint.generic):
            origin = url.origins["base_url"]
            base_url = clean_base_url(str(url.values["base_url"]), origin)
            if endpoint.base_url is None:  # the embedded model; whatever runs there is another server
                endpoint = self._table.for_base_url(base_url) or self._table.find(_GENERIC)
                reason += ", which has no address of its own, so that another server is asked"
            return _Destination(endpoint, base_url, False, f"{reason}; its address {base_url} from {origin}.")
        if url is not None:
            reason += f"; {url.origins['base_url']} is not used, because the provider was named above it"
        base, origin = endpoint.address(self._environ) if not endpoint.retired else (None, "")
        return _Destination(
            endpoint, base, True, f"{reason}; its address {base} is {_of(origin)}." if base else f"{reason}."
        )

    def _found(self) -> _Destination:
        """Where a prompt goes when nothing says so: to the first endpoint with a key, else to the embedded model."""
        if (layer := self._layer("api_key", _FLAGS)) is not None:
            raise ConfigurationError(
                f"There is a key from {layer.origins['api_key']}, but nothing says for which provider. "
                f"Set ALLOS_PROVIDER or pass {argument('provider')} or {argument('base_url')}."
            )
        for endpoint in self._table:
            if not endpoint.needs_key or endpoint.local or endpoint.generic or endpoint.retired:
                continue
            has_model = endpoint.default_model is not None or self._settings.model is not None
            if has_model and (key := endpoint.key_from(self._environ)) is not None:
                self._notices.append(f"No provider is set; using {endpoint.alias!r}, because {key[1]} is set.")
                base_url, origin = endpoint.address(self._environ)
                return _Destination(endpoint, base_url, True, f"Its address {base_url} is {_of(origin)}.")
        self._notices.append("No provider is set and no API key was found; using the embedded model.")
        return _Destination(self._table.find(_EMBEDDED), None, True, "It runs inside this process.")

    def _model(self, destination: _Destination) -> tuple[str | None, bool]:
        """The model, and whether a flag or the environment names it."""
        for layer in self._layers:
            if "model" not in layer.values:
                continue
            home, name = self._chosen(layer.rank), str(layer.values["model"])
            if home is None or home.is_where(destination):
                if home is not None and home.model_rank == layer.rank and home.model:
                    name = home.model
                name = destination.endpoint.plain(name)
                self._why.append(f"The model is {name!r}, from {layer.origins['model']}.")
                return name, layer.rank >= _ENV_FILE
            self._why.append(f"The model {name!r} of {layer.origins['model']} belongs to {home.endpoint.alias!r}.")
        if destination.base_url is None and self._settings.local_model:
            self._why.append(
                f"The model is {self._settings.local_model!r}, from {self._settings.origin('local_model')}."
            )
            return self._settings.local_model, False
        endpoint, base_url = destination.endpoint, destination.base_url
        if (default := endpoint.default_model) and (base_url is None or endpoint.serves(base_url)):
            self._why.append(f"The model is {default!r}, the default of {endpoint.alias!r}.")
            return default, False
        return None, False

    def _key(self, destination: _Destination, is_needed: bool) -> tuple[str | None, str | None]:
        """The key that may go there and where it stands."""
        loose: tuple[str, str] | None = None
        for layer in self._layers:
            if "api_key" not in layer.values:
                continue
            origin = layer.origins["api_key"]
            key = clean_key(_shown(layer.values["api_key"]), origin)
            home = self._chosen(layer.rank)
            if layer.rank == _FLAGS or (home is not None and home.is_where(destination)):
                return self._told_key(key, origin)
            if home is None:
                loose = loose or (key, origin)
            else:
                self._withhold(origin, home.endpoint.title, destination)
        base_url = destination.base_url
        row: Endpoint | None = destination.endpoint
        if not destination.is_own and base_url is not None and not destination.endpoint.serves(base_url):
            row = self._table.for_base_url(base_url)
        found = row.key_from(self._environ) if row is not None else None
        if found or loose:
            return self._told_key(*(found or loose or ("", "")))
        if row is not None and row.needs_key and (base_url is None or row.serves(base_url)):
            if is_needed:
                raise KeyMissing(" ".join(filter(None, (_missing(row), self._withheld))))
            self._why.append(_missing(row))
        if (spare := destination.endpoint.key_from(self._environ)) is not None:
            owner = self._table.for_base_url(destination.endpoint.base_url or "") or destination.endpoint
            self._withhold(spare[1], owner.title, destination)
        return None, None

    def _told_key(self, key: str, origin: str) -> tuple[str, str]:
        self._why.append(f"The key is from {origin}.")
        return key, origin

    def _withhold(self, origin: str, owner: str, destination: _Destination) -> None:
        place = urlsplit(destination.base_url or "").netloc or destination.endpoint.alias
        self._withheld = (
            f"{origin} was not sent to {place}, because it belongs to {owner}; pass {argument('api_key')} to send one."
        )
        self._why.append(self._withheld)


def _of(origin: str) -> str:
    """Where an address stands, after "is"."""
    return origin if origin == "built in" else f"from {origin}"


_SPOKEN: Mapping[Wire, str] = {"chat": "Chat Completions", "responses": "the Responses API"}


def _missing(endpoint: Endpoint, *, is_fallback: bool = False) -> str:
    """What to do about a missing key; a place of the fallback has one in its own variables only."""
    way = f"Set {next(iter(endpoint.key_variables), 'ALLOS_API_KEY')}"
    if not is_fallback:
        server = f", or name another server by {argument('base_url')}" if endpoint.generic else ""
        way += f" or pass {argument('api_key')}{server}; `{argument('provider', _EMBEDDED)}` needs none"
    elif not endpoint.key_variables:
        way = f"Name its variable as key_variables of [endpoints.{endpoint.alias}] in your config.toml"
    page = f" Keys: {endpoint.keys_page}" if endpoint.keys_page else ""
    return f"No API key for {endpoint.alias!r}. {way}.{page}"


def _shown(key: str | SecretStr) -> str:
    return key.get_secret_value() if isinstance(key, SecretStr) else key
