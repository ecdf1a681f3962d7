"""What the synchronous and the asynchronous client have in common: how they are made and how a call begins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import openai

from allos import keys, settings
from allos.adapters import NO_KEY, held_back, no_key, sdk_arguments
from allos.dropin.route import Call, Route
from allos.endpoints import clean_base_url
from allos.errors import ConfigurationError
from allos.receipts import MARK
from allos.redirects import origin
from allos.settings import Target
from allos.state import Sessions, open_store
from allos.transport import HTTP

__all__ = ["Shared"]

_OURS = ("ALLOS_PROVIDER", "ALLOS_MODEL", "ALLOS_BASE_URL", "ALLOS_WIRE")


class Shared:
    """What the sync and the async client have in common; mixed into the official classes."""

    _route: Route
    _provider_is_fixed: bool
    _siblings: dict[tuple[str, str | None], Any]
    _spares: dict[int, Any]
    _fallback: Sequence[str] | None
    _state: str | os.PathLike[str] | None
    _sends_no_key: bool
    _home: tuple[str, str, int]
    admin_api_key: str | None
    base_url: Any
    max_retries: int

    def __init__(
        self,
        provider: Any = None,
        *,
        wire: str | None = None,
        model: str | None = None,
        on_unsupported: str | None = None,
        state: str | os.PathLike[str] | None = None,
        fallback: Sequence[str] | None = None,
        _route: Route | None = None,
        _spare: Route | None = None,
        _elsewhere: Mapping[str, Any] | None = None,
        **official: Any,
    ) -> None:
        super().__init__(
            **self._prepare(
                provider,
                _placed_anew(official, _elsewhere),
                wire=wire,
                model=model,
                on_unsupported=on_unsupported,
                state=state,
                fallback=fallback,
                route=_route,
                spare=_spare,
            )
        )
        self._settle()

    def copy(self, *, _extra_kwargs: Mapping[str, Any] | None = None, **changed: Any) -> Self:
        """A client with some options changed, as `openai.OpenAI.copy`; `provider` may be an alias."""
        extra = {**self._copied(changed), **(_extra_kwargs or {})}
        return super().copy(_extra_kwargs=extra, **changed)  # type: ignore[misc,no-any-return]  # of the official class

    with_options = copy

    def _built(self, call: Call, tries: int = 0) -> Any:
        """The request of a call that is decided already."""
        request = super()._build_request(call.options, retries_taken=tries)  # type: ignore[misc]  # as above
        call.client = self
        request.extensions[MARK] = call
        return request

    def _prepare(
        self,
        provider: Any,
        official: dict[str, Any],
        *,
        wire: str | None,
        model: str | None,
        on_unsupported: str | None,
        state: str | os.PathLike[str] | None,
        fallback: Sequence[str] | None,
        route: Route | None,
        spare: Route | None,
    ) -> dict[str, Any]:
        """Decide where calls go; returns the arguments for the official constructor."""
        if provider is not None and not isinstance(provider, str):
            official["provider"] = provider
        name = provider if isinstance(provider, str) else None
        base_url, api_key = _text(official.get("base_url")), _text(official.get("api_key"))
        self._siblings = {}
        self._spares = {}
        self._fallback = fallback
        self._state = state
        self._sends_no_key = False
        is_here = route is not None and name is None and base_url == route.target.base_url
        environ = {} if is_here else settings.environment()  # a copy for the same place has all of it already
        on_unsupported = on_unsupported or environ.get("ALLOS_ON_UNSUPPORTED")
        if on_unsupported not in (None, "warn", "error", "ignore"):
            raise ConfigurationError(f"on_unsupported={on_unsupported!r} must be 'warn', 'error' or 'ignore'.")
        same = route is not None and route.target.api_key is None and api_key in (None, NO_KEY)
        if route is not None and route.target.api_key is None and not (is_here and same):
            official = _as_if_new(official)
        if route is not None and is_here:
            target = route.target if same else route.target.with_key(api_key)
            self._sends_no_key = same and not target.is_openai
            self._route = replace(route, target=target, on_unsupported=on_unsupported or route.on_unsupported)
            self._provider_is_fixed = route.provider_is_fixed
            if not target.is_openai and official.get("admin_api_key") is None:
                official["admin_api_key"] = ""
            return official
        self._provider_is_fixed = name is not None or _names_a_place(official, environ)
        is_ours = name is not None or wire is not None or model is not None or not environ.keys().isdisjoint(_OURS)
        target = spare.target if spare is not None else _target(name, official, wire, model, fallback, is_ours=is_ours)
        if target.base_url is None:
            target = _started(target)
        policy = on_unsupported or target.on_unsupported
        if spare is not None:
            self._route = replace(spare, target=target)
        else:
            store = open_store(state or target.state or environ.get("ALLOS_STATE"))
            self._route = Route(target, policy, Sessions(store), self._provider_is_fixed)
        if not is_ours and (target.is_openai or _places_itself(official)):
            return official
        made = sdk_arguments(target, official)
        made["max_retries"] = official.get("max_retries", target.max_retries)
        self._sends_no_key = isinstance(made["default_headers"].get("Authorization"), openai.Omit)
        return {**official, **made}

    def _settle(self) -> None:
        """Say None for no admin key again: the empty one kept the SDK from taking that of the environment."""
        keys.watch_logs()
        self._home = origin(self.base_url)
        if self.admin_api_key == "":
            self.admin_api_key = None

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> Any:
        """The request for a call: translated, answered here, sent by another endpoint's client, or as it is."""
        body = options.json_data
        model = body.get("model") if isinstance(body, Mapping) else None
        if isinstance(model, str) and (chosen := self._elsewhere(model)) is not None:
            sibling, name = chosen
            there = {"json_data": {**body, "model": name}, "headers": self._portable(options)}
            return sibling._build_request(options.model_copy(update=there), retries_taken=retries_taken)
        if self._sends_no_key and not _has_authorization(options):
            headers = {} if isinstance(options.headers, openai.NotGiven) else options.headers
            options = options.model_copy(update={"headers": {**headers, **no_key(self._route.target)}})
        call = self._route.begin(options)
        call.tries, call.tries_left = retries_taken, options.get_max_retries(self.max_retries) - retries_taken
        self._route.begins(call)
        request = self._built(call, retries_taken)
        if not self._is_home(request.url):
            self._keep_key(request, options)
        return request

    def _portable(self, options: Any) -> Any:
        """The headers of a call as they may go to another place: without the key of a function that gives keys."""
        if not self._has_key_function or not isinstance(options.headers, Mapping):
            return options.headers
        return {name: value for name, value in options.headers.items() if name.lower() != "authorization"}

    @property
    def _has_key_function(self) -> bool:
        """Whether `api_key` is a function, whose key the SDK puts among the headers of each call."""
        return getattr(self, "_api_key_provider", None) is not None

    def _is_home(self, url: Any) -> bool:
        """Whether that address is of the host that this client was made for, whose key it has."""
        return origin(url) == self._home or self._route.target.endpoint.serves(str(url))

    def _keep_key(self, request: Any, options: Any) -> None:
        """Refuse a request to another host that would carry this one's key or account."""
        target = self._route.target
        key = target.api_key.get_secret_value() if target.api_key is not None else None
        account = {name.lower() for name in held_back()} if target.is_openai else set[str]()
        headers = self._portable(options)
        said = {name.lower() for name in headers} if isinstance(headers, Mapping) else set[str]()
        for name, value in request.headers.items():
            is_given = name == "authorization" and self._has_key_function
            if name not in said and (name in account or is_given or (key is not None and key in value)):
                raise ConfigurationError(
                    f"{name!r} of this client is for {self._home[1]}, and the request would take it to "
                    f"{request.url.host}.\nUse client.with_options(base_url=…, api_key=…) for another host."
                )

    def _elsewhere(self, model: str) -> tuple[Any, str] | None:
        """The client that a call's model chooses instead of this one, and the model's name there."""
        target = self._route.target
        if target.endpoint.is_embedded:
            from allos import local

            model = target.endpoint.plain(model)
            is_other = not target.model_is_forced and local.runs_elsewhere(model, target)
            return (self._sibling(target.endpoint.alias, model), model) if is_other else None
        if self._provider_is_fixed:
            return None
        endpoint, rest = settings.split_model(model)
        if endpoint is None:
            return None
        return self._sibling(endpoint.alias, rest if endpoint.is_embedded else None), rest

    def _sibling(self, alias: str, model: str | None = None) -> Any:
        """A copy for another endpoint; the embedded one is another for each model that it runs."""
        key = alias, model
        if key not in self._siblings:
            extra = {} if model is None else {"model": model}
            self._siblings[key] = self.copy(provider=alias, _extra_kwargs=extra)
        return self._siblings[key]

    def _spare(self, place: int) -> Any:
        """The client of a place to ask when this one fails: it gets no key, header or query of this one."""
        if place not in self._spares:
            route = self._route
            there = replace(route, target=route.target.fallback[place - 1], provider_is_fixed=True, is_spare=True)
            self._spares[place] = self.copy(provider=there.target.endpoint.alias, _extra_kwargs={"_spare": there})
        return self._spares[place]

    def _copied(self, changed: dict[str, Any]) -> dict[str, Any]:
        """The constructor arguments of ours that a copy needs, taken out of those of the call."""
        provider, base_url = changed.get("provider"), _text(changed.get("base_url"))
        is_alias = isinstance(provider, str)
        kept: dict[str, Any] = {"on_unsupported": self._route.on_unsupported, "state": self._state}
        if is_alias or provider is None:
            kept["fallback"] = self._fallback
        url = None if base_url is None else HTTP.URL(clean_base_url(base_url, "the argument base_url"))
        if not is_alias and (url is None or self._is_home(url)):
            return {**kept, "_route": self._route}
        for name in ("default_headers", "default_query"):
            changed.setdefault(f"set_{name}", changed.pop(name, None) or {})
        elsewhere = {"_elsewhere": {name: changed[name] for name in _PLACE if changed.get(name) and name != "provider"}}
        if not is_alias:
            return {**kept, **elsewhere}
        del changed["provider"]
        return {**kept, **elsewhere, "provider": provider}


def _has_authorization(options: Any) -> bool:
    return isinstance(options.headers, Mapping) and any(name.lower() == "authorization" for name in options.headers)


def _target(
    name: str | None,
    official: Mapping[str, Any],
    wire: str | None,
    model: str | None,
    fallback: Sequence[str] | None,
    *,
    is_ours: bool,
) -> Target:
    """Where a client with these arguments sends its calls; `is_ours`: they or the environment choose it in our way."""
    base_url, api_key = _text(official.get("base_url")), _text(official.get("api_key"))
    if _places_itself(official):
        if fallback:
            raise ConfigurationError("fallback= needs a place that Allos knows: give an alias or a base_url.")
        return settings.official(environ={})
    if is_ours:
        return settings.resolve(name, model, base_url=base_url, api_key=api_key, wire=wire, fallback=fallback)
    return settings.official(base_url=base_url, api_key=api_key, fallback=fallback)


def _places_itself(official: Mapping[str, Any]) -> bool:
    """Whether the SDK itself finds the address and the credentials from these arguments."""
    return any(official.get(name) is not None for name in ("provider", "data_residency"))


def _names_a_place(official: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether an address or provider is chosen, so that a model's name chooses none."""
    return (
        _places_itself(official)
        or official.get("base_url") is not None
        or bool(os.environ.get("OPENAI_BASE_URL"))
        or not environ.keys().isdisjoint(("ALLOS_PROVIDER", "ALLOS_BASE_URL"))
    )


def _text(value: Any) -> str | None:
    """A base URL or key as text; None where none was given as such."""
    return str(value).rstrip("/") if isinstance(value, (str, HTTP.URL)) and str(value) else None


def _started(target: Target) -> Target:
    from allos import local

    server = local.start(target.model)
    return target.reached(server.base_url, server.api_key, server.model)


# The arguments of an official client that say where it asks and as whom.
_PLACE = ("base_url", "api_key", "admin_api_key", "organization", "project", "workload_identity", "provider")


def _as_if_new(official: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a copy of a client without a key, but for the way in which it sends none."""
    headers, key = official.get("default_headers") or {}, official.get("api_key")
    said = {name: value for name, value in headers.items() if name.lower() != "authorization" or isinstance(value, str)}
    if "Authorization" in held_back() and isinstance(key, str) and key != NO_KEY:
        said.setdefault("Authorization", f"Bearer {key}")  # said here, it keeps the SDK from taking the other
    return {**official, "default_headers": said, "api_key": None if key == NO_KEY else key}


def _placed_anew(official: Mapping[str, Any], place: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of a copy; for another place only those of `place` say where it asks and as whom."""
    if place is None:
        return dict(official)
    return {**{name: value for name, value in official.items() if name not in _PLACE}, **place}
